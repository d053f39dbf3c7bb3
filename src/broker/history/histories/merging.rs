//! How a history that Redis orders gets its messages: live, from several shards, and in readings
//! of the stream: pure.
//!
//! Every shard hears every message, at its own pace: the first one wins. A channel's ring stays
//! without a hole: what follows a hole begins it anew. Nonces tell whether messages that fit by
//! their offsets are of one history.

use super::Histories;
use crate::{
    broker::{
        PublisherClass,
        history::ring::{Ring, StreamEntry},
    },
    channel::ChannelName,
    clock::Millis,
    position::{Position, is_same_epoch},
};

/// Redis does not say who the publisher was: all channels share alike.
const ANYBODY: PublisherClass = PublisherClass::Api;

/// The outcome of a message that a shard has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Continuity {
    /// It is here, by this call or before.
    Known,
    /// Another message has its place, or the place before it: two histories share an epoch.
    Diverged,
}

/// A part of a channel's stream, and where the channel stood at that moment.
#[derive(Debug)]
pub(in crate::broker) struct Reading {
    /// The newest message's position.
    pub(in crate::broker) position: Position,
    /// The newest message's nonce.
    pub(in crate::broker) nonce: u64,
    /// In order; up to the newest, unless the stream is malformed.
    pub(in crate::broker) messages: Vec<StreamEntry>,
    /// Whether it began at the oldest that may be kept.
    pub(in crate::broker) is_whole: bool,
}

impl Histories {
    /// A shard has heard a message of `channel`, and all before it.
    pub(in crate::broker) fn add_live(
        &mut self,
        channel: &ChannelName,
        message: StreamEntry,
        now: Millis,
    ) -> Continuity {
        let Position { epoch, offset } = &message.position;
        match self.get(channel) {
            Some(ring) if is_same_epoch(&ring.position().epoch, epoch) => {
                let last = ring.position().offset;
                if *offset <= last {
                    let known = ring.nonce_at(*offset);
                    let is_other = known.is_some_and(|nonce| nonce != message.kept.nonce);
                    return if is_other { Continuity::Diverged } else { Continuity::Known };
                }
                if *offset == last + 1 {
                    if ring.nonce() != message.previous {
                        return Continuity::Diverged;
                    }
                    self.push(channel, ANYBODY, message.kept, now);
                    return Continuity::Known;
                }
            }
            Some(ring) if ring.has_replaced(epoch) => return Continuity::Known,
            _ => {}
        }
        self.begin_with(channel, vec![message], now);
        Continuity::Known
    }

    /// The stream of `channel` was read; its newest message is from `at`. A stream of another
    /// history than the present one is ignored.
    pub(in crate::broker) fn merge(
        &mut self,
        channel: &ChannelName,
        reading: Reading,
        at: Millis,
    ) -> Continuity {
        let Reading { position, nonce, messages, is_whole } = reading;
        let messages = unbroken(messages, &position, nonce);
        let position_read = position.offset;
        match self.get(channel) {
            // Redis was rolled back to it.
            Some(ring) if ring.has_replaced(&position.epoch) => return Continuity::Diverged,
            Some(ring) if is_same_epoch(&ring.position().epoch, &position.epoch) => {
                if is_other(ring, &messages, position.offset, nonce) {
                    return Continuity::Diverged;
                }
                if ring.position().offset < position.offset {
                    self.append(channel, &messages, &position, nonce, at);
                }
            }
            _ => self.begin_anew(channel, &messages, position, nonce, at),
        }
        let bounds = self.settings.bounds();
        let floor = self.get(channel).map(|ring| (ring.floor(), ring.nonce_at(ring.floor())));
        self.edit(channel, ANYBODY, at, |ring| {
            let older = messages.into_iter();
            let older: Vec<StreamEntry> =
                older.take_while(|one| one.position.offset <= ring.floor()).collect();
            let newest = older.last().map(|one| (one.position.offset, Some(one.kept.nonce)));
            if newest == floor {
                let older = older.into_iter().map(|one| (one.previous, one.kept));
                ring.prepend(older.collect(), bounds);
            }
            // Or messages between the reading and the ring are yet to be read.
            if is_whole && ring.floor() <= position_read {
                ring.set_complete();
            }
        });
        Continuity::Known
    }

