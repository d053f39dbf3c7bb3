//! Bounds and memory of all channels together, by example and by random operations.

use bytes::Bytes;

use super::{merging::Reading, *};
use crate::broker::PublisherClass;
use crate::broker::history::ring::StreamEntry;
use crate::ws::Kind;
use PublisherClass::{Anonymous, Api};

const SETTINGS: HistorySettings = HistorySettings {
    messages_max: 4,
    bytes_max: 4_000,
    total_bytes_max: 5_000,
    ttl: Duration::from_secs(60),
};

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn kept(bytes: usize) -> HistoryMessage {
    HistoryMessage { kind: Kind::Text, data: Bytes::from(vec![b'x'; bytes]), nonce: 0 }
}

fn begin(histories: &mut Histories, name: &str) {
    let position = Position { epoch: "e".into(), offset: 0 };
    histories.begin(&channel(name), Api, position, Millis(0));
}

/// Publishes `count` messages, to a new channel if need be.
fn publish(
    histories: &mut Histories,
    publisher: PublisherClass,
    name: &str,
    count: usize,
    bytes: usize,
) {
    let name = channel(name);
    for _ in 0..count {
        if histories.push(&name, publisher, kept(bytes), Millis(0)).is_none() {
            let position = Position { epoch: "e".into(), offset: 0 };
            histories.begin(&name, publisher, position, Millis(0));
            histories.push(&name, publisher, kept(bytes), Millis(0)).unwrap();
        }
    }
}

fn floor(histories: &Histories, name: &str) -> (u64, u64) {
    let ring = histories.get(&channel(name)).unwrap();
    (ring.floor(), ring.position().offset)
}

#[test]
fn the_largest_holder_gives_its_oldest_messages() {
    let mut histories = Histories::new(SETTINGS, 10);
    for name in ["a", "b", "c", "a"] {
        publish(&mut histories, Api, name, 1, 1_400);
    }
    histories.check();
    assert_eq!(floor(&histories, "a"), (1, 2), "its message is gone, its position is not");
    assert_eq!((floor(&histories, "b"), floor(&histories, "c")), ((0, 1), (0, 1)));
    assert_eq!(histories.evicted(), Evicted { messages: 1, channels: 0 });
}

#[test]
fn a_flood_of_bytes_takes_no_small_channels_messages() {
    let settings = HistorySettings { total_bytes_max: 100_000, bytes_max: 60_000, ..SETTINGS };
    let settings = HistorySettings { messages_max: 1_000, ..settings };
    let mut histories = Histories::new(settings, 10_000);
    publish(&mut histories, Api, "small", 3, 100);
    publish(&mut histories, Anonymous, "small-too", 3, 100);
    publish(&mut histories, Api, "large", 30, 1_000);
    for round in 0..1_000 {
        // Into few channels, and into many.
        publish(&mut histories, Anonymous, ["x", "y", "z"][round % 3], 1, 5_000);
        publish(&mut histories, Anonymous, &format!("flood{}", round % 100), 1, 2_000);
    }
    histories.check();
    assert_eq!((floor(&histories, "small"), floor(&histories, "small-too")), ((0, 3), (0, 3)));
    assert_eq!(floor(&histories, "large"), (0, 30), "it is less than half of all");
    assert!(histories.evicted().messages > 1_900);
}

#[test]
fn a_flood_of_names_takes_the_floods_own() {
    let mut histories =
        Histories::new(HistorySettings { total_bytes_max: 1_000_000, ..SETTINGS }, 100);
    publish(&mut histories, Api, "one", 1, 1);
    publish(&mut histories, Anonymous, "claimed", 1, 1);
    publish(&mut histories, Api, "claimed", 1, 1);
    publish(&mut histories, Anonymous, "three", 3, 1);
    for number in 0..1_000 {
        publish(&mut histories, Anonymous, &format!("flood{number}"), 1, 1);
    }
    histories.check();
    assert_eq!(floor(&histories, "one"), (0, 1), "others' stay");
    assert_eq!(floor(&histories, "claimed"), (0, 2), "also one that the flood had named before");
    assert_eq!(floor(&histories, "three"), (0, 3), "and its own that are not like it");
    assert_eq!(histories.evicted(), Evicted { messages: 0, channels: 903 });
}

