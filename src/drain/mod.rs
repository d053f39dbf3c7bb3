//! The drain: a phase machine without IO, and the barrier that every client holds open.
//!
//! `serving → pre-delay → waiting → closing → stopped`. The machine gives the phase at `now` with
//! so many clients left; the barrier counts clients and requests by guards and reports when the
//! last one leaves. Operators hasten and prolong it by wishes. Nothing here sleeps: a drain ends by
//! the barrier, or at the hard limit. The drain does not know what a client is.

mod barrier;
mod commands;
mod control;
mod departures;
mod forecast;
mod holders;
mod machine;
mod pace;
mod record;
mod state;
mod steering;

pub use self::{
    barrier::{Barrier, Guard},
    commands::{Asked, Command, Commands, Outcome},
    control::Control,
    departures::Departures,
    forecast::{Forecast, PhaseSpan, forecast},
    holders::{Holder, Holders},
    machine::Machine,
    pace::{PaceShare, paced},
    record::{DrainRecord, DrainStateRecord, Signalled},
    state::{Cause, DrainSettings, DrainState, Phase},
    steering::{Refused, Steering},
};