    /// Appends the part of a reading that is newer than the ring, or all of it if they do not meet.
    fn append(
        &mut self,
        channel: &ChannelName,
        messages: &[StreamEntry],
        position: &Position,
        nonce: u64,
        at: Millis,
    ) {
        let Some(ring) = self.get(channel) else { return };
        let next = ring.position().offset + 1;
        let first = messages.iter().position(|one| one.position.offset == next);
        match first {
            Some(first) if messages[first].previous == ring.nonce() => {
                for one in &messages[first..] {
                    self.push(channel, ANYBODY, one.kept.clone(), at);
                }
            }
            _ => self.begin_anew(channel, messages, position.clone(), nonce, at),
        }
    }

    /// Begins with what a reading had, be it the position alone.
    fn begin_anew(
        &mut self,
        channel: &ChannelName,
        messages: &[StreamEntry],
        position: Position,
        nonce: u64,
        at: Millis,
    ) {
        if messages.is_empty() {
            self.begin_at(channel, ANYBODY, position, nonce, at);
        } else {
            self.begin_with(channel, messages.to_vec(), at);
        }
    }

    /// Begins with `messages`, which follow each other; there is one at least.
    fn begin_with(&mut self, channel: &ChannelName, messages: Vec<StreamEntry>, at: Millis) {
        let Some(first) = messages.first() else { return };
        let Position { epoch, offset } = first.position.clone();
        let before = Position { epoch, offset: offset - 1 };
        self.begin_at(channel, ANYBODY, before, first.previous, at);
        for one in messages {
            self.push(channel, ANYBODY, one.kept, at);
        }
    }
}

/// Whether what was read of a stream, up to the message `nonce` at `offset`, is of another history
/// than the ring: some message, or the one before it, has another nonce.
fn is_other(ring: &Ring, messages: &[StreamEntry], offset: u64, nonce: u64) -> bool {
    let differs = |offset, nonce| ring.nonce_at(offset).is_some_and(|known| known != nonce);
    let is_other = |one: &StreamEntry| {
        let offset = one.position.offset;
        differs(offset, one.kept.nonce) || differs(offset - 1, one.previous)
    };
    differs(offset, nonce) || messages.iter().any(is_other)
}

