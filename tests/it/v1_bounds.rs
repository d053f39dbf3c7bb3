//! `wsbcast.v1` at its bounds: slow clients, many channels, the end of the process.

use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    client::{Client, little_room},
    eventually, frames,
    metrics::metric,
    publish::Publisher,
    server::Server,
    v1::V1,
};

/// The most channels that one client may have.
const PER_CLIENT: usize = 1000;
/// The most channels of a shard.
const PER_SHARD: usize = 100_000;

/// A target that names `PER_CLIENT` channels.
fn target(client: usize) -> String {
    target_of(client, PER_CLIENT)
}

fn target_of(client: usize, channels: usize) -> String {
    let names: Vec<String> = (0..channels).map(|n| format!("channel=c{client}-{n}")).collect();
    format!("/ws?{}", names.join("&"))
}

/// Under `skip` a slow client is told exactly which messages it missed.
#[test]
fn a_skipping_client_is_told_what_it_missed() {
    let server = Server::start(&[
        "--backlog",
        "256KiB",
        "--max-broadcast-size",
        "64KiB",
        "--slow-consumer",
        "skip",
    ]);
    let addr = server.addr();
    let mut stalled = V1::over(little_room(addr), addr, "/ws?channel=a");
    let mut publisher = Publisher::on(addr, "a");
    let mut published = 0;
    while metric(addr, "wsbcast_skipped_messages_total", &[]) == 0.0 {
        assert!(published < 4000, "a client that does not read misses messages");
        published = publisher.publish_to_all("x".repeat(8 * 1024));
    }
    let last = publisher.publish_to_all("last");
    let (mut next, mut told) = (1, 0);
    while next <= last {
        let word = stalled.next();
        match word["type"].as_str().unwrap() {
            "message" => {
                assert_eq!(word["offset"], next, "no hole that was not told");
                next += 1;
            }
            "gap" => {
                assert_eq!((&word["channel"], &word["from"]), (&json!("a"), &json!(next)));
                let to = word["to"].as_u64().unwrap();
                told += to + 1 - next;
                next = to + 1;
            }
            other => panic!("{other}"),
        }
    }
    stalled.assert_nothing_else();
    assert_eq!(metric(addr, "wsbcast_skipped_messages_total", &[]), told as f64);
}

/// At the end of a drain a client is told when to come back, right before its Close frame.
#[test]
fn a_drained_client_is_told_when_to_come_back() {
    let args = ["--threads", "1", "--drain-timeout", "10s", "--drain-close-over", "10s"];
    let mut server = Server::start(&args);
    let addr = server.addr();
    let mut client = V1::open(addr, "/ws?channel=a");
    server.signal(&["TERM"]);
    let drain = client.next_of("drain");
    let after_ms = drain["reconnect_after_ms"].as_u64().unwrap();
    assert!(after_ms <= 10_000, "{drain}");
    let reason = client.client.assert_closed(1012);
    assert_eq!(reason, format!("service restart; retry in {after_ms} ms"));
    server.assert_exit(0);
}

/// More than both kernels have room for.
const SENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A client that does not read its answers is not read either.
#[test]
fn a_client_that_does_not_read_is_not_read() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut stalled = V1::over(little_room(addr), addr, "/ws?channel=a");
    let ping = frames::masked(true, frames::TEXT, b"{\"type\":\"ping\"}");
    let many = ping.repeat(1000);
    stalled.client.http.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    eventually(PATIENCE, "the kernel takes no more, since nobody reads", || {
        use std::io::Write as _;
        // As much as there is room for: a kernel has room for megabytes.
        while let Ok(count) = stalled.client.http.stream.write(&many[sent % ping.len()..]) {
            sent += count;
            assert!(sent < SENT_BYTES_MAX, "the server reads on and on");
        }
        metric(addr, "wsbcast_backlog_bytes", &[]) > 10_000.0
    });
    assert!(metric(addr, "wsbcast_backlog_bytes", &[]) < 4e5, "what waits for it is bounded");
    stalled.client.http.stream.set_nonblocking(false).unwrap();
    for _ in 0..sent / ping.len() {
        stalled.next_of("pong");
    }
}

