//! Fan-out under load: large crowds, large messages, many channels, clients that come and go.

use std::thread;

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards, eventually,
    frames::BINARY,
    http::post_with,
    metrics::{Metrics, metric},
    publish::Publisher,
    server::Server,
};

/// Small: a thousand readers are a thousand threads.
const READER_STACK_BYTES: usize = 256 * 1024;

/// One client never reads, and 1,000 others get everything.
#[test]
fn one_client_that_never_reads_holds_nobody_up() {
    const CLIENTS: usize = 1000;
    const MESSAGES_MAX: usize = 400;
    let server = Server::start(&["--backlog", "128KiB", "--max-broadcast-size", "16KiB"]);
    let addr = server.addr();
    let _stalled = Client::with_little_room(addr, "/ws");
    let readers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect(addr);
            thread::Builder::new()
                .stack_size(READER_STACK_BYTES)
                .spawn(move || client.texts_until("end"))
                .expect("a thread can be made")
        })
        .collect();
    let mut publisher = Publisher::new(addr);
    let padding = "p".repeat(4000);
    let closed = || metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]) > 0.0;
    let mut published = Vec::new();
    while !(published.len() % 20 == 0 && closed()) {
        assert!(published.len() < MESSAGES_MAX, "the one that never reads is given up");
        let text = format!("{} {padding}", published.len());
        publisher.publish_to_all(&text);
        published.push(text);
        // A crowd in one process reads at its own pace: this waits for none but the slowest
        // reader's kernel, so that only the stalled client is slow.
        eventually(PATIENCE, "the crowd has been sent what was published", || {
            Metrics::of(addr).sum("wsbcast_deliveries_total", &[])
                >= (published.len() * CLIENTS) as f64
        });
    }
    publisher.publish_to_all("end");
    for reader in readers {
        assert!(reader.join().unwrap() == published, "everything, in order, to everyone");
    }
    let labels = ["reason=\"slow_consumer\""];
    eventually(PATIENCE, "the one that never reads is gone", || {
        metric(addr, "wsbcast_connections_closed_total", &labels) == 1.0
    });
}

/// A message as large as allowed reaches the clients of all shards whole.
#[test]
fn the_largest_message_reaches_all_shards_whole() {
    let server = Server::start(&["--threads", "3"]);
    let mut clients = clients_on_all_shards(server.addr(), "/ws", 3);
    let large: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n / 7) as u8).collect();
    let kind = "Content-Type: application/octet-stream\r\n";
    for _ in 0..3 {
        post_with(server.addr(), "/broadcast", kind, &large).assert_status(202);
    }
    for client in &mut clients {
        for _ in 0..3 {
            let message = client.message();
            assert!(message.opcode == BINARY && message.payload == large, "{message:?}");
        }
    }
}

#[test]
fn clients_that_come_and_go_do_not_disturb_the_others() {
    let server = Server::start(&["--threads", "3"]);
    let addr = server.addr();
    let mut steady = clients_on_all_shards(addr, "/ws", 3);
    let coming_and_going: Vec<_> = (0..3)
        .map(|worker| {
            thread::spawn(move || {
                for round in 0..60 {
                    let client = Client::connect(addr);
                    // Some leave in good order, some vanish.
                    if (round + worker) % 3 == 0 { drop(client) } else { drop(client.leave()) }
                }
            })
        })
        .collect();
    let mut publisher = Publisher::new(addr);
    let mut published = Vec::new();
    while coming_and_going.iter().any(|worker| !worker.is_finished()) {
        let text = format!("{}", published.len());
        publisher.publish_to_all(&text);
        published.push(text);
    }
    publisher.publish_to_all("end");
    for client in &mut steady {
        assert!(client.texts_until("end") == published, "everything, in order");
    }
    for worker in coming_and_going {
        worker.join().unwrap();
    }
    eventually(PATIENCE, "those who left are forgotten", || {
        metric(addr, "wsbcast_connections", &[]) == steady.len() as f64
    });
}

/// Thousands of channels with one client each are all served.
#[test]
fn thousands_of_channels_with_one_client_each() {
    const CHANNELS: usize = 2000;
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut clients: Vec<Client> =
        (0..CHANNELS).map(|n| Client::open(addr, &format!("/ws?channel=c{n}"))).collect();
    let lines: String =
        (0..CHANNELS).map(|n| format!("{{\"channel\":\"c{n}\",\"data\":\"for {n}\"}}\n")).collect();
    let kind = "Content-Type: application/x-ndjson\r\n";
    let answer = post_with(addr, "/broadcast", kind, lines.as_bytes());
    answer.assert_status(202);
    assert_eq!(answer.json()["results"].as_array().map(Vec::len), Some(CHANNELS));
    for (n, client) in clients.iter_mut().enumerate() {
        client.assert_text(&format!("for {n}"));
    }
}

/// With `--coalesce` messages that follow closely wait for the pause and go out together.
#[test]
fn with_coalesce_messages_go_out_together() {
    let server = Server::start(&["--threads", "1", "--coalesce", "1s"]);
    let mut client = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    let waited = || metric(server.addr(), "wsbcast_fanout_seconds_sum", &[]);
    // A machine that takes a second between two publishes shows nothing; one that does not, does.
    eventually(PATIENCE, "a message waits for the pause", || {
        for text in ["one", "two", "three"] {
            publisher.publish_to_all(text);
        }
        for text in ["one", "two", "three"] {
            client.assert_text(text);
        }
        waited() >= 0.5
    });
}

#[test]
fn the_fan_out_histogram_counts_every_message() {
    let server = Server::start(&["--threads", "1"]);
    let mut client = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    for _ in 0..30 {
        publisher.publish_to_all("timed");
        client.assert_text("timed");
    }
    let metrics = Metrics::of(server.addr());
    assert_eq!(metrics.sum("wsbcast_fanout_seconds_count", &[]), 30.0);
    assert_eq!(metrics.sum("wsbcast_fanout_seconds_bucket", &["le=\"+Inf\""]), 30.0);
    assert!(metrics.sum("wsbcast_fanout_seconds_sum", &[]) > 0.0);
}
