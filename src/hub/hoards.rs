//! Who makes a hub keep how many logs: pure.
//!
//! A client's first few channels are free. Each further log that begins with it is put down to it
//! alone, though others may hear it too, until it leaves it; then to somebody else who has many.
//! So the counts add up to what a few clients have made of a hub, and ordinary ones cost nothing.
//! Subscriptions are counted in the same way: each beyond the first few, to whoever has it.

use std::collections::{BTreeSet, HashMap};

use crate::limits::CHANNELS_FREE;

/// Channels of a client that are put down to nobody. In tests so few that simulations get there.
pub(super) const FREE_CHANNELS: usize = if cfg!(test) { 1 } else { CHANNELS_FREE };

/// The counts; clients are named by their places.
///
/// # Invariants
/// `by_count` holds what `counts` does, and no count is 0.
#[derive(Debug, Default)]
pub(super) struct Hoards {
    counts: HashMap<u32, usize>,
    by_count: BTreeSet<(usize, u32)>,
}

impl Hoards {
    /// One more is put down to `client`.
    pub(super) fn add(&mut self, client: u32) {
        let count = self.counts.entry(client).or_default();
        self.by_count.remove(&(*count, client));
        *count += 1;
        self.by_count.insert((*count, client));
    }

    /// One less.
    pub(super) fn sub(&mut self, client: u32) {
        let Some(count) = self.counts.get_mut(&client) else { return };
        self.by_count.remove(&(*count, client));
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&client);
        } else {
            self.by_count.insert((*count, client));
        }
    }

    /// Whoever has the most, and how many.
    pub(super) fn largest(&self) -> Option<(u32, usize)> {
        self.by_count.last().map(|&(count, client)| (client, count))
    }

    /// Panics unless they are put down to these.
    pub(super) fn check(&self, owners: impl Iterator<Item = u32>) {
        let mut counts = HashMap::new();
        owners.for_each(|owner| *counts.entry(owner).or_default() += 1);
        assert_eq!(self.counts, counts, "each is put down once");
        let by_count = counts.into_iter().map(|(client, count)| (count, client));
        assert_eq!(self.by_count, by_count.collect(), "both hold the same");
    }
}
