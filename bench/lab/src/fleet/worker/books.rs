//! The accounts of a worker's clients: arrivals by message and time, faults, closes by code and
//! time.
//!
//! Arrivals are counted in slots of time, so that the accounts of many processes add up to
//! percentiles of all clients; CLOCK_MONOTONIC is the same for all processes of a machine.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use testkit::clock;
use wsload::{connection, stamp::Stamp};

/// Width of a slot.
pub(in crate::fleet) const SLOT_NS: u64 = 1_000_000;

/// The figures that are asked for often.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(in crate::fleet) struct Progress {
    pub(in crate::fleet) opened: u64,
    pub(in crate::fleet) failed: u64,
    pub(in crate::fleet) deliveries: u64,
    pub(in crate::fleet) closed: u64,
}

/// The figures that are asked for at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::fleet) struct Account {
    pub(in crate::fleet) progress: Progress,
    pub(in crate::fleet) first_failure: Option<String>,
    /// Numbers that a later message passed over.
    pub(in crate::fleet) holes: u64,
    /// Messages with a number that was due earlier.
    pub(in crate::fleet) repeats: u64,
    /// Messages that are not of this run.
    pub(in crate::fleet) foreign: u64,
    /// By message: slots since its publication → clients.
    pub(in crate::fleet) arrivals: Vec<BTreeMap<u64, u64>>,
    /// By code, or `eof`, `reset`, `protocol`.
    pub(in crate::fleet) closed: BTreeMap<String, u64>,
    /// Slot of the monotonic clock → clients that were closed in it.
    pub(in crate::fleet) closed_at: BTreeMap<u64, u64>,
}

/// The account in the making.
#[derive(Debug)]
pub(super) struct Books {
    run: u32,
    /// By client: the number of its next message.
    next: Vec<u32>,
    account: Account,
}

impl Books {
    /// Nothing has happened.
    pub(super) fn new(run: u32, clients: usize) -> Self {
        Self { run, next: vec![0; clients], account: Account::default() }
    }

    pub(super) fn progress(&self) -> Progress {
        self.account.progress
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Clients whose handshake has an end, good or bad.
    pub(super) fn settled(&self) -> usize {
        (self.account.progress.opened + self.account.progress.failed) as usize
    }
}

impl connection::Books for Books {
    /// The same for all processes of the machine.
    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn opened(&mut self, _is_resumed: bool) {
        self.account.progress.opened += 1;
    }

    #[cold]
    fn failed(&mut self, error: &io::Error) {
        self.account.progress.failed += 1;
        self.account.first_failure.get_or_insert_with(|| error.to_string());
    }

    fn message(&mut self, at: usize, stamp: Option<Stamp>, _payload_bytes: u64, now_ns: u64) {
        let next = &mut self.next[at];
        let Some(stamp) = stamp.filter(|stamp| stamp.run == self.run) else {
            self.account.foreign += 1;
            return;
        };
        if stamp.sequence < *next {
            self.account.repeats += 1;
            return;
        }
        self.account.holes += u64::from(stamp.sequence - *next);
        *next = stamp.sequence + 1;
        self.account.progress.deliveries += 1;
        let number = stamp.sequence as usize;
        if self.account.arrivals.len() <= number {
            self.account.arrivals.resize_with(number + 1, BTreeMap::new);
        }
        let slot = now_ns.saturating_sub(stamp.intended_ns) / SLOT_NS;
        *self.account.arrivals[number].entry(slot).or_default() += 1;
    }

    fn closed(&mut self, word: &str) {
        let slot = self.now_ns() / SLOT_NS;
        self.account.progress.closed += 1;
        *self.account.closed.entry(word.to_owned()).or_default() += 1;
        *self.account.closed_at.entry(slot).or_default() += 1;
    }
}

impl Account {
    /// Adds another worker's.
    pub(in crate::fleet) fn merge(&mut self, other: Self) {
        let (sum, more) = (&mut self.progress, other.progress);
        sum.opened += more.opened;
        sum.failed += more.failed;
        sum.deliveries += more.deliveries;
        sum.closed += more.closed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.holes += other.holes;
        self.repeats += other.repeats;
        self.foreign += other.foreign;
        if self.arrivals.len() < other.arrivals.len() {
            self.arrivals.resize_with(other.arrivals.len(), BTreeMap::new);
        }
        for (sum, more) in self.arrivals.iter_mut().zip(other.arrivals) {
            add(sum, more);
        }
        add(&mut self.closed, other.closed);
        add(&mut self.closed_at, other.closed_at);
    }
}

fn add<K: Ord>(sum: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, count) in more {
        *sum.entry(key).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use connection::Books as _;

    use super::*;

    fn stamp(sequence: u32) -> Option<Stamp> {
        Some(Stamp { run: 7, publisher: 0, sequence, intended_ns: 10 * SLOT_NS })
    }

    #[test]
    fn holes_repeats_and_strangers_are_told_apart() {
        let mut books = Books::new(7, 1);
        for message in [stamp(0), stamp(2), stamp(2), stamp(1), None] {
            books.message(0, message, 128, 12 * SLOT_NS);
        }
        let account = books.account();
        assert_eq!((account.holes, account.repeats, account.foreign), (1, 2, 1));
        assert_eq!(account.progress.deliveries, 2);
        assert_eq!(account.arrivals[2], BTreeMap::from([(2, 1)]));
    }

    #[test]
    fn accounts_add_up() {
        let (mut one, mut two) = (Books::new(7, 1), Books::new(7, 1));
        one.message(0, stamp(0), 128, 11 * SLOT_NS);
        two.message(0, stamp(0), 128, 11 * SLOT_NS);
        two.message(0, stamp(1), 128, 13 * SLOT_NS);
        two.closed("1012");
        let mut sum = one.account.clone();
        sum.merge(two.account);
        assert_eq!(sum.progress.deliveries, 3);
        assert_eq!(sum.arrivals, [BTreeMap::from([(1, 2)]), BTreeMap::from([(3, 1)])]);
        assert_eq!(sum.closed["1012"], 1);
    }
}
