//! The periodic message: once per slot for the whole cluster, or per process without Redis.
//!
//! A process takes care of a slot once, whatever happens: it marks the slot before it claims it in
//! Redis or delivers it locally, and takes the mark back only when Redis said that its clock is
//! in another slot, or when the message surely went nowhere. So a slot whose claim got no
//! answer, or that was delivered locally, is never claimed afterwards.

use std::{cell::Cell, time::Duration};

use bytes::Bytes;

use super::{Outcome, Publisher};
use crate::{
    broker::{
        Message, PeriodicSlot, Principal, PublishError, PublisherClass, Receipt, SlotOutcome,
        embedded::{slot_at, unix_ms},
        redis::protocol::{
            arguments,
            replies::{self, Claim},
        },
    },
    ws::Kind,
};

/// Once to learn Redis' clock, once to claim, once more if a slot has just begun.
const CLAIMS_MAX: u32 = 3;

impl Publisher {
    pub(crate) async fn publish_slot(&self, slot: PeriodicSlot) -> SlotOutcome {
        let published = self.claim_slot(&slot).await;
        let (_, next_slot_in_ms) = slot_at(slot.interval_ms, self.redis_unix_ms());
        SlotOutcome { published, next_slot_in_ms }
    }

    async fn claim_slot(&self, slot: &PeriodicSlot) -> Result<Option<Receipt>, PublishError> {
        for _ in 0..CLAIMS_MAX {
            let unix_ms = self.redis_unix_ms();
            let (number, _) = slot_at(slot.interval_ms, unix_ms);
            let Some(mark) = self.mark(slot, number) else { return Ok(None) };
            let data = (slot.text_at)(Duration::from_millis(unix_ms));
            match self.claim(slot, number, &data).await {
                Outcome::Done(Claim::Sent(position)) => {
                    return Ok(Some(Receipt::Cluster(position)));
                }
                Outcome::Done(Claim::Taken) => return Ok(None),
                // The clock is corrected now; look again which slot it is.
                Outcome::Done(Claim::Other) => self.unmark(slot, mark),
                Outcome::InDoubt => return Err(PublishError::Unconfirmed),
                Outcome::NotSent => {
                    let delivered = self.deliver_slot_locally(slot, data);
                    if delivered.is_err() {
                        self.unmark(slot, mark);
                    }
                    return delivered;
                }
            }
        }
        Ok(None)
    }

    async fn claim(&self, slot: &PeriodicSlot, number: u64, data: &Bytes) -> Outcome<Claim> {
        let process = &self.process;
        let names = &process.settings.names;
        let mut keys = names.keys(&slot.channel);
        keys.push(names.slot(&slot.channel, slot.interval_ms));
        let mut args = arguments::stamp(
            &process.settings.history,
            PublisherClass::Api,
            names.channel(&slot.channel),
            Kind::Text,
            data,
        );
        args.push(slot.interval_ms.max(1).to_string().into());
        args.push(number.to_string().into());
        let script = &process.settings.scripts.publish_once;
        let asked_ms = unix_ms(self.process.clock);
        let is_sent = |(claim, _): &(Claim, u64)| matches!(claim, Claim::Sent(_));
        match self
            .run(script, &slot.channel, (keys, args), replies::claim, is_sent, &Cell::default())
            .await
        {
            Outcome::Done((claim, redis_ms)) => {
                let ours_ms = asked_ms.midpoint(unix_ms(self.process.clock));
                let ahead_ms = redis_ms.cast_signed() - ours_ms.cast_signed();
                self.process.health.set_clock_ahead_ms(ahead_ms);
                Outcome::Done(claim)
            }
            Outcome::NotSent => Outcome::NotSent,
            Outcome::InDoubt => Outcome::InDoubt,
        }
    }

    /// Redis' clock as far as it is known; ours before it ever answered.
    fn redis_unix_ms(&self) -> u64 {
        unix_ms(self.process.clock).saturating_add_signed(self.process.health.clock_ahead_ms())
    }

    /// Takes the slot for this call; None if this process has taken care of it already. The mark is
    /// for [`Self::unmark`].
    fn mark(&self, slot: &PeriodicSlot, number: u64) -> Option<Option<u64>> {
        let mut guard = self.process.local.lock();
        let before = guard.state.slots.newest(slot);
        if guard.state.slots.is_done(slot, number) {
            return None;
        }
        guard.state.slots.set_done(slot, number);
        Some(before)
    }

    fn unmark(&self, slot: &PeriodicSlot, before: Option<u64>) {
        self.process.local.lock().state.slots.take_back(slot, before);
    }

    fn deliver_slot_locally(
        &self,
        slot: &PeriodicSlot,
        data: Bytes,
    ) -> Result<Option<Receipt>, PublishError> {
        let channel = slot.channel.clone();
        let message =
            Message { publisher: Principal::Api, channel, kind: Kind::Text, data, key: None };
        self.publish_locally(message).map(Some)
    }
}
