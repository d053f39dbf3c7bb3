//! Clients of all kinds stay, and go on where they were.

use flate2::{Decompress, FlushDecompress};
use serde_json::json;
use testkit::redis::RedisServer;

use crate::{
    lineage::Lineage,
    support::{
        PATIENCE,
        client::Client,
        events::Events,
        eventually,
        frames::{CONTINUATION, Frame, PING, PONG, TEXT, masked},
        http::{Http, post},
        publish::Publisher,
        v1::{V1, position},
    },
};

fn publish(lineage: &Lineage, texts: impl IntoIterator<Item = String>) -> Vec<u64> {
    let mut publisher = Publisher::on(lineage.addr, "a");
    texts.into_iter().map(|text| publisher.publish_to_all(text)).collect()
}

/// A client that has agreed to compression.
fn compressed(lineage: &Lineage) -> Client {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let http = Http::connect(lineage.addr);
    let mut client = Client::try_open(http, lineage.addr, "/ws?channel=a", offer).unwrap();
    assert!(client.upgrade.header("sec-websocket-extensions").is_some());
    client.http.inbox.compression = true;
    client
}

fn inflated(frame: &Frame) -> String {
    assert!(frame.compressed, "{frame:?}");
    let whole = [frame.payload.as_slice(), &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(100_000);
    let mut state = Decompress::new(false);
    state.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("deflate data");
    String::from_utf8(out).unwrap()
}

fn text(number: usize) -> String {
    format!("{number} {}", "words that shrink ".repeat(40))
}

/// Each form goes on with the next message, at the next position of the same history.
#[track_caller]
fn all_forms_go_on(args: &[&str]) {
    let mut lineage = Lineage::start(&[args, &["--compression", "on"]].concat());
    let mut plain = Client::open(lineage.addr, "/ws?channel=a");
    let mut v1 = V1::open(lineage.addr, "/ws?channel=a");
    let mut sse = Events::open(lineage.addr, "/sse?channel=a");
    let mut deflate = compressed(&lineage);
    let mut number = 0;
    let mut epochs = Vec::new();
    for threads in ["4", "1", "3"] {
        let texts: Vec<String> = (number..number + 3).map(text).collect();
        assert_eq!(publish(&lineage, texts.clone()), [1, 2, 3].map(|n| number as u64 + n));
        for text in &texts {
            number += 1;
            plain.assert_text(text);
            let message = v1.next_of("message");
            assert_eq!(message["data"], *text);
            assert_eq!(message["offset"], number);
            epochs.push(message["epoch"].as_str().unwrap().to_owned());
            assert_eq!(sse.text(), *text);
            assert!(sse.last_id.as_ref().is_some_and(|id| id.ends_with(&format!(":{number}"))));
            assert_eq!(inflated(&deflate.message()), *text);
        }
        lineage.take_over(&["--threads", threads]);
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "one history: {epochs:?}");
    v1.assert_nothing_else();
    assert_eq!(lineage.metric("wsbcast_connections", &[]), 4.0);
    plain.leave();
    v1.client.leave();
    deflate.leave();
    drop(sse);
    assert_eq!(lineage.stop(), Some(0), "{}", lineage.log());
}

#[test]
fn every_form_goes_on_at_the_next_position() {
    all_forms_go_on(&[]);
}

#[test]
fn every_form_goes_on_without_a_history() {
    all_forms_go_on(&["--history-size", "0"]);
}

#[test]
fn every_form_goes_on_with_redis() {
    let redis = RedisServer::start();
    all_forms_go_on(&["--redis-url", &format!("redis://{}", redis.address())]);
}

/// A client that comes back behind the upgrade gets what it missed before it.
#[test]
fn histories_go_on_in_the_new_process() {
    let mut lineage = Lineage::start(&[]);
    let mut v1 = V1::open(lineage.addr, "/ws?channel=a");
    publish(&lineage, (0..5).map(text));
    let first = v1.next_of("message");
    drop(v1);
    lineage.upgrade();
    publish(&lineage, [text(5)]);
    let since = format!("/ws?channel=a&since={}", position(&first));
    let mut back = V1::open(lineage.addr, &since);
    for number in 1..6 {
        let message = back.next_of("message");
        assert_eq!(
            (&message["data"], &message["offset"]),
            (&json!(text(number)), &json!(number + 1))
        );
        assert_eq!(message["epoch"], first["epoch"]);
    }
    let mut plain = Client::open(lineage.addr, "/ws?channel=a&last=2");
    plain.assert_text(&text(4));
    plain.assert_text(&text(5));
}

/// A message that a client has begun is finished in the new process, wherever it was cut; so is a
/// control frame.
#[test]
fn a_message_amid_an_upgrade_is_understood() {
    let mut lineage = Lineage::start(&[]);
    let ping = masked(true, TEXT, br#"{"type":"ping"}"#);
    let two =
        [masked(false, TEXT, br#"{"type""#), masked(true, CONTINUATION, br#":"ping"}"#)].concat();
    let mut cuts = Vec::new();
    for message in [&ping, &two] {
        for cut in 1..message.len() {
            let mut v1 = V1::open(lineage.addr, "/ws?channel=a");
            v1.client.send(&message[..cut]);
            cuts.push((v1, message, cut));
        }
    }
    let mut plain = Client::open(lineage.addr, "/ws?channel=a");
    let control = masked(true, PING, b"are you there");
    plain.send(&control[..control.len() / 2]);
    lineage.upgrade();
    for (mut v1, message, cut) in cuts {
        v1.client.send(&message[cut..]);
        assert_eq!(v1.next()["type"], "pong", "cut at {cut}");
    }
    plain.send(&control[control.len() / 2..]);
    let pong = plain.frame();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, b"are you there".as_slice()));
}

/// All that a client has not read yet is still its own, megabytes of it too.
#[test]
fn a_client_that_is_behind_gets_everything() {
    let mut lineage = Lineage::start(&["--history-size", "0"]);
    let mut slow = Client::with_little_room(lineage.addr, "/ws?channel=a");
    let mut quick = Client::open(lineage.addr, "/ws?channel=a");
    let texts: Vec<String> =
        (0..40).map(|number| format!("{number} ") + &"x".repeat(100_000)).collect();
    publish(&lineage, texts[..20].to_vec());
    texts[..20].iter().for_each(|text| quick.assert_text(text));
    lineage.take_over(&["--threads", "1"]);
    publish(&lineage, texts[20..].to_vec());
    lineage.take_over(&["--threads", "3"]);
    texts[20..].iter().for_each(|text| quick.assert_text(text));
    texts.iter().for_each(|text| slow.assert_text(text));
}

/// Keepalive goes on: a client that is silent is asked, and one that does not answer is closed.
#[test]
fn keepalive_goes_on_in_the_new_process() {
    let mut lineage = Lineage::start(&["--ping-interval", "2s", "--ping-timeout", "2s"]);
    let mut silent = Client::open(lineage.addr, "/ws?channel=a");
    let mut alive = Client::open(lineage.addr, "/ws?channel=a");
    lineage.upgrade();
    let ping = alive.frame();
    assert_eq!(ping.opcode, PING);
    alive.pong(&ping);
    assert_eq!(silent.frame().opcode, PING);
    assert_eq!(silent.close_frame().0, 4408);
    post(lineage.addr, "/broadcast?channel=a", "still there").assert_status(202);
    alive.assert_text("still there");
}

/// Channels that a client has subscribed to on the way, and left, are known to the new process.
#[test]
fn subscriptions_on_the_way_are_kept() {
    let mut lineage = Lineage::start(&[]);
    let mut v1 = V1::open(lineage.addr, "/ws?channel=a");
    v1.subscribe("b");
    v1.ask(&json!({"type": "unsubscribe", "channel": "a"}));
    lineage.upgrade();
    post(lineage.addr, "/broadcast?channel=a", "not for it").assert_status(202);
    post(lineage.addr, "/broadcast?channel=b", "for it").assert_status(202);
    assert_eq!(v1.message().0, "for it");
    v1.subscribe("a");
    post(lineage.addr, "/broadcast?channel=a", "again").assert_status(202);
    assert_eq!(v1.message().0, "again");
    assert_eq!(lineage.metric("wsbcast_connections", &[]), 1.0);
    drop(v1);
    eventually(PATIENCE, "its end is seen", || lineage.metric("wsbcast_connections", &[]) == 0.0);
}
