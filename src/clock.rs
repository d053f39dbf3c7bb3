//! The one place that reads a clock; all other code is handed a [`Clock`], or `now` as a value.
//!
//! A server has one clock, which it makes when it binds and hands to all its threads: so moments
//! can be compared between them, and a test can have a clock of its own. Inside of a runtime whose
//! time is paused the clock follows that: time passes as the test says. Pure machines never see a
//! clock, they take `now`. Milliseconds since it was made are enough for every deadline and fit a
//! dense table; [`Clock::instant`] serves the few measurements that need more.
//! The timers of a runtime are read off its own clock (`tokio::time::Instant`), which is this one.

use std::{
    ops::{Add, Sub},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// The source of the time: a value, made once and handed on.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// The time that had passed before that.
    before: Duration,
}

impl Clock {
    /// A clock that starts now, at zero.
    #[must_use]
    pub fn start() -> Self {
        Self::started_before(Duration::ZERO)
    }

    /// A clock that shows `elapsed` now, even if the machine has run for less: another process'
    /// clock goes on, and what happened so long ago has a moment here, too. The way that the number
    /// took from there is missing in it, unless the caller adds to it; more does no harm.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn started_before(elapsed: Duration) -> Self {
        Self { started: Instant::now(), before: elapsed }
    }

    /// Milliseconds since the clock was started, or the one that it continues.
    #[must_use]
    pub fn now(self) -> Millis {
        let since = self.instant().saturating_duration_since(self.started);
        Millis::default() + self.before.saturating_add(since)
    }

    /// The same at full resolution.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn instant(self) -> Instant {
        Instant::now()
    }

    /// Wall-clock time since the Unix epoch; within the years 1970 to 9999, whatever the system
    /// says. It may be set at any time, so it measures nothing.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn unix_time(self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().min(UNIX_TIME_MAX)
    }
}

/// The last moment that HTTP and RFC 3339 can write: their years have four digits.
const UNIX_TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// A moment: milliseconds since a clock was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Add<Duration> for Millis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl Sub for Millis {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another process' clock goes on here, however long it has run there.
    #[tokio::test(start_paused = true)]
    async fn a_clock_goes_on_elsewhere() {
        let first = Clock::start();
        tokio::time::advance(Duration::from_millis(1_500)).await;
        // Longer than any machine runs.
        for longer in [Duration::ZERO, Duration::from_secs(1 << 40)] {
            let showed = first.now() + longer;
            let second = Clock::started_before(showed - Millis::default());
            assert_eq!(second.now(), showed);
            tokio::time::advance(Duration::from_millis(20)).await;
            assert_eq!(second.now() - showed, Duration::from_millis(20));
        }
        let last = Clock::started_before(Duration::MAX);
        tokio::time::advance(Duration::from_millis(20)).await;
        assert_eq!(last.now(), Millis(u64::MAX));
    }
}
