//! The phase machine of a drain: which phase it is, given the time and the clients left.
//!
//! Plain values without IO and clock: `now` comes in as an argument, so tables test it.

use std::time::Duration;

use super::{
    state::{Cause, DrainSettings, DrainState, Phase},
    steering::{Refused, Steering, may_be_taken_back, steered},
};
use crate::clock::Millis;

/// The phase as a function of time, of the number of clients left, and of what operators ask for.
///
/// # Invariants
/// - By time the phase only ever moves forward. A wish for another limit may turn closing back into
///   waiting, and a drain may be taken back as a whole; nothing turns back `Stopped`.
/// - Past the deadline, or with no client left after the pre-delay, it is `Stopped`.
#[derive(Debug)]
pub struct Machine {
    settings: DrainSettings,
    drain: Option<DrainState>,
    /// Counts the changes that are not made by time.
    revision: u64,
}

impl Machine {
    /// A machine in the phase `Serving`.
    #[must_use]
    pub fn new(settings: DrainSettings) -> Self {
        Self { settings, drain: None, revision: 0 }
    }

    /// A machine that goes on with a drain of another process, if it was in one.
    #[must_use]
    pub fn continuing(settings: DrainSettings, drain: Option<DrainState>) -> Self {
        let revision = u64::from(drain.is_some());
        Self { settings, drain, revision }
    }

    /// The drain under way; `None` while serving.
    #[must_use]
    pub fn drain(&self) -> Option<DrainState> {
        self.drain
    }

    /// Grows with each change that is not made by time.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The first signal, or a failure. A drain that is under way goes on as it is, but it is no
    /// longer an operator's own.
    pub fn start(&mut self, now: Millis, cause: Cause) {
        let mut drain = self.begun(now, cause);
        if drain.cause == Cause::Admin || cause == Cause::Failure {
            drain.cause = cause;
        }
        self.set(drain);
    }

    /// Goes straight to closing, over `window` from now on, or what is left if that is less.
    pub fn start_closing(&mut self, now: Millis, window: Duration, cause: Cause) {
        let end = now + window;
        let deadline = self.drain.map_or(end, |drain| drain.deadline.min(end));
        self.start(now, cause);
        let drain = self.begun(now, cause);
        let closing_from = now.min(deadline);
        let accepts_until = drain.accepts_until.min(closing_from);
        self.set(DrainState { accepts_until, closing_from, deadline, ..drain });
    }

    /// Ends the drain: the second signal.
    pub fn stop(&mut self, now: Millis) {
        let drain = self.begun(now, Cause::Signal);
        self.set(DrainState { phase: Phase::Stopped, ..drain });
    }

    /// The state after `wish`, which changes nothing yet.
    ///
    /// # Errors
    /// When the process has begun to end, or the times do not fit together.
    pub fn plan(&self, now: Millis, wish: &Steering) -> Result<DrainState, Refused> {
        steered(self.drain, &self.settings, now, wish)
    }

    /// Does what an operator asks for.
    ///
    /// # Errors
    /// As [`Machine::plan`]; then nothing has changed.
    pub fn steer(&mut self, now: Millis, wish: &Steering) -> Result<DrainState, Refused> {
        let drain = self.plan(now, wish)?;
        self.set(drain);
        Ok(drain)
    }

    /// Back to serving, from any phase but the last. `is_forced`: also if a signal has come.
    ///
    /// # Errors
    /// When there is no drain, or it can't be taken back; then nothing has changed.
    pub fn take_back(&mut self, now: Millis, is_forced: bool) -> Result<(), Refused> {
        may_be_taken_back(self.drain, now, is_forced)?;
        self.drain = None;
        self.revision += 1;
        Ok(())
    }

    /// The phase at `now` with `clients` left.
    ///
    /// The pre-delay and serving end in waiting even with no client: the clients were counted while
    /// new ones could still come. The publisher of the phase counts again afterwards.
    pub fn advance(&mut self, now: Millis, clients: usize) -> Phase {
        let Some(drain) = &mut self.drain else { return Phase::Serving };
        let reached = if now >= drain.deadline {
            Phase::Stopped
        } else if now < drain.accepts_until {
            Phase::PreDelay
        } else if clients == 0 && drain.phase >= Phase::Waiting {
            Phase::Stopped
        } else if clients > 0 && now >= drain.closing_from {
            Phase::Closing
        } else {
            Phase::Waiting
        };
        drain.phase = drain.phase.max(reached);
        drain.phase
    }

    /// When the phase will next change by time alone.
    #[must_use]
    pub fn next_change(&self) -> Option<Millis> {
        let drain = self.drain?;
        match drain.phase {
            Phase::Serving => Some(drain.started),
            Phase::PreDelay => Some(drain.accepts_until),
            Phase::Waiting => Some(drain.closing_from),
            Phase::Closing => Some(drain.deadline),
            Phase::Stopped => None,
        }
    }

    /// Time since the drain began.
    #[must_use]
    pub fn elapsed(&self, now: Millis) -> Duration {
        self.drain.map_or(Duration::ZERO, |drain| now - drain.started)
    }

    /// Time until the hard limit; the whole timeout before the drain has begun.
    #[must_use]
    pub fn remaining(&self, now: Millis) -> Duration {
        self.drain.map_or(self.settings.timeout, |drain| drain.deadline - now)
    }

    fn begun(&self, now: Millis, cause: Cause) -> DrainState {
        self.drain.unwrap_or_else(|| DrainState::begin(now, &self.settings, cause))
    }

    fn set(&mut self, drain: DrainState) {
        if self.drain != Some(drain) {
            self.drain = Some(drain);
            self.revision += 1;
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
