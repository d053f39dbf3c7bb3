//! Notices and greetings, messages from clients, and pings.

use std::{
    thread,
    time::{Duration, UNIX_EPOCH},
};

use humantime::parse_rfc3339;
use wsbcast::clock::Clock;

use crate::support::{
    PATIENCE,
    client::{Client, Event, upgrade_request},
    eventually,
    frames::{self, PING, PONG, TEXT, masked},
    http::{get, once},
    let_pass,
    metrics::metric,
    now,
    publish::Publisher,
    server::{Launch, Server},
};

#[test]
fn the_greeting_comes_first_also_while_others_publish() {
    let server = Server::start(&["--greeting", "Willkommen 👋", "--threads", "2"]);
    let addr = server.addr();
    let publisher = thread::spawn(move || {
        let mut publisher = Publisher::new(addr);
        for number in 0..300 {
            publisher.publish_to_all(format!("{number}"));
        }
    });
    let mut clients = 0;
    while clients < 40 || !publisher.is_finished() {
        let mut client = Client::connect(addr);
        client.assert_text("Willkommen 👋");
        clients += 1;
        let numbers = client.leave();
        let numbers: Vec<u32> = numbers.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }
    publisher.join().unwrap();
}

/// Messages from clients are counted and dropped unless the operator wants them published.
#[test]
fn client_messages_are_dropped_by_default() {
    let server = Server::start(&[]);
    let mut sender = Client::connect(server.addr());
    let mut other = Client::connect(server.addr());
    sender.send_text("to all?");
    sender.send(masked(true, PING, b"after"));
    assert_eq!(sender.frame().opcode, PONG, "the message has been read");
    Publisher::new(server.addr()).publish_to_all("sentinel");
    sender.assert_text("sentinel");
    other.assert_text("sentinel");
    assert_eq!(metric(server.addr(), "wsbcast_client_messages_dropped_total", &[]), 1.0);
}

/// With `--client-publish broadcast` a client's message goes unchanged to the first of its
/// channels.
#[test]
fn a_clients_message_is_broadcast_if_wanted() {
    let server = Server::start(&["--client-publish", "broadcast", "--threads", "3"]);
    let addr = server.addr();
    let mut sender = Client::open(addr, "/ws?channel=first&channel=second");
    let mut first = Client::open(addr, "/ws?channel=first");
    let mut second = Client::open(addr, "/ws?channel=second");
    sender.send_text("Grüße");
    sender.send(masked(false, frames::BINARY, b"\x00\xFF"));
    sender.send(masked(true, frames::CONTINUATION, b"\x01"));
    for client in [&mut sender, &mut first] {
        client.assert_text("Grüße");
        let binary = client.message();
        assert_eq!((binary.opcode, &binary.payload[..]), (frames::BINARY, &b"\x00\xFF\x01"[..]));
    }
    assert_eq!(Publisher::on(addr, "first").publish_to_all("third"), 3);
    Publisher::on(addr, "second").publish_to_all("sentinel");
    second.assert_text("sentinel");
    assert_eq!(metric(addr, "wsbcast_published_total", &["source=\"client\""]), 2.0);
}

#[test]
fn many_messages_of_one_client_keep_their_order() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let mut sender = Client::connect(server.addr());
    let mut other = Client::connect(server.addr());
    let bytes: Vec<u8> =
        (0..300).flat_map(|n| masked(true, TEXT, format!("{n}").as_bytes())).collect();
    sender.send(bytes);
    for number in 0..300 {
        other.assert_text(&format!("{number}"));
        sender.assert_text(&format!("{number}"));
    }
}

/// A client that leaves at once after its messages has them all published, the last one too.
#[test]
fn a_leaving_clients_last_words_are_broadcast() {
    let server = Server::start(&["--client-publish", "broadcast", "--threads", "2"]);
    let mut other = Client::connect(server.addr());
    for round in 0..20 {
        let mut sender = Client::connect(server.addr());
        let texts: Vec<String> = (0..30).map(|n| format!("{round}.{n}")).collect();
        let mut bytes: Vec<u8> =
            texts.iter().flat_map(|text| masked(true, TEXT, text.as_bytes())).collect();
        // Half of them say goodbye, the others just hang up.
        if round % 2 == 0 {
            bytes.extend(frames::masked_close(1000, ""));
        }
        sender.send(bytes);
        drop(sender);
        for text in &texts {
            other.assert_text(text);
        }
    }
}

