//! Tokens with rights, on a whole server: private channels and publishers, for as long as a token
//! is good, and never a token written down.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wsbcast::limits::TOKEN_REFUSED_PAUSE;

use crate::support::{
    PATIENCE,
    client::Client,
    events::Events,
    eventually,
    frames::{masked, masked_close},
    http::{Http, Response, get, post, post_with},
    metrics::metric,
    now,
    server::{Launch, Server},
    tokens::{KEY, bearer, offer, token, token_for},
    v1::{OFFER, V1},
};

/// Longer than any test.
const LONG_SECS: u64 = 3600;

fn v1(addr: SocketAddr, target: &str, token: &str) -> V1 {
    let opened = Client::try_open(Http::connect(addr), addr, target, &offer(token));
    V1::welcomed(opened.unwrap_or_else(|refused| panic!("{target}: {refused:?}")))
}

fn refused(addr: SocketAddr, target: &str, headers: &str) -> Response {
    Client::try_open(Http::connect(addr), addr, target, headers).expect_err("it is refused")
}

/// Every client may listen to what is public, and to what its token covers.
#[test]
fn a_private_channel_needs_a_token_that_covers_it() {
    let server = Server::start(&[KEY, "--public-channels", "open.*"]);
    let addr = server.addr();
    let mut anonymous = V1::open(addr, "/ws?channel=open.a");
    refused(addr, "/ws?channel=news", "").assert_status(401);
    let mut alice = v1(addr, "/ws?channel=news", &token_for("alice", &["news"], &[], LONG_SECS));
    let subscribe = |client: &mut V1, channel: &str, kind: &str| {
        client.say(&json!({"type": "subscribe", "channel": channel}));
        let answer = client.next_of(kind);
        assert_eq!(answer["channel"], channel, "{answer}");
        assert!(kind != "error" || answer["code"] == "forbidden", "{answer}");
    };
    subscribe(&mut anonymous, "open.b", "subscribed");
    subscribe(&mut anonymous, "news", "error");
    subscribe(&mut alice, "open.a", "subscribed");
    subscribe(&mut alice, "other", "error");
    let stream = |headers: &str| {
        let mut http = Http::connect(addr);
        http.send(crate::support::events::stream_request(addr, "/sse?channel=news", headers));
        http.try_head().expect("a head").status
    };
    let bob = bearer(&token_for("bob", &["news"], &[], LONG_SECS));
    assert_eq!((stream(""), stream(&bob)), (401, 200));
    post(addr, "/broadcast?channel=news", "hello").assert_status(202);
    assert_eq!(alice.message().0, "hello");
    assert_eq!(
        metric(addr, "wsbcast_handshakes_rejected_total", &["reason=\"unauthorized\""]),
        2.0
    );
}

/// A client that shows a token publishes to its channels, as its subject.
/// A client without a channel shows a token where no channel is public.
#[test]
fn a_client_without_a_channel_needs_a_token() {
    let alice = token_for("alice", &["a"], &[], 3600);
    let private = Server::start(&[KEY]);
    let answer = refused(private.addr(), "/ws?channel=", OFFER);
    assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("unauthorized")));
    let mut client = v1(private.addr(), "/ws?channel=", &alice);
    let ask = |channel: &str| json!({"type": "subscribe", "channel": channel});
    assert_eq!(client.ask(&ask("a"))["type"], "subscribed");
    assert_eq!(client.ask(&ask("b"))["code"], "forbidden");
    let public = Server::start(&[KEY, "--public-channels", "news"]);
    let mut client = V1::open(public.addr(), "/ws?channel=");
    assert_eq!(client.ask(&ask("news"))["type"], "subscribed");
    assert_eq!(client.ask(&ask("a"))["type"], "error");
}

#[test]
fn clients_and_requests_publish_by_their_token() {
    let server = Server::start(&[KEY, "--client-publish", "broadcast"]);
    let addr = server.addr();
    let token = |sub: &str| token_for(sub, &["room"], &["room"], LONG_SECS);
    let mut alice = v1(addr, "/ws?channel=room", &token("alice"));
    let say = |client: &mut V1, channel: &str| {
        client.say(&json!({"type": "publish", "channel": channel, "data": "x", "id": "1"}));
        std::iter::repeat_with(|| client.next()).find(|one| one["type"] != "message").unwrap()
    };
    assert_eq!(say(&mut alice, "room")["offset"], 1);
    let answer = say(&mut alice, "other");
    assert_eq!((&answer["code"], &answer["id"]), (&"forbidden".into(), &"1".into()), "{answer}");
    let mut bob = v1(addr, "/ws?channel=room", &token("bob"));
    assert_eq!(say(&mut bob, "room")["offset"], 2, "a key is its subject's");
    let by_http = |sub: &str| {
        let headers = format!("{}Idempotency-Key: 1\r\n", bearer(&token(sub)));
        post_with(addr, "/broadcast?channel=room", &headers, b"x").json()["offset"].clone()
    };
    assert_eq!(
        (by_http("alice"), by_http("bob"), by_http("carol")),
        (1.into(), 2.into(), 3.into())
    );
    let narrow = post_with(addr, "/broadcast?channel=other", &bearer(&token("alice")), b"x");
    narrow.assert_status(403);
    assert_eq!(narrow.json()["channel"], "other");
}

