//! The subprotocol `wsbcast.v1`: agreed upon, first words, messages, what a client may say.

use serde_json::{Value, json};

use crate::support::{
    client::Client, clients_on_all_shards, frames, http::Http, metrics::metric, publish::Publisher,
    server::Server, v1::OFFER, v1::V1, v1::position,
};

/// The subprotocol is agreed upon wherever it stands in the offer, and no other one is.
#[test]
fn the_subprotocol_is_agreed_upon_wherever_it_stands() {
    let server = Server::start(&["--echo"]);
    let addr = server.addr();
    let answer = |target: &str, headers: &str| {
        let opened = Client::try_open(Http::connect(addr), addr, target, headers);
        opened.unwrap().upgrade.header("sec-websocket-protocol").map(ToOwned::to_owned)
    };
    for offer in ["wsbcast.v1", "a, wsbcast.v1 ,b", "a\r\nSec-WebSocket-Protocol: wsbcast.v1"] {
        let agreed = answer("/ws", &format!("Sec-WebSocket-Protocol: {offer}\r\n"));
        assert_eq!(agreed.as_deref(), Some("wsbcast.v1"), "{offer}");
    }
    for offer in ["wsbcast.v2", "WSBCAST.V1", "a, b"] {
        assert_eq!(answer("/ws", &format!("Sec-WebSocket-Protocol: {offer}\r\n")), None, "{offer}");
    }
    assert_eq!(answer("/ws", ""), None);
    assert_eq!(answer("/echo", OFFER), None);
}

/// The hello comes first, and tells the positions after which everything will come.
#[test]
fn hello_comes_first_with_positions() {
    let server = Server::start(&["--greeting", "hi there", "--ping-interval", "12s"]);
    let addr = server.addr();
    let published = Publisher::on(addr, "a").publish("before");
    let mut client = V1::open(addr, "/ws?channel=b&channel=a");
    let hello = client.hello.clone();
    assert_eq!(hello["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&hello["ping_interval_ms"], &hello["greeting"]),
        (&json!(12_000), &json!("hi there"))
    );
    let positions = hello["positions"].as_object().unwrap();
    assert_eq!(positions.len(), 2);
    let epoch = published.epoch.unwrap();
    assert_eq!(positions["a"], json!({"epoch": epoch, "offset": 1}));
    assert_eq!(positions["b"]["offset"], 0);
    Publisher::on(addr, "a").publish("after");
    assert_eq!(client.message(), ("after".into(), 2));
    client.assert_nothing_else();
}

/// A client that names an empty channel has none, and adds some; nothing else of the query may be
/// about channels.
#[test]
fn a_client_may_begin_without_a_channel() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let addr = server.addr();
    let mut client = V1::open(addr, "/ws?channel=");
    assert_eq!(client.hello["positions"], json!({}));
    Publisher::on(addr, "notifications").publish("not for it");
    client.say(&json!({"type": "publish", "channel": "a", "data": "out", "id": "1"}));
    assert_eq!(client.next()["type"], "published");
    client.subscribe("b");
    Publisher::on(addr, "b").publish("in");
    assert_eq!(client.message(), ("in".into(), 1));
    for query in ["channel=&channel=", "channel=&channel=a", "channel=&last=1", "channel=&since="] {
        let Err(refused) = V1::try_open(addr, &format!("/ws?{query}")) else { panic!("{query}") };
        assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("bad_channel")));
    }
}

/// Messages tell their channel and position, and hold text or base64.
#[test]
fn messages_tell_their_channel_and_position() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = V1::open(addr, "/ws?channel=a&channel=b");
    let first = Publisher::on(addr, "a").publish("say \"hi\"\n").epoch.unwrap();
    crate::support::http::post_with(
        addr,
        "/broadcast?channel=b",
        "Content-Type: application/octet-stream\r\n",
        b"\xff\x00",
    )
    .assert_status(202);
    let (a, b) = (client.next(), client.next());
    assert_eq!(
        a,
        json!({
            "type": "message",
            "channel": "a",
            "epoch": first,
            "offset": 1,
            "data": "say \"hi\"\n",
        })
    );
    assert_eq!((&b["channel"], &b["offset"]), (&json!("b"), &json!(1)));
    assert_eq!((&b["encoding"], &b["data"]), (&json!("base64"), &json!("/wA=")));
    client.assert_nothing_else();
}

