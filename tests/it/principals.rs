//! Idempotency keys belong to the publishers that use them, and none is forgotten before its time:
//! past what can be remembered a new one is refused, and others have room all the same. Nor does a
//! flood by one publisher take others' histories.

use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, Response, get, post_with},
    metrics::metric,
    redis::RedisServer,
    server::Server,
    tokens::{KEY as KEYS, bearer, offer, token_for},
    v1::V1,
};

const KEY: &str = "order-4711-paid";
const OPEN: [&str; 2] = ["--client-publish", "broadcast"];
/// The headers of `fetch` in a page of the server's own, and in other programs.
const FETCH: &str = "Sec-Fetch-Mode: cors\r\n";

fn by_http(server: &Server, headers: &str, data: &str) -> u64 {
    let headers = format!("Idempotency-Key: {KEY}\r\n{headers}");
    let response = post_with(server.addr(), "/broadcast?channel=a", &headers, data.as_bytes());
    response.assert_status(202);
    response.json()["offset"].as_u64().unwrap()
}

fn by_client(client: &mut V1, data: &str) -> u64 {
    client.say(&json!({"type": "publish", "channel": "a", "data": data, "id": KEY}));
    client.next_of("published")["offset"].as_u64().unwrap()
}

/// A key that a client used first does not swallow a publisher's message with the same key.
#[test]
fn a_clients_first_message_swallows_no_other() {
    let server = Server::start(&OPEN);
    let mut listener = Client::open(server.addr(), "/ws?channel=a");
    let [mut one, mut other] = [(); 2].map(|()| V1::open(server.addr(), "/ws?channel=b"));
    assert_eq!(by_client(&mut one, "not paid"), 1);
    assert_eq!(by_client(&mut other, "not paid"), 1, "anonymous clients are one");
    assert_eq!(by_http(&server, "", "paid"), 2, "it goes out");
    assert_eq!(by_http(&server, "", "paid"), 2, "once");
    assert_eq!(by_http(&server, FETCH, "not paid"), 1, "a client's own way over HTTP");
    let origin = format!("Origin: http://{}\r\n", server.addr());
    assert_eq!(by_http(&server, &origin, "not paid"), 1, "also in a browser");
    listener.assert_text("not paid");
    listener.assert_text("paid");
}

/// A sender with a token is one principal over HTTP and over WebSocket.
#[test]
fn a_token_is_one_principal_on_both_ways() {
    let args = ["--api-token", "0123456789abcdef", "--insecure-api"];
    let server = Server::start(&[&OPEN[..], &args].concat());
    let bearer = "Authorization: Bearer 0123456789abcdef\r\n";
    let shown = "/ws?channel=b&token=0123456789abcdef";
    let mut anonymous = V1::open(server.addr(), "/ws?channel=b");
    let mut trusted = V1::open(server.addr(), shown);
    assert_eq!(by_client(&mut anonymous, "not paid"), 1);
    assert_eq!(by_client(&mut trusted, "paid"), 2);
    assert_eq!(by_http(&server, bearer, "paid"), 2);
    assert_eq!(by_http(&server, &format!("{bearer}{FETCH}"), "paid"), 2, "the JavaScript client");
    assert_eq!(by_http(&server, "", "not paid"), 1);
}

/// Keys in Redis have their old names for publishers, and names of their own for clients.
#[test]
fn names_of_keys_in_redis_stay_as_they_were() {
    let redis = RedisServer::start();
    let url = redis.url();
    let args = [&OPEN[..], &["--redis-url", &url]].concat();
    let server = Server::start(&args);
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    let mut client = V1::open(server.addr(), "/ws?channel=b");
    assert_eq!(by_client(&mut client, "not paid"), 1);
    assert_eq!(by_http(&server, "", "paid"), 2);
    assert_eq!((by_client(&mut client, "not paid"), by_http(&server, "", "paid")), (1, 2));
    for word in ["idem", "idem-anonymous"] {
        let name = format!("wsbcast:{{a}}:{word}:{KEY}");
        assert_eq!(redis.cli(&["EXISTS", &name]), "1", "{name}");
    }
}

/// The keys of one subject are another's business nowhere, and its own on every process.
#[test]
fn keys_of_a_subject_count_on_every_process() {
    let redis = RedisServer::start();
    let url = redis.url();
    let [one, other] = [(); 2].map(|()| {
        let server = Server::start(&[&OPEN[..], &["--redis-url", &url, KEYS]].concat());
        eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
        server
    });
    let shown = |sub: &str| token_for(sub, &["*"], &["*"], 3600);
    let headers = offer(&shown("carol"));
    let listening =
        Client::try_open(Http::connect(other.addr()), other.addr(), "/ws?channel=a", &headers);
    let mut listener = V1::welcomed(listening.expect("she may"));
    let [alice, bob] = ["alice", "bob"].map(|sub| bearer(&shown(sub)));
    assert_eq!(by_http(&one, &alice, "alice's"), 1);
    assert_eq!(by_http(&one, &bob, "bob's"), 2, "another one's key");
    assert_eq!(by_http(&other, &alice, "alice's"), 1, "she has said so, elsewhere");
    assert_eq!(by_http(&other, &bob, "bob's"), 2);
    let again = Client::try_open(
        Http::connect(other.addr()),
        other.addr(),
        "/ws?channel=b",
        &offer(&shown("alice")),
    );
    let mut again = V1::welcomed(again.expect("she may"));
    assert_eq!(by_client(&mut again, "alice's"), 1, "another token of hers, over a WebSocket");
    assert_eq!(listener.message(), ("alice's".into(), 1));
    assert_eq!(listener.message(), ("bob's".into(), 2));
    listener.assert_nothing_else();
}

