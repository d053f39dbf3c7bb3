//! The broker of a process that stands alone: a sequencer under a mutex.
//!
//! A message gets the next offset of its channel and is handed to every shard's sink while the
//! mutex is held, so all shards see one order, and a message that one shard cannot take is given
//! to none and costs no offset. It keeps no history and knows no other process.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture, ready};

use super::{
    Broker, Position, Publication, PublishError, Receipt, Shared, Slot, SlotOutcome, epoch,
    fanout::Fanout,
};
use crate::{
    channel::ChannelName,
    clock,
    limits::{SEQUENCER_CHANNELS_MAX, SLOT_KINDS_MAX},
    ws::Kind,
};

/// All shards of a process and the offsets of its channels.
pub(super) type Embedded = Fanout<Sequencer>;

/// The next offset of every channel.
///
/// # Invariants
/// - `channels` and `by_use` hold the same channels, at most `channels_max`.
/// - A channel that was forgotten never continues under an epoch it had before: `forgotten` has
///   grown since, and is part of the epoch.
#[derive(Debug)]
pub(super) struct Sequencer {
    process_epoch: String,
    channels: HashMap<ChannelName, Counter>,
    by_use: BTreeMap<u64, ChannelName>,
    uses: u64,
    forgotten: u64,
    channels_max: usize,
    slots: SlotsDone,
}

#[derive(Debug)]
struct Counter {
    epoch: Arc<str>,
    offset: u64,
    used: u64,
}

impl Sequencer {
    pub(super) fn new() -> Self {
        Self::with_channels_max(SEQUENCER_CHANNELS_MAX)
    }

    fn with_channels_max(channels_max: usize) -> Self {
        Self {
            process_epoch: epoch::random(),
            channels: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            forgotten: 0,
            channels_max,
            slots: SlotsDone::default(),
        }
    }

    /// The position of the channel's next message, which is thereby taken.
    fn next(&mut self, channel: &ChannelName) -> Position {
        self.uses += 1;
        if let Some(counter) = self.channels.get_mut(channel) {
            self.by_use.remove(&counter.used);
            self.by_use.insert(self.uses, channel.clone());
            counter.used = self.uses;
            counter.offset += 1;
            return Position { epoch: counter.epoch.clone(), offset: counter.offset };
        }
        if self.channels.len() >= self.channels_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.channels.remove(&oldest);
            self.forgotten += 1;
        }
        let epoch: Arc<str> = match self.forgotten {
            0 => self.process_epoch.as_str().into(),
            n => format!("{}-{n:x}", self.process_epoch).into(),
        };
        let counter = Counter { epoch: epoch.clone(), offset: 1, used: self.uses };
        self.channels.insert(channel.clone(), counter);
        self.by_use.insert(self.uses, channel.clone());
        Position { epoch, offset: 1 }
    }
}

/// Which slots of periodic messages this process has seen to.
///
/// Keyed by channel and interval; the newest slot number is enough, since slots only grow.
#[derive(Debug, Default)]
pub(super) struct SlotsDone(Vec<((ChannelName, u64), u64)>);

impl SlotsDone {
    /// Whether `number` (or a later one) was done.
    pub(super) fn is_done(&self, slot: &Slot, number: u64) -> bool {
        self.0.iter().any(|(key, done)| *done >= number && is_kind(key, slot))
    }

    /// The newest slot that was done.
    pub(super) fn newest(&self, slot: &Slot) -> Option<u64> {
        self.0.iter().find(|(key, _)| is_kind(key, slot)).map(|(_, done)| *done)
    }

    /// Makes `before` the newest slot that was done.
    pub(super) fn take_back(&mut self, slot: &Slot, before: Option<u64>) {
        self.0.retain(|(key, _)| !is_kind(key, slot));
        if let Some(number) = before {
            self.set_done(slot, number);
        }
    }

    /// Remembers that `number` is done.
    pub(super) fn set_done(&mut self, slot: &Slot, number: u64) {
        if let Some((_, done)) = self.0.iter_mut().find(|(key, _)| is_kind(key, slot)) {
            *done = number.max(*done);
            return;
        }
        if self.0.len() >= SLOT_KINDS_MAX {
            self.0.remove(0);
        }
        self.0.push(((slot.channel.clone(), slot.interval_ms), number));
    }
}

fn is_kind(key: &(ChannelName, u64), slot: &Slot) -> bool {
    key.0 == slot.channel && key.1 == slot.interval_ms
}

