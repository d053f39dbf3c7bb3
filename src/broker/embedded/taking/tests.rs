//! Sequencers that are handed over while they are published to, against the same ones that stay.

use std::{collections::HashSet, rc::Rc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::{
    broker::{
        IdempotencyKey, PeriodicSlot, Principal, Publication, PublisherClass, Recovery, Since,
        embedded::SequencerGiving, history::PartBounds, idempotency::Id,
    },
    channel::ChannelName,
    limits::HANDOVER_CHUNK_BYTES_MAX,
    record,
    seeds::run_all,
    ws::Kind,
};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

fn channel(text: &str) -> ChannelName {
    ChannelName::new(text).unwrap()
}

/// The uses of a sequencer.
#[derive(Clone, Debug)]
enum Deed {
    Publish {
        id: Id,
        is_keyed: bool,
        kind: Kind,
        data: Bytes,
    },
    /// After an offset in the present epoch, or the newest so many.
    Recover {
        channel: ChannelName,
        after: Option<u64>,
        newest: usize,
        bytes_max: usize,
    },
    Position(ChannelName),
    Slot {
        channel: ChannelName,
        number: u64,
    },
    Evict(ChannelName),
}

fn any_deed(random: &mut Rng) -> Deed {
    let channel = channel(NAMES[random.usize(..NAMES.len())]);
    match random.u8(..20) {
        0..=12 => {
            let subject = Principal::of_subject(Some("s"));
            let publisher = [Principal::Api, subject, Principal::Anonymous][random.usize(..3)];
            let key = IdempotencyKey::new(&random.u8(..6).to_string()).unwrap();
            let data = Bytes::from(vec![random.u8(..); random.usize(..700)]);
            let kind = if random.bool() { Kind::Text } else { Kind::Binary };
            let id = Id { publisher, channel, key };
            Deed::Publish { id, is_keyed: random.u8(..4) == 0, kind, data }
        }
        13..=15 => {
            let after = random.bool().then(|| random.u64(..30));
            let (newest, bytes_max) = (random.usize(..9), random.usize(..1500));
            Deed::Recover { channel, after, newest, bytes_max }
        }
        16..=17 => Deed::Position(channel),
        18 => Deed::Slot { channel, number: random.u64(..4) },
        _ => Deed::Evict(channel),
    }
}

/// All that keys can be given for.
fn all_ids() -> impl Iterator<Item = Id> {
    let subject = Principal::of_subject(Some("s"));
    let publishers = [Principal::Api, subject, Principal::Anonymous];
    let ids = publishers.into_iter().flat_map(|publisher| {
        NAMES.iter().flat_map(move |name| (0..6).map(move |key: u8| (publisher, *name, key)))
    });
    ids.map(|(publisher, name, key)| {
        let key = IdempotencyKey::new(&key.to_string()).unwrap();
        Id { publisher, channel: channel(name), key }
    })
}

#[derive(Debug, PartialEq)]
enum Answer {
    New(Position),
    Repeated(Position),
    Recovered(Recovery, Option<Vec<Publication>>),
    Position(Position),
    Slot { is_done: bool },
    None,
}

fn act(sequencer: &mut Sequencer, deed: &Deed, now: Millis) -> Answer {
    match deed {
        Deed::Publish { id, is_keyed, kind, data } => {
            if *is_keyed {
                if let Some(first) = sequencer.answers.first(id, now) {
                    return Answer::Repeated(first);
                }
                assert!(sequencer.answers.has_room(id, now));
            }
            let position = sequencer.next(&id.channel, id.publisher.class(), *kind, data, now);
            if *is_keyed {
                sequencer.answers.remember(id.clone(), position.clone(), now);
            }
            Answer::New(position)
        }
        Deed::Recover { channel, after, newest, bytes_max } => {
            let to = sequencer.position(channel);
            let since = after.map_or(Since::Newest(*newest), |offset| {
                Since::After(Position { offset, ..to.clone() })
            });
            let recovery = sequencer.recover(channel, &since, &to, now);
            let piece = sequencer.piece(channel, &recovery.from, to.offset, *bytes_max);
            Answer::Recovered(recovery, piece)
        }
        Deed::Position(channel) => Answer::Position(sequencer.position(channel)),
        Deed::Slot { channel, number } => {
            let text_at = Rc::new(|_| Bytes::new());
            let slot = PeriodicSlot { channel: channel.clone(), interval_ms: 1000, text_at };
            let is_done = sequencer.slots.is_done(&slot, *number);
            sequencer.slots.set_done(&slot, *number);
            Answer::Slot { is_done }
        }
        Deed::Evict(channel) => {
            sequencer.evict(channel);
            Answer::None
        }
    }
}

/// All that can be read of every channel.
fn contents(sequencer: &Sequencer) -> Vec<Option<(Position, Vec<Publication>)>> {
    let content = |name: &&str| {
        let name = channel(name);
        let ring = sequencer.histories.get(&name)?;
        let after = Position { offset: ring.floor(), ..ring.position() };
        let to = ring.position().offset;
        Some((ring.position(), sequencer.piece(&name, &after, to, usize::MAX)?))
    };
    NAMES.iter().map(content).collect()
}

fn any_settings(random: &mut Rng) -> HistorySettings {
    HistorySettings {
        messages_max: random.usize(..8),
        bytes_max: random.usize(500..3_000),
        total_bytes_max: random.usize(1_000..6_000),
        ttl: Duration::from_millis(random.u64(1..20_000)),
    }
}

/// A moment later; sometimes much later.
fn pass(random: &mut Rng, now: &mut Millis) {
    let most = if random.u8(..20) == 0 { 400_000 } else { 2_000 };
    *now = *now + Duration::from_millis(random.u64(..most));
}

/// A hand-over amid publications, with all of them done.
struct HandOver {
    old: Sequencer,
    new: Sequencer,
    now: Millis,
    clocks: Clocks,
    /// The publications that the old process made, and their positions.
    published: HashSet<(ChannelName, Position)>,
    parts: u64,
}

/// Moments of the two processes that are the same.
#[derive(Clone, Copy)]
struct Clocks {
    old: Millis,
    new: Millis,
}

impl Clocks {
    fn new_of(self, old: Millis) -> Millis {
        self.new + (old - self.old)
    }
}

/// Some deeds at the old process.
fn publish(
    (old, now): (&mut Sequencer, &mut Millis),
    random: &mut Rng,
    most: usize,
    published: &mut HashSet<(ChannelName, Position)>,
) {
    for _ in 0..random.usize(..most) {
        pass(random, now);
        let deed = any_deed(random);
        let answer = act(old, &deed, *now);
        if let (Deed::Publish { id, .. }, Answer::New(position)) = (deed, answer) {
            assert!(published.insert((id.channel, position)));
        }
    }
}

/// Hands over to a process with other settings, if there are some.
fn hand_over(random: &mut Rng, other: Option<(HistorySettings, usize)>) -> HandOver {
    let own = (any_settings(random), random.usize(1..7));
    let mut old = Sequencer::with_channels_max(own.0, own.1);
    let mut now = Millis(random.u64(..100_000));
    let mut published = HashSet::new();
    publish((&mut old, &mut now), random, 50, &mut published);
    let bounds = PartBounds { items_max: random.usize(1..6), bytes_max: random.usize(1..3_000) };
    let mut giving = SequencerGiving::new(bounds, now);
    let (settings, channels_max) = other.unwrap_or(own);
    let mut taking = SequencerTaking::new(settings, channels_max);
    let clocks = Clocks { old: now, new: Millis(random.u64(..1_000)) };
    let mut parts = 0;
    // Of the first part the new process takes its time, so a late one makes all of it later.
    let late = Duration::from_millis(other.map_or(0, |_| random.u64(..5_000)));
    let mut put = |part: BrokerPart, now: Millis| {
        let part = record::from_bytes(&record::to_bytes(&part)).unwrap();
        parts += 1;
        taking.put(part, clocks.new_of(now) + late).unwrap();
    };
    for _ in 0..random.usize(..4) {
        while let Some(part) = giving.next(&old, now) {
            put(part, now);
            publish((&mut old, &mut now), random, 4, &mut published);
        }
    }
    for part in giving.finish(&old, now) {
        put(part, now);
    }
    HandOver { old, new: taking.finish().unwrap(), now, clocks, published, parts }
}

/// The other process answers all that follows as the first one would have.
#[test]
fn the_sequence_goes_on_as_if_nothing_had_happened() {
    let counts = run_all(10_000, |seed| {
        let mut random = Rng::with_seed(seed);
        let HandOver { mut old, mut new, mut now, clocks, parts, .. } =
            hand_over(&mut random, None);
        new.histories.check();
        assert_eq!(contents(&old), contents(&new));
        assert_eq!(old.evicted(), new.evicted());
        for _ in 0..20 {
            pass(&mut random, &mut now);
            let deed = any_deed(&mut random);
            let (stayed, moved) =
                (act(&mut old, &deed, now), act(&mut new, &deed, clocks.new_of(now)));
            assert_eq!(stayed, moved, "{deed:?}");
        }
        new.histories.check();
        assert_eq!(contents(&old), contents(&new));
        let kept: usize = contents(&new).iter().flatten().map(|(_, kept)| kept.len()).sum();
        [parts, kept as u64, new.evicted().channels, new.evicted().messages]
    });
    if let Some(counts) = counts {
        assert!(counts.iter().all(|count| *count > 10_000), "{counts:?}");
    }
}

/// With other settings the other process keeps what they say, of what the first one had; and the
/// sequence goes on all the same.
#[test]
fn another_processs_settings_count_for_what_is_kept() {
    let counts = run_all(2_000, |seed| {
        let mut random = Rng::with_seed(seed);
        let other = (any_settings(&mut random), random.usize(1..7));
        let HandOver { mut old, mut new, now, clocks, mut published, .. } =
            hand_over(&mut random, Some(other));
        new.histories.check();
        let (mut all, mut less) = (0, 0);
        for (before, after) in contents(&old).into_iter().zip(contents(&new)) {
            let Some((position, kept)) = after else { continue };
            let (old_position, mut old_kept) = before.expect("only what was there");
            assert_eq!(position, old_position);
            all += old_kept.len();
            less += old_kept.len() - kept.len();
            assert_eq!(old_kept.split_off(old_kept.len() - kept.len()), kept, "the newest");
        }
        let later = now + Duration::from_millis(random.u64(..300_000));
        let mut now = clocks.new_of(later);
        let mut remembered = 0;
        for id in all_ids() {
            if let Some(first) = old.answers.first(&id, later) {
                assert_eq!(new.answers.first(&id, now), Some(first), "none is forgotten early");
                remembered += 1;
            }
        }
        for _ in 0..20 {
            publish((&mut new, &mut now), &mut random, 2, &mut published);
            new.histories.check();
        }
        [all as u64, less as u64, remembered]
    });
    if let Some(counts) = counts {
        assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
    }
}

fn settings(messages_max: usize) -> HistorySettings {
    let bytes_max = 100 * 1024 * 1024;
    let ttl = Duration::from_secs(60);
    HistorySettings { messages_max, bytes_max, total_bytes_max: bytes_max, ttl }
}

fn say(sequencer: &mut Sequencer, name: &str, data: &Bytes) -> Position {
    sequencer.next(&channel(name), PublisherClass::Api, Kind::Text, data, Millis(0))
}

/// Parts are bounded, in bytes and in number, also within one channel.
#[test]
fn parts_are_small_however_much_there_is() {
    let mut old = Sequencer::new(settings(5_000));
    for number in 0..5_000 {
        say(&mut old, "short", &Bytes::from_static(b"x"));
        say(&mut old, &format!("c{number}"), &Bytes::new());
    }
    for _ in 0..60 {
        say(&mut old, "long", &Bytes::from(vec![b'x'; 100_000]));
    }
    let mut giving = SequencerGiving::new(PartBounds::default(), Millis(0));
    let mut taking = SequencerTaking::new(settings(5_000), 10_000);
    let mut parts = 0;
    while let Some(part) = giving.next(&old, Millis(0)) {
        let bytes = record::to_bytes(&part);
        assert!(bytes.len() <= HANDOVER_CHUNK_BYTES_MAX + 100_000, "{}", bytes.len());
        taking.put(part, Millis(0)).unwrap();
        parts += 1;
    }
    assert!(parts > 20, "{parts}: two items for each of ten thousand messages, and 6 MB");
    let last = say(&mut old, "short", &Bytes::from_static(b"y"));
    let rest = giving.finish(&old, Millis(0));
    let messages = rest.iter().map(|part| record::to_bytes(part).len()).sum::<usize>();
    assert!(messages < 100_000, "only what came since, and the channels' floors: {messages}");
    rest.into_iter().for_each(|part| taking.put(part, Millis(0)).unwrap());
    let mut new = taking.finish().unwrap();
    let whole = |sequencer: &Sequencer, name: &str| {
        let after =
            Position { offset: sequencer.position(&channel(name)).offset - 50, ..last.clone() };
        sequencer.piece(&channel(name), &after, u64::MAX, usize::MAX).unwrap()
    };
    for name in ["short", "long"] {
        assert_eq!(whole(&new, name).len(), 50);
        assert_eq!(whole(&new, name), whole(&old, name));
    }
    let next = last.next();
    assert_eq!(
        (say(&mut new, "short", &Bytes::new()), say(&mut old, "short", &Bytes::new())),
        (next.clone(), next)
    );
}

/// Without the last part, and with one that makes no sense, nothing is taken over.
#[test]
fn an_incomplete_state_is_not_taken_over() {
    let mut old = Sequencer::new(settings(5));
    say(&mut old, "a", &Bytes::new());
    let parts = SequencerGiving::new(PartBounds::default(), Millis(0)).finish(&old, Millis(0));
    let take = |parts: &[BrokerPart]| {
        let mut taking = SequencerTaking::new(settings(5), 10);
        parts.iter().try_for_each(|part| taking.put(part.clone(), Millis(0)))?;
        taking.finish().map(|_| ())
    };
    assert!(matches!(take(&parts[..parts.len() - 1]), Err(TakeError::Incomplete)));
    assert!(take(&parts).is_ok());
    let mut odd = parts;
    let end = odd.last_mut().and_then(|part| part.sequencer.as_mut()).unwrap();
    end.process_epoch = "0123456789abcdef0".into();
    assert!(matches!(take(&odd), Err(TakeError::Epoch)));
}
