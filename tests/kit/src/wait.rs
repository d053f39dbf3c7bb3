//! One way to wait: for a condition, with a limit.
//!
//! Here is the only place of tests and tools that pauses between two looks, and it always ends:
//! with the condition, or saying what was missing. It blocks its thread.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::clock;

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until it is so; an error, naming `what`, when it is not in time.
pub fn wait_for(
    what: &str,
    deadline: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline_ns = clock::now_ns() + clock::as_ns(deadline);
    while !is_so()? {
        ensure!(clock::now_ns() < deadline_ns, "waited {deadline:?} in vain for {what}");
        clock::pause(LOOK_INTERVAL);
    }
    Ok(())
}

/// Waits until `condition` holds; fails the test when it does not in time.
#[track_caller]
pub fn eventually(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    if let Err(error) = wait_for(what, within, || Ok(condition())) {
        panic!("{error}");
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    clock::instant()
}
