//! The one place that reads the monotonic clock or waits for it.
//!
//! Times are nanoseconds since this process first asked, on CLOCK_MONOTONIC: publisher and
//! clients live in one process, so a latency is a plain difference.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first call.
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn now_ns() -> u64 {
    let start = *START.get_or_init(Instant::now);
    // 584 years fit.
    start.elapsed().as_nanos() as u64
}

/// The monotonic clock as the standard library shows it.
#[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Nanoseconds on CLOCK_MONOTONIC: the same for all processes of this machine.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is negative, and 584 years fit.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns at `moment_ns` or a little later; at once if it has passed.
#[expect(clippy::disallowed_methods, reason = "an open-loop schedule is a list of moments")]
pub fn wait_until(moment_ns: u64) {
    let now = now_ns();
    if let Some(left) = moment_ns.checked_sub(now).filter(|left| *left > 0) {
        std::thread::sleep(Duration::from_nanos(left));
    }
}

/// Waits once for `pause`: between two looks at a condition that has a deadline.
pub fn pause(pause: Duration) {
    wait_until(now_ns() + as_ns(pause));
}

/// A duration as nanoseconds.
pub fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as seconds.
pub fn as_secs(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
