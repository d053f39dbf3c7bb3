//! The phase machine of a drain: which phase it is, given the time and the clients left.
//!
//! Plain values without IO and clock: `now` comes in as an argument, so tables test it.

use std::time::Duration;

use serde::Serialize;

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::drain) const SETTINGS: DrainSettings = DrainSettings {
        pre_delay: Duration::from_secs(5),
        timeout: Duration::from_secs(100),
        close_over: Duration::from_secs(20),
    };

    pub(in crate::drain) fn at(seconds: u64) -> Millis {
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

    /// A drain with no client left stops in any phase after the pre-delay.
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

    /// No client counts as left before new clients are refused.
    #[test]
    fn nobody_counts_as_left_while_clients_may_come() {
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
}
