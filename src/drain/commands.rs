//! Commands of operators on their way to the control thread, and the answers back.
//!
//! Any thread may ask; the control thread, which alone drives the machine, does one command after
//! the other. Once it has begun to end it does none, and whoever asks is told so at once.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{DrainState, Refused, Steering};
use crate::{clock::Millis, limits::DRAIN_COMMANDS_WAITING_MAX};

/// An operator's command about the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// It begins, or goes on in another way.
    Steer(Steering),
    /// Nothing: the answer has the state after such a wish.
    Plan(Steering),
    /// It is taken back: the process serves again.
    Undrain {
        /// Also if a signal has come, which is forgotten.
        is_forced: bool,
    },
}

/// The outcome of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When it was done.
    pub at: Millis,
    /// The state now; `None`: the process serves.
    pub drain: Option<DrainState>,
    /// Whether the drain has begun with this command.
    pub has_begun: bool,
}

/// A command, and the one who waits for what becomes of it.
#[derive(Debug)]
pub struct Asked {
    /// The command.
    pub command: Command,
    answer: oneshot::Sender<Result<Outcome, Refused>>,
}

impl Asked {
    /// Tells what has become of it.
    pub fn answer(self, answer: Result<Outcome, Refused>) {
        // An error means that nobody waits any longer.
        let _ = self.answer.send(answer);
    }
}

/// The receiving end: the control thread's. Dropped, it refuses all that wait.
pub type Commands = mpsc::Receiver<Asked>;

/// The way to the control thread.
#[derive(Debug)]
pub(super) struct Door {
    sender: mpsc::Sender<Asked>,
    /// Until the control thread takes it.
    commands: Mutex<Option<Commands>>,
}

impl Default for Door {
    fn default() -> Self {
        let (sender, commands) = mpsc::channel(DRAIN_COMMANDS_WAITING_MAX);
        Self { sender, commands: Mutex::new(Some(commands)) }
    }
}

impl Door {
    /// The receiving end, which there is once.
    pub(super) fn take(&self) -> Option<Commands> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives a command and waits for what becomes of it.
    ///
    /// # Errors
    /// When it is refused.
    ///
    /// # Cancel safety
    /// May be dropped: the command stays given.
    pub(super) async fn ask(&self, command: Command) -> Result<Outcome, Refused> {
        let (answer, answered) = oneshot::channel();
        self.sender.try_send(Asked { command, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Busy,
            mpsc::error::TrySendError::Closed(_) => Refused::Ending,
        })?;
        answered.await.unwrap_or(Err(Refused::Ending))
    }
}
