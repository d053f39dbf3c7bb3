//! `POST /admin/disconnect` by the claims of tokens, and bearers that are kept out for a while.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, Response, get, post, post_with},
    redis::RedisServer,
    server::Server,
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A token with these claims.
fn token(claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["exp"] = json!(100_000_000_000_u64);
    claims["wsbcast"] = json!({"subscribe": ["*"], "publish": ["*"]});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(&claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn header(claims: &Value) -> String {
    format!("Authorization: Bearer {}\r\n", token(claims))
}

fn start(args: &[&str]) -> Server {
    let options = ["--admin-listen", "127.0.0.1:0", "--jwt-secret", SECRET, "--greeting", "hi"];
    let server = Server::start(&[&options[..], args].concat());
    server.wait_until_ready();
    server
}

fn try_open(server: &Server, claims: &Value) -> Result<Client, Response> {
    let (http, addr) = (Http::connect(server.addr()), server.addr());
    Client::try_open(http, addr, "/ws?channel=a", &header(claims))
}

#[track_caller]
fn open(server: &Server, claims: &Value) -> Client {
    let opened = try_open(server, claims);
    let mut client = opened.unwrap_or_else(|response| panic!("{claims}: {response:?}"));
    // From then on the server knows whose it is.
    client.assert_text("hi");
    client
}

#[track_caller]
fn assert_disconnects(server: &Server, query: &str, clients: usize, scope: &str) {
    let answer = post(server.admin(), &format!("/admin/disconnect?{query}"), "");
    answer.assert_status(202);
    assert_eq!(answer.json(), json!({"clients": clients, "scope": scope}), "{query}");
}

#[track_caller]
fn assert_kept_out(server: &Server, claims: &Value) {
    let refused = try_open(server, claims).expect_err("it is kept out");
    refused.assert_status(403);
    assert_eq!(refused.json()["error"], "forbidden");
    let published = post_with(server.addr(), "/broadcast?channel=a", &header(claims), b"x");
    published.assert_status(403);
    assert_eq!(published.json()["error"], "forbidden");
}

#[test]
fn bearers_are_sent_away_and_kept_out() {
    let server = start(&[]);
    let (alice, bob) = (json!({"sub": "alice", "jti": "1"}), json!({"sub": "bob", "jti": "2"}));
    let mut clients = [open(&server, &alice), open(&server, &alice), open(&server, &bob)];
    assert_disconnects(&server, "sub=carol", 0, "local");
    assert_disconnects(&server, "sub=alice", 2, "local");
    clients[..2].iter_mut().for_each(|client| drop(client.assert_closed(4403)));
    let mut again = open(&server, &alice);
    let both = post(server.admin(), "/admin/disconnect?jti=1&for=1h&retry=true", "");
    both.assert_status(400);
    let hint = both.json()["hint"].to_string();
    assert!(hint.contains("retry=true") && hint.contains("for"), "{hint}");
    assert_disconnects(&server, "jti=1&for=1h", 1, "local");
    again.assert_closed(4403);
    assert_kept_out(&server, &alice);
    let mut other = open(&server, &json!({"sub": "alice", "jti": "3"}));
    assert_disconnects(&server, "sub=alice&for=1s", 1, "local");
    other.assert_closed(4403);
    eventually(PATIENCE, "it is over", || {
        try_open(&server, &json!({"sub": "alice", "jti": "3"})).is_ok()
    });
    assert_kept_out(&server, &alice);
    // The last word on a claim counts.
    assert_disconnects(&server, "jti=1&for=1s", 0, "local");
    eventually(PATIENCE, "it is over", || try_open(&server, &alice).is_ok());
    let text = header(&bob);
    post_with(server.addr(), "/broadcast?channel=a", &text, b"still here").assert_status(202);
    clients[2].assert_text("still here");
    for query in ["channel=a&for=1h", "sub=a&for=1", "sub=a&for=0s", "sub=a&jti=b", "sub="] {
        let answer = post(server.admin(), &format!("/admin/disconnect?{query}"), "");
        answer.assert_status(400);
        assert_eq!(answer.json()["error"], "bad_request", "{query}");
    }
    assert!(!server.log().contains(&token(&alice)), "no token is logged");
}

/// A token of that kind disconnects nobody: an operator has an API token, or is local.
#[test]
fn a_bearers_token_disconnects_nobody() {
    let server = start(&["--api-token", "correct-horse-battery-staple"]);
    let mut client = open(&server, &json!({"sub": "alice"}));
    let target = "/admin/disconnect?sub=alice";
    for addr in [server.admin(), server.addr()] {
        let header = header(&json!({"sub": "alice"}));
        post_with(addr, target, &header, b"").assert_status(401);
        post_with(addr, target, "", b"").assert_status(401);
    }
    let good = "Authorization: Bearer correct-horse-battery-staple\r\n";
    post_with(server.addr(), target, good, b"").assert_status(202);
    client.assert_closed(4403);
}

#[test]
fn bearers_are_kept_out_by_all_processes() {
    let redis = RedisServer::start();
    let url = redis.url();
    let servers = [start(&["--redis-url", &url]), start(&["--redis-url", &url])];
    let alice = json!({"sub": "alice"});
    let mut clients = servers.each_ref().map(|server| open(server, &alice));
    assert_disconnects(&servers[0], "sub=alice&for=1h", 1, "cluster");
    clients.iter_mut().for_each(|client| drop(client.assert_closed(4403)));
    servers.iter().for_each(|server| assert_kept_out(server, &alice));
    // One that starts later learns of it.
    let later = start(&["--redis-url", &url, "--redis-subscribers", "per-process"]);
    eventually(PATIENCE, "it has read who is kept out", || try_open(&later, &alice).is_err());
    assert_kept_out(&later, &alice);
    open(&later, &json!({"sub": "bob"}));
}

/// A process that was away when somebody was kept out closes that one's clients when it is back.
#[test]
fn a_process_that_was_away_closes_who_is_kept_out() {
    let redis = RedisServer::start();
    let url = redis.url();
    let servers = [start(&["--redis-url", &url]), start(&["--redis-url", &url])];
    let alice = json!({"sub": "alice"});
    let mut client = open(&servers[1], &alice);
    servers[1].signal(&["STOP"]);
    // Its connections are gone, and it has not seen it: nothing waits in them for it.
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    servers[0].wait_until_ready();
    let scope = || {
        let answer = post(servers[0].admin(), "/admin/disconnect?sub=alice&for=1h", "");
        answer.json()["scope"] == "cluster"
    };
    eventually(PATIENCE, "the first one is connected again", scope);
    servers[1].signal(&["CONT"]);
    client.assert_closed(4403);
    assert_kept_out(&servers[1], &alice);
    assert_eq!(get(servers[1].addr(), "/livez").status, 200);
}
