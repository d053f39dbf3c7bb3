//! The slots of periodic messages that a process has taken care of: pure.

use crate::{broker::PeriodicSlot, channel::ChannelName, limits::SLOT_KINDS_MAX};

/// The slots of periodic messages that this process has taken care of.
///
/// Keyed by channel and interval; the newest slot number is enough, since slots only grow, unless
/// the clock is set back: a mark further ahead than the next slot does not count.
#[derive(Debug, Default)]
pub(in crate::broker) struct SlotsDone(Vec<((ChannelName, u64), u64)>);

impl SlotsDone {
    /// Whether `number` (or the next one) was done.
    pub(in crate::broker) fn is_done(&self, slot: &PeriodicSlot, number: u64) -> bool {
        let is_done = |done: u64| done >= number && !is_set_back(done, number);
        self.0.iter().any(|(key, done)| is_done(*done) && is_kind(key, slot))
    }

    /// The newest slot that was done.
    pub(in crate::broker) fn newest(&self, slot: &PeriodicSlot) -> Option<u64> {
        self.0.iter().find(|(key, _)| is_kind(key, slot)).map(|(_, done)| *done)
    }

    /// Makes `before` the newest slot that was done.
    pub(in crate::broker) fn take_back(&mut self, slot: &PeriodicSlot, before: Option<u64>) {
        self.0.retain(|(key, _)| !is_kind(key, slot));
        if let Some(number) = before {
            self.set_done(slot, number);
        }
    }

    /// Remembers that `number` is done.
    pub(in crate::broker) fn set_done(&mut self, slot: &PeriodicSlot, number: u64) {
        if let Some((_, done)) = self.0.iter_mut().find(|(key, _)| is_kind(key, slot)) {
            *done = if is_set_back(*done, number) { number } else { number.max(*done) };
            return;
        }
        if self.0.len() >= SLOT_KINDS_MAX {
            self.0.remove(0);
        }
        self.0.push(((slot.channel.clone(), slot.interval_ms), number));
    }
}

impl SlotsDone {
    /// All of them, for another process: channel, interval in milliseconds, number.
    pub(in crate::broker) fn all(&self) -> impl Iterator<Item = (ChannelName, u64, u64)> {
        self.0
            .iter()
            .map(|((channel, interval_ms), number)| (channel.clone(), *interval_ms, *number))
    }

    /// Those of another process.
    pub(in crate::broker) fn of(all: impl Iterator<Item = (ChannelName, u64, u64)>) -> Self {
        let done = |(channel, interval_ms, number)| ((channel, interval_ms), number);
        Self(all.take(SLOT_KINDS_MAX).map(done).collect())
    }
}

/// Whether the clock was set back since `done` was marked, now that it is `number`: by more than
/// one interval, so that clocks which differ a little make nothing twice.
fn is_set_back(done: u64, number: u64) -> bool {
    done > number.saturating_add(1)
}

fn is_kind(key: &(ChannelName, u64), slot: &PeriodicSlot) -> bool {
    key.0 == slot.channel && key.1 == slot.interval_ms
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::Bytes;

    use super::*;

    fn channel(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    #[test]
    fn a_slot_is_done_once_and_never_again() {
        let slot = PeriodicSlot {
            channel: channel("a"),
            interval_ms: 10_000,
            text_at: Rc::new(|_| Bytes::new()),
        };
        let mut slots = SlotsDone::default();
        assert!(!slots.is_done(&slot, 7));
        slots.set_done(&slot, 7);
        assert!(slots.is_done(&slot, 7) && slots.is_done(&slot, 6) && !slots.is_done(&slot, 8));
        // The clock was set back an hour: the next notice comes now, and once.
        slots.set_done(&slot, 400);
        assert!(!slots.is_done(&slot, 40));
        slots.set_done(&slot, 40);
        assert!(slots.is_done(&slot, 40) && !slots.is_done(&slot, 41));
        let other = PeriodicSlot { interval_ms: 5_000, ..slot };
        assert!(!slots.is_done(&other, 7));
    }
}
