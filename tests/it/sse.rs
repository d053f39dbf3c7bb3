//! Event streams: what `curl -N` and a browser's EventSource get from `GET /sse`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
};

use crate::support::{
    PATIENCE,
    client::Client,
    events::{Events, stream_request},
    eventually,
    http::{Arrival, Http, get, once, post_with},
    metrics::{Metrics, metric},
    publish::Publisher,
    server::Server,
};

/// The offset in an id.
fn offset_of(id: &str) -> u64 {
    id.split_once(':').expect("EPOCH:OFFSET").1.parse().expect("a number")
}

/// Reads until `end` stands in the inbox; everything up to it, as text.
fn text_through(http: &mut Http, end: &str) -> String {
    loop {
        if let Some(bytes) = http.inbox.take_through(end.as_bytes()) {
            return String::from_utf8(bytes).unwrap();
        }
        assert_eq!(http.arrival(PATIENCE), Arrival::Bytes, "{:?}", http.inbox);
    }
}

/// An event stream is a head, a retry time, a greeting, its position, and then messages with ids.
#[test]
fn a_stream_has_head_retry_greeting_and_messages() {
    let server = Server::start(&["--greeting", "welcome\nhere"]);
    let addr = server.addr();
    let mut http = Http::connect(addr);
    http.send(stream_request(addr, "/sse?channel=a", ""));
    let head = text_through(&mut http, "\r\n\r\n");
    let (fixed, rest) = head.split_once("Date: ").unwrap();
    let expected = "HTTP/1.1 200 OK\r\n\
                    Content-Type: text/event-stream\r\n\
                    Cache-Control: no-store, no-transform\r\n\
                    Connection: close\r\n\
                    X-Accel-Buffering: no\r\n\
                    access-control-allow-origin: *\r\n";
    assert_eq!(fixed, expected);
    let (date, rest) = rest.split_once("\r\n").unwrap();
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let position = rest.strip_prefix("wsbcast-position: a=").unwrap().trim_end();

    let receipt = Publisher::on(addr, "a").publish("hi");
    let epoch = receipt.epoch.unwrap();
    assert_eq!(position, format!("{epoch}:0"));
    let stream = text_through(&mut http, "data: hi\n\n");
    let (retry, rest) = stream.strip_prefix("retry: ").unwrap().split_once('\n').unwrap();
    assert!((2000..=3000).contains(&retry.parse().unwrap()), "{retry}");
    let events =
        format!("\ndata: welcome\ndata: here\n\nid: {epoch}:0\n\nid: {epoch}:1\ndata: hi\n\n");
    assert_eq!(rest, events);
}

/// Lines of text become data lines; a binary message becomes base64 under an event of its own.
#[test]
fn lines_become_data_lines() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut stream = Events::open(addr, "/sse");
    let mut publisher = Publisher::new(addr);
    for text in ["one\ntwo\n\nid: 3", "", ":no comment", " led by a space", "ünï\u{2028}cödé\u{0}"]
    {
        publisher.publish_to_all(text);
        assert_eq!(stream.text(), text);
    }
    publisher.publish_to_all("carriage\r\nreturns\rtoo");
    assert_eq!(stream.text(), "carriage\nreturns\ntoo");
    let binary = "Content-Type: application/octet-stream\r\n";
    post_with(addr, "/broadcast", binary, b"\x00\xffa\n").assert_status(202);
    let event = stream.event();
    assert_eq!((event.event.as_str(), event.data.as_deref()), ("binary", Some("AP9hCg==")));
    assert_eq!(offset_of(&event.id.unwrap()), 7);
    let big = "x".repeat(1024 * 1024);
    publisher.publish_to_all(&big);
    assert!(stream.text() == big, "a message of a megabyte");
}

