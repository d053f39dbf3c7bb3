//! One shard's link to Redis and back, as facts that any thread can read: whether it is whole, and
//! when its heartbeats came back.
//!
//! Its shard's thread writes them, and a shard that does nothing writes nothing: what that means
//! follows from the clock, and is decided in `health`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    clock::Millis,
    limits::{HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_CONNECT_DEADLINE},
};

/// The known facts about one shard's link.
#[derive(Debug)]
pub(super) struct ShardLink {
    whole: AtomicBool,
    heartbeat_returned_ms: AtomicU64,
    /// Since when its heartbeats return without a pause.
    up_since_ms: AtomicU64,
    round_trip_ms: AtomicU64,
    /// When its shard last said that it is not whole; 0: never.
    broken_ms: AtomicU64,
}

impl ShardLink {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            whole: AtomicBool::new(false),
            heartbeat_returned_ms: AtomicU64::new(now.0),
            up_since_ms: AtomicU64::new(now.0),
            round_trip_ms: AtomicU64::new(0),
            broken_ms: AtomicU64::new(0),
        }
    }

    /// A heartbeat came back that shows that it is whole.
    pub(super) fn returned(&self, sent: Millis, now: Millis) {
        if !self.is_up(now) {
            self.up_since_ms.store(now.0, Ordering::Release);
        }
        self.heard(now);
        let round_trip_ms = u64::try_from((now - sent).as_millis()).unwrap_or(u64::MAX);
        self.round_trip_ms.store(round_trip_ms, Ordering::Relaxed);
        self.whole.store(true, Ordering::Release);
    }

    /// A heartbeat came back.
    pub(super) fn heard(&self, now: Millis) {
        self.heartbeat_returned_ms.store(now.0, Ordering::Release);
    }

    /// It is not whole (any more).
    pub(super) fn broken(&self, now: Millis) {
        self.broken_ms.store(now.0.max(1), Ordering::Release);
        self.whole.store(false, Ordering::Release);
    }

    pub(super) fn has_heartbeat_since(&self, since: Millis) -> bool {
        self.heartbeat_returned() > since
    }

    pub(super) fn silence(&self, now: Millis) -> Duration {
        now - self.heartbeat_returned()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    pub(super) fn is_up(&self, now: Millis) -> bool {
        self.is_whole() && self.silence(now) <= HEARTBEAT_SILENCE_MAX
    }

    pub(super) fn up_for(&self, now: Millis) -> Duration {
        now - Millis(self.up_since_ms.load(Ordering::Acquire))
    }

    /// Whether its shard is at work, and has no connection: it says so at each attempt.
    pub(super) fn is_trying(&self, now: Millis) -> bool {
        let broken = self.broken_ms.load(Ordering::Acquire);
        broken > 0 && now - Millis(broken) <= REDIS_CONNECT_DEADLINE + HEARTBEAT_SILENCE_MAX
    }

    /// How long a message takes on it: the last heartbeat, or its silence where that is longer.
    pub(super) fn lag(&self, now: Millis) -> Duration {
        let round_trip = Duration::from_millis(self.round_trip_ms.load(Ordering::Relaxed));
        round_trip.max(self.silence(now).saturating_sub(HEARTBEAT_INTERVAL * 2))
    }

    fn heartbeat_returned(&self) -> Millis {
        Millis(self.heartbeat_returned_ms.load(Ordering::Acquire))
    }
}
