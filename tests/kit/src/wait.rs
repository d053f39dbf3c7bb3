//! One way to wait: for a condition, with a limit.
//!
//! [`eventually`] is the only place of the tests from outside that pauses, and it always ends:
//! with the condition, or with a failure that says what was missing. It blocks its thread.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; fails the test, naming `what`, when it does not in time.
pub fn eventually(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = now();
    while !condition() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        thread::park_timeout(POLL);
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    clock::instant()
}
