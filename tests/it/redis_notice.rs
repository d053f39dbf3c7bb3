//! The periodic notice of a cluster: exactly one per interval slot, whichever processes live.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, UNIX_EPOCH},
};

use humantime::parse_rfc3339;
use wsbcast::clock::Clock;

use crate::support::{
    PATIENCE, client::Client, eventually, http::get, now, redis::RedisServer, server::Server,
};

const TEXT: &str = "tick at";

fn member(redis: &RedisServer, threads: &str) -> Server {
    let server = Server::start(&[
        "--redis-url",
        &redis.url(),
        "--threads",
        threads,
        "--notify-interval",
        "1s",
        "--notify-text",
        TEXT,
    ]);
    eventually(PATIENCE, "it is ready", || {
        get(server.addr(), "/readyz").json()["status"] == "ready"
    });
    server
}

/// The second that a notice names: the slot that it was sent for.
fn second_of(text: &str) -> u64 {
    let time = text.strip_prefix(TEXT).unwrap_or_else(|| panic!("a notice: {text}"));
    let time = parse_rfc3339(time.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Reads notices in a thread of its own: the slots that they were sent for.
fn reader(addr: SocketAddr, count: usize, heard: &Arc<AtomicUsize>) -> JoinHandle<Vec<u64>> {
    let mut client = Client::connect(addr);
    let heard = heard.clone();
    thread::spawn(move || {
        let slots = std::iter::repeat_with(|| {
            let slot = second_of(&client.text());
            heard.fetch_add(1, Ordering::Release);
            slot
        });
        slots.take(count).collect()
    })
}

/// A clock that was set back an hour does not silence the notice. The mark of the last slot used to
/// stand until the clock had caught up: an hour without notices.
#[test]
fn a_clock_set_back_does_not_silence_the_notice() {
    let redis = RedisServer::start();
    let ahead = (Clock::start().unix_time().as_secs() + 3600).to_string();
    let key = "wsbcast:{notifications}:slot:1000";
    assert_eq!(redis.cli(&["SET", key, &ahead, "EX", "3600"]), "OK");
    let server = member(&redis, "1");
    let mut client = Client::connect(server.addr());
    let notices = [(); 3].map(|()| second_of(&client.text()));
    assert!(notices[0] < notices[1] && notices[1] < notices[2], "once a slot: {notices:?}");
}

/// Three processes of four shards send one notice for each slot of time, while members are killed.
#[test]
fn one_notice_a_slot_while_members_are_killed() {
    const SLOTS: usize = 10;
    let redis = RedisServer::start();
    let survivor = member(&redis, "4");
    let mut first = member(&redis, "4");
    let mut second = member(&redis, "4");
    let heard = Arc::new(AtomicUsize::new(0));
    let readers = [0, 1].map(|_| reader(survivor.addr(), SLOTS, &heard));
    let after = |slots: usize| {
        eventually(PATIENCE, "the notice goes on", || heard.load(Ordering::Acquire) >= 2 * slots);
    };
    after(3);
    first.kill();
    after(5);
    let mut third = member(&redis, "4");
    second.kill();
    after(7);
    third.kill();
    for reader in readers {
        let slots = reader.join().unwrap();
        let expected: Vec<u64> = (slots[0]..).take(SLOTS).collect();
        assert_eq!(slots, expected, "one notice a slot");
    }
}

#[test]
fn the_notice_reaches_the_clients_of_every_process() {
    let redis = RedisServer::start();
    let servers = [member(&redis, "1"), member(&redis, "2")];
    let mut clients = servers.each_ref().map(|server| Client::connect(server.addr()));
    let first = clients.each_mut().map(|client| client.text());
    // Their first notices may be one slot apart; from then on they hear the same.
    let behind = usize::from(second_of(&first[0]) > second_of(&first[1]));
    if first[0] != first[1] {
        assert_eq!(clients[behind].text(), first[1 - behind]);
    }
    for _ in 0..2 {
        let [one, two] = clients.each_mut().map(|client| client.text());
        assert_eq!(one, two);
    }
}

/// Without Redis each process notifies its own clients; with it again they go on as one.
#[test]
fn without_redis_each_process_notifies_its_own() {
    let mut redis = RedisServer::start();
    let server = member(&redis, "2");
    let mut client = Client::connect(server.addr());
    let mut texts = vec![client.text()];
    redis.kill();
    let start = now();
    texts.extend((0..3).map(|_| client.text()));
    assert!(start.elapsed() < Duration::from_secs(10), "the notice goes on");
    redis.restart();
    eventually(PATIENCE, "Redis is back", || {
        get(server.addr(), "/readyz").json()["status"] == "ready"
    });
    texts.extend((0..3).map(|_| client.text()));
    let slots: Vec<u64> = texts.iter().map(|text| second_of(text)).collect();
    assert!(slots.is_sorted(), "{slots:?}");
    // A slot in which Redis went or came may have been missed or heard once more, no other.
    let mut twice = slots.windows(2).filter(|pair| pair[0] == pair[1]).count();
    twice += slots.windows(2).filter(|pair| pair[1] - pair[0] > 2).count();
    assert!(twice <= 2, "{slots:?}");
}
