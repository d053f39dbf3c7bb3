//! Messages that come from programs that are none of ours.

use std::{cell::Cell, sync::Arc};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use wsbcast::{
    broker::{BrokerSettings, Health, OnLoss, Since},
    channel::ChannelName,
    limits::{BRIDGE_LEASE, BROKER_CLOSE_DEADLINE},
    metrics::PublishFailure::{self, BrokerLost},
    ws::Kind,
};

use crate::{
    process::{Process, TestSink, now, offset, pace, redis_settings, run, until},
    redis_server::RedisServer,
};

const DEFAULT: &str = "notifications";
/// A busy machine may not let Redis answer in time, but not each time.
const ROUNDS_MAX: usize = 5;
/// Processes that leave in time, of three times as many.
const KEPT_MIN: usize = 10;

fn settings(server: &RedisServer) -> BrokerSettings {
    let mut redis = redis_settings(server);
    redis.max_broadcast_bytes = 10;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: super::process::HISTORY }
}

/// A process with clients of the default channel on all its shards.
async fn process(server: &RedisServer, shards: usize) -> Process {
    let process = Process::start(settings(server), shards).await;
    process.subscribe(DEFAULT).await;
    for shard in &process.shards {
        // From here on whatever is missing shows.
        shard.position(ChannelName::default_channel(), None).await.unwrap();
    }
    process
}

async fn three(server: &RedisServer) -> Vec<Process> {
    join_all((0..3).map(|_| process(server, 2))).await
}

fn sinks(processes: &[Process]) -> Vec<Arc<TestSink>> {
    processes.iter().flat_map(|process| process.sinks.clone()).collect()
}

fn handovers(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.shared.health().raw_handovers()).sum()
}

fn published(processes: &[Process]) -> u64 {
    processes.iter().map(|process| process.shared.health().raw_published()).sum()
}

/// Messages that were not, or not certainly, published, as the processes told.
fn lost(processes: &[Process]) -> u64 {
    let lost = |process: &Process| {
        let health = process.shared.health();
        health.raw_failures(BrokerLost) + health.raw_failures(PublishFailure::Unconfirmed)
    };
    processes.iter().map(lost).sum()
}

/// Publishes `count` messages at once, as fast as Redis takes them: `NAME:0` and so on.
fn publish_raw(server: &RedisServer, name: &str, count: usize) {
    let script = "for n = 1, ARGV[2] do redis.call('PUBLISH', 'raw', ARGV[1] .. ':' .. n - 1) end";
    server.cli(&["EVAL", script, "0", name, &count.to_string()]);
}

fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}:{number}")).collect()
}

/// The messages of this name that a shard has heard.
fn heard(sink: &TestSink, name: &str) -> Vec<String> {
    let start = format!("{name}:");
    sink.texts().into_iter().filter(|text| text.starts_with(&start)).collect()
}

/// No message comes twice, whatever is lost.
#[track_caller]
fn assert_once(heard: &[String]) {
    let mut sorted = heard.to_vec();
    sorted.sort_unstable();
    assert!(sorted.is_sorted_by(|one, next| one < next), "{heard:?}");
}

/// Publishes `text` until it arrives.
async fn until_bridged(server: &RedisServer, sink: &TestSink, text: &str) {
    until("the raw channel has a bridge", || {
        server.cli(&["PUBLISH", "raw", text]);
        sink.texts().iter().any(|seen| seen == text)
    })
    .await;
}

/// The raw channel goes as it is to the default channel and has a place in its history.
#[test]
fn the_raw_channel_has_a_place_in_the_history() {
    run(async {
        let server = RedisServer::start();
        let process = process(&server, 3).await;
        server.cli(&["PUBLISH", "raw", "hi \u{1f600}"]);
        server.cli(&["EVAL", r"return redis.call('PUBLISH', 'raw', '\255\0')", "0"]);
        for sink in &process.sinks {
            until("both have arrived", || sink.messages().len() == 2).await;
            let messages = sink.messages();
            assert_eq!(sink.offsets(), [1, 2]);
            assert!(
                messages.iter().all(|message| message.channel == ChannelName::default_channel())
            );
            assert_eq!(messages[0].kind, Kind::Text);
            assert_eq!(messages[0].data, "hi \u{1f600}");
            assert_eq!(
                (messages[1].kind, &*messages[1].data),
                (Kind::Binary, b"\xff\0".as_slice())
            );
        }
        until("both are answered for", || process.shared.health().raw_published() == 2).await;
        assert_eq!(offset(process.publish(DEFAULT, "ours").await), 3, "one order with ours");
        let channel = ChannelName::default_channel();
        let to = process.shards[0].position(channel.clone(), None).await.unwrap();
        let since = Since::Newest(10);
        let recovery = process.shards[0].recover(channel.clone(), since, to.clone()).await;
        assert!(recovery.missed.is_none());
        let read = process.shards[0].history(&channel, &recovery.from, to.offset, 1 << 20);
        assert_eq!(read.unwrap().len(), 3);
    });
}

