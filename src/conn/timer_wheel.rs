//! One timer for all clients of a shard: a wheel of slots.
//!
//! A client is in one slot at most, as a link of that slot's list; the links are a dense table
//! beside the clients', so neither inserting nor removing allocates, and an idle client costs
//! twelve bytes. Times beyond the horizon are put into the last slot and looked at again then. The
//! wheel does not know what a deadline means.

use crate::clock::Millis;

/// Length of a slot, milliseconds: how late a deadline may be.
const SLOT_MS: u64 = 32;
/// Slots: a horizon of about a minute, past the usual ping interval.
const SLOTS: u64 = 2048;
/// No client, or no slot.
const NONE: u32 = u32::MAX;

/// A client's place in the wheel.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// The neighbours in the slot's list.
    before: u32,
    after: u32,
    slot: u32,
}

const OUT: Link = Link { before: NONE, after: NONE, slot: NONE };

/// The wheel, of clients named by their dense indexes.
///
/// # Invariants
/// A client with a slot is once in that slot's list, and in no other.
#[derive(Debug)]
pub(super) struct TimerWheel {
    /// The first client of each slot.
    slots: Box<[u32]>,
    links: Vec<Link>,
    /// The next slot to be emptied, as a count of slots since the clock's start.
    next: u64,
}

impl TimerWheel {
    /// An empty wheel at `now`.
    #[must_use]
    pub(super) fn new(now: Millis) -> Self {
        Self { slots: vec![NONE; SLOTS as usize].into(), links: Vec::new(), next: now.0 / SLOT_MS }
    }

    /// Has `index` come out at the first turn at or after `due`. It comes out before that if `due`
    /// lies beyond the horizon, or if it was to come out earlier anyway.
    pub(super) fn put(&mut self, index: usize, due: Millis) {
        let turn = due.0.div_ceil(SLOT_MS).clamp(self.next, self.next + SLOTS - 1);
        if self.links.len() <= index {
            self.links.resize(index + 1, OUT);
        }
        if self.links[index].slot != NONE {
            if self.turn_of(self.links[index].slot) <= turn {
                return;
            }
            self.remove(index);
        }
        let slot = (turn % SLOTS) as u32;
        let first = std::mem::replace(&mut self.slots[slot as usize], index as u32);
        if first != NONE {
            self.links[first as usize].before = index as u32;
        }
        self.links[index] = Link { before: NONE, after: first, slot };
    }

    /// When a slot comes next, as a count of slots since the clock's start.
    fn turn_of(&self, slot: u32) -> u64 {
        self.next + (u64::from(slot) + SLOTS - self.next % SLOTS) % SLOTS
    }

    /// Takes `index` out, if it is in.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(link) = self.links.get_mut(index) else { return };
        let Link { before, after, slot } = std::mem::replace(link, OUT);
        if slot == NONE {
            return;
        }
        if before == NONE {
            self.slots[slot as usize] = after;
        } else {
            self.links[before as usize].after = after;
        }
        if after != NONE {
            self.links[after as usize].before = before;
        }
    }

    /// Takes out all whose slot has come by `now` and appends them to `due`.
    pub(super) fn turn(&mut self, now: Millis, due: &mut Vec<usize>) {
        let current = now.0 / SLOT_MS;
        // After a long stall one round takes every slot once.
        let rounds = (current + 1).saturating_sub(self.next).min(SLOTS);
        for step in 0..rounds {
            let slot = ((current + 1 - rounds + step) % SLOTS) as usize;
            let mut index = std::mem::replace(&mut self.slots[slot], NONE);
            while index != NONE {
                due.push(index as usize);
                index = std::mem::replace(&mut self.links[index as usize], OUT).after;
            }
        }
        self.next = self.next.max(current + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn turned(wheel: &mut TimerWheel, now: u64) -> Vec<usize> {
        let mut due = Vec::new();
        wheel.turn(Millis(now), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_client_comes_out_once_and_never_early() {
        let mut wheel = TimerWheel::new(Millis(1_000));
        wheel.put(1, Millis(1_500));
        assert!(turned(&mut wheel, 1_499).is_empty());
        assert_eq!(turned(&mut wheel, 1_500 + SLOT_MS), [1]);
        assert!(turned(&mut wheel, 200_000).is_empty());
    }

    #[test]
    fn a_time_in_the_past_comes_out_at_the_next_turn() {
        let mut wheel = TimerWheel::new(Millis(10_000));
        turned(&mut wheel, 10_000);
        wheel.put(7, Millis(3));
        assert_eq!(turned(&mut wheel, 10_000 + SLOT_MS), [7]);
    }

    /// A time beyond the horizon comes out within one round.
    #[test]
    fn a_time_beyond_the_horizon_takes_one_round() {
        let mut wheel = TimerWheel::new(Millis(0));
        wheel.put(9, Millis(10_000_000));
        assert_eq!(turned(&mut wheel, SLOT_MS * SLOTS), [9]);
    }

    #[test]
    fn after_a_stall_of_many_rounds_all_come_out() {
        let mut wheel = TimerWheel::new(Millis(0));
        for n in 0..1_000 {
            wheel.put(n, Millis(n as u64 * 60));
        }
        assert_eq!(turned(&mut wheel, 10_000_000_000), (0..1_000).collect::<Vec<_>>());
    }

    /// An earlier time replaces a later one and a later one changes nothing.
    #[test]
    fn an_earlier_timer_replaces_a_later_one() {
        let mut wheel = TimerWheel::new(Millis(0));
        wheel.put(1, Millis(5_000));
        wheel.put(1, Millis(2_000));
        wheel.put(1, Millis(9_000));
        assert_eq!(turned(&mut wheel, 2_000 + SLOT_MS), [1]);
        assert!(turned(&mut wheel, 60_000).is_empty());
    }

    /// The wheel agrees with a sorted list, whatever is put in and taken out.
    #[test]
    fn the_wheel_agrees_with_a_sorted_list() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut wheel, mut model) =
                (TimerWheel::new(Millis(0)), BTreeMap::<usize, u64>::new());
            let mut now = 0;
            for _ in 0..200 {
                let index = random.usize(0..20);
                match random.u8(0..4) {
                    0 => {
                        wheel.remove(index);
                        model.remove(&index);
                    }
                    1 => now += random.u64(0..3_000),
                    _ => {
                        let due = now + random.u64(0..40_000);
                        wheel.put(index, Millis(due));
                        let known = model.entry(index).or_insert(u64::MAX);
                        *known = due.min(*known);
                    }
                }
                for index in turned(&mut wheel, now) {
                    let due = model.remove(&index).expect("nobody comes out who is not in");
                    assert!(due <= now, "seed {seed}: early");
                }
                let late = model.values().find(|&&due| due + SLOT_MS <= now);
                assert_eq!(late, None, "seed {seed}");
            }
        }
    }
}
