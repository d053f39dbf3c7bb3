//! The drain as the threads share it: the control thread publishes phases, the others follow.
//!
//! A phase is published together with the hard limit, so every thread knows how much time is left.
//! Any thread may request a drain; the control thread alone drives the machine.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use super::{Barrier, Holders, Machine, Phase};
use crate::clock::Millis;

/// The drain's state as all threads know it: the phase, the barrier, and a way to request a drain.
///
/// Only the control thread drives it ([`Control::publish`]); all others read and request.
#[derive(Debug)]
pub struct Control {
    /// The clients and requests that hold the drain open.
    pub barrier: Barrier,
    /// The longest connected of these clients.
    pub holders: Holders,
    phase: watch::Sender<Phase>,
    asked: Notify,
    /// The hard limit, [`Millis`]; 0 before the drain has begun.
    limit_ms: AtomicU64,
    others_serve: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            barrier: Barrier::default(),
            holders: Holders::default(),
            phase: watch::Sender::new(Phase::Serving),
            asked: Notify::new(),
            limit_ms: AtomicU64::new(0),
            others_serve: AtomicBool::new(false),
        }
    }
}

impl Control {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A receiver that wakes at each change of phase.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Requests that the drain begin, as the first signal does (`POST /admin/drain`).
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Resolves when a drain has been requested.
    ///
    /// # Cancel safety
    /// May be dropped: a request in between is remembered.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Publishes the machine's phase at `now` to all threads; also to those that know the phase
    /// already, if the hard limit is suddenly nearer.
    pub fn publish(&self, machine: &Machine, phase: Phase, now: Millis) {
        let mut is_nearer = false;
        if phase > Phase::Serving {
            self.barrier.attend();
            let limit = (now + machine.remaining(now)).0.max(1);
            let before = self.limit_ms.swap(limit, Ordering::Relaxed);
            // Rounding moves it by a millisecond now and then.
            is_nearer = limit + 10 < before;
        }
        self.phase.send_if_modified(|current| {
            let changed = *current != phase || is_nearer;
            *current = phase;
            changed
        });
    }

    /// Whether, as far as is known, another process accepts the clients that this one closes.
    #[must_use]
    pub fn others_serve(&self) -> bool {
        self.others_serve.load(Ordering::Relaxed)
    }

    /// Records whether another process accepts clients.
    pub fn set_others_serve(&self, others_serve: bool) {
        self.others_serve.store(others_serve, Ordering::Relaxed);
    }

    /// Time until the hard limit; `None` before the drain began.
    #[must_use]
    pub fn remaining(&self, now: Millis) -> Option<Duration> {
        match self.limit_ms.load(Ordering::Relaxed) {
            0 => None,
            limit => Some(Millis(limit) - now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::machine::tests::{SETTINGS, at},
        *,
    };

    /// A limit that is suddenly nearer is published though the phase stays.
    #[test]
    fn a_nearer_limit_is_told_within_a_phase() {
        let (control, mut machine) = (Control::default(), Machine::new(SETTINGS));
        let mut watch = control.watch();
        machine.start(at(0));
        let phase = machine.advance(at(81), 1);
        control.publish(&machine, phase, at(81));
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), Phase::Closing);
        control.publish(&machine, Phase::Closing, at(82));
        assert!(!watch.has_changed().unwrap(), "nothing new");
        machine.start_closing(at(83), Duration::from_secs(1));
        control.publish(&machine, Phase::Closing, at(83));
        assert!(watch.has_changed().unwrap());
        assert_eq!(control.remaining(at(83)), Some(Duration::from_secs(1)));
    }
}
