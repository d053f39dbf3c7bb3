//! One timer for all clients of a shard: a wheel of slots.
//!
//! A client costs eight bytes in one slot. Nothing is ever taken out: whoever turns the wheel
//! asks the client whether the time it was put in for still holds. Times beyond the horizon are
//! put into the last slot and asked about then. It must not know what a deadline means.

use std::time::Duration;

use crate::{clock::Millis, hub::Key};

/// Length of a slot, milliseconds: how late a deadline may be.
const SLOT_MS: u64 = 32;
/// Slots: a horizon of about a minute, past the usual ping interval.
const SLOTS: usize = 2048;

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    slots: Box<[Vec<Key>]>,
    /// The next slot to be emptied, as a count of slots since the clock's start.
    next: u64,
}

impl Wheel {
    /// An empty wheel at `now`.
    #[must_use]
    pub(super) fn new(now: Millis) -> Self {
        Self { slots: vec![Vec::new(); SLOTS].into(), next: now.0 / SLOT_MS }
    }

    /// Puts `key` in for `due`: it comes out at the first turn at or after it, or before it when
    /// `due` lies beyond the horizon.
    pub(super) fn put(&mut self, key: Key, due: Millis) {
        let slot = due.0.div_ceil(SLOT_MS).clamp(self.next, self.next + SLOTS as u64 - 1);
        let place = usize::try_from(slot % SLOTS as u64).expect("a remainder of SLOTS");
        self.slots[place].push(key);
    }

    /// Appends all keys whose slot has come by `now` to `due`.
    pub(super) fn turn(&mut self, now: Millis, due: &mut Vec<Key>) {
        let current = now.0 / SLOT_MS;
        // After a long stall one round takes every slot once.
        let rounds = (current + 1).saturating_sub(self.next).min(SLOTS as u64);
        for step in 0..rounds {
            let slot = (current + 1 - rounds + step) % SLOTS as u64;
            let place = usize::try_from(slot).expect("a remainder of SLOTS");
            let keys = &mut self.slots[place];
            due.append(keys);
            keys.shrink_to(64);
        }
        self.next = self.next.max(current + 1);
    }

    /// The farthest time that [`Wheel::put`] can hold exactly.
    #[must_use]
    pub(super) fn horizon() -> Duration {
        Duration::from_millis(SLOT_MS * (SLOTS as u64 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key::from_u64(n)
    }

    fn turned(wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut due = Vec::new();
        wheel.turn(Millis(now), &mut due);
        due.iter().map(|key| key.to_u64()).collect()
    }

    #[test]
    fn a_key_comes_out_once_and_never_early() {
        let mut wheel = Wheel::new(Millis(1_000));
        wheel.put(key(1), Millis(1_500));
        assert!(turned(&mut wheel, 1_499).is_empty());
        assert_eq!(turned(&mut wheel, 1_500 + SLOT_MS), [1]);
        assert!(turned(&mut wheel, 200_000).is_empty());
    }

    #[test]
    fn a_time_in_the_past_comes_out_at_the_next_turn() {
        let mut wheel = Wheel::new(Millis(10_000));
        turned(&mut wheel, 10_000);
        wheel.put(key(7), Millis(3));
        assert_eq!(turned(&mut wheel, 10_000 + SLOT_MS), [7]);
    }

    #[test]
    fn a_time_beyond_the_horizon_comes_out_within_one_round() {
        let mut wheel = Wheel::new(Millis(0));
        wheel.put(key(9), Millis(10_000_000));
        let horizon = u64::try_from(Wheel::horizon().as_millis()).unwrap();
        assert_eq!(turned(&mut wheel, horizon + SLOT_MS), [9]);
    }

    #[test]
    fn after_a_stall_of_many_rounds_all_come_out() {
        let mut wheel = Wheel::new(Millis(0));
        for n in 0..1_000 {
            wheel.put(key(n), Millis(n * 60));
        }
        let mut all = turned(&mut wheel, 10_000_000_000);
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }
}