/// Publishes `lines` messages under names and keys as long as may be.
fn batch(server: &Server, round: usize, lines: usize) -> Response {
    let channel = "c".repeat(128);
    let line = format!("{{\"channel\":\"{channel}\",\"data\":\"\"}}\n");
    let key = format!("{round:0>122}");
    let headers = format!("Content-Type: application/x-ndjson\r\nIdempotency-Key: {key}\r\n");
    post_with(server.addr(), "/broadcast", &headers, line.repeat(lines).as_bytes())
}

fn results(response: &Response) -> Vec<Value> {
    response.json()["results"].as_array().unwrap().clone()
}

/// When no more keys can be remembered, a new one is refused and no old one forgotten.
#[test]
fn a_key_without_room_is_refused() {
    let server = Server::start(&OPEN);
    let (mut round, mut kept) = (0, 0);
    let first = batch(&server, 0, 10_000);
    let full = loop {
        round += 1;
        let response = batch(&server, round, 10_000);
        if response.status != 202 {
            break response;
        }
        kept = round;
        assert!(round < 100, "it is bounded");
    };
    assert!(kept > 6, "more than the 65,536 keys of old");
    assert_eq!(full.status, 503);
    let refused = results(&full).into_iter().filter(|result| result["error"] == "keys_full");
    let failures = metric(server.addr(), "wsbcast_publish_failures_total", &["keys_full"]);
    assert!(refused.count() as f64 == failures && failures > 0.0, "{failures} are counted");
    assert_eq!(results(&batch(&server, 0, 10_000)), results(&first), "the first keys are known");
    let alone = post_with(server.addr(), "/broadcast", "Idempotency-Key: new\r\n", b"x");
    alone.assert_status(503);
    assert_eq!(alone.json()["error"], "keys_full");
    assert_eq!(alone.header("retry-after"), Some("1"));
    post_with(server.addr(), "/broadcast", "", b"without a key").assert_status(202);
    // Clients have room of their own.
    let mut client = V1::open(server.addr(), "/ws?channel=b");
    assert_eq!(by_client(&mut client, "x"), 1);
}

/// Publishes a message to each of `names`, `bytes` long, by somebody who shows nothing.
fn flood(server: &Server, names: impl Iterator<Item = String>, bytes: usize) {
    let data = "x".repeat(bytes);
    let line = |name| format!("{{\"channel\":\"{name}\",\"data\":\"{data}\"}}\n");
    let lines: String = names.map(line).collect();
    let headers = format!("Content-Type: application/x-ndjson\r\n{FETCH}");
    post_with(server.addr(), "/broadcast", &headers, lines.as_bytes()).assert_status(202);
}

/// Publishes `count` messages to `channel`; where to come back to for all but the first.
fn begin(server: &Server, channel: &str, count: usize) -> String {
    let path = format!("/broadcast?channel={channel}");
    let answers: Vec<Value> = (1..=count)
        .map(|n| post_with(server.addr(), &path, "", n.to_string().as_bytes()).json())
        .collect();
    format!("/ws?channel={channel}&since={}:1", answers[0]["epoch"].as_str().unwrap())
}

fn assert_resumes(server: &Server, path: &str, count: usize) {
    let mut client = Client::open(server.addr(), path);
    for expected in 2..=count {
        client.assert_text(&expected.to_string());
    }
}

/// A client that floods the history with new channel names leaves others theirs; the flood is
/// counted and logged.
#[test]
fn a_flood_of_names_leaves_others_their_history() {
    let server = Server::start(&OPEN);
    let path = begin(&server, "a", 3);
    for round in 0..7 {
        flood(&server, (0..10_000).map(|number| format!("flood{round}.{number}")), 1);
    }
    assert_resumes(&server, &path, 3);
    let forgotten = metric(server.addr(), "wsbcast_history_evicted_channels_total", &[]);
    assert_eq!(forgotten, (70_001 - 65_536) as f64);
    eventually(PATIENCE, "the log tells", || server.log().contains("too many channels"));
}

/// A client that floods the history with bytes leaves others theirs; the flood is counted and
/// logged.
#[test]
fn a_flood_of_bytes_leaves_others_their_history() {
    let args = ["--history-total", "1MiB", "--history-bytes", "1MiB"];
    let server = Server::start(&[&OPEN[..], &args].concat());
    let path = begin(&server, "a", 3);
    for names in [1, 3, 50] {
        let names = (0..600).map(|number| format!("flood{}", number % names));
        flood(&server, names, 10_000);
    }
    assert_resumes(&server, &path, 3);
    assert!(metric(server.addr(), "wsbcast_history_evicted_messages_total", &[]) > 1_000.0);
    assert_eq!(metric(server.addr(), "wsbcast_history_evicted_channels_total", &[]), 0.0);
    eventually(PATIENCE, "the log tells", || server.log().contains("histories are full"));
}
