//! The use of Redis' streams by a process's publishers: pure.
//!
//! Each publisher pays for its own messages, even if others publish to the same channel. Messages
//! under way count as if they were stored; once they are, the script reports the size of its
//! channel's stream, and no publisher pays for more than that. All together stay within a bound,
//! and each publisher within its share. If a message has no room, its channel's stream is dropped,
//! if it is the same publisher's, instead of growing.

mod moving;

use std::collections::{BTreeMap, HashMap};

pub(in crate::broker) use self::moving::StreamShare;

use crate::{
    broker::{HistorySettings, PublisherClass, quota::Quota},
    channel::ChannelName,
    clock::Millis,
    limits::{REDIS_HISTORIES_FACTOR, REDIS_MESSAGE_COST_BYTES, REDIS_STREAM_COST_BYTES},
};

/// The streams that were added to within their lives.
///
/// # Invariants
/// - `bytes` is what all of `held` cost, by their publishers.
/// - `order` holds each of them once, by its `turn`; the one without a message for longest comes
///   first.
#[derive(Debug)]
pub(super) struct StreamQuotas {
    settings: HistorySettings,
    bytes: Quota,
    held: HashMap<ChannelName, Held>,
    order: BTreeMap<u64, ChannelName>,
    turns: u64,
}

#[derive(Debug)]
struct Held {
    by: BTreeMap<PublisherClass, Own>,
    /// Its messages are kept until then, unless there is another one.
    until: Millis,
    turn: u64,
    /// The turn that it began with.
    since: u64,
}

/// A publisher's part of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// The bytes stored.
    settled: usize,
    /// The bytes under way: each message's charge, until it is refunded or settled.
    pending: usize,
}

/// The charge for a message before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charge {
    bytes: usize,
    /// The stream that is charged: one that was forgotten meanwhile no longer holds it.
    since: u64,
}

impl Held {
    fn bytes(&self) -> usize {
        self.by.values().map(|own| own.settled + own.pending).sum()
    }

    fn settled(&self) -> usize {
        self.by.values().map(|own| own.settled).sum()
    }

    /// `publisher` has nothing on its way for `charge` any more; what that was.
    fn take_off(&mut self, publisher: PublisherClass, charge: Charge) -> usize {
        let own = self.by.get_mut(&publisher).filter(|_| charge.since == self.since);
        own.map_or(0, |own| {
            own.pending -= charge.bytes;
            charge.bytes
        })
    }

    /// The whole stream costs no more than `cost`: its oldest messages are gone, and whose they
    /// were is not known.
    fn hold_to(&mut self, cost: usize) {
        let settled = self.settled();
        if settled > cost {
            for own in self.by.values_mut() {
                let left = own.settled as u128 * cost as u128 / settled as u128;
                own.settled = usize::try_from(left).unwrap_or(cost);
            }
        }
    }
}

impl StreamQuotas {
    pub(crate) fn new(settings: HistorySettings) -> Self {
        let most = settings.total_bytes_max.saturating_mul(REDIS_HISTORIES_FACTOR);
        let (held, order) = (HashMap::new(), BTreeMap::new());
        Self { settings, bytes: Quota::new(most), held, order, turns: 0 }
    }

