//! Clients in the publisher's answer and in the log: publishers are told how many hear them, and
//! the log at `debug` tells of each client that comes, goes or is refused.

use crate::support::{
    PATIENCE,
    client::{Client, upgrade_request},
    clients_on_all_shards,
    events::Events,
    eventually,
    frames::{masked, masked_close},
    http::{Http, post, post_with},
    server::{Launch, Server},
    v1::V1,
};
use serde_json::json;

/// A publisher is told how many clients hear it, over all shards and encodings.
#[test]
fn a_publisher_is_told_how_many_clients_there_are() {
    let server = Server::start(&["--threads", "2", "--client-publish", "broadcast"]);
    let addr = server.addr();
    let clients = |channel: &str| {
        post(addr, &format!("/broadcast?channel={channel}"), "x").json()["clients"].clone()
    };
    assert_eq!(clients("a"), 0);
    let plain = clients_on_all_shards(addr, "/ws?channel=a&channel=b", 2);
    let mut v1 = V1::open(addr, "/ws?channel=a");
    let stream = Events::open(addr, "/sse?channel=a");
    let all = plain.len() + 2;
    assert_eq!(clients("a"), all);
    assert_eq!(clients("b"), plain.len());
    v1.say(&json!({"type": "publish", "channel": "a", "data": "x", "id": "1"}));
    // Its own messages and the answer come in any order.
    let published =
        std::iter::repeat_with(|| v1.next()).find(|word| word["type"] == "published").unwrap();
    assert_eq!(published["clients"], all, "{published}");
    let lines = "{\"data\":1,\"channel\":\"a\"}\n{\"data\":2,\"channel\":\"none\"}\n";
    let headers = "Content-Type: application/x-ndjson\r\n";
    let results = post_with(addr, "/broadcast", headers, lines.as_bytes()).json();
    assert_eq!(results["results"][0]["clients"], all, "{results}");
    assert_eq!(results["results"][1]["clients"], 0, "{results}");
    drop((plain, v1, stream));
    eventually(PATIENCE, "those who left are not counted", || clients("a") == 0);
}

/// A server of one shard that logs at `debug`.
fn debugging() -> Server {
    Launch::on_a_free_port(&["--log-level", "debug", "--threads", "1"]).start()
}

/// A client behind a proxy that says so.
fn forwarded(server: &Server, target: &str, whom: &str) -> Client {
    let (addr, headers) = (server.addr(), format!("X-Forwarded-For: {whom}\r\n"));
    Client::try_open(Http::connect(addr), addr, target, &headers).expect("it upgrades")
}

/// How many bytes a line says that its client has acknowledged; `None`: it says nothing.
fn bytes(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once(" bytes=")?;
    rest.split(' ').next()?.parse().ok()
}

/// At `debug` the log tells of each client that comes, goes or is refused, and why.
#[test]
fn at_debug_clients_and_refusals_are_logged() {
    let server = debugging();
    let addr = server.addr();
    let mut client = forwarded(&server, "/ws?channel=a&channel=b&channel=c&channel=d", "192.0.2.7");
    let whose = format!("peer={}", client.http.stream.local_addr().unwrap());
    let who = [whose.as_str(), "forwarded_unverified=\"192.0.2.7\""];
    let told = |words: &[&str]| server.wait_for_log(&[&who, words].concat());
    told(&["handshake accepted", "path=\"/ws\"", "positions=\"a="]);
    let channels = ["channels=4", "named=\"a, b, c, …\""];
    told(&[&["client connected"], &channels[..]].concat());
    let long = "x".repeat(9_000);
    post(addr, "/broadcast?channel=d", &long).assert_status(202);
    client.assert_text(&long);
    client.send(masked_close(4001, "bye \u{1b}[31m"));
    assert_eq!(client.close_frame().0, 4001);
    let gone = told(
        &[
            &[
                "client gone",
                "seconds=",
                "code=4001",
                "reason=\"client\"",
                r#"text="bye \u{1b}[31m""#,
            ],
            &channels[..],
        ]
        .concat(),
    );
    let about = if cfg!(target_os = "linux") { Some(9_000..10_000) } else { None };
    assert_eq!(bytes(&gone).is_some(), about.is_some(), "{gone}");
    assert!(about.is_none_or(|about| about.contains(&bytes(&gone).unwrap())), "{gone}");
    let refused = upgrade_request(addr, "/ws?last=x", "X-Forwarded-For: 192.0.2.8\r\n");
    Http::connect(addr).request(refused).assert_status(400);
    server.wait_for_log(&["handshake refused", "bad_request", "hint", "192.0.2.8"]);
}