/// A client is told that its token expires, renews it in place, and goes on beyond its end.
#[test]
fn a_token_is_renewed_in_place() {
    let server = Server::start(&[KEY]);
    let addr = server.addr();
    let first = token_for("alice", &["news", "chat"], &[], 3);
    let mut alice = v1(addr, "/ws?channel=news&channel=chat", &first);
    let mut other = v1(addr, "/ws?channel=news", &first);
    alice.say(&json!({"type": "token", "token": "x.y.z"}));
    assert_eq!(alice.next_of("error")["code"], "bad_token");
    let told = alice.next_of("token_expiring");
    assert!((1..3000).contains(&told["in_ms"].as_u64().unwrap()), "{told}");
    let next = token_for("alice", &["news"], &[], LONG_SECS);
    alice.say(&json!({"type": "token", "token": next}));
    let renewed = alice.next_of("token");
    let left = renewed["expires_in_ms"].as_u64().unwrap();
    assert!((LONG_SECS * 900..=LONG_SECS * 1000).contains(&left), "{renewed}");
    let ended = alice.next_of("unsubscribed");
    assert_eq!((&ended["channel"], &ended["code"]), (&"chat".into(), &"forbidden".into()));
    other.next_of("token_expiring");
    assert_eq!(other.client.assert_closed(4401), "token expired");
    post(addr, "/broadcast?channel=news", "later").assert_status(202);
    assert_eq!(alice.message().0, "later");
}

/// After a bad token an open connection waits for a second before its next command is run.
#[test]
fn a_bad_token_makes_an_open_connection_wait() {
    let server = Server::start(&[KEY]);
    let token = token_for("alice", &["news"], &[], LONG_SECS);
    let mut alice = v1(server.addr(), "/ws?channel=news", &token);
    for bad in ["x.y.z", &format!("{token}x"), "garbage"] {
        let begun = now();
        alice.say(&json!({"type": "token", "token": bad}));
        assert_eq!(alice.next_of("error")["code"], "bad_token");
        assert_eq!(alice.ask(&json!({"type": "ping"}))["type"], "pong");
        assert!(now() - begun >= TOKEN_REFUSED_PAUSE, "{bad}: {:?}", now() - begun);
    }
}

/// Clients that cannot renew their token end with it: with a Close, or as streams end.
#[test]
fn plain_clients_and_streams_end_with_their_token() {
    let server = Server::start(&[KEY]);
    let addr = server.addr();
    let headers = bearer(&token_for("alice", &["news"], &[], 2));
    let open = Client::try_open(Http::connect(addr), addr, "/ws?channel=news", &headers);
    let mut plain = open.expect("it upgrades");
    let mut stream = Events::open_with(Http::connect(addr), addr, "/sse?channel=news", &headers);
    assert_eq!(plain.assert_closed(4401), "token expired");
    stream.blocks_until_end();
    refused(addr, "/ws?channel=news", &headers).assert_status(401);
    let reason = ["reason=\"token_expired\""];
    eventually(PATIENCE, "both are counted", || {
        metric(addr, "wsbcast_connections_closed_total", &reason) == 2.0
    });
}