/// Event streams and WebSockets hear the same messages, and streams cost a shard one encode.
#[test]
fn streams_and_websockets_hear_the_same() {
    let server = Server::start(&["--threads", "1"]);
    let addr = server.addr();
    let mut streams: Vec<Events> = (0..5).map(|_| Events::open(addr, "/sse?channel=a")).collect();
    let mut client = Client::open(addr, "/ws?channel=a");
    let mut other = Events::open(addr, "/sse?channel=b");
    let mut publisher = Publisher::on(addr, "a");
    for number in 0..10 {
        publisher.publish_to_all(format!("{number}"));
    }
    for number in 0..10 {
        client.assert_text(&format!("{number}"));
        for stream in &mut streams {
            assert_eq!(stream.text(), format!("{number}"));
        }
    }
    let metrics = Metrics::of(addr);
    let encoded = |word| metrics.sum("wsbcast_frames_encoded_total", &[word]);
    assert_eq!(encoded("encoding=\"sse\""), 10.0);
    assert_eq!(encoded("encoding=\"plain\""), 10.0);
    assert_eq!(metrics.sum("wsbcast_connections", &[]), 7.0);
    assert_eq!(metrics.sum("wsbcast_deliveries_total", &[]), 60.0);
    Publisher::on(addr, "b").publish_to_all("b");
    assert_eq!(other.text(), "b", "a channel's streams hear nothing of another's");
}

/// An event stream goes on after its last id without a hole or a repeat while messages come.
#[test]
fn a_stream_resumes_after_its_last_id() {
    const MESSAGES: u64 = 3000;
    let server = Server::start(&["--history-size", "100000"]);
    let addr = server.addr();
    let mut stream = Events::open(addr, "/sse?channel=a&last=0");
    let publisher = thread::spawn(move || {
        let mut publisher = Publisher::on(addr, "a");
        (1..=MESSAGES).all(|number| publisher.publish_to_all(format!("{number}")) == number)
    });
    let (mut expected, mut random) = (1, fastrand::Rng::with_seed(8));
    let mut streams = 1;
    // The first one breaks before it has had a message: it goes on from where it began.
    let mut left = 0;
    while expected <= MESSAGES {
        if left == 0 {
            while stream.last_id.is_none() {
                stream.block();
            }
            let last_id = stream.last_id.take().unwrap();
            assert_eq!(offset_of(&last_id), expected - 1);
            stream = Events::resume(addr, "/sse?channel=a&last=0", &last_id);
            left = random.usize(1..100);
            streams += 1;
        }
        let event = stream.event();
        assert_eq!(
            (event.event.as_str(), event.data.as_deref()),
            ("", Some(&*expected.to_string()))
        );
        assert_eq!(offset_of(&event.id.unwrap()), expected);
        expected += 1;
        left -= 1;
    }
    assert!(publisher.join().unwrap());
    assert!(streams > 20, "{streams}");
    let resumed = |word| metric(addr, "wsbcast_resumes_total", &[word]);
    assert_eq!(resumed("missed"), 0.0);
}

/// The newest messages, or those since a position, can be asked for in the query.
#[test]
fn history_can_be_asked_for_in_the_query() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    let epoch = publisher.publish("1").epoch.unwrap();
    for number in 2..=5 {
        publisher.publish_to_all(format!("{number}"));
    }
    let texts = |mut stream: Events| {
        std::iter::repeat_with(|| stream.text()).take_while(|text| text != "6").collect::<Vec<_>>()
    };
    let newest = Events::open(addr, "/sse?channel=a&last=2");
    let since = Events::open(addr, &format!("/sse?channel=a&since={epoch}:2"));
    // A browser repeats the address it was given; its header is newer.
    let header =
        Events::resume(addr, &format!("/sse?channel=a&since={epoch}:2"), &format!("{epoch}:4"));
    let now = Events::open(addr, "/sse?channel=a");
    publisher.publish_to_all("6");
    assert_eq!(texts(newest), ["4", "5"]);
    assert_eq!(texts(since), ["3", "4", "5"]);
    assert_eq!(texts(header), ["5"]);
    assert!(texts(now).is_empty());
}

/// Messages that are no longer kept are told as one gap, and the stream goes on.
#[test]
fn a_trimmed_history_is_told_as_one_gap() {
    let server = Server::start(&["--history-size", "5"]);
    let addr = server.addr();
    let mut publisher = Publisher::on(addr, "a");
    let epoch = publisher.publish("1").epoch.unwrap();
    for number in 2..=20 {
        publisher.publish_to_all(format!("{number}"));
    }
    let gap = |stream: &mut Events| {
        let event = stream.event();
        assert_eq!((event.event.as_str(), event.id), ("gap", None));
        serde_json::from_str::<serde_json::Value>(&event.data.unwrap()).unwrap()
    };
    let mut stream = Events::resume(addr, "/sse?channel=a", &format!("{epoch}:3"));
    let told = gap(&mut stream);
    let (from, to) = (told["from"].as_u64(), told["to"].as_u64());
    assert_eq!((told["channel"].as_str(), from, to), (Some("a"), Some(4), Some(15)), "{told}");
    assert_eq!(told["epoch"], epoch);
    for number in 16..=20 {
        assert_eq!(stream.text(), format!("{number}"));
    }
    publisher.publish_to_all("21");
    assert_eq!(stream.text(), "21");

    let mut stream = Events::resume(addr, "/sse?channel=a", "another:7");
    gap(&mut stream);
    let position = stream.block();
    assert!(position.data.is_none() && position.id.is_some(), "{position:?}");
    // Broken again before a message came: what was told is not told again.
    let mut stream = Events::resume(addr, "/sse?channel=a", &position.id.unwrap());
    assert_eq!(stream.text(), "17");
}