    /// Whether the stream of `channel` is surely there.
    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.held.get(channel).is_some_and(|held| held.settled() > 0)
    }

    /// The charge for a message of `publisher` to `channel`; None if its stream may not grow.
    pub(crate) fn charge(
        &mut self,
        publisher: PublisherClass,
        channel: &ChannelName,
        payload: usize,
        now: Millis,
    ) -> Option<Charge> {
        if !self.settings.is_on() {
            return Some(Charge::default());
        }
        self.expire(now);
        let stream = if self.held.contains_key(channel) { 0 } else { REDIS_STREAM_COST_BYTES };
        let bytes = payload + REDIS_MESSAGE_COST_BYTES + stream;
        let until = now + self.settings.ttl;
        self.bytes.fits(publisher, bytes).then(|| {
            self.edit(channel, until, |held| {
                held.by.entry(publisher).or_default().pending += bytes;
                Charge { bytes, since: held.since }
            })
        })
    }

    /// A message that was charged was not added.
    pub(super) fn refund(
        &mut self,
        publisher: PublisherClass,
        channel: &ChannelName,
        charge: Charge,
    ) {
        if let Some(until) = self.held.get(channel).map(|held| held.until) {
            self.edit(channel, until, |held| held.take_off(publisher, charge));
        }
    }

    /// A message that was charged may have been added: so it counts.
    pub(super) fn keep_in_doubt(
        &mut self,
        publisher: PublisherClass,
        channel: &ChannelName,
        charge: Charge,
    ) {
        if let Some(until) = self.held.get(channel).map(|held| held.until) {
            self.edit(channel, until, |held| {
                let bytes = held.take_off(publisher, charge);
                held.by.entry(publisher).or_default().settled += bytes;
            });
        }
    }

    /// A message of `publisher`, of so many bytes of `payload`, was added to the stream of
    /// `channel`, which holds `bytes` now; none, if it was ended instead.
    pub(super) fn settle(
        &mut self,
        (publisher, channel, payload): (PublisherClass, &ChannelName, usize),
        charge: Charge,
        bytes: usize,
        now: Millis,
    ) {
        if !self.settings.is_on() {
            return;
        }
        self.edit(channel, now + self.settings.ttl, |held| {
            held.take_off(publisher, charge);
            let message = payload + REDIS_MESSAGE_COST_BYTES;
            let others = held.settled();
            let own = held.by.entry(publisher).or_default();
            own.settled += message.max((message + REDIS_STREAM_COST_BYTES).saturating_sub(others));
            held.hold_to(if bytes > 0 { bytes + REDIS_STREAM_COST_BYTES } else { 0 });
        });
    }

    /// Changes the record of `channel`, which thereby becomes the one used last.
    fn edit<R>(
        &mut self,
        channel: &ChannelName,
        until: Millis,
        change: impl FnOnce(&mut Held) -> R,
    ) -> R {
        self.turns += 1;
        let turn = self.turns;
        let begun = || Held { by: BTreeMap::new(), until, turn, since: turn };
        let held = self.remove(channel).unwrap_or_else(begun);
        let mut held = Held { until, turn, ..held };
        let changed = change(&mut held);
        if held.bytes() > 0 {
            for (publisher, own) in &held.by {
                self.bytes.take(*publisher, own.settled + own.pending);
            }
            self.order.insert(turn, channel.clone());
            self.held.insert(channel.clone(), held);
        }
        changed
    }

    fn remove(&mut self, channel: &ChannelName) -> Option<Held> {
        let held = self.held.remove(channel)?;
        for (publisher, own) in &held.by {
            self.bytes.give_back(*publisher, own.settled + own.pending);
        }
        self.order.remove(&held.turn);
        Some(held)
    }

    /// Forgets streams whose lives are over.
    fn expire(&mut self, now: Millis) {
        while let Some((_, channel)) = self.order.first_key_value() {
            let is_over = |held: &Held| held.until <= now;
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
    use PublisherClass::{Anonymous, Api};

    const TTL: Duration = Duration::from_secs(300);
    const MIB: usize = 1024 * 1024;
    const START: Millis = Millis(1_000);

    /// Room for 40 MiB, and for 30 MiB of each.
    fn quotas() -> StreamQuotas {
        let total_bytes_max = 40 * MIB / REDIS_HISTORIES_FACTOR;
        let bytes_max = total_bytes_max;
        StreamQuotas::new(HistorySettings {
            messages_max: 10,
            bytes_max,
            total_bytes_max,
            ttl: TTL,
        })
    }

    fn name(number: usize) -> ChannelName {
        ChannelName::new(&format!("c{number}")).unwrap()
    }

    /// Says something of one MiB; the stream has `bytes` then. Whether it was charged.
    fn say(
        quotas: &mut StreamQuotas,
        publisher: PublisherClass,
        number: usize,
        bytes: usize,
        now: Millis,
    ) -> bool {
        let charge = quotas.charge(publisher, &name(number), MIB, now);
        let message = (publisher, &name(number), MIB);
        quotas.settle(message, charge.unwrap_or_default(), bytes, now);
        charge.is_some()
    }

    /// How many channels of one MiB `publisher` can add at `now`.
    fn fill(
        quotas: &mut StreamQuotas,
        publisher: PublisherClass,
        first: usize,
        now: Millis,
    ) -> usize {
        let mut add = |number: usize| {
            let name = name(first + number);
            let Some(charge) = quotas.charge(publisher, &name, MIB, now) else { return false };
            quotas.settle((publisher, &name, MIB), charge, MIB + REDIS_MESSAGE_COST_BYTES, now);
            true
        };
        (0..100).take_while(|&number| add(number)).count()
    }

    /// A publisher fills its share until the streams it filled are over.
    #[test]
    fn a_publisher_fills_only_its_share() {
        let mut quotas = quotas();
        assert_eq!(fill(&mut quotas, Anonymous, 0, START), 29);
        assert_eq!(fill(&mut quotas, Api, 100, START), 10, "that is left to others");
        // A stream that is added to lives on, whichever others are forgotten.
        say(&mut quotas, Anonymous, 3, 2 * MIB, START + TTL / 2);
        assert_eq!(fill(&mut quotas, Anonymous, 200, START + TTL * 9 / 10), 0);
        assert_eq!(fill(&mut quotas, Anonymous, 200, START + TTL), 27);
        assert_eq!(fill(&mut quotas, Anonymous, 300, START + 3 * TTL), 29);
        assert_eq!((quotas.held.len(), quotas.order.len()), (29, 29));
    }

    /// The stream's real size counts, and a stream that went makes room.
    #[test]
    fn a_streams_real_size_counts() {
        let mut quotas = quotas();
        for _ in 0..1_000 {
            assert!(say(&mut quotas, Api, 0, 2 * MIB, START), "its size is what it was");
        }
        assert_eq!(fill(&mut quotas, Api, 1, START), 27);
        assert!(!say(&mut quotas, Api, 0, 0, START), "it does not grow any more, and goes");
        assert_eq!(fill(&mut quotas, Api, 50, START), 2);
        let later = START + 2 * TTL;
        let charge = quotas.charge(Api, &name(50), MIB, later).unwrap();
        quotas.refund(Api, &name(50), charge);
        assert_eq!((quotas.held.len(), quotas.bytes.all()), (0, 0));
    }

    /// An answer settles its own message and none that is on its way.
    /// Regression: the answer to one message wiped the charges of those behind it, and their
    /// refunds took off what was really there.
    #[test]
    fn an_answer_settles_its_own_message_only() {
        let mut quotas = quotas();
        let channel = name(0);
        assert!(say(&mut quotas, Api, 0, MIB, START));
        let before = quotas.bytes.all();
        let small = quotas.charge(Api, &channel, 10, START).unwrap();
        let known = quotas.charge(Api, &channel, 20 * MIB, START).unwrap();
        let doubtful = quotas.charge(Api, &channel, MIB, START).unwrap();
        quotas.settle((Api, &channel, 10), small, 2 * MIB, START);
        let charged: usize = [small, known, doubtful].iter().map(|charge| charge.bytes).sum();
        assert_eq!(quotas.bytes.all(), before + charged, "the others are on their way");
        quotas.refund(Api, &channel, known);
        quotas.keep_in_doubt(Api, &channel, doubtful);
        let costs = [10, MIB].map(|payload| payload + REDIS_MESSAGE_COST_BYTES);
        assert_eq!(quotas.bytes.all(), before + costs.iter().sum::<usize>());
        // A message that is answered after its stream was forgotten has no part in the next one.
        let late = quotas.charge(Api, &channel, MIB, START).unwrap();
        let then = START + 2 * TTL;
        let next = quotas.charge(Api, &channel, 5, then).unwrap();
        quotas.refund(Api, &channel, late);
        assert_eq!(quotas.bytes.all(), next.bytes);
    }

    /// Each publisher pays for its own messages in a shared channel. Regression: a channel to which
    /// a publisher with more rights had published once belonged to that publisher entirely, and so
    /// did the share that others filled in it.
    #[test]
    fn each_publisher_pays_for_its_own_messages() {
        let mut quotas = quotas();
        let rooms = 1000;
        for room in 0..rooms {
            let charge = quotas.charge(Api, &name(room), 10, START).unwrap();
            quotas.settle((Api, &name(room), 10), charge, 138, START);
        }
        let announced = quotas.bytes.all();
        let mut said = 0;
        for room in 0..rooms {
            said += usize::from(say(&mut quotas, Anonymous, room, MIB + 300, START));
        }
        assert_eq!(said, 29, "its own share");
        // Messages kept past it, since the channels are not its own, are not taken from others.
        let left = (10 * MIB - announced) / (MIB + 5000);
        assert_eq!(fill(&mut quotas, Api, 5000, START), left);
    }

    #[test]
    fn publishers_pay_for_all_that_fills_a_stream() {
        let mut quotas = quotas();
        assert!(say(&mut quotas, Api, 0, 2 * MIB, START));
        for _ in 0..30 {
            assert!(say(&mut quotas, Anonymous, 0, 2 * MIB, START));
        }
        assert!(quotas.held[&name(0)].by[&Api].settled < 10);
        assert_eq!(quotas.bytes.all(), 2 * MIB + REDIS_STREAM_COST_BYTES - 1);
    }
}
