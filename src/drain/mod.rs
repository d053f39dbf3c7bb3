//! The drain: a phase machine without IO, and the barrier that every client holds open.
//!
//! `serving → pre-delay → waiting → closing → stopped`. The machine gives the phase at `now` with
//! so many clients left; the barrier counts clients and requests by guards and reports when the
//! last one leaves. Nothing here sleeps: a drain ends by the barrier, or at the hard limit. The
//! drain does not know what a client is.

mod barrier;
mod holders;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::{Notify, watch};

pub use self::{
    barrier::{Barrier, Guard},
    holders::{Holder, Holders},
};
use crate::clock::Millis;

/// The stages of the process between start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// New clients are accepted.
    Serving,
    /// Readiness is red; new clients are still accepted.
    PreDelay,
    /// New clients get 503; connected clients keep everything.
    Waiting,
    /// The remaining clients are closed with 1012, evenly paced.
    Closing,
    /// The process ends now; the remaining clients get 1001.
    Stopped,
}

impl Phase {
    /// The word for it in logs, in metrics and at `/admin/drain`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::PreDelay => "pre-delay",
            Self::Waiting => "waiting",
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        }
    }
}

/// How long each part of a drain lasts. `pre_delay + close_over <= timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// From the first signal until new clients are refused.
    pub pre_delay: Duration,
    /// From the first signal to the hard limit.
    pub timeout: Duration,
    /// The closing window, at the end of `timeout`.
    pub close_over: Duration,
}

/// The phase as a function of time and of the number of clients left.
///
/// # Invariants
/// - The phase only ever moves forward.
/// - Past `timeout`, or with no client left after the pre-delay, it is `Stopped`.
#[derive(Debug)]
pub struct Machine {
    settings: DrainSettings,
    phase: Phase,
    started: Option<Millis>,
}

impl Machine {
    /// A machine in the phase `Serving`.
    #[must_use]
    pub fn new(settings: DrainSettings) -> Self {
        Self { settings, phase: Phase::Serving, started: None }
    }

    /// The first signal. Later calls change nothing.
    pub fn start(&mut self, now: Millis) {
        self.started.get_or_insert(now);
    }

    /// Goes straight to closing, over the rest of `close_over` from now on.
    pub fn start_closing(&mut self, now: Millis, close_over: Duration) {
        self.settings =
            DrainSettings { pre_delay: Duration::ZERO, timeout: close_over, close_over };
        self.started = Some(now);
    }

    /// Ends the drain: the second signal.
    pub fn stop(&mut self, now: Millis) {
        self.start(now);
        self.phase = Phase::Stopped;
    }

    /// The phase at `now` with `clients` left.
    ///
    /// The pre-delay and serving end in waiting even with no client: the clients were counted while
    /// new ones could still come. The publisher of the phase counts again afterwards.
    pub fn advance(&mut self, now: Millis, clients: usize) -> Phase {
        let Some(started) = self.started else { return self.phase };
        let elapsed = now - started;
        let closing_from = self.settings.timeout.saturating_sub(self.settings.close_over);
        let reached = if elapsed >= self.settings.timeout {
            Phase::Stopped
        } else if elapsed < self.settings.pre_delay {
            Phase::PreDelay
        } else if clients == 0 && self.phase >= Phase::Waiting {
            Phase::Stopped
        } else if clients > 0 && elapsed >= closing_from {
            Phase::Closing
        } else {
            Phase::Waiting
        };
        self.phase = self.phase.max(reached);
        self.phase
    }

    /// When the phase will next change by time alone.
    #[must_use]
    pub fn next_change(&self) -> Option<Millis> {
        let started = self.started?;
        let DrainSettings { pre_delay, timeout, close_over } = self.settings;
        match self.phase {
            Phase::Serving => Some(started),
            Phase::PreDelay => Some(started + pre_delay),
            Phase::Waiting => Some(started + timeout.saturating_sub(close_over)),
            Phase::Closing => Some(started + timeout),
            Phase::Stopped => None,
        }
    }

    /// Time since the first signal.
    #[must_use]
    pub fn elapsed(&self, now: Millis) -> Duration {
        self.started.map_or(Duration::ZERO, |started| now - started)
    }

    /// Time until the hard limit; the whole timeout before the first signal.
    #[must_use]
    pub fn remaining(&self, now: Millis) -> Duration {
        self.settings.timeout.saturating_sub(self.elapsed(now))
    }
}

/// One of several shares that close their clients over the same window. Their first closes are
/// spread as well, so that many shards with few clients each do not close them all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceShare {
    /// The share's index; the first one begins at once.
    pub index: usize,
    /// The number of shares.
    pub of: usize,
}

