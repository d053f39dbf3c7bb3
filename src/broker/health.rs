//! Whether Redis is within reach, as facts that any thread can read.
//!
//! Each shard's link tells what happened to it (whole, broken, a heartbeat returned); what that
//! means for the process follows from these facts and the clock whenever someone asks, so no
//! task has to be alive for a loss to be noticed. Nothing here does IO or waits.

mod link;

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use self::link::ShardLink;
use super::{
    Subscribers,
    outage_log::OutageLog,
    refusals::{RefusalExtent, Refusals},
};
use crate::{
    clock::{Clock, Millis},
    limits::{HEARTBEAT_SILENCE_MAX, SHARD_STALL_READY},
    metrics::{BrokerRefusal, Counter, Counters, PublishFailure},
    telemetry::seldom,
};

/// How far away Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reach {
    /// There is none: this process alone.
    Embedded,
    /// Configured, and never reached since the start.
    NeverReached,
    /// Every shard publishes and is subscribed, and heartbeats return.
    Up,
    /// It was up, and some shard's link is broken or silent.
    Lost,
}

/// The health of the process's broker.
///
/// # Invariants
/// - `Up` means that every link is whole, and one at least that has a subscription silent for no
///   longer than [`HEARTBEAT_SILENCE_MAX`].
/// - A link becomes whole only by a heartbeat that came back through it: through its subscription,
///   or, where one shard subscribes for all, as Redis' answer to the others.
#[derive(Debug)]
pub struct Health {
    pub(super) clock: Clock,
    links: Box<[ShardLink]>,
    subscribers: Subscribers,
    reach: AtomicU8,
    up_since_ms: AtomicU64,
    broken_once: AtomicBool,
    /// When it was last found to be lost.
    lost_ms: AtomicU64,
    /// Why Redis cannot be used.
    pub(super) outage_log: OutageLog,
    /// When it was last in reach, or the process began.
    last_reached_ms: AtomicU64,
    clock_ahead_ms: AtomicI64,
    reconnects: Counter,
    gaps: Counter,
    pub(super) repaired: Counter,
    pub(super) raw_published: Counter,
    pub(super) raw_failures: Counters<{ PublishFailure::WORDS.len() }>,
    pub(super) raw_handovers: Counter,
    pub(super) duplicates: Counter,
    pub(super) foreign: Counter,
    pub(super) refusals: Refusals,
    /// It is up.
    pub(super) reached: Notify,
}

impl Health {
    /// The health of a broker that is always within reach.
    #[must_use]
    pub fn embedded(clock: Clock) -> Self {
        Self::new(clock, 0, Reach::Embedded, Subscribers::PerShard)
    }

    /// The health of a broker that is not reached yet, and can be lost: each of the `shards` has a
    /// link to it.
    #[must_use]
    pub fn redis(clock: Clock, shards: usize, subscribers: Subscribers) -> Self {
        Self::new(clock, shards, Reach::NeverReached, subscribers)
    }

    fn new(clock: Clock, shards: usize, reach: Reach, subscribers: Subscribers) -> Self {
        let created = clock.now();
        Self {
            clock,
            links: (0..shards).map(|_| ShardLink::new(created)).collect(),
            subscribers,
            reach: AtomicU8::new(reach as u8),
            up_since_ms: AtomicU64::new(created.0),
            broken_once: AtomicBool::new(false),
            lost_ms: AtomicU64::new(0),
            outage_log: OutageLog::default(),
            last_reached_ms: AtomicU64::new(created.0),
            clock_ahead_ms: AtomicI64::new(0),
            reconnects: Counter::default(),
            gaps: Counter::default(),
            repaired: Counter::default(),
            raw_published: Counter::default(),
            raw_failures: Counters::default(),
            raw_handovers: Counter::default(),
            duplicates: Counter::default(),
            foreign: Counter::default(),
            refusals: Refusals::default(),
            reached: Notify::new(),
        }
    }

    /// Whether Redis can be reached now.
    pub fn reach(&self) -> Reach {
        self.reach_at(self.clock.now())
    }