/// A message too big on the raw channel is dropped and counted once.
#[test]
fn a_raw_message_too_big_is_counted_once() {
    run(async {
        let server = RedisServer::start();
        let processes = three(&server).await;
        server.cli(&["PUBLISH", "raw", "12345678901"]);
        server.cli(&["PUBLISH", "raw", "1234567890"]);
        for sink in sinks(&processes) {
            until("the smaller has arrived", || !sink.messages().is_empty()).await;
            assert_eq!(sink.texts(), ["1234567890"]);
        }
        let too_big = processes
            .iter()
            .map(|process| process.shared.health().raw_failures(PublishFailure::TooBig));
        assert_eq!(too_big.sum::<u64>(), 1);
        until("it is answered for", || published(&processes) == 1).await;
    });
}

/// One of three processes bridges the raw channel, and each message arrives once, in order.
#[test]
fn of_three_processes_one_bridges() {
    run(async {
        const COUNT: usize = 5_000;
        for _ in 0..ROUNDS_MAX {
            let server = RedisServer::start();
            let processes = three(&server).await;
            publish_raw(&server, "a", COUNT);
            until_bridged(&server, &processes[0].sinks[0], "end").await;
            let watched = sinks(&processes);
            for sink in &watched {
                let has_ended = || sink.texts().contains(&"end".to_owned());
                until("the end has arrived", has_ended).await;
                assert_once(&heard(sink, "a"));
                let offsets = sink.offsets();
                assert!(offsets.iter().copied().eq(1..=offsets.len() as u64), "{offsets:?}");
            }
            // Redis was too slow to keep the lease, or to take a message: that was told.
            if handovers(&processes) + lost(&processes) > 0 {
                continue;
            }
            for sink in &watched {
                assert_eq!(heard(sink, "a"), texts("a", COUNT));
            }
            let bridges = processes.iter().filter(|one| one.shared.health().raw_published() > 0);
            assert_eq!(bridges.count(), 1);
            return;
        }
        panic!("in each of {ROUNDS_MAX} rounds something was told to be lost");
    });
}

/// A holder that dies is followed by another and the takeover is counted.
#[test]
fn a_dead_holder_is_followed_by_another() {
    run(async {
        let server = RedisServer::start();
        let mut processes = three(&server).await;
        server.cli(&["PUBLISH", "raw", "first"]);
        let watched = sinks(&processes);
        for sink in &watched {
            until("the first has arrived", || sink.texts() == ["first"]).await;
        }
        until("it is answered for", || published(&processes) == 1).await;
        let holder = processes.iter().position(|one| one.shared.health().raw_published() > 0);
        // Without a word: its tasks end, and its lease has to run out.
        let dead = processes.remove(holder.unwrap());
        drop(dead);
        let watched = sinks(&processes);
        until_bridged(&server, &watched[0], "again").await;
        assert_eq!(handovers(&processes), 1);
        server.cli(&["PUBLISH", "raw", "last"]);
        for sink in &watched {
            until("the last has arrived", || sink.texts().last().unwrap() == "last").await;
            let offsets = sink.offsets();
            assert!(offsets.iter().copied().eq(1..=offsets.len() as u64), "{offsets:?}");
        }
    });
}

/// A holder that was cut off is followed by one bridge and not by two.
#[test]
fn a_holder_cut_off_is_followed_by_one_bridge() {
    run(async {
        const COUNT: usize = 500;
        let server = RedisServer::start_durable();
        let processes = three(&server).await;
        let watched = sinks(&processes);
        let mut takeovers = 0;
        for round in 0..4 {
            if round % 2 == 0 {
                server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            } else {
                server.pause();
                for process in &processes {
                    process.lost().await;
                }
                // A lease must have ended while nobody could be told: time itself is the point.
                tokio::time::sleep(BRIDGE_LEASE + BRIDGE_LEASE / 4).await;
                server.resume();
            }
            for process in &processes {
                process.up().await;
            }
            let name = round.to_string();
            until_bridged(&server, &watched[0], &format!("up {name}")).await;
            publish_raw(&server, &name, COUNT);
            let last = format!("{name}:{}", COUNT - 1);
            for sink in &watched {
                let has_last = || sink.texts().last() == Some(&last);
                until("the last has arrived", has_last).await;
                let own = |text: &String| text.starts_with(&format!("{name}:"));
                let heard: Vec<String> = sink.texts().into_iter().filter(own).collect();
                assert_eq!(heard, texts(&name, COUNT), "each once, in order");
                assert_eq!(sink.texts(), watched[0].texts());
            }
            takeovers = takeovers.max(handovers(&processes));
        }
        assert!(takeovers >= 2, "losing the connection counts: {takeovers}");
    });
}

