//! Clients that come back: what they missed, then what follows, without a hole or a repeat.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::support::{
    client::Client,
    publish::Publisher,
    server::Server,
    v1::{V1, position},
};

/// The position of one channel in an upgrade's answer.
fn position_of(client: &Client, channel: &str) -> String {
    let header = client.upgrade.header("wsbcast-position").expect("positions are told");
    let own = header.split(", ").find_map(|one| one.strip_prefix(&format!("{channel}=")));
    own.unwrap_or_else(|| panic!("{channel} in {header}")).to_owned()
}

/// A plain client that comes back gets what it missed in each of its channels, and then the live
/// messages.
#[test]
fn a_returning_plain_client_gets_what_it_missed() {
    let server = Server::start(&["--threads", "2"]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    publisher.publish("before");
    let client = Client::open(addr, "/ws?channel=a&channel=b");
    let (a, b) = (position_of(&client, "a"), position_of(&client, "b"));
    assert!(a.ends_with(":1") && b.ends_with(":0"), "{a} {b}");
    client.leave();
    publisher.publish("missed 1");
    Publisher::on(addr, "b").publish("missed 2");
    let target = format!("/ws?channel=a&since={a}&channel=b&since={b}");
    let mut client = Client::open(addr, &target);
    assert_eq!(position_of(&client, "a"), a, "everything after it comes");
    let mut missed = [client.text(), client.text()];
    missed.sort();
    assert_eq!(missed, ["missed 1", "missed 2"]);
    publisher.publish("live");
    client.assert_text("live");
    assert_eq!(client.leave(), [""; 0]);
}

#[test]
fn the_newest_messages_are_had_by_number() {
    let server = Server::start(&["--history-size", "3"]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    for text in ["1", "2", "3", "4", "5"] {
        publisher.publish(text);
    }
    for (last, expected) in [(0, &[] as &[&str]), (2, &["4", "5"]), (100, &["3", "4", "5"])] {
        let client = Client::open(addr, &format!("/ws?channel=a&last={last}"));
        let mut client = client;
        for text in expected {
            client.assert_text(text);
        }
        assert_eq!(client.leave(), [""; 0]);
    }
}

#[test]
fn a_v1_client_is_told_the_gap_and_goes_on() {
    let server = Server::start(&["--history-size", "2"]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    let epoch = publisher.publish("1").epoch.unwrap();
    for text in ["2", "3", "4"] {
        publisher.publish(text);
    }
    let mut client = V1::open(addr, &format!("/ws?channel=a&since={epoch}:1"));
    assert_eq!(client.hello["positions"]["a"], json!({"epoch": epoch, "offset": 2}));
    let gap = client.next();
    assert_eq!(gap, json!({"type": "gap", "channel": "a", "epoch": epoch, "from": 2, "to": 2}));
    assert_eq!([client.message(), client.message()], [("3".into(), 3), ("4".into(), 4)]);
    client.assert_nothing_else();
}

/// Publishes numbers to `channel` until it is told to stop; how many.
fn publish_until(
    addr: SocketAddr,
    channel: &str,
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<u64> {
    let mut publisher = Publisher::on(addr, channel);
    thread::spawn(move || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            count += 1;
            assert_eq!(publisher.publish_to_all(count.to_string()), count);
        }
        count
    })
}

/// Many reconnects while messages are published lose, repeat and reorder nothing.
#[test]
fn many_reconnects_under_publishing_lose_nothing() {
    const RECONNECTS: usize = 100;
    let server = Server::start(&["--threads", "2", "--history-size", "100000"]);
    let addr = server.addr();
    let first = V1::open(addr, "/ws?channel=a");
    let mut since = position(&first.hello["positions"]["a"]);
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = publish_until(addr, "a", stop.clone());
    let mut expected = 1;
    for round in 0..RECONNECTS {
        // Half of them name the channel when they connect, half of them later.
        let mut client = if round % 2 == 0 {
            V1::open(addr, &format!("/ws?channel=a&since={since}"))
        } else {
            let mut client = V1::open(addr, "/ws?channel=other");
            let answer = client.ask(&json!({"type": "subscribe", "channel": "a", "since": since}));
            assert_eq!(
                (&answer["type"], &answer["recovered"]),
                (&json!("subscribed"), &json!(true))
            );
            assert_eq!(position(&answer), since);
            client
        };
        for _ in 0..20 {
            let message = client.next_of("message");
            assert_eq!(message["offset"], expected, "round {round}");
            assert_eq!(message["data"], expected.to_string());
            since = position(&message);
            expected += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let published = publishing.join().unwrap();
    let mut last = V1::open(addr, &format!("/ws?channel=a&since={since}"));
    for offset in expected..=published {
        assert_eq!(last.message(), (offset.to_string(), offset));
    }
    last.assert_nothing_else();
}
