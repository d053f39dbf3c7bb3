//! Latencies by the time they were received: a small histogram per slice of the run.
//!
//! The exact histogram of a run is too big to keep hundreds of. These know two digits and are only
//! touched by their thread.

use std::mem;

use hdrhistogram::Histogram;

/// Slices of a run, at most; later arrivals go to the last.
pub(crate) const SLICES_MAX: usize = 1500;

/// Nanoseconds to units, by shifting: 1.024 µs each.
const UNIT_BITS: u32 = 10;
/// Two minutes.
const UNITS_MAX: u64 = 1 << 27;

/// The latencies of one slice; none, if no message came in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice(Option<Histogram<u32>>);

impl Slice {
    fn new() -> Self {
        let latencies = Histogram::new_with_max(UNITS_MAX, 2);
        Self(Some(latencies.expect("bounds that fit two digits")))
    }

    #[inline]
    fn record(&mut self, latency_ns: u64) {
        if let Some(latencies) = &mut self.0 {
            latencies.saturating_record(latency_ns >> UNIT_BITS);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(Histogram::is_empty)
    }

    /// Adds another thread's slice, or another slice.
    pub(crate) fn add(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (None, Some(more)) => self.0 = Some(more.clone()),
            (Some(latencies), Some(more)) => {
                latencies.add(more).expect("the same bounds in all slices");
            }
        }
    }

    /// The latency that `quantile` of the messages did not exceed, within a percent.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let latencies = self.0.as_ref().filter(|latencies| !latencies.is_empty())?;
        Some((latencies.value_at_quantile(quantile) << UNIT_BITS) as f64 / 1e3)
    }
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
        if self.current.is_empty() {
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
            let found = slice.quantile_us(0.5).unwrap();
            assert!((found / micros as f64 - 1.0).abs() < 0.06, "{micros}: {found}");
        }
        let mut slice = Slice::new();
        slice.record(u64::MAX);
        assert!(slice.quantile_us(1.0).unwrap() >= 120e6);
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
