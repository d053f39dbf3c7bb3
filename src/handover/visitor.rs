//! Visitors of the old process' control socket, once they have said what they want.

use super::{
    Asker, Failure, Identity, Link, RefusedFor,
    failure::ProtocolMismatch,
    line::Line,
    messages::{Hello, Message, Purpose},
};
use crate::limits::HANDOVER_GREETING_DEADLINE;

/// Somebody who wants something.
#[derive(Debug)]
pub enum Visitor {
    /// A new process that takes over: for [`give`](super::give).
    NewProcess(NewProcess),
    /// Somebody who asks for an upgrade, and wants to know how it goes.
    Asker(Asker),
}

/// A new process that would take over.
#[derive(Debug)]
pub struct NewProcess {
    pub(super) line: Line,
    pub(super) ours: Identity,
    pub(super) theirs: Identity,
}

impl NewProcess {
    /// As it names itself.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.theirs
    }

    /// The process, as the system says; compare [`Peer::pid`](super::Peer) to know a child.
    #[must_use]
    pub fn peer(&self) -> super::Peer {
        self.line.link.peer()
    }

    /// Sends it away. `text` is a sentence's end, in lower case.
    pub async fn refuse(self, reason: RefusedFor, text: &str) {
        self.line.refuse(self.ours, reason, text).await;
    }
}

/// Has a connection say what it is for. `ours` is the old process.
///
/// # Errors
/// A connection that says nothing that is understood; it is told so.
///
/// # Cancel safety
/// If it is dropped the connection is closed.
pub async fn receive(link: Link, ours: Identity) -> Result<Visitor, Failure> {
    let mut line = Line::new(link);
    let heard = line.hear(HANDOVER_GREETING_DEADLINE).await;
    let hello = match heard {
        Ok((Message::Hello(hello), _)) => hello,
        Ok((message, _)) => {
            let failure = line.unexpected(&message);
            line.part(&failure).await;
            return Err(failure);
        }
        Err(failure) => {
            line.part(&failure).await;
            return Err(failure);
        }
    };
    let Hello { identity: theirs, purpose } = hello;
    if theirs.major != ours.major {
        let mismatch = ProtocolMismatch { old: ours.clone(), new: theirs };
        line.refuse(ours, RefusedFor::Protocol, &mismatch.to_string()).await;
        return Err(Failure::Protocol(Box::new(mismatch)));
    }
    match purpose {
        Purpose::TakeOver => Ok(Visitor::NewProcess(NewProcess { line, ours, theirs })),
        Purpose::AskUpgrade => Ok(Visitor::Asker(Asker::new(line, ours))),
        Purpose::Unknown => {
            line.refuse(ours, RefusedFor::Other, "it does not know what is asked for").await;
            Err(line.unexpected(&Message::Hello(Hello { identity: theirs, purpose })))
        }
    }
}
