//! Clients that come back get what they missed: all of it, once, in order, or are told.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::support::{
    client::Client, http::Response, metrics::metric, publish::Publisher, server::Server,
};

/// `EPOCH` and `OFFSET` of the one channel in a handshake's answer.
fn position(upgrade: &Response) -> (String, u64) {
    let value = upgrade.header("wsbcast-position").expect("the handshake names a position");
    let (_, position) = value.split_once('=').expect("NAME=EPOCH:OFFSET");
    let (epoch, offset) = position.split_once(':').expect("EPOCH:OFFSET");
    (epoch.to_owned(), offset.parse().expect("a number"))
}

/// Publishes 1, 2, 3 … to the default channel, so that each message says its offset.
fn publish(publisher: &mut Publisher, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(publisher.publish_to_all(number.to_string()), number);
    }
}

/// Reads messages after `after` up to `to`, each of which says its offset.
fn read(client: &mut Client, after: u64, to: u64) {
    for expected in after + 1..=to {
        assert_eq!(client.text(), expected.to_string());
    }
}

/// A client that comes back with its position gets all that it missed, and then the live messages.
#[test]
fn a_returning_client_gets_what_it_missed() {
    let server = Server::start(&["--threads", "2"]);
    let mut publisher = Publisher::new(server.addr());
    let (epoch, start) = position(&Client::connect(server.addr()).upgrade);
    assert_eq!(start, 0, "nothing was published yet");
    publish(&mut publisher, 1..=50);
    let mut client = Client::open(server.addr(), &format!("/ws?since={epoch}:20"));
    assert_eq!(position(&client.upgrade), (epoch, 20));
    publish(&mut publisher, 51..=60);
    read(&mut client, 20, 60);
    assert_eq!(client.leave(), Vec::<String>::new());
    assert_eq!(metric(server.addr(), "wsbcast_resumes_total", &["result=\"recovered\""]), 1.0);
    assert_eq!(metric(server.addr(), "wsbcast_replayed_messages_total", &[]), 30.0);
}

#[test]
fn the_newest_so_many_can_be_asked_for() {
    let server = Server::start(&["--history-size", "10"]);
    let mut publisher = Publisher::new(server.addr());
    publish(&mut publisher, 1..=30);
    for (last, from) in [(0, 30), (3, 27), (10, 20), (500, 20)] {
        let mut client = Client::open(server.addr(), &format!("/ws?last={last}"));
        assert_eq!(position(&client.upgrade).1, from, "last={last}");
        read(&mut client, from, 30);
        assert_eq!(client.leave(), Vec::<String>::new(), "last={last}");
    }
}

/// A client whose position is no longer in the history is closed, or goes on with the oldest
/// message, as the operator says.
#[test]
fn a_resume_miss_closes_or_continues_as_chosen() {
    for policy in ["close", "continue"] {
        let server = Server::start(&["--history-size", "10", "--resume-miss", policy]);
        let mut publisher = Publisher::new(server.addr());
        publish(&mut publisher, 1..=30);
        let (epoch, _) = position(&Client::connect(server.addr()).upgrade);
        for since in [format!("{epoch}:19"), "0000000000000000:25".into(), format!("{epoch}:99")] {
            let mut client = Client::open(server.addr(), &format!("/ws?since={since}"));
            assert_eq!(position(&client.upgrade), (epoch.clone(), 20), "{since}");
            if policy == "close" {
                assert_eq!(client.close_frame(), (1013, "history gone".to_owned()), "{since}");
            } else {
                read(&mut client, 20, 30);
                assert_eq!(client.leave(), Vec::<String>::new(), "{since}");
            }
        }
        let mut client = Client::open(server.addr(), &format!("/ws?since={epoch}:20"));
        read(&mut client, 20, 30);
        assert_eq!(metric(server.addr(), "wsbcast_resumes_total", &["result=\"missed\""]), 3.0);
    }
}

#[test]
fn each_channel_has_a_place_of_its_own() {
    let server = Server::start(&["--threads", "2"]);
    let addr = server.addr();
    let (mut a, mut b) = (Publisher::on(addr, "a"), Publisher::on(addr, "b"));
    for number in 1..=5 {
        a.publish_to_all(format!("a{number}"));
        b.publish_to_all(format!("b{number}"));
    }
    let (epoch, _) = position(&Client::open(addr, "/ws?channel=a").upgrade);
    let target = format!("/ws?channel=a&since={epoch}:3&channel=b&since={epoch}:4");
    let mut client = Client::open(addr, &target);
    let expected = format!("a={epoch}:3, b={epoch}:4");
    assert_eq!(client.upgrade.header("wsbcast-position"), Some(&*expected));
    for text in ["a4", "a5", "b5"] {
        client.assert_text(text);
    }
    assert_eq!(client.leave(), Vec::<String>::new());
}

/// A client that is far behind and reads slowly gets all of the history.
#[test]
fn a_client_far_behind_gets_everything_slowly() {
    let server = Server::start(&["--history-bytes", "64MiB", "--backlog", "4MiB"]);
    let mut publisher = Publisher::new(server.addr());
    let text = |number: u64| format!("{number:016000}");
    for number in 1..=900 {
        publisher.publish_to_all(text(number));
    }
    let mut client = Client::with_little_room(server.addr(), "/ws?last=900");
    let early = metric(server.addr(), "wsbcast_replayed_messages_total", &[]);
    assert!(early < 800.0, "{early} messages wait for a client that reads nothing");
    for number in 901..=910 {
        publisher.publish_to_all(text(number));
    }
    for number in 1..=910 {
        assert_eq!(client.text(), text(number));
    }
    assert_eq!(client.leave(), Vec::<String>::new());
}

/// One client that comes and goes while others publish: what it has seen ends at `seen`.
fn come_and_go(addr: SocketAddr, rounds: usize, published: &AtomicU64) {
    let mut client = Client::connect(addr);
    let (epoch, mut seen) = position(&client.upgrade);
    for round in 0..rounds {
        // Read up to something published before, so that the connection ends in the midst of it.
        let target = published.load(Ordering::SeqCst).max(seen);
        read(&mut client, seen, target);
        seen = target;
        drop(client);
        client = Client::open(addr, &format!("/ws?since={epoch}:{seen}"));
        assert_eq!(position(&client.upgrade), (epoch.clone(), seen), "round {round}");
    }
    let target = published.load(Ordering::SeqCst).max(seen);
    read(&mut client, seen, target);
}

/// Four hundred reconnects while messages are published lose nothing and repeat nothing.
#[test]
fn four_hundred_reconnects_lose_nothing() {
    const CLIENTS: usize = 4;
    let server = Server::start(&["--threads", "2", "--history-size", "100000"]);
    let addr = server.addr();
    let (published, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut publisher = Publisher::new(addr);
            for number in 1.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                assert_eq!(publisher.publish_to_all(number.to_string()), number);
                published.store(number, Ordering::SeqCst);
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| come_and_go(addr, 400 / CLIENTS, &published)))
            .collect();
        let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        publishing.join().expect("every message is accepted");
        for one in ended {
            one.expect("nothing is lost or repeated");
        }
    });
    assert_eq!(metric(addr, "wsbcast_resumes_total", &["result=\"recovered\""]), 400.0);
}
