//! Clients that read too slowly: how far they may fall behind, and what happens past it.

use crate::support::{
    PATIENCE, client::Client, eventually, http::Arrival, metrics::metric, publish::Publisher,
    server::Server,
};

/// `number`, padded to `length` bytes.
fn numbered(number: usize, length: usize) -> String {
    format!("{number:08} {}", "x".repeat(length - 9))
}

/// The number of a message made by [`numbered`]; its length is checked.
fn number_of(text: &str, length: usize) -> usize {
    assert_eq!(text.len(), length, "a whole message");
    text[..8].parse().expect("it starts with its number")
}

/// A client that is 4 MiB behind and reads again gets everything in order.
#[test]
fn a_client_4_mib_behind_catches_up_in_order() {
    const MESSAGES: usize = 1500;
    const LENGTH: usize = 4096;
    let server = Server::start(&["--threads", "1"]);
    let mut stalled = Client::with_little_room(server.addr(), "/ws");
    let mut prompt = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    for number in 0..MESSAGES {
        publisher.publish_to_all(numbered(number, LENGTH));
        assert_eq!(number_of(&prompt.text(), LENGTH), number);
    }
    let backlog = metric(server.addr(), "wsbcast_backlog_bytes", &[]);
    assert!(backlog > 4.0 * 1024.0 * 1024.0, "the server keeps what it has not read: {backlog}");
    for number in 0..MESSAGES {
        assert_eq!(number_of(&stalled.text(), LENGTH), number);
    }
    assert_eq!(publisher.publish_to_all("and on") as usize, MESSAGES + 1);
    stalled.assert_text("and on");
    prompt.assert_text("and on");
    eventually(PATIENCE, "what everyone has read is forgotten", || {
        metric(server.addr(), "wsbcast_backlog_bytes", &[]) < 256.0 * 1024.0
    });
}

#[test]
fn past_the_backlog_a_client_is_closed_1013() {
    const LENGTH: usize = 8 * 1024;
    let server = Server::start(&["--backlog", "256KiB", "--max-broadcast-size", "64KiB"]);
    let mut stalled = Client::with_little_room(server.addr(), "/ws");
    let mut prompt = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    let action = ["action=\"close\""];
    let mut published = 0;
    while metric(server.addr(), "wsbcast_slow_consumers_total", &action) == 0.0 {
        assert!(published < 2000, "a client that never reads is closed");
        publisher.publish_to_all(numbered(published, LENGTH));
        assert_eq!(number_of(&prompt.text(), LENGTH), published);
        published += 1;
    }
    // It reads again at once, so its Close frame can still be taken: at a frame's boundary.
    let (texts, (code, _)) = stalled.texts_until_close();
    assert_eq!(code, 1013);
    let numbers: Vec<usize> = texts.iter().map(|text| number_of(text, LENGTH)).collect();
    let up_to_its_end: Vec<usize> = (0..numbers.len()).collect();
    assert_eq!(numbers, up_to_its_end, "without a hole until its end");
    let labels = ["code=\"1013\"", "reason=\"slow_consumer\""];
    eventually(PATIENCE, "the close is counted", || {
        metric(server.addr(), "wsbcast_connections_closed_total", &labels) == 1.0
    });
    publisher.publish_to_all("the others go on");
    prompt.assert_text("the others go on");
}

/// A slow consumer that takes nothing is reset after 2 s.
#[test]
fn a_slow_consumer_is_reset_after_2_s() {
    let server = Server::start(&["--backlog", "256KiB", "--max-broadcast-size", "64KiB"]);
    let mut stalled = Client::with_little_room(server.addr(), "/ws");
    let mut publisher = Publisher::new(server.addr());
    let mut published = 0;
    while metric(server.addr(), "wsbcast_slow_consumers_total", &[]) == 0.0 {
        assert!(published < 2000, "a client that never reads is closed");
        publisher.publish_to_all(numbered(published, 16 * 1024));
        published += 1;
    }
    eventually(PATIENCE, "its descriptor is dropped", || {
        metric(server.addr(), "wsbcast_connections", &[]) == 0.0
    });
    let end = loop {
        match stalled.http.arrival(PATIENCE) {
            Arrival::Bytes => {}
            end => break end,
        }
    };
    assert_eq!(end, Arrival::Reset);
}

