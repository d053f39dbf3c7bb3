//! Why a hand-over ended without COMMIT, and where it was then.

use std::fmt;

use thiserror::Error;

use super::{BadSheet, Identity, LinkError, Refused, Step};
use crate::record::BadRecord;

/// Why a hand-over ended without COMMIT.
#[derive(Debug, Error)]
pub enum Failure {
    /// The connection between both.
    #[error("while {step}: {error}")]
    Link {
        /// Where it was.
        step: Step,
        /// Its kind.
        #[source]
        error: LinkError,
    },
    /// A message that is no record of this protocol, or with the wrong descriptors.
    #[error("while {step}: a message that cannot be read ({error})")]
    BadMessage {
        /// Where it was.
        step: Step,
        /// The fault.
        #[source]
        error: BadMessage,
    },
    /// A message that has no place there.
    #[error("while {step}: a message of the kind {kind}, which has no place there")]
    Unexpected {
        /// Where it was.
        step: Step,
        /// Its kind.
        kind: &'static str,
    },
    /// A step of this process took longer than it may.
    #[error("while {0}: it took too long")]
    TooSlow(Step),
    /// This process could not do its own part.
    #[error("while {step}: {reason}")]
    Own {
        /// Where it was.
        step: Step,
        /// Its own words.
        reason: String,
    },
    /// The other process ended it.
    #[error("while {step}: the other process says: {reason}")]
    Aborted {
        /// Where it was.
        step: Step,
        /// Its words.
        reason: String,
    },
    /// The old process refuses.
    #[error("the old process refuses: {}", .0.text)]
    Refused(Box<Refused>),
    /// The processes speak different protocols.
    #[error("{0}")]
    Protocol(Box<ProtocolMismatch>),
    /// The hand-over was given up from outside: the process ends, or panicked.
    #[error("it was given up")]
    GivenUp,
}

/// The fault of a message.
#[derive(Debug, Error)]
pub enum BadMessage {
    /// It is no record of a message.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// It came with another number of descriptors than it says.
    #[error("{came} descriptors instead of {said}")]
    Descriptors {
        /// As it says.
        said: u32,
        /// As they came.
        came: usize,
    },
    /// It has something that it calls a sheet, and that is none.
    #[error(transparent)]
    Sheet(#[from] BadSheet),
    /// A parcel out of turn, or an acknowledgement of another one.
    #[error("a number out of turn")]
    WrongNumber,
}

/// Two processes that do not understand each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolMismatch {
    /// The old process.
    pub old: Identity,
    /// The new process, or whoever asks.
    pub new: Identity,
}

impl fmt::Display for ProtocolMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new } = self;
        write!(
            f,
            "the old process (version {}) speaks protocol {} of the hand-over, the new one \
             (version {}) protocol {}: this upgrade needs a restart",
            old.version, old.major, new.version, new.major
        )
    }
}
