//! The order of each channel's messages, and the memory of them, in one process: pure.
//!
//! Its holder decides about publications; the sequencer knows no shard and no clock.

use std::sync::Arc;

use bytes::Bytes;

use super::slots::SlotsDone;
use crate::{
    broker::{
        HistorySettings, Position, Publication, PublisherClass, Recovery, Since, epoch,
        history::{Evicted, Histories, HistoryMessage, Ring},
        idempotency::Answers,
    },
    channel::ChannelName,
    clock::Millis,
    limits::SEQUENCER_CHANNELS_MAX,
    ws::Kind,
};

/// The offsets and the history of every channel.
///
/// # Invariants
/// A channel that was forgotten never continues under an epoch it had before: the number of
/// forgotten ones has grown since, and is part of the epoch.
#[derive(Debug)]
pub(in crate::broker) struct Sequencer {
    pub(super) process_epoch: String,
    pub(super) histories: Histories,
    pub(super) answers: Answers<Position>,
    pub(super) slots: SlotsDone,
    /// Another process continues it: nothing is published here any more.
    pub(in crate::broker) is_over: bool,
}

impl Sequencer {
    pub(in crate::broker) fn new(settings: HistorySettings) -> Self {
        Self::with_channels_max(settings, SEQUENCER_CHANNELS_MAX)
    }

    pub(super) fn with_channels_max(settings: HistorySettings, channels_max: usize) -> Self {
        Self {
            process_epoch: epoch::random(),
            histories: Histories::new(settings, channels_max),
            answers: Answers::default(),
            slots: SlotsDone::default(),
            is_over: false,
        }
    }

    /// The position of the channel's next message, which is thereby taken.
    pub(super) fn next(
        &mut self,
        channel: &ChannelName,
        publisher: PublisherClass,
        kind: Kind,
        data: &Bytes,
        now: Millis,
    ) -> Position {
        let kept = HistoryMessage { kind, data: data.clone(), nonce: 0 };
        if let Some(position) = self.histories.push(channel, publisher, kept.clone(), now) {
            return position;
        }
        // First: a channel that is forgotten to make room changes the next epoch.
        self.histories.make_room();
        let position = Position { epoch: self.next_epoch(), offset: 0 };
        self.histories.begin(channel, publisher, position, now);
        self.histories.push(channel, publisher, kept, now).expect("it has just begun")
    }

    /// Another process has given a message its position, which is this one's next, unless they have
    /// forgotten different channels: then the history here is another one's, and not kept.
    pub(in crate::broker) fn follow(&mut self, message: &Publication, now: Millis) {
        let Publication { channel, kind, data, position } = message;
        let next = self.next(channel, PublisherClass::Api, *kind, data, now);
        if position.as_ref() != Some(&next) {
            self.histories.forget(channel);
        }
    }

    /// The epoch of a channel that begins now.
    fn next_epoch(&self) -> Arc<str> {
        match self.histories.evicted().channels {
            0 => self.process_epoch.as_str().into(),
            n => format!("{}-{n:x}", self.process_epoch).into(),
        }
    }

    /// The position of the channel's newest message. A channel without publications costs nothing,
    /// however often it is asked for; it may get another epoch than this one when it is published
    /// to.
    pub(in crate::broker) fn position(&self, channel: &ChannelName) -> Position {
        match self.histories.get(channel) {
            Some(ring) => ring.position(),
            None => Position { epoch: self.next_epoch(), offset: 0 },
        }
    }

    /// How much it keeps.
    pub(in crate::broker) fn settings(&self) -> &HistorySettings {
        self.histories.settings()
    }

    /// The evictions from histories for want of room.
    pub(in crate::broker) fn evicted(&self) -> Evicted {
        self.histories.evicted()
    }

    #[cfg(test)]
    pub(in crate::broker) fn evict(&mut self, channel: &ChannelName) {
        self.histories.evict(channel);
    }

    /// The messages of `channel` after `after`, up to the offset `to`.
    pub(super) fn piece(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.histories.piece(channel, after, to, bytes_max)
    }

    pub(super) fn recover(
        &mut self,
        channel: &ChannelName,
        since: &Since,
        to: &Position,
        now: Millis,
    ) -> Recovery {
        self.histories.expire(now);
        match self.histories.get(channel) {
            Some(ring) => ring.recovery(since, to),
            None => Ring::new(self.position(channel)).recovery(since, to),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SETTINGS: HistorySettings = HistorySettings {
        messages_max: 10,
        bytes_max: 10_000,
        total_bytes_max: 100_000,
        ttl: Duration::from_secs(60),
    };

    fn channel(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    fn next(sequencer: &mut Sequencer, name: &str) -> Position {
        sequencer.next(
            &channel(name),
            PublisherClass::Api,
            Kind::Text,
            &Bytes::from_static(b"x"),
            Millis(0),
        )
    }

    /// Offsets of a channel have no holes and channels do not share them.
    #[test]
    fn offsets_have_no_holes_and_are_per_channel() {
        let mut sequencer = Sequencer::new(SETTINGS);
        for offset in 1..=3 {
            assert_eq!(next(&mut sequencer, "a").offset, offset);
            assert_eq!(next(&mut sequencer, "b").offset, offset);
        }
    }

    /// Among channels alike the one published to longest ago is forgotten first.
    #[test]
    fn the_channel_unused_for_longest_is_forgotten_first() {
        let mut sequencer = Sequencer::with_channels_max(SETTINGS, 2);
        let first = next(&mut sequencer, "a");
        next(&mut sequencer, "b");
        next(&mut sequencer, "b");
        next(&mut sequencer, "a");
        next(&mut sequencer, "c");
        assert!(sequencer.histories.get(&channel("b")).is_none());
        assert_eq!(next(&mut sequencer, "a"), Position { offset: 3, ..first });
    }

    /// A forgotten channel comes back under an epoch it never had.
    #[test]
    fn a_forgotten_channel_gets_a_new_epoch() {
        let mut sequencer = Sequencer::with_channels_max(SETTINGS, 1);
        let mut epochs = std::collections::HashSet::new();
        for _ in 0..10 {
            let position = next(&mut sequencer, "a");
            assert_eq!(position.offset, 1);
            assert!(position.epoch.len() <= 32);
            assert!(epochs.insert(position.epoch));
            next(&mut sequencer, "b");
        }
    }
}