#[test]
fn one_client_has_a_thousand_channels_and_no_more() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let addr = server.addr();
    let mut client = V1::open(addr, &target(0));
    assert_eq!(client.hello["positions"].as_object().unwrap().len(), PER_CLIENT);
    let refused = client.ask(&json!({"type": "subscribe", "channel": "more"}));
    assert_eq!(refused["code"], "too_many_channels", "{refused}");
    let mut bytes = Vec::new();
    for number in 0..PER_CLIENT {
        let word = json!({"type": "publish", "channel": format!("c0-{number}"), "data": "x"});
        bytes.extend(frames::masked(true, frames::TEXT, word.to_string().as_bytes()));
    }
    let mut sender = V1::open(addr, "/ws?channel=other");
    sender.client.send(&bytes);
    for _ in 0..PER_CLIENT {
        assert_eq!(sender.next_of("published")["offset"], 1);
    }
    let mut heard: Vec<Value> = (0..PER_CLIENT).map(|_| client.next()["channel"].take()).collect();
    heard.sort_by_key(Value::to_string);
    heard.dedup();
    assert_eq!(heard.len(), PER_CLIENT, "one message of each channel");
    let left = client.ask(&json!({"type": "unsubscribe", "channel": "c0-500"}));
    assert_eq!(left["type"], "unsubscribed");
    client.subscribe("more");
    Publisher::on(addr, "more").publish("also heard");
    assert_eq!(client.message().0, "also heard");
    let plain = Client::open(addr, &target(1));
    assert_eq!(plain.upgrade.header("wsbcast-position"), None, "too long for a header");
    plain.leave();
}

/// In a shard full of channels the client with the most of them is closed, and never a newcomer
/// with few.
#[test]
fn in_a_full_shard_the_hoarder_goes() {
    let server = Server::start(&["--threads", "1"]);
    let addr = server.addr();
    let mut subscriber = V1::open(addr, "/ws?channel=c0-0");
    let shared = (0..50).map(|number| format!("shared-{number}")).collect::<Vec<_>>();
    let shared = format!("/ws?channel={}", shared.join("&channel="));
    let mut modest: Vec<V1> = (0..20).map(|_| V1::open(addr, &shared)).collect();
    let full = PER_SHARD / PER_CLIENT - 1;
    let mut hoarders: Vec<V1> = (0..full).map(|n| V1::open(addr, &target(n))).collect();
    // Others have 51 channels, one of them with the first of these.
    hoarders.push(V1::open(addr, &target_of(full, PER_CLIENT - 50)));
    let closed = || {
        let reason = ["code=\"1013\"", "reason=\"too_many_channels\""];
        metric(addr, "wsbcast_connections_closed_total", &reason)
    };
    let refused = V1::try_open(addr, &target(PER_SHARD)).expect_err("it wants as many as others");
    refused.assert_status(503);
    assert_eq!(refused.json()["error"], "full");
    assert!(refused.header("retry-after").is_some());

    let mut newcomer = V1::open(addr, "/ws?channel=new");
    let answer = subscriber.ask(&json!({"type": "subscribe", "channel": "newer"}));
    assert_eq!(answer["type"], "subscribed", "{answer}");
    eventually(PATIENCE, "one hoarder has gone", || closed() == 1.0);
    for (channel, hears) in [("new", &mut newcomer), ("newer", &mut subscriber)] {
        Publisher::on(addr, channel).publish("heard");
        assert_eq!(hears.message(), ("heard".into(), 1));
    }
    Publisher::on(addr, "shared-49").publish("heard");
    for client in &mut modest {
        assert_eq!(client.message(), ("heard".into(), 1), "many hear it: it is no hoard");
    }
    assert_eq!(closed(), 1.0);
}