/// How many of `total` clients should have been closed `elapsed` into a window: evenly paced, the
/// last one a tenth of the window (2 s at most) before its end, so that it can answer.
#[must_use]
pub fn paced(total: usize, elapsed: Duration, window: Duration, share: PaceShare) -> usize {
    let margin = (window / 10).min(Duration::from_secs(2));
    let span = window.saturating_sub(margin).as_micros();
    if span == 0 || elapsed.as_micros() >= span {
        return total;
    }
    let of = share.of.max(1) as u128;
    let due = total as u128 * elapsed.as_micros() * of / span;
    // Rounded up from the first instant on, for each later share a little later.
    let ahead = of.saturating_sub(share.index as u128);
    usize::try_from((due + ahead) / of).map_or(total, |due| due.min(total))
}

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
    use super::*;

    const SETTINGS: DrainSettings = DrainSettings {
        pre_delay: Duration::from_secs(5),
        timeout: Duration::from_secs(100),
        close_over: Duration::from_secs(20),
    };

    fn at(seconds: u64) -> Millis {
        Millis(seconds * 1000)
    }

    #[test]
    fn phases_follow_the_clock_while_clients_stay() {
        let mut machine = Machine::new(SETTINGS);
        assert_eq!(machine.advance(at(1000), 0), Phase::Serving);
        machine.start(at(1000));
        for (second, phase) in [
            (1000, Phase::PreDelay),
            (1004, Phase::PreDelay),
            (1005, Phase::Waiting),
            (1079, Phase::Waiting),
            (1080, Phase::Closing),
            (1099, Phase::Closing),
            (1100, Phase::Stopped),
        ] {
            assert_eq!(machine.advance(at(second), 3), phase, "second {second}");
        }
    }

    /// With nobody left it stops in any phase after the pre delay.
    #[test]
    fn with_nobody_left_it_stops_after_the_pre_delay() {
        for second in [5, 50, 85] {
            let mut machine = Machine::new(SETTINGS);
            machine.start(at(0));
            assert_eq!(machine.advance(at(2), 0), Phase::PreDelay);
            machine.advance(at(second), 1);
            assert_eq!(machine.advance(at(second), 0), Phase::Stopped);
        }
    }

    #[test]
    fn nobody_counts_as_left_before_new_clients_are_refused() {
        for second in [5, 50, 85] {
            let mut machine = Machine::new(SETTINGS);
            machine.start(at(0));
            assert_eq!(machine.advance(at(second), 0), Phase::Waiting);
            assert_eq!(machine.advance(at(second), 0), Phase::Stopped);
        }
    }

    #[test]
    fn every_change_by_time_is_announced() {
        let mut machine = Machine::new(SETTINGS);
        machine.start(at(0));
        let mut phases = Vec::new();
        while let Some(change) = machine.next_change() {
            phases.push(machine.advance(change, 1));
        }
        assert_eq!(phases, [Phase::PreDelay, Phase::Waiting, Phase::Closing, Phase::Stopped]);
    }

    #[test]
    fn the_second_signal_stops_and_nothing_moves_back() {
        let mut machine = Machine::new(SETTINGS);
        machine.stop(at(0));
        assert_eq!(machine.advance(at(1), 7), Phase::Stopped);
    }

    #[test]
    fn closes_are_paced_evenly_and_end_before_the_window() {
        let window = Duration::from_secs(10);
        let alone = PaceShare { index: 0, of: 1 };
        let paced = |total, elapsed, window| paced(total, elapsed, window, alone);
        assert_eq!(paced(1, Duration::ZERO, window), 1);
        let mut before = 0;
        for tenth in 0..=90 {
            let due = paced(900, Duration::from_millis(tenth * 100), window);
            assert!(due >= before && due - before <= 11, "{before} -> {due}");
            before = due;
        }
        assert_eq!(before, 900);
        assert_eq!(paced(5, Duration::ZERO, Duration::ZERO), 5);
    }

    /// A limit that is suddenly nearer is told though the phase stays.
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

    #[test]
    fn many_shards_with_one_client_each_close_them_one_by_one() {
        let window = Duration::from_secs(10);
        let closed_at = |millis| -> usize {
            let turns = (0..9).map(|index| PaceShare { index, of: 9 });
            turns.map(|turn| paced(1, Duration::from_millis(millis), window, turn)).sum()
        };
        let mut before = 0;
        for second in 0..=9 {
            let closed = closed_at(second * 1000);
            assert!(closed <= before + 1, "{closed} at {second} s");
            before = closed;
        }
        assert_eq!((closed_at(0), closed_at(4000), closed_at(9000)), (1, 5, 9));
    }
}