/// The newest messages that follow each other, up to the one at `position`.
fn unbroken(mut messages: Vec<StreamEntry>, position: &Position, nonce: u64) -> Vec<StreamEntry> {
    let ends =
        |last: &StreamEntry| last.position.offset == position.offset && last.kept.nonce == nonce;
    if !messages.last().is_some_and(ends) {
        return Vec::new();
    }
    let follows = |pair: &[StreamEntry]| {
        let (one, next) = (&pair[0], &pair[1]);
        next.position.offset == one.position.offset + 1 && next.previous == one.kept.nonce
    };
    let broken = messages.windows(2).rposition(|pair| !follows(pair));
    messages.split_off(broken.map_or(0, |place| place + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{HistorySettings, history::HistoryMessage},
        ws::Kind,
    };

    const SETTINGS: HistorySettings = HistorySettings {
        messages_max: 10,
        bytes_max: 100_000,
        total_bytes_max: 100_000,
        ttl: Duration::from_secs(60),
    };

    fn histories() -> (Histories, ChannelName) {
        (Histories::new(SETTINGS, 10), ChannelName::new("a").unwrap())
    }

    /// Its nonce is ten times its offset, unless it is of another branch.
    fn message(epoch: &str, offset: u64) -> StreamEntry {
        branch(epoch, offset, 10 * (offset - 1), 10 * offset)
    }

    fn branch(epoch: &str, offset: u64, previous: u64, nonce: u64) -> StreamEntry {
        let data = Bytes::from(offset.to_string());
        let position = Position { epoch: epoch.into(), offset };
        StreamEntry { position, previous, kept: HistoryMessage { kind: Kind::Text, data, nonce } }
    }

    fn reading(offsets: std::ops::RangeInclusive<u64>) -> Reading {
        Reading {
            position: Position { epoch: "e".into(), offset: *offsets.end() },
            nonce: 10 * offsets.end(),
            messages: offsets.map(|offset| message("e", offset)).collect(),
            is_whole: true,
        }
    }

    fn state(histories: &Histories, channel: &ChannelName) -> (String, u64, u64) {
        let ring = histories.get(channel).unwrap();
        let kept = (ring.floor() + 1..=ring.position().offset).map(|offset| ring.get(offset));
        assert!(
            kept.zip(ring.floor() + 1..)
                .all(|(kept, offset)| { kept.unwrap().data == offset.to_string() })
        );
        (ring.position().epoch.to_string(), ring.floor(), ring.position().offset)
    }

    #[test]
    fn the_first_shard_feeds_and_the_others_find_it_there() {
        let (mut histories, a) = histories();
        for offset in [5, 6, 5, 6, 7] {
            assert_eq!(histories.add_live(&a, message("e", offset), Millis(0)), Continuity::Known);
        }
        assert_eq!(state(&histories, &a), ("e".into(), 4, 7));
    }

    /// A hole or another epoch begins anew, and late messages change nothing.
    #[test]
    fn a_hole_or_another_epoch_begins_the_history_anew() {
        let (mut histories, a) = histories();
        for (epoch, offset) in [("e", 1), ("e", 3), ("f", 1), ("e", 4), ("f", 2)] {
            assert_eq!(
                histories.add_live(&a, message(epoch, offset), Millis(0)),
                Continuity::Known
            );
        }
        assert_eq!(state(&histories, &a), ("f".into(), 0, 2));
    }

    /// Another message in a known place or after one is noticed.
    #[test]
    fn another_message_at_a_known_position_is_noticed() {
        let (mut histories, a) = histories();
        histories.add_live(&a, message("e", 5), Millis(0));
        let other = [branch("e", 5, 40, 51), branch("e", 6, 51, 60), branch("e", 4, 30, 41)];
        for message in other {
            assert_eq!(histories.add_live(&a, message, Millis(0)), Continuity::Diverged);
        }
        assert_eq!(state(&histories, &a), ("e".into(), 4, 5));
    }

    #[test]
    fn a_reading_completes_both_ends() {
        let (mut histories, a) = histories();
        for offset in [5, 6] {
            histories.add_live(&a, message("e", offset), Millis(0));
        }
        assert!(!histories.get(&a).unwrap().is_complete());
        histories.merge(&a, reading(3..=8), Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 2, 8));
        assert!(histories.get(&a).unwrap().is_complete());
        histories.merge(&a, reading(1..=4), Millis(0));
        assert_eq!(
            state(&histories, &a),
            ("e".into(), 0, 8),
            "it ends where the ring begins or later"
        );
        histories.check();
    }

    /// A reading from before the ring's messages does not hide those in between.
    #[test]
    fn an_old_reading_hides_no_messages_in_between() {
        // One shard asked early, another began to hear late, and was the first to tell.
        let (mut histories, a) = histories();
        histories.add_live(&a, message("e", 8), Millis(0));
        histories.merge(&a, reading(1..=5), Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 7, 8));
        assert!(!histories.get(&a).unwrap().is_complete(), "6 and 7 are in Redis");
        histories.merge(&a, reading(1..=8), Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 0, 8));
        assert!(histories.get(&a).unwrap().is_complete());
    }

    /// A reading begins an unknown channel, and replaces a ring that it does not meet.
    #[test]
    fn a_reading_replaces_a_history_it_does_not_meet() {
        let (mut histories, a) = histories();
        histories.merge(&a, reading(3..=4), Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 2, 4));
        histories.merge(&a, reading(7..=8), Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 6, 8));
        let empty = Reading { messages: Vec::new(), ..reading(9..=9) };
        histories.merge(&a, empty, Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 9, 9));
        assert_eq!(histories.get(&a).unwrap().nonce(), 90);
    }

    #[test]
    fn of_a_broken_stream_only_the_newest_end_counts() {
        let (mut histories, a) = histories();
        let mut broken = reading(1..=6);
        broken.messages.remove(2);
        histories.merge(&a, broken, Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 3, 6));
        let mut behind = reading(1..=8);
        behind.messages.pop();
        histories.merge(&a, behind, Millis(0));
        assert_eq!(state(&histories, &a), ("e".into(), 8, 8));
    }
}
