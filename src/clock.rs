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
}

impl Clock {
    /// A clock that starts now, at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Milliseconds since the clock was started.
    #[must_use]
    pub fn now(self) -> Millis {
        Millis::default() + self.instant().saturating_duration_since(self.started)
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
