//! What a process's publishers keep in Redis' streams: pure.
//!
//! The script says after each message how large its channel's stream is then. All that are alive
//! together stay within a bound, and those of one publisher within its share of it. Where a message
//! has no room, its channel's stream goes, if it is the same publisher's, instead of growing.

use std::collections::{BTreeMap, HashMap};

use crate::{
    broker::{HistorySettings, Principal, quota::Quota},
    channel::ChannelName,
    clock::Millis,
    limits::{REDIS_HISTORIES_FACTOR, REDIS_MESSAGE_COST_BYTES, REDIS_STREAM_COST_BYTES},
};

/// The streams that were added to within their lives.
///
/// # Invariants
/// - `bytes` is what all of `held` cost, by their owners.
/// - `order` holds each of them once, by its `turn`; who had no message for longest comes first.
#[derive(Debug)]
pub(super) struct Streams {
    settings: HistorySettings,
    bytes: Quota,
    held: HashMap<ChannelName, Held>,
    order: BTreeMap<u64, ChannelName>,
    turns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    who: Principal,
    bytes: usize,
    last: Millis,
    turn: u64,
}

impl Streams {
    pub(super) fn new(settings: HistorySettings) -> Self {
        let most = settings.total_bytes_max.saturating_mul(REDIS_HISTORIES_FACTOR);
        let (held, order) = (HashMap::new(), BTreeMap::new());
        Self { settings, bytes: Quota::new(most), held, order, turns: 0 }
    }

    /// Whether a message of `who` to `channel` may make its stream grow; if so, it has.
    pub(super) fn charge(
        &mut self,
        who: Principal,
        channel: &ChannelName,
        payload: usize,
        now: Millis,
    ) -> bool {
        if !self.settings.is_on() {
            return true;
        }
        self.expire(now);
        let held = self.held.get(channel).copied();
        let who = held.map_or(who, |held| held.who.min(who));
        let before = held.map_or(0, |held| held.bytes);
        let more = payload + REDIS_MESSAGE_COST_BYTES;
        let more = if held.is_none() { more + REDIS_STREAM_COST_BYTES } else { more };
        let fits = self.bytes.fits(who, more);
        if fits {
            self.set(who, channel, before + more, now);
        }
        fits
    }

    /// A message that was charged was not added.
    pub(super) fn refund(&mut self, channel: &ChannelName, payload: usize) {
        let Some(held) = self.held.get(channel).copied() else { return };
        let left = held.bytes.saturating_sub(payload + REDIS_MESSAGE_COST_BYTES);
        let left = if left > REDIS_STREAM_COST_BYTES { left } else { 0 };
        self.set(held.who, channel, left, held.last);
    }

    /// The stream of `channel` holds so much now.
    pub(super) fn settle(
        &mut self,
        who: Principal,
        channel: &ChannelName,
        bytes: usize,
        now: Millis,
    ) {
        if self.settings.is_on() {
            let cost = if bytes > 0 { bytes + REDIS_STREAM_COST_BYTES } else { 0 };
            let who = self.held.get(channel).map_or(who, |held| held.who.min(who));
            self.set(who, channel, cost, now);
        }
    }

    fn set(&mut self, who: Principal, channel: &ChannelName, bytes: usize, now: Millis) {
        self.remove(channel);
        if bytes > 0 {
            self.turns += 1;
            self.bytes.take(who, bytes);
            self.order.insert(self.turns, channel.clone());
            let held = Held { who, bytes, last: now, turn: self.turns };
            self.held.insert(channel.clone(), held);
        }
    }

    fn remove(&mut self, channel: &ChannelName) {
        if let Some(held) = self.held.remove(channel) {
            self.bytes.give_back(held.who, held.bytes);
            self.order.remove(&held.turn);
        }
    }

    /// Forgets streams whose lives are over.
    fn expire(&mut self, now: Millis) {
        while let Some((_, channel)) = self.order.first_key_value() {
            let is_over = |held: &Held| now - held.last >= self.settings.ttl;
            if !self.held.get(channel).is_none_or(is_over) {
                return;
            }
            let channel = channel.clone();
            self.remove(&channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use Principal::{Anonymous, Api};

    const TTL: Duration = Duration::from_secs(300);
    const MIB: usize = 1024 * 1024;

    /// Room for 40 MiB, and for 30 MiB of each.
    fn streams() -> Streams {
        let total_bytes_max = 40 * MIB / REDIS_HISTORIES_FACTOR;
        let bytes_max = total_bytes_max;
        Streams::new(HistorySettings { messages_max: 10, bytes_max, total_bytes_max, ttl: TTL })
    }

    fn name(number: usize) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    /// How many channels of one MiB `who` can add at `now`.
    fn fill(streams: &mut Streams, who: Principal, first: usize, now: Millis) -> usize {
        let charge = |number: &usize| streams.charge(who, &name(first + number), MIB, now);
        (0..100).take_while(charge).count()
    }

    #[test]
    fn a_publisher_fills_its_share_until_what_it_filled_is_over() {
        let (mut streams, start) = (streams(), Millis(1_000));
        assert_eq!(fill(&mut streams, Anonymous, 0, start), 29);
        assert_eq!(fill(&mut streams, Api, 100, start), 10, "that is left to others");
        // One that is added to lives on, whoever else is forgotten.
        streams.settle(Anonymous, &name(3), 2 * MIB, start + TTL / 2);
        assert_eq!(fill(&mut streams, Anonymous, 200, start + TTL * 9 / 10), 0);
        assert_eq!(fill(&mut streams, Anonymous, 200, start + TTL), 27);
        assert_eq!(fill(&mut streams, Anonymous, 300, start + 3 * TTL), 29);
        assert_eq!((streams.held.len(), streams.order.len()), (29, 29));
    }

    #[test]
    fn what_a_stream_holds_is_what_counts_and_one_that_went_makes_room() {
        let (mut streams, now) = (streams(), Millis(1_000));
        for _ in 0..1_000 {
            assert!(streams.charge(Api, &name(0), MIB, now), "its size is what it was");
            streams.settle(Api, &name(0), 2 * MIB, now);
        }
        assert_eq!(fill(&mut streams, Api, 1, now), 27);
        assert!(!streams.charge(Api, &name(0), MIB, now), "but it does not grow any more");
        streams.settle(Api, &name(0), 0, now);
        assert_eq!(fill(&mut streams, Api, 50, now), 2);
        streams.refund(&name(50), MIB);
        assert_eq!(fill(&mut streams, Api, 60, now), 1);
    }

    #[test]
    fn a_channel_of_several_is_the_ones_that_show_most() {
        let (mut streams, now) = (streams(), Millis(1_000));
        assert!(streams.charge(Api, &name(0), MIB, now));
        assert_eq!(fill(&mut streams, Anonymous, 1, now), 29);
        assert!(streams.charge(Anonymous, &name(0), MIB, now), "it is not its own");
    }
}
