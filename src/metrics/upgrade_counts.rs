//! Counts of upgrades, which a process hands on to the one that takes its place.
//!
//! The process that is replaced can't be asked for them any more, so the new one has them: how
//! many there were of each kind since the first of them all began, and how the last one went.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

words! {
    /// The end of an upgrade.
    UpgradeResult {
        /// A new process serves.
        Done = "done",
        /// It had begun, and the old process went on.
        RolledBack = "rolled_back",
        /// It was not begun.
        Refused = "refused",
    }
}

/// The counts of a process.
#[derive(Debug, Default)]
pub struct UpgradeCounts {
    results: [AtomicU64; UpgradeResult::WORDS.len()],
    pause_us: AtomicU64,
    clients_taken_over: AtomicU64,
}

/// The same at one moment, as one process tells another, and for the metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpgradeRecord {
    /// Upgrades that were done.
    pub done: u64,
    /// Upgrades that were rolled back.
    pub rolled_back: u64,
    /// Upgrades that were refused.
    pub refused: u64,
    /// The pause of the last one that was done, microseconds; 0: there was none.
    pub pause_us: u64,
    /// Clients that processes have taken over.
    pub clients_taken_over: u64,
}

impl UpgradeCounts {
    /// One that did not make this process.
    pub fn count(&self, result: UpgradeResult) {
        self.results[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The one that made this process, which continues the counts of the one before.
    pub fn taken_over(&self, before: &UpgradeRecord, pause: Duration, clients: u64) {
        let UpgradeRecord { done, rolled_back, refused, pause_us: _, clients_taken_over } = before;
        for (result, count) in self.results.iter().zip([done + 1, *rolled_back, *refused]) {
            result.fetch_add(count, Ordering::Relaxed);
        }
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        self.pause_us.store(pause_us, Ordering::Relaxed);
        self.clients_taken_over.fetch_add(clients_taken_over + clients, Ordering::Relaxed);
    }

    /// The counts now.
    #[must_use]
    pub fn record(&self) -> UpgradeRecord {
        let count = |result: UpgradeResult| self.results[result as usize].load(Ordering::Relaxed);
        UpgradeRecord {
            done: count(UpgradeResult::Done),
            rolled_back: count(UpgradeResult::RolledBack),
            refused: count(UpgradeResult::Refused),
            pause_us: self.pause_us.load(Ordering::Relaxed),
            clients_taken_over: self.clients_taken_over.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count goes on where the process before has left it, and the pause is the last one's.
    #[test]
    fn counts_go_on_in_the_next_process() {
        let first = UpgradeCounts::default();
        first.count(UpgradeResult::Refused);
        first.count(UpgradeResult::RolledBack);
        let second = UpgradeCounts::default();
        second.taken_over(&first.record(), Duration::from_millis(20), 7);
        second.count(UpgradeResult::Refused);
        let third = UpgradeCounts::default();
        third.taken_over(&second.record(), Duration::from_millis(30), 5);
        let told = UpgradeRecord {
            done: 2,
            rolled_back: 1,
            refused: 2,
            pause_us: 30_000,
            clients_taken_over: 12,
        };
        assert_eq!(third.record(), told);
    }
}
