//! The state shared by the conductor, the receiving threads and the storm during a run.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use crate::target::Target;

/// Between the conductor and the receiving threads.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) target: Target,
    /// The number in this run's stamps.
    pub(crate) run: u32,
    pub(crate) publishers: usize,
    pub(crate) message_bytes: u64,
    /// The start of the run, and how long each slice of its timeline is.
    pub(crate) started_ns: u64,
    pub(crate) slice_ns: u64,
    /// Messages intended in here are timed: [from, to), set before the first is sent.
    pub(crate) timed_ns: OnceLock<(u64, u64)>,
    /// How many messages each publisher sent to each channel: set once publishing has ended. A
    /// thread whose clients have them all ends.
    pub(crate) sent: OnceLock<Vec<u32>>,
    /// End now, whatever is missing.
    pub(crate) stop: AtomicBool,
    pub(crate) counters: Vec<Counters>,
    /// Handshakes of the storm so far.
    pub(crate) storm_upgraded: AtomicU64,
}

/// One thread's progress, as others see it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Readers whose connection has ended.
    pub(crate) gone: AtomicU64,
    /// Latency so far, for the display.
    pub(crate) p50_us: AtomicU64,
    pub(crate) p99_us: AtomicU64,
}

impl Stage {
    /// A counter, all threads together.
    pub(crate) fn sum(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| counter(counters).load(Relaxed)).sum()
    }

    /// The greatest of a counter.
    pub(crate) fn max(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters.iter().map(|counters| counter(counters).load(Relaxed)).max().unwrap_or(0)
    }
}
