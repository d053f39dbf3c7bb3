//! The one place that reads a clock.
//!
//! Pure machines take `now` as a value; whoever drives them gets it here. Milliseconds since the
//! process started are enough for every deadline and fit a dense table; `instant()` serves the
//! few measurements that need more.

use std::{
    ops::{Add, Sub},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A moment of this process: milliseconds since the clock was first read.
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

static START: OnceLock<Instant> = OnceLock::new();

/// The monotonic clock at full resolution.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Milliseconds since the first call in this process.
#[must_use]
pub fn now() -> Millis {
    let now = instant();
    let start = *START.get_or_init(|| now);
    Millis::default() + now.saturating_duration_since(start)
}

/// The last moment that HTTP and RFC 3339 can write: their years have four digits.
const UNIX_TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// Wall-clock time since the Unix epoch; within the years 1970 to 9999, whatever the clock says.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().min(UNIX_TIME_MAX)
}
