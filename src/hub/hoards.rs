//! How many logs a hub keeps because of each client: pure counting.
//!
//! A client's first few channels are free. Each further log that begins with it is attributed to it
//! alone, though other clients may subscribe to it, until it leaves the log; then to another
//! subscriber that has many. So the counts add up to the logs that a few clients have caused, and
//! ordinary clients cost nothing. Subscriptions are counted in the same way: each one beyond the
//! first few, for the client that has it.

use std::collections::{BTreeSet, HashMap};

/// The counts, by the clients' numbers.
///
/// # Invariants
/// `by_count` holds the same counts as `counts`, and no count is 0.
#[derive(Debug, Default)]
pub(super) struct Hoards {
    counts: HashMap<u32, usize>,
    by_count: BTreeSet<(usize, u32)>,
}

impl Hoards {
    /// One more is attributed to `client`.
    pub(super) fn add(&mut self, client: u32) {
        let count = self.counts.entry(client).or_default();
        self.by_count.remove(&(*count, client));
        *count += 1;
        self.by_count.insert((*count, client));
    }

    /// One fewer is attributed to `client`.
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

    /// The client with the highest count, and the count.
    pub(super) fn largest(&self) -> Option<(u32, usize)> {
        self.by_count.last().map(|&(count, client)| (client, count))
    }

    /// Panics unless the counts are those of these owners.
    #[cfg(test)]
    pub(super) fn check(&self, owners: impl Iterator<Item = u32>) {
        let mut counts = HashMap::new();
        owners.for_each(|owner| *counts.entry(owner).or_default() += 1);
        assert_eq!(self.counts, counts, "each is put down once");
        let by_count = counts.into_iter().map(|(client, count)| (count, client));
        assert_eq!(self.by_count, by_count.collect(), "both hold the same");
    }
}
