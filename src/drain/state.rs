//! The complete state of a drain, as plain values: when it began, why, and what comes when.
//!
//! All moments are of the server's one clock. Nothing here decides: [`super::Machine`] does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Millis;

/// The stages of the process between start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Why the process drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An operator asked for it, and no signal has come since.
    Admin,
    /// A signal or the end of a console: a supervisor that will end the process anyway.
    Signal,
    /// A part of the process has failed, or another one has taken its place: it can't go back to
    /// serving.
    Failure,
}

/// A drain under way. `started ≤ accepts_until ≤ closing_from ≤ deadline`, unless the deadline has
/// been drawn nearer than the pre-delay by an event that leaves no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainState {
    /// The phase that was reached; serving until the first look at the time.
    pub phase: Phase,
    /// Why it drains.
    pub cause: Cause,
    /// When it began.
    pub started: Millis,
    /// The end of the pre-delay: until then new clients are accepted.
    pub accepts_until: Millis,
    /// When the clients that remain begin to be closed.
    pub closing_from: Millis,
    /// The time over which they are meant to be closed; less where the deadline leaves less.
    pub close_over: Duration,
    /// The hard limit.
    pub deadline: Millis,
}

impl DrainState {
    /// One that begins at `now`, as the options say.
    #[must_use]
    pub fn begin(now: Millis, settings: &DrainSettings, cause: Cause) -> Self {
        let DrainSettings { pre_delay, timeout, close_over } = *settings;
        Self {
            phase: Phase::Serving,
            cause,
            started: now,
            accepts_until: now + pre_delay,
            closing_from: now + timeout.saturating_sub(close_over),
            close_over,
            deadline: now + timeout,
        }
    }

    /// The end of the closing window.
    #[must_use]
    pub fn closing_until(&self) -> Millis {
        (self.closing_from + self.close_over).min(self.deadline)
    }
}
