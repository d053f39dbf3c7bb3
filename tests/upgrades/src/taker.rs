//! A new process that fails at a step of its own choice: killed, stopped, or refusing.
//!
//! It speaks the hand-over as a real one does, takes whatever it gets, and drops it. It never
//! serves: if its step does not come it refuses at the last one.

use std::{cell::Cell, os::fd::OwnedFd, process::ExitCode, rc::Rc};

use anyhow::{Context as _, Result};
use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::Builder;
use wsbcast::handover::{Failure, Identity, Link, Parcel, RefusedFor, Taker, take_over};

use super::args::{Failing, FailingStep, TakerArgs};

/// It has failed as it should, and the old process was told.
pub(crate) const EXIT_FAILED: u8 = 10;
/// The old process is busy: nothing was tried.
pub(crate) const EXIT_BUSY: u8 = 11;
/// Its step never came.
pub(crate) const EXIT_NOT_REACHED: u8 = 12;

/// Runs it to its end.
pub(crate) fn run(args: &TakerArgs) -> Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        let link = Link::connect(&args.control_socket).context("the control socket")?;
        let mut identity = Identity::own(env!("CARGO_PKG_VERSION"));
        let taker = Failer { args: args.clone(), reached: Rc::default() };
        if args.step == FailingStep::Greeting {
            // Nothing is built before it says which protocol it speaks.
            identity.major += u32::from(args.kind == Failing::Refusing);
            let _ = taker.at(FailingStep::Greeting);
        }
        let reached = taker.reached.clone();
        let outcome = take_over(link, identity, taker).await;
        Ok(ExitCode::from(match outcome {
            Err(Failure::Refused(refused)) if refused.reason == RefusedFor::Busy => EXIT_BUSY,
            _ if reached.get() => EXIT_FAILED,
            _ => EXIT_NOT_REACHED,
        }))
    })
}

struct Failer {
    args: TakerArgs,
    /// Its step has come.
    reached: Rc<Cell<bool>>,
}

impl Failer {
    /// Fails if this is the step.
    fn at(&self, step: FailingStep) -> Result<(), String> {
        if self.args.step != step {
            return Ok(());
        }
        self.reached.set(true);
        let signal = match self.args.kind {
            Failing::Killed => Signal::KILL,
            Failing::Stopped => Signal::STOP,
            Failing::Refusing => return Err("it was told to refuse here".to_owned()),
        };
        kill_process(getpid(), signal).map_err(|error| error.to_string())
    }
}

impl Taker for Failer {
    type Started = ();

    async fn build(&mut self, _: &Identity, _: Parcel<OwnedFd>) -> Result<(), String> {
        self.at(FailingStep::Building)
    }

    async fn take_ahead(&mut self, _: Parcel<OwnedFd>) -> Result<(), String> {
        self.at(FailingStep::Ahead)
    }

    async fn ready(&mut self) -> Result<(), String> {
        self.at(FailingStep::Ready)
    }

    async fn restore(&mut self, _: Parcel<OwnedFd>) -> Result<(), String> {
        self.at(FailingStep::State)
    }

    async fn prepare(&mut self) -> Result<(), String> {
        self.at(FailingStep::Prepared)?;
        Err("it never serves".to_owned())
    }

    fn start(self, _: Link) {}
}