    /// A shard whose own heartbeat is missing while another's returns, though it does not say that
    /// its connection is.
    #[must_use]
    pub fn stalled_shard(&self) -> Option<usize> {
        self.stalled_shard_at(self.clock.now())
    }

    /// How long a message takes through Redis: the slowest shard's last heartbeat, or its silence
    /// where that is longer.
    #[must_use]
    pub fn lag_seconds(&self) -> f64 {
        let now = self.clock.now();
        let lag = self.links.iter().map(|link| link.lag(now)).max();
        lag.unwrap_or_default().as_secs_f64()
    }

    /// How often Redis came back after it was lost.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.reconnects.get()
    }

    /// Holes in messages from Redis that were reported, once per shard that missed something.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps.get()
    }

    /// Holes in what arrived from Redis whose messages were fetched, once per shard.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.repaired.get()
    }

    /// Messages of the raw channel that this process published.
    #[must_use]
    pub fn raw_published(&self) -> u64 {
        self.raw_published.get()
    }

    /// Raw messages that this process did not, or not certainly, publish, for `reason`.
    #[must_use]
    pub fn raw_failures(&self, reason: PublishFailure) -> u64 {
        self.raw_failures.get(reason as usize)
    }

    /// Times that this process began to bridge the raw channel after another holder had lost the
    /// lease.
    #[must_use]
    pub fn raw_handovers(&self) -> u64 {
        self.raw_handovers.get()
    }

    /// Messages that came a second time and were dropped.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates.get()
    }

    /// Messages on one of our channels that no process of ours wrote, dropped.
    #[must_use]
    pub fn foreign(&self) -> u64 {
        self.foreign.get()
    }

    /// Commands that Redis refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals().iter().sum()
    }

    /// The same, by why.
    #[must_use]
    pub fn refusals(&self) -> [u64; BrokerRefusal::WORDS.len()] {
        self.refusals.counts()
    }

    /// The extent of publications that Redis has refused for longer than a moment.
    #[must_use]
    pub fn refuses(&self) -> RefusalExtent {
        self.refusals.extent_at(self.clock.now())
    }

    pub(super) fn count_gap(&self) {
        self.gaps.add(1);
    }

    /// A heartbeat of `shard` came back, all its wanted channels being subscribed.
    pub fn heartbeat_returned(&self, shard: usize, sent: Millis, now: Millis) {
        let Some(link) = self.links.get(shard) else { return };
        link.returned(sent, now);
        self.reach_at(now);
    }

    /// A heartbeat of `shard` came back, but not all of its channels are subscribed.
    pub(super) fn heartbeat_heard(&self, shard: usize, now: Millis) {
        if let Some(link) = self.links.get(shard) {
            link.heard(now);
        }
    }

    /// Whether `shard` is subscribed, and heartbeats have come back to it since.
    pub(super) fn is_whole(&self, shard: usize) -> bool {
        self.links.get(shard).is_some_and(ShardLink::is_whole)
    }

    /// Whether a heartbeat has come back to `shard` after that.
    pub(super) fn has_heartbeat_since(&self, shard: usize, since: Millis) -> bool {
        self.links.get(shard).is_some_and(|link| link.has_heartbeat_since(since))
    }

    /// `shard` cannot publish or receive any more; or, at each attempt, still cannot.
    pub fn link_broken(&self, shard: usize) {
        let Some(link) = self.links.get(shard) else { return };
        link.broken(self.clock.now());
        self.broken_once.store(true, Ordering::Release);
        self.reach_at(self.clock.now());
    }

    /// Why Redis cannot be used, with an address.
    pub(super) fn out_of_reach(&self, reason: &str) {
        self.outage_log.out_of_reach(reason, self.clock.now());
    }

    /// Called now and then: that Redis is out of reach is logged even if the reason is unknown.
    pub(super) fn look(&self) {
        let (reach, now) = (self.reach(), self.clock.now());
        if matches!(reach, Reach::Up | Reach::Embedded) {
            self.last_reached_ms.store(now.0, Ordering::Relaxed);
        } else {
            let since = Millis(self.last_reached_ms.load(Ordering::Relaxed));
            self.outage_log.out_of_reach_since(since, now);
        }
    }

    /// Up, and since when publishing has to be held until others are back too: None when it
    /// never was away.
    pub(super) fn back_since(&self) -> Option<Millis> {
        let broken = self.broken_once.load(Ordering::Acquire);
        broken.then(|| Millis(self.up_since_ms.load(Ordering::Acquire)))
    }

    /// For how long it has been lost, if it is.
    pub(super) fn lost_for(&self, now: Millis) -> Duration {
        now - Millis(self.lost_ms.load(Ordering::Acquire))
    }

    /// Resolves when Redis is reached, or at once where there is none.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub async fn up(&self) {
        loop {
            let reached = self.reached.notified();
            if matches!(self.reach(), Reach::Up | Reach::Embedded) {
                return;
            }
            reached.await;
        }
    }

    /// When it was last found to be up; None if it never was.
    pub(super) fn last_up(&self) -> Option<Millis> {
        let reach = self.reach.load(Ordering::Acquire);
        let was_up = [Reach::Up, Reach::Lost].iter().any(|up| *up as u8 == reach);
        was_up.then(|| Millis(self.up_since_ms.load(Ordering::Acquire)))
    }

    /// By how much Redis' clock is ahead of ours.
    pub(super) fn clock_ahead_ms(&self) -> i64 {
        self.clock_ahead_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_clock_ahead_ms(&self, ahead_ms: i64) {
        self.clock_ahead_ms.store(ahead_ms, Ordering::Relaxed);
    }

    pub(super) fn reach_at(&self, now: Millis) -> Reach {
        let before = self.reach.load(Ordering::Acquire);
        if before == Reach::Embedded as u8 {
            return Reach::Embedded;
        }
        let whole = self.links.iter().all(ShardLink::is_whole);
        let after = if whole && self.proofs().iter().any(|link| link.is_up(now)) {
            // A busy shard's own heartbeat may be late: its connection holds it unread.
            Reach::Up
        } else if before == Reach::NeverReached as u8 {
            Reach::NeverReached
        } else {
            Reach::Lost
        };
        if before != after as u8 {
            self.moved(before, after, now);
        }
        after
    }

    /// The links whose heartbeats come back through a subscription.
    fn proofs(&self) -> &[ShardLink] {
        match self.subscribers {
            Subscribers::PerShard => &self.links,
            Subscribers::PerProcess => &self.links[..1.min(self.links.len())],
        }
    }

    /// The first thread that notices a change records it; the loser of the race has nothing to add.
    fn moved(&self, before: u8, after: Reach, now: Millis) {
        if after == Reach::Up {
            // Before the state says so: a thread that reads `Up` must find the new time.
            self.up_since_ms.store(now.0, Ordering::Release);
        } else {
            self.broken_once.store(true, Ordering::Release);
            self.lost_ms.store(now.0, Ordering::Release);
        }
        let swapped =
            self.reach.compare_exchange(before, after as u8, Ordering::AcqRel, Ordering::Acquire);
        if swapped.is_err() {
            return;
        }
        if after != Reach::Up {
            self.refusals.out_of_reach(now);
        }
        if after == Reach::Up {
            self.outage_log.over();
            self.reached.notify_waiters();
        }
        match after {
            Reach::Up if before == Reach::Lost as u8 => {
                self.reconnects.add(1);
                seldom!(info, "Redis is back: every shard is subscribed again");
            }
            Reach::Up => seldom!(info, "Redis is reached: every shard is subscribed"),
            _ => seldom!(warn, "Redis is lost, for some shard at least"),
        }
    }

    fn stalled_shard_at(&self, now: Millis) -> Option<usize> {
        // After an outage one link is back before the others: that alone is no stall.
        if !self.links.iter().any(|link| link.is_up(now) && link.up_for(now) > SHARD_STALL_READY) {
            return None;
        }
        let is_stalled =
            |link: &ShardLink| link.silence(now) > HEARTBEAT_SILENCE_MAX && !link.is_trying(now);
        self.links.iter().position(is_stalled)
    }
}

#[cfg(test)]
mod tests;
