//! The broker of a process that stands alone: a sequencer under a mutex.
//!
//! A message gets the next offset of its channel and is handed to every shard's sink while the
//! mutex is held, so all shards see one order, and a message that one shard cannot take is given to
//! none and costs no offset. Published messages are kept for a while, for clients that come back.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture, ready};

use super::{
    Broker, History, HistorySettings, Message, PeriodicSlot, Position, Publication, PublishError,
    PublisherClass, Receipt, Recovery, Since, SlotOutcome, epoch,
    fanout::Fanout,
    history::{Evicted, Histories, HistoryMessage, Ring},
    idempotency::Answers,
};
use crate::{
    channel::ChannelName,
    clock::{Clock, Millis},
    limits::{SEQUENCER_CHANNELS_MAX, SLOT_KINDS_MAX},
    ws::Kind,
};

/// All shards of a process, and its channels.
pub(super) type Embedded = Fanout<Sequencer>;

/// The offsets and the history of every channel.
///
/// # Invariants
/// A channel that was forgotten never continues under an epoch it had before: the number of
/// forgotten ones has grown since, and is part of the epoch.
#[derive(Debug)]
pub(super) struct Sequencer {
    process_epoch: String,
    histories: Histories,
    answers: Answers<Position>,
    slots: SlotsDone,
}

impl Sequencer {
    pub(super) fn new(settings: HistorySettings) -> Self {
        Self::with_channels_max(settings, SEQUENCER_CHANNELS_MAX)
    }

    fn with_channels_max(settings: HistorySettings, channels_max: usize) -> Self {
        Self {
            process_epoch: epoch::random(),
            histories: Histories::new(settings, channels_max),
            answers: Answers::default(),
            slots: SlotsDone::default(),
        }
    }

