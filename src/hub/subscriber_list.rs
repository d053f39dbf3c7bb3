//! The subscribers of a log: a dense list of cursors, and the progress of a pass over it.
//!
//! A pass may pause between any two subscribers while others come and go. The list is kept dense by
//! moving its last entry into a free slot. The pass keeps its visited entries in one known region,
//! and no move takes an unvisited entry into it: no subscriber is left out, and the smallest cursor
//! that the pass has seen is never too large. Clients are known here only by their numbers.

/// One subscription of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogReader {
    /// All bytes before it were taken by the client's outlet.
    pub(super) cursor: u64,
    /// The client's number.
    pub(super) client: u32,
    /// A pass does not write to it: the outlet is full, or other bytes go first.
    pub(super) busy: bool,
    /// The client gets what was in the log when messages were lost, and is then closed.
    pub(super) parting: bool,
}

/// The subscribers of one log.
///
/// # Invariants
/// While a pass is on:
/// - a subscriber that was there when it began and has not been visited is outside the visited
///   region, which is `start..next`, or, once `wrapped`, `0..next` and `start..`;
/// - `smallest` is not above any cursor inside it.
#[derive(Debug, Default)]
pub(super) struct SubscriberList {
    entries: Vec<LogReader>,
    start: usize,
    next: usize,
    wrapped: bool,
    passing: bool,
    /// The smallest cursor of the visited entries.
    smallest: u64,
}

impl SubscriberList {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&self, index: usize) -> &LogReader {
        &self.entries[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut LogReader {
        &mut self.entries[index]
    }

    /// All present subscribers are to part; an entry that is parting already stays as it is.
    pub(super) fn begin_parting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.parting = true);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &LogReader> {
        self.entries.iter()
    }

    /// Adds a subscriber at the head of the log; returns its index. It may land in the visited
    /// region without a visit: a pass pauses only after a visit, and no cursor is beyond the head,
    /// so `smallest` is right for it as well.
    pub(super) fn push(&mut self, subscriber: LogReader) -> usize {
        self.entries.push(subscriber);
        self.entries.len() - 1
    }

    /// Removes the entry at `index`. `moved(client, from, to)` is called for every entry that
    /// moves.
    pub(super) fn remove(&mut self, index: usize, mut moved: impl FnMut(u32, usize, usize)) {
        let last = self.entries.len() - 1;
        let mut hole = index;
        if self.passing && self.is_visited(index) && !self.is_visited(last) {
            // The slot is filled from inside the visited region, which shrinks by one; the last
            // entry, not yet visited, goes to the slot that has just left the region.
            let border = self.next - 1;
            if border != index {
                self.entries[index] = self.entries[border];
                moved(self.entries[index].client, border, index);
            }
            self.next = border;
            hole = border;
        }
        self.entries.swap_remove(hole);
        if hole != last {
            moved(self.entries[hole].client, last, hole);
        }
        self.start = self.start.min(last);
        self.next = self.next.min(if self.wrapped { self.start } else { last });
    }

    fn is_visited(&self, index: usize) -> bool {
        if self.wrapped {
            index < self.next || index >= self.start
        } else {
            (self.start..self.next).contains(&index)
        }
    }

    /// Begins a pass, unless one is running, at another entry than the last pass. True if it begins
    /// now.
    pub(super) fn begin_pass(&mut self) -> bool {
        if self.passing {
            return false;
        }
        let count = self.entries.len();
        // About half the list further: the last client of one pass is in the first half of the
        // next.
        self.start = if count == 0 { 0 } else { (self.start + count / 2 + 1) % count };
        self.next = self.start;
        self.wrapped = false;
        self.passing = true;
        self.smallest = u64::MAX;
        true
    }

    /// The next entry to visit; none when all have been visited.
    pub(super) fn next_unvisited(&mut self) -> Option<usize> {
        if !self.wrapped && self.next >= self.entries.len() {
            self.wrapped = true;
            self.next = 0;
        }
        let end = if self.wrapped { self.start } else { self.entries.len() };
        (self.next < end).then_some(self.next)
    }

    /// The entry named by [`SubscriberList::next_unvisited`] has been visited.
    pub(super) fn mark_visited(&mut self) {
        self.smallest = self.smallest.min(self.entries[self.next].cursor);
        self.next += 1;
    }

    /// Ends the pass. Returns the smallest cursor it saw, none if it saw no entry.
    pub(super) fn end_pass(&mut self) -> Option<u64> {
        self.passing = false;
        (self.smallest != u64::MAX).then_some(self.smallest)
    }

    /// The smallest cursor of all entries: looks at every one.
    pub(super) fn smallest_cursor(&self) -> Option<u64> {
        self.entries.iter().map(|entry| entry.cursor).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A paused pass visits every client that stays, whichever come and go.
    #[test]
    fn a_paused_pass_visits_all_that_stay() {
        for seed in 0..5_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut subscriber_list = SubscriberList::default();
            let (mut clients, mut head) = (0..u32::MAX, 5);
            for _ in 0..random.usize(0..12) {
                subscriber_list.push(subscriber(&mut clients, head));
            }
            for _ in 0..3 {
                subscriber_list.begin_pass();
                let mut owed: HashSet<u32> =
                    subscriber_list.iter().map(|entry| entry.client).collect();
                while let Some(index) = subscriber_list.next_unvisited() {
                    owed.remove(&subscriber_list.get(index).client);
                    if random.bool() {
                        subscriber_list.get_mut(index).cursor = head;
                    }
                    subscriber_list.mark_visited();
                    if random.u8(0..3) == 0 {
                        let gone = random.usize(0..subscriber_list.len());
                        owed.remove(&subscriber_list.get(gone).client);
                        subscriber_list.remove(gone, |_, _, _| {});
                    }
                    if random.u8(0..4) == 0 {
                        subscriber_list.push(subscriber(&mut clients, head));
                    }
                    head += u64::from(random.bool());
                }
                assert!(owed.is_empty(), "seed {seed}: {owed:?} not visited");
                let (seen, real) = (subscriber_list.end_pass(), subscriber_list.smallest_cursor());
                assert!(real.is_none() || seen <= real, "seed {seed}: {seen:?} > {real:?}");
            }
        }
    }

    fn subscriber(clients: &mut impl Iterator<Item = u32>, cursor: u64) -> LogReader {
        LogReader { cursor, client: clients.next().unwrap(), busy: false, parting: false }
    }

    #[test]
    fn passes_begin_at_different_places() {
        let mut subscriber_list = SubscriberList::default();
        for client in 0..10 {
            subscriber_list.push(LogReader { cursor: 0, client, busy: false, parting: false });
        }
        let mut firsts = HashSet::new();
        for _ in 0..10 {
            subscriber_list.begin_pass();
            firsts.insert(subscriber_list.next_unvisited());
            subscriber_list.end_pass();
        }
        assert!(firsts.len() >= 5, "{firsts:?}");
    }
}