/// Commands that come in one piece are done in their order: a publication behind a token has the
/// right that this gives, be it more or less, and the one before it has the earlier one.
#[test]
fn commands_behind_a_token_have_its_rights() {
    let server =
        Server::start(&[KEY, "--client-publish", "broadcast", "--public-channels", "open"]);
    let addr = server.addr();
    let token = |channels: &[&str]| token_for("alice", channels, channels, LONG_SECS);
    let (wide, narrow) = (token(&["a", "b"]), token(&["a"]));
    let publish = |id: &str| json!({"type": "publish", "channel": "b", "data": "x", "id": id});
    let show = |token: &str| json!({"type": "token", "token": token});
    let subscribe = json!({"type": "subscribe", "channel": "b"});
    let in_one_piece = |client: &mut V1, commands: &[Value]| {
        let frames = commands.iter().map(|one| masked(true, 1, one.to_string().as_bytes()));
        client.client.send(frames.collect::<Vec<_>>().concat());
        let answers =
            std::iter::repeat_with(|| client.next()).filter(|one| one["type"] != "message");
        let word = |one: Value| {
            let word = if one["type"] == "error" { &one["code"] } else { &one["type"] };
            word.as_str().unwrap().to_owned()
        };
        answers.take(commands.len()).map(word).collect::<Vec<_>>()
    };
    // Without a token it may not publish: it comes through a proxy.
    let headers = format!("{OFFER}X-Forwarded-For: 192.0.2.7\r\n");
    let opened = Client::try_open(Http::connect(addr), addr, "/ws?channel=open", &headers);
    let mut anonymous = V1::welcomed(opened.unwrap());
    let commands = [publish("1"), show(&wide), publish("2"), subscribe.clone()];
    let answers = in_one_piece(&mut anonymous, &commands);
    assert_eq!(answers, ["forbidden", "token", "published", "subscribed"]);
    // A program of this machine may, until it shows what it may.
    let mut local = V1::open(addr, "/ws?channel=open");
    let answers = in_one_piece(&mut local, &[publish("1"), show(&narrow), publish("2")]);
    assert_eq!(answers, ["published", "token", "forbidden"]);
    let mut alice = v1(addr, "/ws?channel=a", &wide);
    let commands =
        [publish("3"), show(&narrow), publish("4"), subscribe, show(&wide), publish("5")];
    let answers = in_one_piece(&mut alice, &commands);
    let expected = ["published", "token", "forbidden", "forbidden", "token", "published"];
    assert_eq!(answers, expected);
    let answers = in_one_piece(&mut alice, &[show("x.y.z"), publish("6")]);
    assert_eq!(answers, ["bad_token", "published"], "the earlier token counts on");
    // A client that hangs up behind its commands has them run all the same.
    let mut hasty = V1::open(addr, "/ws?channel=open");
    let frames = [show(&wide), publish("7")].map(|one| masked(true, 1, one.to_string().as_bytes()));
    hasty.client.send([&frames.concat()[..], &masked_close(1000, "")].concat());
    hasty.client.close_frame();
    drop(hasty);
    eventually(PATIENCE, "it is published", || {
        metric(addr, "wsbcast_published_total", &["source=\"client\""]) == 6.0
    });
}

/// The headers of a listed page whose cookie has the token.
fn cookie(token: &str) -> String {
    format!("Origin: https://app.example\r\nCookie: jwt={token}\r\n")
}

/// At no level, and in no answer, does a token appear, wherever it is shown.
#[test]
fn no_token_is_written_down() {
    let options = "--log-level trace --access-log on --threads 1 --public-channels open \
                   --jwt-cookie jwt --allowed-origins https://app.example";
    let args: Vec<_> = [KEY].into_iter().chain(options.split(' ')).collect();
    let server = Launch::on_a_free_port(&args).start();
    let addr = server.addr();
    let good = token_for("alice-in-the-log", &["news"], &["news"], LONG_SECS);
    let bad = format!("{}x", token(&json!({"exp": 1})));
    let mut answers = Vec::new();
    for one in [&good, &bad] {
        let entry = format!("Sec-WebSocket-Protocol: wsbcast.token.{one}\r\n");
        for (target, headers) in [
            (format!("/ws?channel=no&token={one}"), String::new()),
            (format!("/ws?channel=no&{one}"), String::new()),
            (format!("/ws?channel=no&tokens={one}"), String::new()),
            (format!("/ws?since={one}"), String::new()),
            ("/ws?channel=no".to_owned(), bearer(one)),
            ("/ws?channel=no".to_owned(), offer(one)),
            ("/ws?channel=open".to_owned(), entry),
            (format!("/{one}"), bearer(one)),
            ("/ws?channel=no".to_owned(), cookie(one)),
        ] {
            answers.push(refused(addr, &target, &headers));
        }
        answers.push(get(addr, &format!("/sse?channel=no&token={one}")));
        answers.push(post_with(addr, &format!("/broadcast?{one}"), &bearer(one), b"x"));
        answers.push(post_with(addr, "/broadcast?channel=no", &bearer(one), b"x"));
    }
    let mut alice = v1(addr, "/ws?channel=news", &good);
    alice.say(&json!({"type": "token", "token": bad}));
    answers.push(Response { status: 0, headers: vec![], body: alice.next().to_string().into() });
    alice.say(&json!({"type": "token", "token": good}));
    answers.push(Response { status: 0, headers: vec![], body: alice.next().to_string().into() });
    alice.client.send(masked_close(1000, ""));
    alice.client.close_frame();
    // The last line, with the subject.
    let gone = server.wait_for_log(&["client gone", "sub=\"alice-in-the-log\""]);
    assert!(gone.contains("code=1000"), "{gone}");
    let log = server.log();
    assert!(log.contains("access"), "all that is logged is looked through");
    answers.push(get(addr, "/metrics"));
    for one in [&good, &bad] {
        let parts: Vec<_> = one.split('.').collect();
        for secret in [parts[1], parts[2]] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None);
            let told = answers.iter().find(|answer| format!("{answer:?}").contains(secret));
            assert!(told.is_none(), "{told:?}");
        }
    }
}