    /// The position of the channel's next message, which is thereby taken.
    fn next(
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
    fn position(&self, channel: &ChannelName) -> Position {
        match self.histories.get(channel) {
            Some(ring) => ring.position(),
            None => Position { epoch: self.next_epoch(), offset: 0 },
        }
    }

    /// The evictions from histories for want of room.
    pub(super) fn evicted(&self) -> Evicted {
        self.histories.evicted()
    }

    #[cfg(test)]
    pub(super) fn evict(&mut self, channel: &ChannelName) {
        self.histories.evict(channel);
    }

    fn recover(
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

/// The slots of periodic messages that this process has taken care of.
///
/// Keyed by channel and interval; the newest slot number is enough, since slots only grow, unless
/// the clock is set back: a mark further ahead than the next slot does not count.
#[derive(Debug, Default)]
pub(super) struct SlotsDone(Vec<((ChannelName, u64), u64)>);

impl SlotsDone {
    /// Whether `number` (or the next one) was done.
    pub(super) fn is_done(&self, slot: &PeriodicSlot, number: u64) -> bool {
        let is_done = |done: u64| done >= number && !is_set_back(done, number);
        self.0.iter().any(|(key, done)| is_done(*done) && is_kind(key, slot))
    }

    /// The newest slot that was done.
    pub(super) fn newest(&self, slot: &PeriodicSlot) -> Option<u64> {
        self.0.iter().find(|(key, _)| is_kind(key, slot)).map(|(_, done)| *done)
    }

    /// Makes `before` the newest slot that was done.
    pub(super) fn take_back(&mut self, slot: &PeriodicSlot, before: Option<u64>) {
        self.0.retain(|(key, _)| !is_kind(key, slot));
        if let Some(number) = before {
            self.set_done(slot, number);
        }
    }

    /// Remembers that `number` is done.
    pub(super) fn set_done(&mut self, slot: &PeriodicSlot, number: u64) {
        if let Some((_, done)) = self.0.iter_mut().find(|(key, _)| is_kind(key, slot)) {
            *done = if is_set_back(*done, number) { number } else { number.max(*done) };
            return;
        }
        if self.0.len() >= SLOT_KINDS_MAX {
            self.0.remove(0);
        }
        self.0.push(((slot.channel.clone(), slot.interval_ms), number));
    }
}

/// Whether the clock was set back since `done` was marked, now that it is `number`: by more than
/// one interval, so that clocks which differ a little make nothing twice.
fn is_set_back(done: u64, number: u64) -> bool {
    done > number.saturating_add(1)
}

fn is_kind(key: &(ChannelName, u64), slot: &PeriodicSlot) -> bool {
    key.0 == slot.channel && key.1 == slot.interval_ms
}

/// A slot's number and the time until the next one, at `unix_ms`.
pub(super) fn slot_at(interval_ms: u64, unix_ms: u64) -> (u64, u64) {
    let interval_ms = interval_ms.max(1);
    (unix_ms / interval_ms, interval_ms - unix_ms % interval_ms)
}

/// Wall-clock milliseconds.
pub(super) fn unix_ms(clock: Clock) -> u64 {
    u64::try_from(clock.unix_time().as_millis()).unwrap_or(u64::MAX)
}

/// A thread's handle on the process's sequencer.
#[derive(Debug)]
pub(super) struct EmbeddedBroker {
    clock: Clock,
    embedded: Arc<Embedded>,
}

impl EmbeddedBroker {
    pub(super) fn new(clock: Clock, embedded: Arc<Embedded>) -> Self {
        Self { clock, embedded }
    }

    fn publish_now(&self, message: Message) -> Result<Receipt, PublishError> {
        let id = message.id();
        let Message { publisher, channel, kind, data, .. } = message;
        let (mut guard, now) = (self.embedded.lock(), self.clock.now());
        if let Some(id) = &id {
            if let Some(first) = guard.state.answers.first(id, now) {
                return Ok(Receipt::Cluster(first));
            }
            if !guard.state.answers.has_room(id, now) {
                return Err(PublishError::KeysFull);
            }
        }
        guard.check_room(data.len())?;
        let position = guard.state.next(&channel, publisher.class(), kind, &data, now);
        if let Some(id) = id {
            guard.state.answers.remember(id, position.clone(), now);
        }
        guard.deliver(&Publication { channel, kind, data, position: Some(position.clone()) });
        Ok(Receipt::Cluster(position))
    }

    fn publish_slot_at(&self, slot: PeriodicSlot, unix_ms: u64) -> SlotOutcome {
        let (number, next_slot_in_ms) = slot_at(slot.interval_ms, unix_ms);
        let mut guard = self.embedded.lock();
        let published = if guard.state.slots.is_done(&slot, number) {
            Ok(None)
        } else {
            let data = (slot.text_at)(Duration::from_millis(unix_ms));
            guard.check_room(data.len()).map(|()| {
                guard.state.slots.set_done(&slot, number);
                let channel = slot.channel;
                let position = guard.state.next(
                    &channel,
                    PublisherClass::Api,
                    Kind::Text,
                    &data,
                    self.clock.now(),
                );
                let stamped = Some(position.clone());
                guard.deliver(&Publication { channel, kind: Kind::Text, data, position: stamped });
                Some(Receipt::Cluster(position))
            })
        };
        SlotOutcome { published, next_slot_in_ms }
    }
}

impl History for EmbeddedBroker {
    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.embedded.lock().state.histories.piece(channel, after, to, bytes_max)
    }
}

impl Broker for EmbeddedBroker {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        ready(self.publish_now(message)).boxed_local()
    }

    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        ready(self.publish_slot_at(slot, unix_ms(self.clock))).boxed_local()
    }

    fn confirm_subscription(&self, _channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        ready(()).boxed_local()
    }

    fn position<'a>(
        &'a self,
        channel: ChannelName,
        _since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        ready(Some(self.embedded.lock().state.position(&channel))).boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        ready(self.embedded.lock().state.recover(&channel, &since, &to, self.clock.now()))
            .boxed_local()
    }

    fn unsubscribe(&self, _channel: &ChannelName) {}

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        ready(()).boxed_local()
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_slot_is_done_once_and_never_again() {
        let slot = PeriodicSlot {
            channel: channel("a"),
            interval_ms: 10_000,
            text_at: Rc::new(|_| Bytes::new()),
        };
        let mut slots = SlotsDone::default();
        assert!(!slots.is_done(&slot, 7));
        slots.set_done(&slot, 7);
        assert!(slots.is_done(&slot, 7) && slots.is_done(&slot, 6) && !slots.is_done(&slot, 8));
        // The clock was set back an hour: the next notice comes now, and once.
        slots.set_done(&slot, 400);
        assert!(!slots.is_done(&slot, 40));
        slots.set_done(&slot, 40);
        assert!(slots.is_done(&slot, 40) && !slots.is_done(&slot, 41));
        let other = PeriodicSlot { interval_ms: 5_000, ..slot };
        assert!(!slots.is_done(&other, 7));
    }

    #[test]
    fn slots_follow_the_unix_clock() {
        assert_eq!(slot_at(10_000, 20_000), (2, 10_000));
        assert_eq!(slot_at(10_000, 29_999), (2, 1));
    }
}
