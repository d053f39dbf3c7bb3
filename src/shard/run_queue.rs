//! How long a thread was ready to run and had no CPU, by the kernel's account.
//!
//! More threads than cores, or a neighbour that computes, make every shard late: that is no shard
//! that hangs, and its connections would wait elsewhere as well. Linux counts the time that each
//! thread has waited (`schedstat` in proc(5)); where it does not, lateness is all there is to judge
//! by.

use std::{fs, path::PathBuf, time::Duration};

/// One thread's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunQueue {
    account: PathBuf,
}

impl RunQueue {
    /// The calling thread's account; None where the system keeps none.
    #[must_use]
    pub(super) fn of_this_thread() -> Option<Self> {
        // `PID/task/TID`.
        let thread = fs::read_link("/proc/thread-self").ok()?;
        let account = PathBuf::from("/proc").join(thread).join("schedstat");
        let this = Self { account };
        this.waited().map(|_| this)
    }

    /// All the time that the thread has waited since it began.
    #[must_use]
    pub(super) fn waited(&self) -> Option<Duration> {
        // `RUN WAITED SLICES`, the first two in nanoseconds.
        let text = fs::read_to_string(&self.account).ok()?;
        let waited = text.split(' ').nth(1)?.parse().ok()?;
        Some(Duration::from_nanos(waited))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// A thread finds its own account also from another thread and it never falls.
    #[test]
    fn a_thread_finds_its_own_cpu_time() {
        let Some(account) = RunQueue::of_this_thread() else { return };
        let before = account.waited().unwrap();
        let other = std::thread::spawn(RunQueue::of_this_thread).join().unwrap();
        assert_ne!(other, Some(account.clone()));
        let seen = account;
        let after = std::thread::spawn(move || seen.waited()).join().unwrap().unwrap();
        assert!(after >= before);
        assert_eq!(other.unwrap().waited(), None, "its thread has ended");
    }
}