#[test]
fn newcomers_do_not_only_push_out_each_other() {
    let mut histories =
        Histories::new(HistorySettings { total_bytes_max: 1_000_000, ..SETTINGS }, 100);
    for number in 0..100 {
        publish(&mut histories, Api, &format!("old{number}"), 2, 1);
    }
    for _ in 0..2 {
        for number in 0..10 {
            publish(&mut histories, Api, &format!("new{number}"), 1, 1);
        }
    }
    histories.check();
    assert_eq!(floor(&histories, "new0"), (0, 2));
    assert!(
        histories.get(&channel("old9")).is_none() && histories.get(&channel("old10")).is_some()
    );
}

/// A history that keeps nothing any more is forgotten before one that does.
#[test]
fn empty_histories_are_forgotten_first() {
    let mut histories = Histories::new(SETTINGS, 2);
    publish(&mut histories, Api, "a", 1, 1);
    let position = Position { epoch: "e".into(), offset: 0 };
    histories.begin(&channel("b"), Api, position, Millis(60_000));
    histories.push(&channel("b"), Api, kept(1), Millis(60_000));
    histories.push(&channel("b"), Api, kept(1), Millis(60_000));
    // It was used last, and is out of date.
    publish(&mut histories, Api, "a", 1, 1);
    histories.expire(Millis(60_000));
    begin(&mut histories, "c");
    histories.check();
    assert!(histories.get(&channel("a")).is_none());
    assert_eq!(floor(&histories, "b"), (0, 2));
}

#[test]
fn a_lone_channel_gives_its_oldest_messages() {
    let mut histories = Histories::new(HistorySettings { bytes_max: 9_000, ..SETTINGS }, 10);
    begin(&mut histories, "a");
    for _ in 0..4 {
        histories.push(&channel("a"), Api, kept(1_400), Millis(0));
        histories.check();
    }
    assert_eq!(floor(&histories, "a"), (1, 4));
}

/// A history without a message for the TTL is forgotten, and its position is not.
#[test]
fn an_unused_history_is_forgotten_not_its_position() {
    let mut histories = Histories::new(SETTINGS, 10);
    begin(&mut histories, "a");
    begin(&mut histories, "b");
    histories.push(&channel("a"), Api, kept(1), Millis(0));
    histories.push(&channel("b"), Api, kept(1), Millis(59_999));
    assert_eq!(floor(&histories, "a"), (0, 1));
    histories.expire(Millis(60_000));
    assert_eq!((floor(&histories, "a"), floor(&histories, "b")), ((1, 1), (0, 1)));
    histories.push(&channel("a"), Api, kept(1), Millis(60_000));
    assert_eq!(floor(&histories, "a"), (1, 2));
}

#[test]
fn without_history_positions_are_counted_all_the_same() {
    let off = HistorySettings { ttl: Duration::ZERO, ..SETTINGS };
    let mut histories = Histories::new(off, 10);
    begin(&mut histories, "a");
    let position = histories.push(&channel("a"), Api, kept(1), Millis(0)).unwrap();
    assert_eq!((position.offset, floor(&histories, "a")), (1, (1, 1)));
    histories.check();
}

#[test]
fn the_bounds_are_kept_whatever_happens() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut histories = Histories::new(SETTINGS, 3);
        let mut now = Millis(0);
        for _ in 0..60 {
            let name = channel(["a", "b", "c", "d", "e"][random.usize(0..5)]);
            now = now + Duration::from_millis(random.u64(0..20_000));
            let publisher = if random.bool() { Api } else { Anonymous };
            match random.u8(0..10) {
                0..=6 => {
                    let message = kept(random.usize(0..3_000));
                    if histories.get(&name).is_none() {
                        let epoch = format!("{}", histories.evicted().channels).as_str().into();
                        histories.begin(&name, publisher, Position { epoch, offset: 0 }, now);
                    }
                    let last = histories.get(&name).unwrap().position().offset;
                    let next = histories.push(&name, publisher, message, now).unwrap();
                    assert_eq!(next.offset, last + 1, "seed {seed}");
                }
                7 => {
                    let one = StreamEntry {
                        position: Position { epoch: "0".into(), offset: 1 },
                        previous: 0,
                        kept: kept(random.usize(0..1_000)),
                    };
                    let reading = Reading {
                        position: one.position.clone(),
                        nonce: 0,
                        messages: vec![one],
                        is_whole: random.bool(),
                    };
                    histories.merge(&name, reading, now);
                }
                8 => histories.forget(&name),
                _ => histories.expire(now),
            }
            histories.check();
        }
    }
}
