//! Messages that are long for the memory there is: clients that read them at once are not slow.

use serde_json::{Value, json};

use crate::support::{
    PATIENCE, client::Client, events::Events, eventually, http::get, metrics::metric,
    publish::Publisher, redis::RedisServer, server::Server, v1::V1,
};

/// Clients that read get a message whose forms together are longer than the total budget. In an
/// event stream each line end takes seven bytes, in `wsbcast.v1` two.
#[test]
fn a_reader_gets_forms_longer_than_the_total() {
    let server = Server::start(&[
        "--max-broadcast-size",
        "64KiB",
        "--backlog",
        "128KiB",
        "--backlog-total",
        "512KiB",
        "--threads",
        "4",
        // A client that waits for its turn to be read here answers no pings meanwhile.
        "--ping-interval",
        "1h",
    ]);
    let addr = server.addr();
    let mut streams: Vec<_> = (0..3).map(|_| Events::open(addr, "/sse")).collect();
    let mut v1: Vec<_> = (0..3).map(|_| V1::open(addr, "/ws")).collect();
    let mut plain: Vec<_> = (0..3).map(|_| Client::open(addr, "/ws")).collect();
    let mut publisher = Publisher::new(addr);
    let lines = "\n".repeat(64 * 1024);
    let control = "\u{1}\"\r\n".repeat(16 * 1024);
    for (text, in_a_stream) in [(&lines, lines.clone()), (&control, control.replace('\r', ""))] {
        publisher.publish(text);
        streams.iter_mut().for_each(|it| assert!(it.text() == in_a_stream, "an event stream"));
        v1.iter_mut().for_each(|it| assert!(it.message().0 == *text, "wsbcast.v1"));
        plain.iter_mut().for_each(|it| assert!(it.text() == *text, "a plain client"));
    }
    for action in ["action=\"close\"", "action=\"skip\""] {
        assert_eq!(metric(addr, "wsbcast_slow_consumers_total", &[action]), 0.0);
    }
    let mut again = Events::open(addr, "/sse?last=2");
    assert!(again.text() == lines, "from the history, too");
    assert!(again.text() == control.replace('\r', ""));
}

fn member(redis: &RedisServer, args: &[&str]) -> Server {
    let server = Server::start(&[&["--redis-url", &redis.url()], args].concat());
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    server
}

/// The gap that clients are told.
fn assert_gap(gap: &Value) {
    let place = [&gap["type"], &gap["channel"], &gap["from"], &gap["to"]];
    assert_eq!(place, [&json!("gap"), &json!("c"), &json!(2), &json!(2)]);
}

fn assert_gap_event(stream: &mut Events) {
    let event = stream.event();
    assert_eq!(event.event, "gap");
    assert_gap(&serde_json::from_str(&event.data.unwrap()).unwrap());
}

/// A message that this process has no memory for is told as missing, and makes no client slow.
#[test]
fn a_message_without_room_here_is_told_as_missing() {
    for policy in ["close", "skip"] {
        let redis = RedisServer::start();
        let roomy = member(&redis, &["--threads", "1"]);
        let limits = ["--backlog", "64KiB", "--backlog-total", "512KiB", "--threads", "2"];
        let small = member(&redis, &[&limits[..], &["--slow-consumer", policy]].concat());
        let addr = small.addr();
        let mut v1 = V1::open(addr, "/ws?channel=c");
        let mut stream = Events::open(addr, "/sse?channel=c");
        let mut plain = Client::open(addr, "/ws?channel=c");
        let mut elsewhere = Client::open(roomy.addr(), "/ws?channel=c");
        let long = "x".repeat(500_000);
        let mut publisher = Publisher::on(roomy.addr(), "c");
        ["before", &long, "after"]
            .iter()
            .for_each(|text| assert!(publisher.publish(text).is_clustered()));
        ["before", &long, "after"].iter().for_each(|text| elsewhere.assert_text(text));
        assert_eq!(v1.message(), ("before".to_owned(), 1));
        assert_gap(&v1.next());
        assert_eq!(v1.message(), ("after".to_owned(), 3));
        assert_eq!(stream.text(), "before");
        assert_gap_event(&mut stream);
        assert_eq!(stream.text(), "after");
        plain.assert_text("before");
        match policy {
            "close" => assert_eq!(plain.assert_closed(1013), "messages were lost"),
            _ => plain.assert_text("after"),
        }
        assert_eq!(metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]), 0.0);
        assert!(metric(addr, "wsbcast_unheld_messages_total", &[]) >= 1.0, "it is counted");
        small.wait_for_log(&["larger than a quarter of --backlog-total", "bytes=500000"]);
        // A client that comes back is told the same.
        let mut again = Events::open(addr, "/sse?channel=c&last=3");
        assert_eq!(again.text(), "before");
        assert_gap_event(&mut again);
        assert_eq!(again.text(), "after");
        let mut again = Client::open(addr, "/ws?channel=c&last=3");
        again.assert_text("before");
        assert_eq!(again.assert_closed(1013), "history gone");
    }
}