/// A slot's number and the time until the next one, at `unix_ms`.
pub(super) fn slot_at(interval_ms: u64, unix_ms: u64) -> (u64, u64) {
    let interval_ms = interval_ms.max(1);
    (unix_ms / interval_ms, interval_ms - unix_ms % interval_ms)
}

/// Wall-clock milliseconds.
pub(super) fn unix_ms() -> u64 {
    u64::try_from(clock::unix_time().as_millis()).unwrap_or(u64::MAX)
}

/// A thread's handle on the process's sequencer.
#[derive(Debug)]
pub(super) struct EmbeddedBroker(pub(super) Arc<Shared>);

impl EmbeddedBroker {
    fn publish_now(
        &self,
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
    ) -> Result<Receipt, PublishError> {
        let mut turn = self.0.embedded().turn();
        turn.check_room(data.len())?;
        let position = turn.state.next(&channel);
        turn.deliver(&Publication { channel, kind, data, position: Some(position.clone()) });
        Ok(Receipt::Cluster(position))
    }

    fn publish_slot_at(&self, slot: Slot, unix_ms: u64) -> SlotOutcome {
        let (number, next_slot_in_ms) = slot_at(slot.interval_ms, unix_ms);
        let mut turn = self.0.embedded().turn();
        let published = if turn.state.slots.is_done(&slot, number) {
            Ok(None)
        } else {
            turn.check_room(slot.data.len()).map(|()| {
                turn.state.slots.set_done(&slot, number);
                let Slot { channel, data, .. } = slot;
                let position = turn.state.next(&channel);
                let stamped = Some(position.clone());
                turn.deliver(&Publication { channel, kind: Kind::Text, data, position: stamped });
                Some(Receipt::Cluster(position))
            })
        };
        SlotOutcome { published, next_slot_in_ms }
    }
}

impl Broker for EmbeddedBroker {
    fn publish(
        &self,
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
    ) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        ready(self.publish_now(channel, kind, data)).boxed_local()
    }

    fn publish_once(&self, slot: Slot) -> LocalBoxFuture<'_, SlotOutcome> {
        ready(self.publish_slot_at(slot, unix_ms())).boxed_local()
    }

    fn subscribe(&self, _channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        ready(()).boxed_local()
    }

    fn unsubscribe(&self, _channel: &ChannelName) {}

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        ready(()).boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    #[test]
    fn offsets_of_a_channel_have_no_holes_and_channels_do_not_share_them() {
        let mut sequencer = Sequencer::new();
        for offset in 1..=3 {
            assert_eq!(sequencer.next(&channel("a")).offset, offset);
            assert_eq!(sequencer.next(&channel("b")).offset, offset);
        }
    }

    #[test]
    fn the_channel_published_to_longest_ago_is_forgotten_first() {
        let mut sequencer = Sequencer::with_channels_max(2);
        let first = sequencer.next(&channel("a"));
        sequencer.next(&channel("b"));
        sequencer.next(&channel("a"));
        sequencer.next(&channel("c"));
        assert_eq!(sequencer.channels.len(), 2);
        assert_eq!(sequencer.by_use.len(), 2);
        assert_eq!(sequencer.next(&channel("a")), Position { offset: 3, ..first });
    }

    #[test]
    fn a_forgotten_channel_comes_back_under_an_epoch_it_never_had() {
        let mut sequencer = Sequencer::with_channels_max(1);
        let mut epochs = std::collections::HashSet::new();
        for _ in 0..10 {
            let position = sequencer.next(&channel("a"));
            assert_eq!(position.offset, 1);
            assert!(position.epoch.len() <= 32);
            assert!(epochs.insert(position.epoch));
            sequencer.next(&channel("b"));
        }
    }

    #[test]
    fn a_slot_is_done_once_and_never_again() {
        let slot =
            Slot { channel: channel("a"), interval_ms: 10_000, data: Bytes::from_static(b"x") };
        let mut slots = SlotsDone::default();
        assert!(!slots.is_done(&slot, 7));
        slots.set_done(&slot, 7);
        assert!(slots.is_done(&slot, 7) && slots.is_done(&slot, 6) && !slots.is_done(&slot, 8));
        let other = Slot { interval_ms: 5_000, ..slot };
        assert!(!slots.is_done(&other, 7));
    }

    #[test]
    fn slots_follow_the_unix_clock() {
        assert_eq!(slot_at(10_000, 20_000), (2, 10_000));
        assert_eq!(slot_at(10_000, 29_999), (2, 1));
    }
}
