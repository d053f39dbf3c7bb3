//! `POST /broadcast`: what reaches the clients, and what the publisher is told.

use serde_json::json;

use crate::support::{
    client::Client,
    frames::{BINARY, TEXT},
    http::{Http, Response, post, post_with},
    metrics::metric,
    publish::Publisher,
    server::Server,
};

fn post_typed(server: &Server, target: &str, kind: &str, body: &[u8]) -> Response {
    post_with(server.addr(), target, &format!("Content-Type: {kind}\r\n"), body)
}

fn post_lines(server: &Server, body: &str) -> Response {
    post_typed(server, "/broadcast", "application/x-ndjson", body.as_bytes())
}

/// A body is published as one text message, whatever its content type says.
#[test]
fn a_body_is_one_text_message() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    let texts = ["hello", "two\nlines\r\n", "Grüße, 世界 🎈", "{\"json\": true}"];
    for text in texts {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
            post_typed(&server, "/broadcast", kind, text.as_bytes()).assert_status(202);
            let message = client.message();
            assert_eq!((message.opcode, message.text().as_str()), (TEXT, text));
        }
    }
    for text in ["without a type", ""] {
        post(server.addr(), "/broadcast", text).assert_status(202);
        client.assert_text(text);
    }
}

#[test]
fn an_octet_stream_is_one_binary_message() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    let bytes: Vec<u8> = (0..=255).collect();
    post_typed(&server, "/broadcast", "application/octet-stream", &bytes).assert_status(202);
    let message = client.message();
    assert_eq!((message.opcode, &message.payload[..]), (BINARY, &bytes[..]));
}

#[test]
fn the_answer_names_channel_epoch_offset_and_scope() {
    let server = Server::start(&[]);
    let response = post(server.addr(), "/broadcast", "hi");
    response.assert_status(202);
    let kind = response.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/json"), "{kind}");
    let json = response.json();
    let epoch = json["epoch"].as_str().expect("an epoch").to_owned();
    assert_eq!(
        json,
        json!({"channel": "notifications", "epoch": epoch, "offset": 1,
         "scope": "cluster", "clients": 0})
    );
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!((1..=32).contains(&epoch.len()) && epoch.chars().all(legal), "{epoch}");
    let other = post(server.addr(), "/broadcast?channel=other", "hi").json();
    assert_eq!((&other["channel"], &other["offset"]), (&json!("other"), &json!(1)));
}

#[test]
fn offsets_rise_by_one_without_holes_in_one_epoch() {
    let server = Server::start(&["--threads", "4"]);
    let addr = server.addr();
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut publisher = Publisher::new(addr);
                (0..50).map(|_| publisher.publish("x")).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut offsets = Vec::new();
    let mut epochs = Vec::new();
    for publisher in publishers {
        let answers = publisher.join().unwrap();
        let own: Vec<u64> = answers.iter().map(|answer| answer.offset.unwrap()).collect();
        assert!(own.is_sorted(), "one publisher's messages keep its order: {own:?}");
        offsets.extend(own);
        epochs.extend(answers.into_iter().map(|answer| answer.epoch.unwrap()));
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert_eq!(metric(addr, "wsbcast_published_total", &["source=\"http\""]), 200.0);
}

#[test]
fn a_restarted_process_begins_another_epoch() {
    let epochs = [0, 1].map(|_| Publisher::new(Server::start(&[]).addr()).publish("x").epoch);
    assert!(epochs[0].is_some() && epochs[0] != epochs[1], "{epochs:?}");
}

#[test]
fn a_batch_is_published_line_by_line_in_order() {
    let server = Server::start(&[]);
    let mut both = Client::open(server.addr(), "/ws?channel=a&channel=notifications");
    let mut other = Client::open(server.addr(), "/ws?channel=b");
    let response = post_lines(
        &server,
        "{\"channel\":\"a\",\"data\":\"one\"}\n\
         {\"channel\":\"b\",\"data\":\"two\"}\n\
         {\"channel\":\"a\",\"data\":{\"x\": [1, 2.50, null, \"ü\"],  \"a\":true}}\r\n\
         {\"data\":\"to the default channel\"}\n\
         {\"channel\":\"a\",\"data\": 12345678901234567890 }",
    );
    response.assert_status(202);
    let json = response.json();
    let results = json["results"].as_array().expect("a result a line");
    let places: Vec<_> =
        results.iter().map(|r| (r["channel"].as_str(), r["offset"].as_u64())).collect();
    assert_eq!(
        places,
        [
            (Some("a"), Some(1)),
            (Some("b"), Some(1)),
            (Some("a"), Some(2)),
            (Some("notifications"), Some(1)),
            (Some("a"), Some(3)),
        ]
    );
    let mut texts: Vec<String> = (0..4).map(|_| both.text()).collect();
    let default = texts.iter().position(|text| text == "to the default channel");
    texts.remove(default.expect("the default channel's message comes"));
    let [one, json, number] = &texts[..] else { panic!("{texts:?}") };
    assert_eq!((one.as_str(), number.as_str()), ("one", "12345678901234567890"));
    assert!(!json.contains(' ') && json.contains("[1,2.5"), "compact JSON: {json}");
    other.assert_text("two");
}

#[test]
fn a_batch_with_a_bad_line_names_it_and_sends_nothing() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    let good = "{\"data\":\"never sent\"}\n";
    for bad in [
        "no json",
        "{\"data\":",
        "[\"data\"]",
        "{\"channel\":\"notifications\"}",
        "{\"channel\":\"bad name\",\"data\":\"x\"}",
        "{\"channel\":7,\"data\":\"x\"}",
        "{\"data\":\"\u{fffd}\u{0}\"}",
    ] {
        let response = post_lines(&server, &format!("{good}{good}{bad}\n{good}"));
        response.assert_status(400);
        assert!(response.text().contains('3'), "{bad}: the line's number: {}", response.text());
    }
    let not_utf8 = [good.as_bytes(), b"{\"data\":\"\xFF\"}\n"].concat();
    let response = post_typed(&server, "/broadcast", "application/x-ndjson", &not_utf8);
    response.assert_status(400);
    post(server.addr(), "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
}

/// Each client gets a message, and each shard encodes it only once.
#[test]
fn a_message_is_encoded_once_a_shard() {
    let server = Server::start(&["--threads", "1"]);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(server.addr())).collect();
    for _ in 0..5 {
        post(server.addr(), "/broadcast", "counted").assert_status(202);
    }
    for client in &mut clients {
        for _ in 0..5 {
            client.assert_text("counted");
        }
    }
    for (name, value) in [
        ("wsbcast_frames_encoded_total", 5.0),
        ("wsbcast_deliveries_total", 50.0),
        ("wsbcast_connections", 10.0),
        ("wsbcast_connections_opened_total", 10.0),
    ] {
        assert_eq!(metric(server.addr(), name, &[]), value, "{name}");
    }
}