/// Under `skip` a slow client jumps to the newest whole message, and the messages it missed are
/// counted.
#[test]
fn skip_jumps_to_the_newest_whole_message() {
    const LENGTH: usize = 8 * 1024;
    let server = Server::start(&[
        "--backlog",
        "256KiB",
        "--max-broadcast-size",
        "64KiB",
        "--slow-consumer",
        "skip",
        "--threads",
        "1",
    ]);
    let mut stalled = Client::with_little_room(server.addr(), "/ws");
    let mut prompt = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    let mut published = 0;
    while metric(server.addr(), "wsbcast_skipped_messages_total", &[]) < 50.0 {
        assert!(published < 2000, "a client that never reads is made to skip");
        publisher.publish_to_all(numbered(published, LENGTH));
        assert_eq!(number_of(&prompt.text(), LENGTH), published);
        published += 1;
    }
    publisher.publish_to_all(numbered(published, LENGTH));
    let mut received = Vec::new();
    while received.last() != Some(&published) {
        received.push(number_of(&stalled.text(), LENGTH));
    }
    assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "rising, never twice");
    let missed = published + 1 - received.len();
    let skipped = metric(server.addr(), "wsbcast_skipped_messages_total", &[]);
    assert_eq!(missed as f64, skipped, "each missed message is counted");
    assert!(metric(server.addr(), "wsbcast_slow_consumers_total", &["action=\"skip\""]) >= 1.0);
    stalled.leave();
}

/// Past the total budget the clients that are furthest behind in the largest log go first.
#[test]
fn past_the_total_budget_those_furthest_behind_go() {
    const LENGTH: usize = 32 * 1024;
    let server = Server::start(&[
        "--backlog",
        "1MiB",
        "--backlog-total",
        "2MiB",
        "--max-broadcast-size",
        "64KiB",
        "--threads",
        "1",
    ]);
    let addr = server.addr();
    let mut prompt = Client::open(addr, "/ws?channel=c0");
    let mut stalled: Vec<Client> =
        (0..8).map(|n| Client::with_little_room(addr, &format!("/ws?channel=c{n}"))).collect();
    // Each channel stays within its own limit, c0 the nearest to it; all together exceed the total.
    let mut publish_round = |round: usize| {
        for n in [0, 0, 0, 1, 2, 3, 4, 5, 6, 7] {
            let channel = format!("c{n}");
            Publisher::on(addr, &channel).publish_to_all(numbered(round, LENGTH));
            if n == 0 {
                assert_eq!(number_of(&prompt.text(), LENGTH), round, "it reads and stays");
            }
        }
        let backlog = metric(addr, "wsbcast_backlog_bytes", &[]);
        assert!(backlog <= 2.2 * 1024.0 * 1024.0, "bounded whatever the channels: {backlog}");
    };
    let closed = || metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]);
    let mut rounds = 0;
    while closed() == 0.0 {
        assert!(rounds < 100, "past the total somebody has to go");
        publish_round(rounds);
        rounds += 1;
    }
    assert_eq!(closed(), 1.0, "one is enough");
    // It reads again at once, so its Close frame can still be taken.
    let (_, (code, _)) = stalled.remove(0).texts_until_close();
    assert_eq!(code, 1013);
    for client in &mut stalled {
        for round in 0..rounds {
            assert_eq!(number_of(&client.text(), LENGTH), round, "nobody else is touched");
        }
    }
    // They stall again, past each channel's own limit.
    (rounds..rounds + 60).for_each(publish_round);
    assert_eq!(closed(), 8.0, "all but the prompt one have had to go");
}
