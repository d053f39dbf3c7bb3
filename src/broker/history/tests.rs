//! Bounds and memory of all channels together, by example and by random operations.

use bytes::Bytes;

use super::*;
use crate::ws::Kind;

const SETTINGS: Settings = Settings {
    messages_max: 4,
    bytes_max: 4_000,
    total_bytes_max: 5_000,
    ttl: Duration::from_secs(60),
};

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

fn kept(bytes: usize) -> Kept {
    Kept { kind: Kind::Text, data: Bytes::from(vec![b'x'; bytes]), nonce: 0 }
}

fn begin(histories: &mut Histories, name: &str) {
    let position = Position { epoch: "e".into(), offset: 0 };
    histories.begin(&channel(name), position, Millis(0));
}

fn floor(histories: &Histories, name: &str) -> (u64, u64) {
    let ring = histories.get(&channel(name)).unwrap();
    (ring.floor(), ring.position().offset)
}

#[test]
fn the_channel_published_to_longest_ago_gives_way_first() {
    let mut histories = Histories::new(SETTINGS, 10);
    for name in ["a", "b", "c"] {
        begin(&mut histories, name);
        histories.push(&channel(name), kept(1_400), Millis(0));
    }
    assert_eq!(floor(&histories, "a"), (0, 1));
    histories.push(&channel("a"), kept(1_400), Millis(0));
    histories.check();
    assert_eq!(floor(&histories, "b"), (1, 1), "its message is gone, its position is not");
    assert_eq!((floor(&histories, "c"), floor(&histories, "a")), ((0, 1), (0, 2)));
}

#[test]
fn a_lone_channel_gives_its_oldest_messages() {
    let mut histories = Histories::new(Settings { bytes_max: 9_000, ..SETTINGS }, 10);
    begin(&mut histories, "a");
    for _ in 0..4 {
        histories.push(&channel("a"), kept(1_400), Millis(0));
        histories.check();
    }
    assert_eq!(floor(&histories, "a"), (1, 4));
}

#[test]
fn what_nobody_has_published_to_for_the_ttl_is_forgotten_and_its_position_is_not() {
    let mut histories = Histories::new(SETTINGS, 10);
    begin(&mut histories, "a");
    begin(&mut histories, "b");
    histories.push(&channel("a"), kept(1), Millis(0));
    histories.push(&channel("b"), kept(1), Millis(59_999));
    assert_eq!(floor(&histories, "a"), (0, 1));
    histories.expire(Millis(60_000));
    assert_eq!((floor(&histories, "a"), floor(&histories, "b")), ((1, 1), (0, 1)));
    histories.push(&channel("a"), kept(1), Millis(60_000));
    assert_eq!(floor(&histories, "a"), (1, 2));
}

#[test]
fn without_history_positions_are_counted_all_the_same() {
    let off = Settings { ttl: Duration::ZERO, ..SETTINGS };
    let mut histories = Histories::new(off, 10);
    begin(&mut histories, "a");
    let position = histories.push(&channel("a"), kept(1), Millis(0)).unwrap();
    assert_eq!((position.offset, floor(&histories, "a")), (1, (1, 1)));
    histories.check();
}

#[test]
fn whatever_happens_the_bounds_are_kept() {
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut histories = Histories::new(SETTINGS, 3);
        let mut now = Millis(0);
        for _ in 0..60 {
            let name = channel(["a", "b", "c", "d", "e"][random.usize(0..5)]);
            now = now + Duration::from_millis(random.u64(0..20_000));
            match random.u8(0..10) {
                0..=6 => {
                    let message = kept(random.usize(0..3_000));
                    if histories.get(&name).is_none() {
                        let epoch = format!("{}", histories.forgotten()).as_str().into();
                        histories.begin(&name, Position { epoch, offset: 0 }, now);
                    }
                    let last = histories.get(&name).unwrap().position().offset;
                    let next = histories.push(&name, message, now).unwrap();
                    assert_eq!(next.offset, last + 1, "seed {seed}");
                }
                7 => {
                    let one = Stamped {
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
                    histories.fill(&name, reading, now);
                }
                8 => histories.forget(&name),
                _ => histories.expire(now),
            }
            histories.check();
        }
    }
}