/// A lease that Redis has no memory for is told to nobody. Regression: it was told first and done
/// afterwards, or not at all.
#[test]
fn a_lease_without_memory_is_told_to_nobody() {
    run(async {
        let server = RedisServer::start();
        let key = format!("test:{{{DEFAULT}}}:bridge:raw");
        let mut ear = TcpStream::connect(server.address()).await.unwrap();
        ear.write_all(format!("SUBSCRIBE {key}\r\n").as_bytes()).await.unwrap();
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let _process = Process::start_early(settings(&server), 1).await;
        let asks = || server.cli(&["INFO", "commandstats"]).contains("cmdstat_pttl");
        until("the lease is asked for", asks).await;
        server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        until("the lease is taken", || server.cli(&["EXISTS", &key]) == "1").await;
        let held = server.cli(&["GET", &key]);
        let mut heard = String::new();
        while !heard.contains(&format!("taken {held}")) {
            let mut piece = [0; 4096];
            let count = ear.read(&mut piece).await.unwrap();
            assert!(count > 0, "the connection has ended");
            heard.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        assert_eq!(heard.matches("taken").count(), 1, "{heard}");
    });
}

/// Publishes `NAME:0` and so on, a thousand a second and waiting for nobody, until `done`: how
/// many it were.
async fn publish_until(server: &RedisServer, name: &str, done: &Cell<bool>) -> usize {
    let mut redis = TcpStream::connect(server.address()).await.unwrap();
    let mut count = 0;
    while !done.get() {
        let command = format!("PUBLISH raw {name}:{count}\r\n");
        redis.write_all(command.as_bytes()).await.unwrap();
        count += 1;
        pace().await;
    }
    count
}

/// Lets the process's handles go, that of the bridge first: whether it had the time for it.
async fn leave(process: Process) -> bool {
    let mut handles = process.shards.into_iter();
    let begun = now();
    handles.next().unwrap().close().await;
    let in_time = now() - begun < BROKER_CLOSE_DEADLINE;
    for handle in handles.chain([process.control]) {
        handle.close().await;
    }
    in_time
}

/// Processes that leave one after another lose nothing and repeat nothing, as long as Redis is in
/// time for it.
#[test]
fn processes_that_leave_lose_nothing() {
    run(async {
        let server = RedisServer::start();
        let mut settings = settings(&server);
        settings.redis.as_mut().unwrap().raw_channel = None;
        let watcher = Process::start(settings, 1).await;
        watcher.subscribe(DEFAULT).await;
        let sink = &watcher.sinks[0];
        let mut old = process(&server, 2).await;
        let mut kept = 0;
        for round in 0..KEPT_MIN * 3 {
            let new = process(&server, 2).await;
            let name = round.to_string();
            let done = Cell::new(false);
            let leaving = async {
                let health = old.shared.health();
                until("the old one bridges", || health.raw_published() > 0).await;
                let in_time = leave(old).await;
                let is_whole = |health: &Health| health.raw_failures(BrokerLost) == 0;
                let (was_whole, health) = (is_whole(&health), new.shared.health());
                until("the new one bridges", || health.raw_published() > 0).await;
                done.set(true);
                in_time && was_whole
            };
            let (count, in_time) = tokio::join!(publish_until(&server, &name, &done), leaving);
            until_bridged(&server, sink, &format!("end of {name}")).await;
            assert_once(&heard(sink, &name));
            let health = new.shared.health();
            if in_time && health.raw_handovers() + health.raw_failures(BrokerLost) == 0 {
                assert_eq!(heard(sink, &name), texts(&name, count));
                kept += 1;
                if kept == KEPT_MIN {
                    return;
                }
            }
            old = new;
        }
        panic!("only {kept} of them had the time to hand it over");
    });
}

/// Garbage and repetitions on the program's own channels reach no client.
#[test]
fn garbage_and_repetitions_reach_nobody() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 3).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "first").await), 1);
        for sink in &process.sinks {
            until("the first has arrived", || sink.messages().len() == 1).await;
        }
        let epoch = process.sinks[0].messages()[0].position.clone().unwrap().epoch;
        server.cli(&["PUBLISH", "test:{a}", "garbage"]);
        let nonce = server.cli(&["HGET", "test:{a}:meta", "nonce"]);
        server.cli(&["PUBLISH", "test:{a}", &format!("2 t {epoch} 1 {nonce} 0\nfirst")]);
        assert_eq!(offset(process.publish("a", "second").await), 2);
        for sink in &process.sinks {
            until("the second has arrived", || sink.messages().len() >= 2).await;
            assert_eq!(sink.texts(), ["first", "second"]);
            assert_eq!(sink.gaps(), 0);
        }
        assert_eq!(process.shared.health().foreign(), 3);
        assert_eq!(process.shared.health().duplicates(), 3);
    });
}

#[test]
fn each_raw_channel_has_a_bridge_of_its_own() {
    run(async {
        let server = RedisServer::start();
        let one = process(&server, 1).await;
        let mut settings = settings(&server);
        settings.redis.as_mut().unwrap().raw_channel = Some("other".to_owned());
        let _other = Process::start(settings, 1).await;
        until_bridged(&server, &one.sinks[0], "one").await;
        until("the other one has a bridge too", || {
            server.cli(&["PUBLISH", "other", "two"]);
            one.sinks[0].texts().iter().any(|text| text == "two")
        })
        .await;
    });
}