/// A client subscribes and unsubscribes while it is connected.
#[test]
fn a_connected_client_subscribes_and_unsubscribes() {
    let server = Server::start(&["--threads", "2"]);
    let addr = server.addr();
    let mut publishers = ["a", "b"].map(|channel| Publisher::on(addr, channel));
    publishers[1].publish("unheard");
    let mut client = V1::open(addr, "/ws?channel=a");
    let subscribed = client.subscribe("b");
    assert_eq!(subscribed["offset"], 1);
    assert!(subscribed["recovered"].is_null(), "nothing was asked for: {subscribed}");
    publishers[1].publish("heard");
    assert_eq!(client.message(), ("heard".into(), 2));
    assert_eq!(client.subscribe("b")["offset"], 2, "a second time: where it stands now");
    let left = client.ask(&json!({"type": "unsubscribe", "channel": "b"}));
    assert_eq!(left, json!({"type": "unsubscribed", "channel": "b"}));
    publishers[1].publish("unheard again");
    publishers[0].publish("still heard");
    assert_eq!(client.message(), ("still heard".into(), 1));
    let again =
        client.ask(&json!({"type": "subscribe", "channel": "b", "since": position(&subscribed)}));
    assert_eq!((&again["offset"], &again["recovered"]), (&json!(1), &json!(true)));
    assert_eq!(client.message(), ("heard".into(), 2));
    assert_eq!(client.message(), ("unheard again".into(), 3));
    let never = client.ask(&json!({"type": "unsubscribe", "channel": "never"}));
    assert_eq!(never["type"], "unsubscribed", "as it wants it");
    client.assert_nothing_else();
}

/// A subscription gets the newest messages or those since a position, and gaps are told.
#[test]
fn a_subscription_gets_history_and_gaps() {
    let server = Server::start(&["--history-size", "3"]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    let epoch = publisher.publish("1").epoch.unwrap();
    for text in ["2", "3", "4", "5"] {
        publisher.publish(text);
    }
    let subscribe = |more: Value| {
        let mut client = V1::open(addr, "/ws?channel=other");
        let mut word = json!({"type": "subscribe", "channel": "a"});
        word.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = client.ask(&word);
        (client, answer)
    };
    let (mut client, answer) = subscribe(json!({"last": 2}));
    assert_eq!((&answer["offset"], &answer["recovered"]), (&json!(3), &json!(true)));
    assert_eq!((client.message().1, client.message().1), (4, 5));
    client.assert_nothing_else();

    let (mut client, answer) = subscribe(json!({"since": format!("{epoch}:0")}));
    assert_eq!((&answer["offset"], &answer["recovered"]), (&json!(2), &json!(false)));
    let gap = client.next();
    assert_eq!(gap, json!({"type": "gap", "channel": "a", "epoch": epoch, "from": 1, "to": 2}));
    assert_eq!([client.message().1, client.message().1, client.message().1], [3, 4, 5]);
    client.assert_nothing_else();

    let (mut client, answer) = subscribe(json!({"since": "another:7"}));
    assert_eq!(answer["recovered"], false);
    let gap = client.next_of("gap");
    assert_eq!((&gap["epoch"], &gap["from"], &gap["to"]), (&json!(epoch), &json!(1), &json!(2)));
    assert_eq!(client.message().1, 3);
}

/// A publication is answered with its position, and one that is said twice is published once.
#[test]
fn a_repeated_publication_is_published_once() {
    let server = Server::start(&["--threads", "2", "--client-publish", "broadcast"]);
    let addr = server.addr();
    let mut hearers = clients_on_all_shards(addr, "/ws?channel=a", 2);
    let mut client = V1::open(addr, "/ws?channel=other");
    let publish =
        |data: &str, id: &str| json!({"type": "publish", "channel": "a", "data": data, "id": id});
    let first = client.ask(&publish("one", "x-1"));
    assert_eq!(first["type"], "published", "{first}");
    assert_eq!(
        (&first["id"], &first["channel"], &first["scope"], &first["offset"]),
        (&json!("x-1"), &json!("a"), &json!("cluster"), &json!(1))
    );
    assert!(first["epoch"].is_string());
    assert_eq!(client.ask(&publish("one", "x-1")), first, "the first one's answer");
    let bare = client.ask(&json!({"type": "publish", "channel": "a", "data": "two"}));
    assert_eq!((&bare["offset"], bare.get("id")), (&json!(2), None));
    let binary = json!({"type": "publish", "channel": "a", "data": "/wA=", "encoding": "base64"});
    assert_eq!(client.ask(&binary)["offset"], 3);
    for hearer in &mut hearers {
        hearer.assert_text("one");
        hearer.assert_text("two");
        assert_eq!(hearer.message().payload, b"\xff\x00");
    }
    assert_eq!(metric(addr, "wsbcast_published_total", &["source=\"client\""]), 4.0);
}

/// Commands that come in one packet are done and answered in order.
#[test]
fn a_clients_burst_is_answered_in_order() {
    const MESSAGES: usize = 200;
    let server = Server::start(&["--client-publish", "broadcast"]);
    let addr = server.addr();
    let mut client = V1::open(addr, "/ws?channel=other");
    let mut hearer = Client::open(addr, "/ws?channel=a");
    let mut bytes = Vec::new();
    let mut say = |word: Value| {
        bytes.extend(frames::masked(true, frames::TEXT, word.to_string().as_bytes()));
    };
    say(json!({"type": "subscribe", "channel": "a"}));
    for number in 0..MESSAGES {
        say(json!({"type": "publish", "channel": "a", "data": number.to_string()}));
    }
    say(json!({"type": "ping"}));
    say(json!({"type": "unsubscribe", "channel": "a"}));
    say(json!({"type": "publish", "channel": "a", "data": "last"}));
    client.client.send(&bytes);
    client.next_of("subscribed");
    let (mut answers, mut messages, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    while answers.len() <= MESSAGES {
        let next = client.next();
        match next["type"].as_str().unwrap() {
            "published" => answers.push(next["offset"].as_u64().unwrap()),
            "message" => messages.push(next["offset"].as_u64().unwrap()),
            other => kinds.push(other.to_owned()),
        }
    }
    assert_eq!(answers, (1..=MESSAGES as u64 + 1).collect::<Vec<_>>());
    assert_eq!(kinds, ["pong", "unsubscribed"]);
    assert_eq!(messages, (1..=messages.len() as u64).collect::<Vec<_>>());
    let heard = hearer.texts_until("last");
    assert_eq!(heard, (0..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>());
    client.assert_nothing_else();
}

#[test]
fn clients_without_the_right_are_told_and_go_on() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut hearer = Client::open(addr, "/ws?channel=a");
    let mut client = V1::open(addr, "/ws?channel=a");
    let refused = client.ask(&json!({"type": "publish", "channel": "a", "data": "x", "id": "7"}));
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("forbidden")));
    assert_eq!((&refused["channel"], &refused["id"]), (&json!("a"), &json!("7")));
    client.assert_nothing_else();
    Publisher::on(addr, "a").publish("only this");
    hearer.assert_text("only this");
}

