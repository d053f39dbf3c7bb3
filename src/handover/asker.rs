//! `wsbcast upgrade`: a process that asks the old one for an upgrade, and waits how it goes.

use std::path::Path;

use thiserror::Error;

use super::{
    Done, Failure, Identity, Link, LinkError, RefusedFor, Step,
    line::Line,
    messages::{Hello, Message, Progress, Purpose, Reason},
};
use crate::{
    limits::{HANDOVER_FAREWELL_DEADLINE, HANDOVER_GREETING_DEADLINE, HANDOVER_SILENCE_MAX},
    record,
};

/// A process that asks for an upgrade, as the old one sees it. It need not stay: nothing depends on
/// it, and it never makes the old process wait in the pause.
#[derive(Debug)]
pub struct Asker {
    line: Line,
    ours: Identity,
}

impl Asker {
    pub(super) fn new(line: Line, ours: Identity) -> Self {
        Self { line, ours }
    }

    /// Tells what is being done now, if there is room for it.
    pub fn progress(&self, step: Step) {
        let message = Message::Progress(Progress { step });
        // An asker that has left, or does not listen, is told nothing.
        let _ = self.line.link.send_now(&record::to_bytes(&message));
    }

    /// The new process serves.
    pub async fn done(self, done: Done) {
        self.tell_last(&Message::Done(done)).await;
    }

    /// The old process goes on. `reason` is a sentence's end, in lower case.
    pub async fn rolled_back(self, reason: &str) {
        self.tell_last(&Message::RolledBack(Reason::new(reason))).await;
    }

    /// Nothing is begun. `text` is a sentence's end, in lower case.
    pub async fn refuse(self, reason: RefusedFor, text: &str) {
        self.line.refuse(self.ours, reason, text).await;
    }

    async fn tell_last(self, message: &Message) {
        let bytes = record::to_bytes(message);
        // The same.
        let _ = self.line.link.send(&bytes, &[], HANDOVER_FAREWELL_DEADLINE).await;
    }
}

/// How an upgrade that was asked for went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new process serves.
    Done(Done),
    /// The old process goes on; why.
    RolledBack(String),
}

/// An upgrade that was not begun, or nobody knows how it went.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens at the path.
    #[error("no process listens there")]
    NobodyThere,
    /// The old process refuses, is another user's, or was lost sight of.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Asks the process that listens at `path` for an upgrade and waits until it has ended.
///
/// # Errors
/// [`AskError`]
pub async fn ask_upgrade(
    path: &Path,
    ours: Identity,
    mut progress: impl FnMut(Step),
) -> Result<Outcome, AskError> {
    let link = match Link::connect(path) {
        Ok(link) => link,
        Err(LinkError::NobodyThere) => return Err(AskError::NobodyThere),
        Err(error) => return Err(Failure::Link { step: Step::Greeting, error }.into()),
    };
    let mut line = Line::new(link);
    let hello = Message::Hello(Hello { identity: ours, purpose: Purpose::AskUpgrade });
    line.say(&hello, HANDOVER_GREETING_DEADLINE).await?;
    loop {
        match line.hear(HANDOVER_SILENCE_MAX).await? {
            (Message::Progress(Progress { step }), _) => {
                line.step = step;
                progress(step);
            }
            (Message::Done(done), _) => return Ok(Outcome::Done(done)),
            (Message::RolledBack(Reason { reason }), _) => return Ok(Outcome::RolledBack(reason)),
            (message, _) => return Err(line.unexpected(&message).into()),
        }
    }
}
