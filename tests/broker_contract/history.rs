//! Published messages can be had again, and a message with a key is published once: both brokers.

use wsbcast::broker::{Broker, BrokerSettings, Position, Recovery, Since};

use crate::{
    Backend,
    process::{Process, channel, keyed, offset, run, until},
};

/// A process with one shard that has heard `count` messages on `a`; the newest one's position.
async fn published(settings: BrokerSettings, count: u64) -> (Process, Position) {
    let process = Process::start(settings, 2).await;
    process.subscribe("a").await;
    for number in 1..=count {
        assert_eq!(offset(process.publish("a", &number.to_string()).await), number);
    }
    for sink in &process.sinks {
        until("all have arrived", || sink.messages().len() as u64 == count).await;
    }
    let newest = process.shards[0].position(channel("a"), None).await.unwrap();
    assert_eq!(newest.offset, count);
    (process, newest)
}

pub(crate) fn after(epoch: &str, offset: u64) -> Since {
    Since::After(Position { epoch: epoch.into(), offset })
}

/// The beginning of a recovery, and the first and last offset that is missing.
pub(crate) async fn recover(
    broker: &dyn Broker,
    since: Since,
    to: &Position,
) -> (u64, Option<(u64, Option<u64>)>) {
    let Recovery { from, missed } = broker.recover(channel("a"), since, to.clone()).await;
    assert_eq!(from.epoch, to.epoch);
    let missed = missed.map(|missed| {
        assert_eq!(missed.epoch.as_ref(), Some(&to.epoch));
        (missed.from, missed.to)
    });
    (from.offset, missed)
}

/// The texts after the offset `after`, up to `to`, read in pieces of about `bytes_max`.
pub(crate) fn read(
    broker: &dyn Broker,
    mut after: u64,
    to: &Position,
    bytes_max: usize,
) -> Vec<String> {
    let mut texts = Vec::new();
    while after < to.offset {
        let place = Position { epoch: to.epoch.clone(), offset: after };
        let piece = broker.history(&channel("a"), &place, to.offset, bytes_max).unwrap();
        assert!(!piece.is_empty());
        for message in piece {
            after += 1;
            assert_eq!(message.position.unwrap().offset, after);
            texts.push(String::from_utf8(message.data.to_vec()).unwrap());
        }
    }
    texts
}

fn texts(offsets: std::ops::RangeInclusive<u64>) -> Vec<String> {
    offsets.map(|offset| offset.to_string()).collect()
}

/// History since a position is read in order, in pieces.
pub(crate) fn history_since_a_position_is_read_in_pieces(backend: Backend) {
    run(async {
        let (process, newest) = published(backend.settings(), 50).await;
        for shard in &process.shards {
            let recovered = recover(&**shard, after(&newest.epoch, 10), &newest).await;
            assert_eq!(recovered, (10, None));
            for bytes_max in [0, 1_000, usize::MAX] {
                assert_eq!(read(&**shard, 10, &newest, bytes_max), texts(11..=50));
            }
            let place = Position { offset: 20, ..newest.clone() };
            let recovered = recover(&**shard, after(&newest.epoch, 10), &place).await;
            assert_eq!(recovered, (10, None));
            assert_eq!(read(&**shard, 10, &place, 1_000), texts(11..=20));
        }
    });
}

/// A position outside the window is answered with what is missing.
pub(crate) fn a_position_outside_the_window_names_the_gap(backend: Backend) {
    run(async {
        let mut settings = backend.settings();
        settings.history.messages_max = 10;
        let (process, newest) = published(settings, 30).await;
        let shard = &*process.shards[0];
        let (epoch, to) = (newest.epoch.clone(), &newest);
        assert_eq!(recover(shard, after(&epoch, 20), to).await, (20, None));
        assert_eq!(recover(shard, after(&epoch, 19), to).await, (20, Some((20, Some(20)))));
        assert_eq!(recover(shard, after(&epoch, 5), to).await, (20, Some((6, Some(20)))));
        assert_eq!(recover(shard, after("another", 25), to).await, (20, Some((1, Some(20)))));
        assert_eq!(recover(shard, after(&epoch, 31), to).await, (20, Some((1, Some(20)))));
        assert_eq!(read(shard, 20, to, 1_000), texts(21..=30));
        let gone = Position { offset: 19, ..newest };
        assert_eq!(shard.history(&channel("a"), &gone, 30, 1_000), None);
    });
}

pub(crate) fn the_newest_messages_can_be_asked_for(backend: Backend) {
    run(async {
        let (process, newest) = published(backend.settings(), 5).await;
        let shard = &*process.shards[0];
        for (count, from) in [(0, 5), (2, 3), (5, 0), (100, 0)] {
            assert_eq!(recover(shard, Since::Newest(count), &newest).await, (from, None));
        }
        assert_eq!(read(shard, 3, &newest, 1_000), texts(4..=5));
    });
}

pub(crate) fn a_channel_that_was_never_used_has_a_position(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 1).await;
        process.subscribe("a").await;
        let shard = &*process.shards[0];
        let start = shard.position(channel("a"), None).await.unwrap();
        assert_eq!(start.offset, 0);
        assert_eq!(shard.position(channel("a"), None).await.as_ref(), Some(&start));
        assert_eq!(recover(shard, after(&start.epoch, 0), &start).await, (0, None));
        offset(process.publish("a", "1").await);
        until("it has arrived", || process.sinks[0].messages().len() == 1).await;
        let newest = process.sinks[0].messages()[0].position.clone().unwrap();
        assert_eq!(newest.offset, 1);
        assert_eq!(recover(shard, after(&start.epoch, 0), &newest).await, (0, None));
        assert_eq!(read(shard, 0, &newest, 1_000), ["1"]);
        assert_eq!(process.sinks[0].gaps(), 0);
    });
}

pub(crate) fn a_key_is_published_once_per_channel(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 2).await;
        process.subscribe("a").await;
        process.subscribe("b").await;
        offset(process.publish("a", "before").await);
        let handles = || process.shards.iter().chain([&process.control]);
        let publishes = handles().map(|handle| handle.publish(keyed("a", "key", "once")));
        let receipts = futures_util::future::join_all(publishes).await;
        assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
        assert_eq!(offset(receipts[0].clone()), 2);
        offset(process.publish("a", "after").await);
        for handle in handles() {
            let again = handle.publish(keyed("a", "key", "another text")).await;
            assert_eq!(again, receipts[0]);
            assert_eq!(offset(handle.publish(keyed("b", "key", "elsewhere")).await), 1);
        }
        assert_eq!(offset(process.control.publish(keyed("a", "other", "end")).await), 4);
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 5).await;
            let seen = sink.messages().into_iter().filter(|one| one.channel == channel("a"));
            let seen: Vec<_> = seen.map(|one| one.data).collect();
            assert_eq!(seen, ["before", "once", "after", "end"]);
        }
    });
}

pub(crate) fn without_history_everything_that_was_missed_is_told(backend: Backend) {
    run(async {
        let mut settings = backend.settings();
        settings.history.messages_max = 0;
        let (process, newest) = published(settings, 5).await;
        let shard = &*process.shards[0];
        let recovered = recover(shard, after(&newest.epoch, 2), &newest).await;
        assert_eq!(recovered, (5, Some((3, Some(5)))));
        assert_eq!(recover(shard, Since::Newest(3), &newest).await, (5, None));
        if let Backend::Redis(server) = &backend {
            assert_eq!(server.cli(&["KEYS", "*stream*"]), "");
        }
    });
}