/// The notice comes once in each interval, with its text and the time.
#[test]
fn the_notice_comes_once_every_interval() {
    let server = Server::start(&[
        "--notify-interval",
        "400ms",
        "--notify-text",
        "Noch da",
        "--threads",
        "3",
    ]);
    let mut client = Client::connect(server.addr());
    let mut other = Client::open(server.addr(), "/ws?channel=other");
    let start = now();
    let mut times = Vec::new();
    for _ in 0..6 {
        let text = client.text();
        let time = text.strip_prefix("Noch da").expect("the text comes first").trim();
        let time = time.trim_start_matches([':', '-', '(', ' ']).trim_end_matches(')');
        assert!(time.ends_with('Z'), "UTC: {text}");
        times.push(parse_rfc3339(time).unwrap_or_else(|e| panic!("{e}: {text}")));
    }
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(1600), "five intervals of 400 ms: {elapsed:?}");
    assert!(times.is_sorted(), "{times:?}");
    let wall = UNIX_EPOCH + Clock::start().unix_time();
    let apart = wall.duration_since(times[5]).unwrap_or_else(|error| error.duration());
    assert!(apart < Duration::from_secs(30), "{wall:?} {times:?}");
    Publisher::on(server.addr(), "other").publish_to_all("sentinel");
    other.assert_text("sentinel");
    let periodic = ["source=\"periodic\""];
    assert!(metric(server.addr(), "wsbcast_published_total", &periodic) >= 6.0);
}

#[test]
fn the_notices_text_and_interval_have_defaults() {
    let help = Launch::new(&["--help"]).run().stdout;
    for default in ["Periodic Test Notification", "10s"] {
        assert!(help.contains(default), "{default} in --help");
    }
    let server = Server::start(&["--notify-interval", "200ms"]);
    let text = Client::connect(server.addr()).text();
    assert!(text.starts_with("Periodic Test Notification"), "{text}");
}

#[test]
fn one_client_too_many_is_503_until_another_leaves() {
    let server = Server::start(&["--max-connections", "3", "--threads", "2"]);
    let addr = server.addr();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(addr)).collect();
    for _ in 0..5 {
        let response = once(addr, upgrade_request(addr, "/ws", ""));
        response.assert_status(503);
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    assert_eq!(get(addr, "/livez").status, 200, "only clients count");
    assert_eq!(metric(addr, "wsbcast_handshakes_rejected_total", &["reason=\"full\""]), 5.0);
    clients.pop().unwrap().leave();
    let mut again = None;
    eventually(PATIENCE, "the place is free again", || {
        again = Client::try_connect(addr).ok();
        again.is_some()
    });
    Publisher::new(addr).publish_to_all("to all three");
    for client in clients.iter_mut().chain(&mut again) {
        client.assert_text("to all three");
    }
}

#[test]
fn a_client_without_a_sign_of_life_is_closed_4408() {
    let server = Server::start(&["--ping-interval", "200ms", "--ping-timeout", "300ms"]);
    let mut silent = Client::connect(server.addr());
    let ping = silent.frame();
    assert_eq!(ping.opcode, PING, "the server asks first: {ping:?}");
    let close = loop {
        let frame = silent.frame();
        if frame.opcode != PING {
            break frame;
        }
    };
    assert_eq!(close.close().0, 4408);
    let labels = ["code=\"4408\"", "reason=\"ping_timeout\""];
    eventually(PATIENCE, "the close is counted", || {
        metric(server.addr(), "wsbcast_connections_closed_total", &labels) == 1.0
    });
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let server = Server::start(&["--ping-interval", "200ms", "--ping-timeout", "2s"]);
    let mut slow = Client::connect(server.addr());
    let frame = masked(true, TEXT, &[b'x'; 40]);
    let start = now();
    // A frame of 46 bytes, one every 100 ms: twice the time in which silence would end it.
    for byte in frame {
        slow.send([byte]);
        let_pass(Duration::from_millis(100));
    }
    assert!(start.elapsed() > Duration::from_secs(4));
    while let Some(event) = slow.event_within(Duration::from_millis(1)) {
        assert!(matches!(&event, Event::Frame(f) if f.opcode == PING));
    }
    let mut polite = Client::connect(server.addr());
    assert_eq!(polite.message_within(Duration::from_secs(3)), None, "pings are answered");
    polite.leave();
}