/// A stream follows the earlier answers of its connection, and HTTP/1.0 will do for it.
#[test]
fn a_stream_follows_earlier_answers() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut http = Http::connect(addr);
    let livez = format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    http.send(livez.repeat(20) + &stream_request(addr, "/sse", ""));
    for _ in 0..20 {
        http.response().assert_status(200);
    }
    let mut old = Http::connect(addr);
    old.send("GET /sse HTTP/1.0\r\n\r\n");
    for mut stream in [Events::begun(http), Events::begun(old)] {
        Publisher::new(addr).publish_to_all("heard");
        assert_eq!(stream.text(), "heard");
    }
}

#[test]
fn refused_streams_are_told_why_and_counted() {
    let args = ["--api-token", "s3cret", "--max-connections", "2", "--admin-listen", "127.0.0.1:0"];
    let server = Server::start(&args);
    let addr = server.addr();
    for (target, headers) in [
        ("/sse?channel=", ""),
        ("/sse?channel=a%20b", ""),
        ("/sse?channel=a&channel=b", ""),
        ("/sse?since=7", ""),
        ("/sse?last=x", ""),
        ("/sse", "Last-Event-ID: 7\r\n"),
        ("/sse", "Host: another\r\n"),
    ] {
        once(addr, stream_request(addr, target, headers)).assert_status(400);
    }
    let hint = get(addr, "/sse?channel=a&channel=b").json()["hint"].to_string();
    assert!(hint.contains("one channel a stream"), "{hint}");
    for method in ["POST", "PUT", "DELETE"] {
        let raw = format!("{method} /sse HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\n\r\n");
        let response = once(addr, raw);
        response.assert_status(405);
        assert_eq!(response.header("allow"), Some("GET"), "{method}");
    }
    let mut head = Http::connect(addr);
    head.send(format!("HEAD /sse HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"));
    let head = head.try_head().unwrap();
    assert_eq!((head.status, head.header("allow")), (405, Some("GET")));
    assert_eq!(get(addr, "/sse/").status, 404);
    assert_eq!(get(server.admin(), "/sse").status, 404, "it is the public listeners'");

    get(addr, "/sse?token=wrong").assert_status(401);
    let _streams = ["/sse", "/sse?token=s3cret"].map(|target| Events::open(addr, target));
    let full = get(addr, "/sse");
    full.assert_status(503);
    assert_eq!(full.header("retry-after"), Some("1"));
    let metrics = Metrics::of(server.admin());
    let rejected = |word| metrics.sum("wsbcast_handshakes_rejected_total", &[word]);
    assert_eq!(rejected("bad_request"), 3.0, "of another Host nothing is known");
    assert_eq!((rejected("bad_channel"), rejected("bad_position")), (2.0, 2.0));
    assert_eq!((rejected("unauthorized"), rejected("full")), (1.0, 1.0));
}

#[test]
fn curl_shows_messages_as_they_come() {
    let server = Server::start(&[]);
    let url = format!("http://{}/sse?channel=a", server.addr());
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--max-time", "60", &url]).stdout(Stdio::piped());
    let mut curl = curl.spawn().expect("curl is installed");
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = |start: &str| lines.find(|line| line.starts_with(start)).unwrap();
    next("retry: ");
    next("id: ");
    let mut publisher = Publisher::on(server.addr(), "a");
    for text in ["one", "two"] {
        publisher.publish_to_all(text);
        assert_eq!(next("data: "), format!("data: {text}"));
    }
    curl.kill().unwrap();
    curl.wait().unwrap();
    eventually(PATIENCE, "it has left", || {
        metric(server.addr(), "wsbcast_connections", &[]) == 0.0
    });
}