/// Mistakes are told with a code, and commands of unknown type are ignored.
#[test]
fn mistakes_are_told_with_a_code() {
    let server = Server::start(&[
        "--client-publish",
        "broadcast",
        "--max-broadcast-size",
        "1KiB",
        "--max-message-size",
        "64KiB",
    ]);
    let mut client = V1::open(server.addr(), "/ws?channel=a");
    for (word, code) in [
        (json!({"type": "subscribe", "channel": "no spaces"}), "bad_channel"),
        (json!({"type": "subscribe", "channel": "a".repeat(129)}), "bad_channel"),
        (json!({"type": "subscribe"}), "bad_request"),
        (json!({"type": "subscribe", "channel": "b", "since": "x"}), "bad_position"),
        (json!({"type": "subscribe", "channel": "b", "last": "x"}), "bad_request"),
        (json!({"type": "unsubscribe", "channel": 7}), "bad_request"),
        (json!({"type": "publish", "channel": "a"}), "bad_request"),
        (json!({"type": "publish", "channel": "a", "data": "x".repeat(1025)}), "too_big"),
    ] {
        let answer = client.ask(&word);
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!(code)), "{word}");
        assert!(answer["message"].is_string(), "{answer}");
    }
    client.say(&json!({"type": "something", "channel": 7}));
    client.say(&json!({"type": "ping", "more": [1, 2]}));
    client.next_of("pong");
    client.assert_nothing_else();
}

/// A message that is none of the subprotocol ends the connection.
#[test]
fn a_foreign_message_ends_a_v1_connection() {
    let server = Server::start(&[]);
    let text = |payload: &[u8]| frames::masked(true, frames::TEXT, payload);
    let cases = [
        (text(b"hello"), 1007),
        (text(b""), 1007),
        (text(b"{\"type\":\"ping\""), 1007),
        (text(b"{\"type\":\"\xff\"}"), 1007),
        (text(b"[1]"), 1008),
        (text(b"{}"), 1008),
        (text(b"{\"type\":7}"), 1008),
        (frames::masked(true, frames::BINARY, b"{\"type\":\"ping\"}"), 1003),
        (text(&vec![b' '; 65_537]), 1009),
    ];
    for (bytes, code) in cases {
        let mut client = V1::open(server.addr(), "/ws");
        client.client.send(&bytes);
        client.client.assert_closed(code);
    }
}
