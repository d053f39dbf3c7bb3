//! The order in which histories are evicted when there is no room for all of them: pure.
//!
//! The largest holder loses first: of the principals the one with the most bytes, or channels. Of
//! its channels, by bytes one of the largest; by number one that keeps nothing, or else one of the
//! most common size. So a flood, be it of bytes or of names, takes its room from channels like
//! itself. All of it costs O(log n).

use std::{array, collections::BTreeMap};

use crate::{broker::PublisherClass, channel::ChannelName};

/// Powers of two that a number may be of, and nothing.
const CLASSES: usize = usize::BITS as usize + 1;

/// The properties that decide about a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct EvictionKey {
    /// Its owner.
    pub(super) publisher: PublisherClass,
    /// Tells it from all others.
    pub(super) id: u64,
    /// Grows with each use, and is no other channel's.
    pub(super) used: u64,
    /// Messages kept.
    pub(super) messages: usize,
    /// The memory of its messages.
    pub(super) bytes: usize,
}

/// All channels, in the order of their eviction.
#[derive(Debug, Default)]
pub(super) struct EvictionOrder(BTreeMap<PublisherClass, Share>);

/// The channels of one principal.
///
/// # Invariants
/// `by_messages` holds all of them, `by_bytes` those that keep something.
#[derive(Debug)]
struct Share {
    channels: usize,
    bytes: usize,
    /// By [`class`], then by use.
    by_messages: [BTreeMap<u64, ChannelName>; CLASSES],
    /// By [`class`] and id: moved seldom, however often a channel is used.
    by_bytes: BTreeMap<(usize, u64), ChannelName>,
}

impl EvictionOrder {
    /// One channel more.
    pub(super) fn insert(&mut self, rank: &EvictionKey, name: ChannelName) {
        let share = self.0.entry(rank.publisher).or_insert_with(|| Share {
            channels: 0,
            bytes: 0,
            by_messages: array::from_fn(|_| BTreeMap::new()),
            by_bytes: BTreeMap::new(),
        });
        share.channels += 1;
        share.bytes += rank.bytes;
        if rank.bytes > 0 {
            share.by_bytes.insert((class(rank.bytes), rank.id), name.clone());
        }
        share.by_messages[class(rank.messages)].insert(rank.used, name);
    }

    /// One channel less.
    pub(super) fn remove(&mut self, rank: &EvictionKey) -> Option<ChannelName> {
        let share = self.0.get_mut(&rank.publisher)?;
        let name = share.by_messages[class(rank.messages)].remove(&rank.used)?;
        share.by_bytes.remove(&(class(rank.bytes), rank.id));
        share.channels -= 1;
        share.bytes -= rank.bytes;
        Some(name)
    }

    /// A channel's rank changes. A channel that is used again and again is not moved each time.
    pub(super) fn change(&mut self, before: &EvictionKey, after: &EvictionKey) {
        let is_moved = before.publisher != after.publisher
            || before.used != after.used
            || class(before.messages) != class(after.messages)
            || class(before.bytes) != class(after.bytes);
        if !is_moved {
            if let Some(share) = self.0.get_mut(&after.publisher) {
                share.bytes = share.bytes + after.bytes - before.bytes;
            }
            return;
        }
        self.relocate(before, after);
    }

    fn relocate(&mut self, before: &EvictionKey, after: &EvictionKey) {
        let stays_by_bytes =
            before.publisher == after.publisher && class(before.bytes) == class(after.bytes);
        let share = self.0.get_mut(&before.publisher).filter(|_| stays_by_bytes);
        let Some(share) = share else {
            if let Some(name) = self.remove(before) {
                self.insert(after, name);
            }
            return;
        };
        share.bytes = share.bytes + after.bytes - before.bytes;
        if let Some(name) = share.by_messages[class(before.messages)].remove(&before.used) {
            share.by_messages[class(after.messages)].insert(after.used, name);
        }
    }

    /// The channels used at `used` or later, those used longest ago first; `max` at most.
    pub(super) fn used_since(&self, used: u64, max: usize) -> Vec<ChannelName> {
        let classes = self.0.values().flat_map(|share| &share.by_messages);
        let classes = classes.filter(|class| !class.is_empty());
        let mut found: Vec<_> = classes.flat_map(|class| class.range(used..).take(max)).collect();
        found.sort_unstable_by_key(|(used, _)| **used);
        found.into_iter().take(max).map(|(_, name)| name.clone()).collect()
    }

    /// The channel to be forgotten when there are too many.
    pub(super) fn first_by_number(&self) -> Option<&ChannelName> {
        let share = self.0.values().max_by_key(|share| share.channels)?;
        let (empty, others) = share.by_messages.split_first()?;
        let crowd = if empty.is_empty() {
            // Not those with the fewest messages: newcomers would push out each other alone.
            others.iter().max_by_key(|class| class.len())?
        } else {
            empty
        };
        crowd.first_key_value().map(|(_, name)| name)
    }

    /// The channel to give its oldest message when there are too many bytes.
    pub(super) fn first_by_bytes(&self) -> Option<&ChannelName> {
        let share = self.0.values().max_by_key(|share| share.bytes)?;
        share.by_bytes.last_key_value().map(|(_, name)| name)
    }

    /// Panics unless it holds exactly `all`.
    #[cfg(test)]
    pub(super) fn check(&self, all: &[(&ChannelName, EvictionKey)]) {
        let sum = |of: fn(&Share) -> usize| self.0.values().map(of).sum::<usize>();
        assert_eq!(sum(|share| share.channels), all.len());
        assert_eq!(sum(|share| share.by_messages.iter().map(BTreeMap::len).sum()), all.len());
        let filled = all.iter().filter(|(_, rank)| rank.bytes > 0).count();
        assert_eq!(sum(|share| share.by_bytes.len()), filled);
        assert_eq!(sum(|share| share.bytes), all.iter().map(|(_, rank)| rank.bytes).sum::<usize>());
        for (name, rank) in all {
            let share = &self.0[&rank.publisher];
            assert_eq!(share.by_messages[class(rank.messages)].get(&rank.used), Some(*name));
            let by_bytes = share.by_bytes.get(&(class(rank.bytes), rank.id));
            assert_eq!(by_bytes, (rank.bytes > 0).then_some(*name));
        }
    }
}

/// The power of two that `n` lies at or above, counted from 1; 0: it is 0.
fn class(n: usize) -> usize {
    n.checked_ilog2().map_or(0, |power| power as usize + 1)
}
