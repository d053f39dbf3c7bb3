//! The broker of a process that stands alone: a sequencer under a mutex.
//!
//! A message gets the next offset of its channel and is handed to every shard's sink while the
//! mutex is held, so all shards see one order, and a message that one shard cannot take is given to
//! none and costs no offset. Published messages are kept for a while, for clients that come back,
//! and all that the sequencer knows can go to another process, which continues the sequence.

mod giving;
mod sequencer;
mod slots;
mod taking;

use std::{rc::Rc, sync::Arc, time::Duration};

use futures_util::future::{FutureExt, LocalBoxFuture, ready};

pub(super) use self::{
    giving::SequencerGiving, sequencer::Sequencer, slots::SlotsDone, taking::SequencerTaking,
};
use super::{
    Broker, History, Message, PeriodicSlot, Position, Publication, PublishError, PublisherClass,
    Receipt, Recovery, Since, SlotOutcome, fanout::Fanout,
};
use crate::{channel::ChannelName, clock::Clock, ws::Kind};

/// All shards of a process, and its channels.
pub(super) type Embedded = Fanout<Sequencer>;

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
        if guard.state.is_over {
            return Err(PublishError::Restarting);
        }
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
        let published = if guard.state.is_over || guard.state.slots.is_done(&slot, number) {
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
        self.embedded.lock().state.piece(channel, after, to, bytes_max)
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

    #[test]
    fn slots_follow_the_unix_clock() {
        assert_eq!(slot_at(10_000, 20_000), (2, 10_000));
        assert_eq!(slot_at(10_000, 29_999), (2, 1));
    }
}
