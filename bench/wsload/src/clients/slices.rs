//! Latencies by the time they were received: a small histogram per slice of the run.
//!
//! The exact histogram of a run is too big to keep hundreds of. These have sixteen steps per
//! doubling, a table that stays in the first-level cache, and are only touched by their thread.

use std::mem;

/// Slices of a run, at most; later arrivals go to the last.
pub(crate) const SLICES_MAX: usize = 1500;

/// Steps per doubling, as a power of two.
const STEP_BITS: u32 = 4;
const STEPS: usize = 1 << STEP_BITS;
/// Up to 2^27 units of 1.024 µs: two minutes.
const DOUBLINGS: usize = 24;
const BUCKETS: usize = STEPS * DOUBLINGS;
/// Nanoseconds to units, by shifting.
const UNIT_BITS: u32 = 10;

/// The latencies of one slice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    /// Empty, or one per bucket.
    counts: Vec<u32>,
    max_ns: u64,
}

impl Slice {
    fn new() -> Self {
        Self { counts: vec![0; BUCKETS], max_ns: 0 }
    }

    #[inline]
    fn record(&mut self, latency_ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket(latency_ns)) {
            *count = count.saturating_add(1);
        }
        self.max_ns = self.max_ns.max(latency_ns);
    }

    /// Adds another thread's slice, or another slice.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
        } else {
            for (count, more) in self.counts.iter_mut().zip(&other.counts) {
                *count = count.saturating_add(*more);
            }
        }
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// The latency that `quantile` of the messages did not exceed, within three percent.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let total: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let wanted = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut sum = 0;
        let found = self.counts.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        })?;
        Some((middle_ns(found) as f64 / 1e3).min(self.max_us()))
    }

    /// The greatest latency, exactly.
    pub(crate) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

fn bucket(latency_ns: u64) -> usize {
    let units = latency_ns >> UNIT_BITS;
    let doubling = units.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS - 1);
    let step = units >> doubling.saturating_sub(1);
    let bucket = match doubling {
        0 => step as usize,
        _ => doubling as usize * STEPS + (step as usize - STEPS),
    };
    bucket.min(BUCKETS - 1)
}

/// The middle of what falls into a bucket.
fn middle_ns(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, bucket % STEPS);
    let (from, width) = match doubling {
        0 => (step, 1),
        _ => ((STEPS + step) << (doubling - 1), 1 << (doubling - 1)),
    };
    ((from as u64) << UNIT_BITS) + ((width as u64) << UNIT_BITS) / 2
}

/// One thread's slices, from the start of the run.
#[derive(Debug)]
pub(crate) struct Slices {
    slice_ns: u64,
    started_ns: u64,
    at: usize,
    current: Slice,
    done: Vec<Slice>,
    so_far: Slice,
}

impl Slices {
    /// From `started_ns` on, each `slice_ns` long.
    pub(crate) fn new(started_ns: u64, slice_ns: u64) -> Self {
        Self {
            slice_ns: slice_ns.max(1),
            started_ns,
            at: 0,
            current: Slice::new(),
            done: Vec::new(),
            so_far: Slice::new(),
        }
    }

    /// A message was received, in the slice of the last [`Slices::turn_to`].
    #[inline]
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.current.record(latency_ns);
    }

    /// Begins the slice that `now_ns` is in; p50 and p99 so far, in µs, if it is a new one.
    pub(crate) fn turn_to(&mut self, now_ns: u64) -> Option<(f64, f64)> {
        let at = (now_ns.saturating_sub(self.started_ns) / self.slice_ns) as usize;
        let at = at.min(SLICES_MAX - 1);
        if at <= self.at {
            return None;
        }
        self.put_away();
        self.at = at;
        self.so_far.quantile_us(0.5).zip(self.so_far.quantile_us(0.99))
    }

    fn put_away(&mut self) {
        if self.current.max_ns == 0 {
            return;
        }
        let slice = mem::replace(&mut self.current, Slice::new());
        self.so_far.add(&slice);
        self.done.resize(self.at, Slice::default());
        self.done.push(slice);
    }

    /// All of them, by number; those without a message are empty.
    pub(crate) fn finish(mut self) -> Vec<Slice> {
        self.put_away();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_known_within_some_percent() {
        for micros in [20, 100, 999, 7_000, 450_000, 9_000_000, 60_000_000_u64] {
            let mut slice = Slice::new();
            slice.record(micros * 1000);
            let found = middle_ns(bucket(micros * 1000)) as f64 / 1e3;
            assert!((found / micros as f64 - 1.0).abs() < 0.05, "{micros}: {found}");
            assert!((slice.max_us() - micros as f64).abs() < 1e-9);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!((0..BUCKETS).all(|at| bucket(middle_ns(at)) == at), "each bucket holds its middle");
    }

    #[test]
    fn slices_are_by_time_and_threads_add_up() {
        let mut slices = Slices::new(1_000, 100);
        slices.record(5_000_000);
        assert!(slices.turn_to(1_050).is_none());
        let (p50, _) = slices.turn_to(1_310).unwrap();
        assert!((p50 / 5_000.0 - 1.0).abs() < 0.05);
        slices.record(1_000_000);
        let done = slices.finish();
        assert_eq!(done.len(), 4);
        assert!(done[1].quantile_us(0.5).is_none() && done[2].quantile_us(0.5).is_none());
        let mut sum = Slice::default();
        sum.add(&done[0]);
        sum.add(&done[3]);
        assert!(sum.quantile_us(0.5).unwrap() < 1_100.0);
        assert!((sum.quantile_us(1.0).unwrap() / 5_000.0 - 1.0).abs() < 0.05);
    }
}
