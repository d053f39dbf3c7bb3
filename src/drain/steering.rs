//! The wishes of operators: that a drain begin, and how it goes on, hastened or prolonged; that it
//! be taken back.
//!
//! Pure functions from a state and a wish to the next state, so that a dry run says exactly what
//! the wish would do.

use std::time::Duration;

use thiserror::Error;

use super::state::{Cause, DrainSettings, DrainState, Phase};
use crate::clock::Millis;

/// A wish about a drain that may be under way. Times that it leaves out stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// The hard limit, from now on.
    pub timeout: Option<Duration>,
    /// The time over which the clients that remain are closed.
    pub close_over: Option<Duration>,
    /// The closing begins now. Without `timeout` the hard limit is its end.
    pub closes_now: bool,
}

impl Steering {
    /// Nothing but the wish that it drain.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a wish is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The process has begun to end.
    #[error("the process has begun to end")]
    Ending,
    /// There is no drain to take back.
    #[error("the process serves")]
    Serving,
    /// A signal began the drain, or has come since.
    #[error("a signal wants the process to end")]
    Signalled,
    /// A part of the process has failed.
    #[error("a part of the process has failed")]
    Failed,
    /// The window is longer than the time there is for it.
    #[error("closing over {close_over:?} does not fit into {room:?}")]
    NoRoom {
        /// The window that was asked for.
        close_over: Duration,
        /// From the earliest moment at which closing may begin to the hard limit.
        room: Duration,
    },
    /// The hard limit would come before the end of the pre-delay.
    #[error("the limit of {timeout:?} is shorter than the pre-delay, which lasts {pre_delay:?}")]
    WithinPreDelay {
        /// The limit that was asked for.
        timeout: Duration,
        /// The rest of the pre-delay.
        pre_delay: Duration,
    },
    /// As many wishes wait for the control thread as may.
    #[error("too many requests about the drain at once")]
    Busy,
}

/// Whether `drain` may be taken back at `now`; `is_forced`: also one that a signal wants.
///
/// # Errors
/// When it may not.
pub(super) fn may_be_taken_back(
    drain: Option<DrainState>,
    now: Millis,
    is_forced: bool,
) -> Result<(), Refused> {
    let drain = drain.ok_or(Refused::Serving)?;
    match drain.cause {
        _ if is_over(&drain, now) => Err(Refused::Ending),
        Cause::Failure => Err(Refused::Failed),
        Cause::Signal if !is_forced => Err(Refused::Signalled),
        Cause::Signal | Cause::Admin => Ok(()),
    }
}

/// Whether nothing turns it back any more, though its end may not have been seen yet.
fn is_over(drain: &DrainState, now: Millis) -> bool {
    drain.phase == Phase::Stopped || drain.deadline <= now
}

/// The state after `wish` at `now`; `drain` is the state before, if the process drains.
///
/// # Errors
/// When the process has begun to end, or the times do not fit together.
pub(super) fn steered(
    drain: Option<DrainState>,
    settings: &DrainSettings,
    now: Millis,
    wish: &Steering,
) -> Result<DrainState, Refused> {
    if drain.is_some_and(|drain| is_over(&drain, now)) {
        return Err(Refused::Ending);
    }
    let before = drain.unwrap_or_else(|| DrainState::begin(now, settings, Cause::Admin));
    let is_closing = before.phase == Phase::Closing;
    let is_nothing_new = wish.timeout.is_none() && wish.close_over.is_none();
    if is_nothing_new && (is_closing || !wish.closes_now) {
        return Ok(before);
    }
    if before.cause == Cause::Failure {
        return Err(Refused::Failed);
    }
    let accepts_until =
        if wish.closes_now { before.accepts_until.min(now) } else { before.accepts_until };
    let mut deadline = before.deadline;
    if let Some(timeout) = wish.timeout {
        deadline = now + timeout;
        let pre_delay = accepts_until - now;
        if timeout < pre_delay {
            return Err(Refused::WithinPreDelay { timeout, pre_delay });
        }
    }
    let room = deadline - accepts_until.max(now);
    let close_over = wish.close_over.unwrap_or(before.close_over);
    if wish.close_over.is_some() && close_over > room {
        return Err(Refused::NoRoom { close_over, room });
    }
    let window = close_over.min(room);
    // A closing that is under way goes on at another pace, unless there is a new limit.
    let closes_now = wish.closes_now || is_closing && wish.timeout.is_none();
    let closing_from = if closes_now {
        if wish.timeout.is_none() {
            deadline = deadline.min(now + window);
        }
        now
    } else {
        now + (deadline - now).saturating_sub(window)
    };
    let phase = if is_closing && closing_from > now { Phase::Waiting } else { before.phase };
    Ok(DrainState { phase, accepts_until, closing_from, close_over, deadline, ..before })
}
