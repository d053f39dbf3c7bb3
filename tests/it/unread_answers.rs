//! Clients that ask for much and read nothing: the memory that they make the server hold is
//! bounded, and clients that read pay nothing for it.

use serde_json::json;

use crate::support::{
    PATIENCE,
    client::{Client, little_room},
    events::{Events, stream_request},
    eventually,
    frames::masked,
    http::Http,
    metrics::metric,
    publish::Publisher,
    server::Server,
    v1::V1,
};

const MIB: f64 = 1024.0 * 1024.0;

fn held(server: &Server) -> f64 {
    metric(server.addr(), "wsbcast_backlog_bytes", &[])
}

/// Clients that never read.
fn hoarders(server: &Server, count: usize, target: &str) -> Vec<Http> {
    let addr = server.addr();
    let begin = |_| {
        let mut http = little_room(addr);
        http.send(stream_request(addr, target, ""));
        http
    };
    let all = (0..count).map(begin).collect();
    eventually(PATIENCE, "all are there", || {
        metric(addr, "wsbcast_connections", &[]) >= count as f64
    });
    all
}

/// Event streams that ask for a long message and never read it hold one copy of it together. 69
/// bytes of a request used to hold a copy of the whole message, in no budget: 1,800 of them held
/// 1.7 GiB, and clients within their bounds were cut.
#[test]
fn unread_event_streams_share_one_long_message() {
    let server = Server::start(&["--threads", "1"]);
    let addr = server.addr();
    let long = "x".repeat(1_000_000);
    Publisher::on(addr, "big").publish(&long);
    let mut behind = Client::with_little_room(addr, "/ws?channel=other");
    let mut publisher = Publisher::on(addr, "other");
    for _ in 0..500 {
        publisher.publish("y".repeat(4096));
    }
    let before = held(&server);
    let all = hoarders(&server, 200, "/sse?channel=big&last=1000000");
    let target = "/ws?channel=big&last=1";
    let plain: Vec<_> = (0..50).map(|_| Client::with_little_room(addr, target)).collect();
    let mut reader = Events::open(addr, "/sse?channel=big&last=1");
    let event = reader.event();
    assert_eq!(event.data.as_deref(), Some(&*long), "who reads gets it whole");
    let more = held(&server) - before;
    assert!(more < 4.0 * MIB, "200 event streams and 50 plain clients hold {more} bytes");
    for _ in 0..500 {
        assert_eq!(behind.text().len(), 4096, "who is behind in a log gets all of it");
    }
    assert_eq!(metric(addr, "wsbcast_slow_consumers_total", &[]), 0.0);
    drop((all, plain));
}

/// Clients that ask and never read the answers are closed with 1013 before others pay. 3,000 such
/// clients held 718 MiB.
#[test]
fn clients_that_never_read_answers_are_closed_1013() {
    let server = Server::start(&["--threads", "1", "--backlog-total", "8MiB"]);
    let addr = server.addr();
    let mut behind = Client::with_little_room(addr, "/ws?channel=other");
    let mut publisher = Publisher::on(addr, "other");
    for _ in 0..500 {
        publisher.publish("y".repeat(4096));
    }
    // Of many lengths: how much is left of a turn's answers when the kernel takes no more depends
    // on it.
    let question = |length: usize| {
        let text = json!({"type": "subscribe", "channel": " ".repeat(length)}).to_string();
        masked(true, 1, text.as_bytes())
    };
    let mut hoarders = Vec::new();
    while metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]) == 0.0 {
        assert!(hoarders.len() < 2000, "those who never read are closed");
        let mut hoarder = V1::over(little_room(addr), addr, "/ws?channel=questions");
        hoarder.client.send(question(60 + hoarders.len() % 60).repeat(2000));
        hoarders.push(hoarder);
        assert!(held(&server) < 8.0 * MIB, "{}", held(&server));
    }
    assert!(hoarders.len() > 10, "{}: each holds little", hoarders.len());
    for _ in 0..500 {
        assert_eq!(behind.text().len(), 4096, "who is behind in a log gets all of it");
    }
    let labels = ["code=\"1013\"", "reason=\"slow_consumer\""];
    eventually(PATIENCE, "they are closed", || {
        metric(addr, "wsbcast_connections_closed_total", &labels) >= 1.0
    });
    let mut asking = V1::open(addr, "/ws?channel=questions");
    assert_eq!(asking.ask(&json!({"type": "ping"}))["type"], "pong", "others are answered");
}

/// A message whose forms are longer than the backlog makes no client slow that reads: JSON takes
/// six bytes for a control character, an event stream a line for each line. All readers used to be
/// closed with 1013 together.
#[test]
fn forms_longer_than_the_backlog_make_nobody_slow() {
    let server = Server::start(&["--threads", "1", "--backlog", "256KiB"]);
    let addr = server.addr();
    let mut v1: Vec<_> = (0..3).map(|_| V1::open(addr, "/ws?channel=a")).collect();
    let mut streams: Vec<_> = (0..3).map(|_| Events::open(addr, "/sse?channel=a")).collect();
    let mut publisher = Publisher::on(addr, "a");
    let hostile = "\"\u{1}".repeat(64 * 1024);
    let lines = "\n".repeat(64 * 1024);
    for _ in 0..4 {
        // The second one comes before anybody has got all of the first.
        publisher.publish(&hostile);
        publisher.publish(&lines);
        for data in [&hostile, &lines] {
            for client in &mut v1 {
                assert_eq!(client.next_of("message")["data"], **data);
            }
            for stream in &mut streams {
                assert_eq!(stream.event().data.as_deref(), Some(&**data));
            }
        }
    }
    assert_eq!(metric(addr, "wsbcast_slow_consumers_total", &[]), 0.0);
}
