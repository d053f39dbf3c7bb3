//! The use of streams on its way to another process: pure.
//!
//! A stream that is added to takes a later turn, so a walk in the order of turns comes by again. A
//! stream that went meanwhile is not told of: it counts until its life is over, as it may in one
//! process after Redis has dropped it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use super::{Held, Own, StreamQuotas};
use crate::{
    broker::{HistorySettings, PublisherClass},
    channel::ChannelName,
    clock::Millis,
};

/// A stream's cost to each of its publishers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct StreamShare {
    pub(in crate::broker) channel: ChannelName,
    /// Bytes, those of messages on their way among them.
    pub(in crate::broker) by: BTreeMap<PublisherClass, usize>,
    /// It lives for so long from now on.
    pub(in crate::broker) left: Duration,
}

impl StreamQuotas {
    /// The streams used after the turn `after`, `max` at most, and the turn of the last of them.
    pub(in crate::broker::redis::local) fn used_after(
        &self,
        after: u64,
        max: usize,
        now: Millis,
    ) -> (u64, Vec<StreamShare>) {
        let used = self.order.range((Excluded(after), Unbounded)).take(max);
        let last = used.clone().last().map_or(after, |(turn, _)| *turn);
        let share = |channel: &ChannelName| {
            let Held { by, until, .. } = self.held.get(channel)?;
            let by = by.iter().map(|(publisher, own)| (*publisher, own.settled + own.pending));
            let (channel, by) = (channel.clone(), by.collect());
            Some(StreamShare { channel, by, left: *until - now })
        };
        (last, used.filter_map(|(_, channel)| share(channel)).collect())
    }

    /// Takes over the cost of a stream to the publishers of another process.
    pub(in crate::broker::redis::local) fn take_over(&mut self, share: StreamShare, at: Millis) {
        let StreamShare { channel, by, left } = share;
        self.edit(&channel, at + left.min(self.settings.ttl), |held| {
            let own = |(publisher, settled)| (publisher, Own { settled, pending: 0 });
            held.by = by.into_iter().map(own).collect();
        });
    }

    pub(in crate::broker::redis::local) fn settings(&self) -> HistorySettings {
        self.settings
    }
}
