//! The check that one client got one publisher's messages once each, in order, without holes.
//!
//! Sixteen bytes per (client, publisher): the next expected number and a window of which of the
//! last 64 arrived, enough to tell a late message from a repeated one.
//!
//! # Invariants
//! `holes` of a [`Tally`] counts numbers below `next` that have not arrived (yet): a late arrival
//! takes its hole back and counts as reordered instead.

use serde::{Deserialize, Serialize};

const WINDOW: u32 = 64;

/// The faults, over any number of clients and publishers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Messages that never came though a later one did.
    pub holes: u64,
    /// Messages that came again (or later than the window tells apart from that).
    pub repeats: u64,
    /// Messages that came after a later one.
    pub reordered: u64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: Self) {
        self.holes += other.holes;
        self.repeats += other.repeats;
        self.reordered += other.reordered;
    }
}

/// One client's view of one publisher.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    next: u32,
    /// Bit i: number `next - 1 - i` has arrived.
    seen: u64,
}

impl Tracker {
    /// A client that came late: this number is its first.
    pub fn from(first: u32) -> Self {
        Self { next: first, seen: 0 }
    }

    /// Notes an arrival and books what it says.
    #[inline]
    pub fn arrived(&mut self, sequence: u32, tally: &mut Tally) {
        if sequence == self.next {
            self.next += 1;
            self.seen = self.seen << 1 | 1;
        } else if sequence > self.next {
            let ahead = sequence - self.next;
            tally.holes += u64::from(ahead);
            self.seen = if ahead + 1 >= WINDOW { 1 } else { self.seen << (ahead + 1) | 1 };
            self.next = sequence + 1;
        } else {
            self.arrived_late(self.next - 1 - sequence, tally);
        }
    }

    /// How many of the `sent` numbers are missing at the end, holes not counted again.
    pub fn missing_tail(&self, sent: u32) -> u32 {
        sent.saturating_sub(self.next)
    }

    #[cold]
    fn arrived_late(&mut self, behind: u32, tally: &mut Tally) {
        if behind < WINDOW && self.seen & (1 << behind) == 0 {
            self.seen |= 1 << behind;
            tally.holes = tally.holes.saturating_sub(1);
            tally.reordered += 1;
        } else {
            tally.repeats += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(arrivals: &[u32]) -> (Tally, Tracker) {
        let (mut tally, mut tracker) = (Tally::default(), Tracker::default());
        for sequence in arrivals {
            tracker.arrived(*sequence, &mut tally);
        }
        (tally, tracker)
    }

    fn tally(holes: u64, repeats: u64, reordered: u64) -> Tally {
        Tally { holes, repeats, reordered }
    }

    #[test]
    fn order_without_holes_is_clean() {
        let arrivals: Vec<u32> = (0..1000).collect();
        let (result, tracker) = tally_of(&arrivals);
        assert_eq!(result, Tally::default());
        assert_eq!(tracker.missing_tail(1000), 0);
        assert_eq!(tracker.missing_tail(1007), 7);
    }

    #[test]
    fn every_missing_number_is_a_hole() {
        assert_eq!(tally_of(&[0, 1, 4, 5]).0, tally(2, 0, 0));
        assert_eq!(tally_of(&[3]).0, tally(3, 0, 0), "the first ones count too");
        assert_eq!(tally_of(&[0, 500]).0, tally(499, 0, 0));
    }

    #[test]
    fn a_repeat_is_no_arrival() {
        assert_eq!(tally_of(&[0, 1, 1, 0]).0, tally(0, 2, 0));
        assert_eq!(tally_of(&[0, 2, 2]).0, tally(1, 1, 0));
    }

    /// A late message fills its hole and counts as reordered.
    #[test]
    fn a_late_message_counts_as_reordered() {
        assert_eq!(tally_of(&[0, 2, 1, 3]).0, tally(0, 0, 1));
        assert_eq!(tally_of(&[1, 0]).0, tally(0, 0, 1));
        assert_eq!(tally_of(&[0, 2, 1, 1]).0, tally(0, 1, 1), "and then it is a repeat");
        let window_end: Vec<u32> = [0].into_iter().chain(2..=64).chain([1]).collect();
        assert_eq!(tally_of(&window_end).0, tally(0, 0, 1));
    }

    #[test]
    fn a_jump_beyond_the_window_forgets_what_was_seen() {
        assert_eq!(tally_of(&[0, 63, 0]).0, tally(62, 1, 0));
        assert_eq!(tally_of(&[0, 64, 64]).0, tally(63, 1, 0));
        assert_eq!(tally_of(&[0, 200, 1]).0, tally(199, 1, 0), "too old to tell");
    }
}