/// A publisher that announces its body with `Expect: 100-continue` is told to send it.
#[test]
fn expect_100_continue_is_told_to_go_on() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let mut http = Http::connect(addr);
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nExpect: 100-continue\r\n\
         Content-Length: 5\r\n\r\n"
    ));
    assert_eq!(http.response().status, 100);
    http.send("hello");
    http.response().assert_status(202);
    client.assert_text("hello");
}

/// A publisher that repeats a request with its key gets the same answer, and clients get one
/// message.
#[test]
fn a_repeated_request_is_answered_the_same() {
    let server = Server::start(&[]);
    let mut client = Client::open(server.addr(), "/ws?channel=a&channel=b");
    let keyed = |target: &str, key: &str, body: &str| {
        let headers = format!("Idempotency-Key: {key}\r\n");
        let response = post_with(server.addr(), target, &headers, body.as_bytes());
        response.assert_status(202);
        response.json()
    };
    let first = keyed("/broadcast?channel=a", "k", "once");
    assert_eq!(keyed("/broadcast?channel=a", "k", "once"), first);
    assert_eq!(keyed("/broadcast?channel=a", "k", "the key counts, not the data"), first);
    let other = keyed("/broadcast?channel=a", "another", "two");
    assert_eq!((&first["offset"], &other["offset"]), (&json!(1), &json!(2)));
    client.assert_text("once");
    client.assert_text("two");
    assert_eq!(keyed("/broadcast?channel=b", "k", "elsewhere")["offset"], 1);
    client.assert_text("elsewhere");
}

#[test]
fn a_batch_may_be_repeated_as_a_whole() {
    let server = Server::start(&[]);
    let mut client = Client::open(server.addr(), "/ws?channel=a");
    let lines = "{\"channel\":\"a\",\"data\":\"one\"}\n\
                 {\"channel\":\"a\",\"data\":\"one\"}\n\
                 {\"channel\":\"a\",\"data\":\"three\",\"key\":\"own\"}\n";
    let headers = "Content-Type: application/x-ndjson\r\nIdempotency-Key: batch\r\n";
    let send = |lines: &str| post_with(server.addr(), "/broadcast", headers, lines.as_bytes());
    let first = send(lines);
    first.assert_status(202);
    let first = first.json();
    let longer = send(&format!("{lines}{{\"channel\":\"a\",\"data\":\"four\"}}")).json();
    for line in 0..3 {
        assert_eq!(longer["results"][line], first["results"][line], "{line}");
    }
    assert_eq!(longer["results"][3]["offset"], 4);
    let own = "Idempotency-Key: own\r\n";
    let alone = post_with(server.addr(), "/broadcast?channel=a", own, b"three").json();
    assert_eq!(alone, first["results"][2]);
    for text in ["one", "one", "three", "four"] {
        client.assert_text(text);
    }
    post(server.addr(), "/broadcast?channel=a", "last").assert_status(202);
    client.assert_text("last");
}
