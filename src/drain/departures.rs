//! The rate at which clients leave a drain, over the last minute.
//!
//! A ring of counts, one for each second, however many clients there are. The control thread, which
//! looks once a second, reports how many have left ever; the difference counts for the second of
//! the look.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{clock::Millis, limits::LEAVE_RATE_SECONDS};

/// The departures of the drain under way, as all threads know them.
#[derive(Debug, Default)]
pub struct Departures(Mutex<Option<LeaveRate>>);

impl Departures {
    /// At `now` so many clients had left since the process began. The first report is where the
    /// counting begins.
    pub fn record(&self, now: Millis, left_ever: u64) {
        match &mut *self.lock() {
            Some(rate) => rate.record(now, left_ever),
            none => *none = Some(LeaveRate::begin(now, left_ever)),
        }
    }

    /// The drain is over.
    pub fn clear(&self) {
        *self.lock() = None;
    }

    /// Clients a second; `None` in a drain's first second, and without a drain.
    #[must_use]
    pub fn per_second(&self, now: Millis) -> Option<f64> {
        self.lock().as_mut()?.per_second(now)
    }

    fn lock(&self) -> MutexGuard<'_, Option<LeaveRate>> {
        // A count that is a little off does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Departures by second.
#[derive(Debug)]
struct LeaveRate {
    begun: Millis,
    left_ever: u64,
    /// The count of a second is at its number modulo the length.
    counts: [u64; LEAVE_RATE_SECONDS],
    /// The newest second that the counts have, since `begun`.
    newest: u64,
}

impl LeaveRate {
    fn begin(now: Millis, left_ever: u64) -> Self {
        Self { begun: now, left_ever, counts: [0; LEAVE_RATE_SECONDS], newest: 0 }
    }

    fn record(&mut self, now: Millis, left_ever: u64) {
        self.turn(now);
        self.counts[place(self.newest)] += left_ever.saturating_sub(self.left_ever);
        self.left_ever = left_ever;
    }

    /// Forgets the seconds that are too old at `now`.
    fn turn(&mut self, now: Millis) {
        // A count that is reported as a second ends belongs to that second.
        let second = (now - self.begun).saturating_sub(Duration::from_millis(1)).as_secs();
        let new = second.saturating_sub(self.newest).min(LEAVE_RATE_SECONDS as u64);
        for ahead in 1..=new {
            self.counts[place(self.newest + ahead)] = 0;
        }
        self.newest = self.newest.max(second);
    }

    fn per_second(&mut self, now: Millis) -> Option<f64> {
        self.turn(now);
        let oldest = Duration::from_secs(self.newest.saturating_sub(LEAVE_RATE_SECONDS as u64 - 1));
        let span = (now - self.begun).saturating_sub(oldest);
        let left: u64 = self.counts.iter().sum();
        (span >= Duration::from_secs(1)).then(|| left as f64 / span.as_secs_f64())
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % LEAVE_RATE_SECONDS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(departures: &Departures, ms: u64) -> Option<f64> {
        departures.per_second(Millis(ms)).map(|rate| (rate * 1000.0).round() / 1000.0)
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let departures = Departures::default();
        assert_eq!(rate(&departures, 5_000), None, "no drain");
        let mut left = 1_000;
        departures.record(Millis(5_000), left);
        assert_eq!(rate(&departures, 5_999), None, "it has just begun");
        assert_eq!(rate(&departures, 6_000), Some(0.0));
        // Ten a second for half a minute, then two a second.
        for second in 1..=90 {
            left += if second <= 30 { 10 } else { 2 };
            departures.record(Millis(5_000 + second * 1000), left);
            let ms = 5_000 + second * 1000;
            match second {
                1..=30 => assert_eq!(rate(&departures, ms), Some(10.0), "{second}"),
                60 => assert_eq!(rate(&departures, ms), Some(6.0)),
                90 => assert_eq!(rate(&departures, ms), Some(2.0)),
                _ => {}
            }
        }
        // 29 of these seconds are younger than a minute.
        assert_eq!(rate(&departures, 5_000 + 120_500), Some(0.975));
        assert_eq!(rate(&departures, 5_000 + 10_000_000), Some(0.0), "long ago");
        departures.clear();
        assert_eq!(rate(&departures, 5_000 + 10_000_001), None);
    }

    /// A clock that jumps, in either direction, costs no more than what was counted.
    #[test]
    fn a_clock_that_jumps_leaves_a_bounded_rate() {
        let mut random = fastrand::Rng::with_seed(1);
        let departures = Departures::default();
        let (mut left, mut now) = (0, 1_000_000_000_u64);
        for _ in 0..10_000 {
            left += random.u64(0..100);
            departures.record(Millis(now), left);
            if let Some(rate) = departures.per_second(Millis(now)) {
                assert!(rate.is_finite() && (0.0..=left as f64).contains(&rate), "{rate}");
            }
            now = match random.u8(0..20) {
                0 => now + random.u64(0..1_000_000_000),
                1 => now - random.u64(0..now / 2),
                _ => now + random.u64(0..3_000),
            };
        }
    }
}