/// At `debug` the log tells of both ends of an event stream, as of a WebSocket.
#[test]
fn at_debug_an_event_stream_is_logged_at_both_ends() {
    let server = debugging();
    let (addr, headers) = (server.addr(), "X-Forwarded-For: 192.0.2.7\r\n");
    let mut stream = Events::open_with(Http::connect(addr), addr, "/sse?channel=a", headers);
    let whose = format!("peer={}", stream.http.stream.local_addr().unwrap());
    let who = [whose.as_str(), "forwarded_unverified=\"192.0.2.7\""];
    let told = |words: &[&str]| server.wait_for_log(&[&who, words].concat());
    told(&["handshake accepted", "path=\"/sse\"", "positions=\"a="]);
    told(&["client connected", "channels=1", "named=\"a\""]);
    post(addr, "/broadcast?channel=a", "heard").assert_status(202);
    assert_eq!(stream.text(), "heard");
    drop(stream);
    let gone = told(&["client gone", "channels=1", "seconds=", "reason=\"client\""]);
    assert!(!gone.contains("code="), "an event stream has no codes: {gone}");
    assert_eq!(bytes(&gone).is_some(), cfg!(target_os = "linux"), "{gone}");
}

#[test]
fn at_debug_a_clients_end_has_a_code_whoever_ends_it() {
    let args = ["--threads", "1", "--drain-timeout", "10s", "--drain-close-over", "10s"];
    let args = [&args[..], &["--log-level", "debug"]].concat();
    let server = Launch::on_a_free_port(&args).start();
    let gone = |whom: &str, words: &[&str]| {
        let whom = format!("forwarded_unverified=\"{whom}\"");
        server.wait_for_log(&[&["client gone", &whom], words].concat());
    };
    // Also what somebody has come to hear since.
    let mut v1 = V1::open(server.addr(), "/ws?channel=a");
    v1.say(&json!({"type": "subscribe", "channel": "b"}));
    let named = std::iter::repeat_with(|| v1.next()).find(|word| word["channel"] == "b").unwrap();
    assert_eq!(named["type"], "subscribed");
    drop(v1);
    server.wait_for_log(&["client gone", "channels=2 named=\"a, b\"", "code=1006"]);
    let mut silent = forwarded(&server, "/ws", "without a code");
    silent.send(masked(true, 8, b""));
    gone("without a code", &["code=1005", "reason=\"client\""]);
    drop(forwarded(&server, "/ws", "without a word"));
    gone("without a word", &["code=1006", "reason=\"lost\""]);
    let mut wrong = forwarded(&server, "/ws", "wrong");
    wrong.send([0xff; 8]);
    gone("wrong", &["code=1002", "reason=\"protocol\""]);
    let stays = forwarded(&server, "/ws", "stays");
    server.signal(&["TERM"]);
    gone("stays", &["code=1012", "reason=\"restart\""]);
    drop(stays);
}

#[test]
fn proxies_words_cannot_break_or_lengthen_a_line() {
    let server = debugging();
    let whom = format!("{}\"\t192.0.2.9", "1, ".repeat(3_000));
    let client = forwarded(&server, "/ws", &whom);
    for line in ["handshake accepted", "client connected"] {
        let line = server.wait_for_log(&[line]);
        assert!(line.contains(r#"1, \"\t192.0.2.9""#), "{line}");
        assert!(line.len() < 1_000, "{line}");
    }
    drop(client);
}
