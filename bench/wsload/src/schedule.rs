//! When messages are due: an open loop that a slow server cannot slow down.
//!
//! Each moment is computed from the start, so nothing drifts, and a slot taken late keeps its
//! intended time: waiting for a free publisher counts as latency (no coordinated omission).

/// Evenly spaced moments in `[start_ns, end_ns)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    /// Messages per second, all publishers together.
    pub(crate) rate: f64,
}

impl Schedule {
    /// When slot 0, 1, 2 … is due; none past the end.
    pub(crate) fn due_ns(&self, slot: u64) -> Option<u64> {
        let due = self.start_ns + (slot as f64 * 1e9 / self.rate) as u64;
        (due < self.end_ns).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn slots_are_evenly_spaced_from_the_start() {
        let schedule = Schedule { start_ns: 5 * SECOND, end_ns: 6 * SECOND, rate: 50.0 };
        let due: Vec<u64> = (0..).map_while(|slot| schedule.due_ns(slot)).collect();
        assert_eq!(due.len(), 50);
        assert_eq!(due[0], 5 * SECOND);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 20_000_000));
    }

    #[test]
    fn an_hour_at_an_odd_rate_does_not_drift() {
        let schedule = Schedule { start_ns: 0, end_ns: 3601 * SECOND, rate: 333.0 };
        assert_eq!(schedule.due_ns(333 * 3600), Some(3600 * SECOND));
    }

    #[test]
    fn less_than_one_a_second_is_a_rate() {
        let schedule = Schedule { start_ns: 0, end_ns: 10 * SECOND, rate: 0.25 };
        assert_eq!(schedule.due_ns(2), Some(8 * SECOND));
        assert_eq!(schedule.due_ns(3), None);
    }
}
