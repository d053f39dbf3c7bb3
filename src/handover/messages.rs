//! The words of the protocol, as records.
//!
//! Versions: a message gets further fields freely, readers skip those that they don't know, and
//! what an earlier version does not write has a default. A change that an earlier version would
//! take wrong raises [`PROTOCOL_MAJOR`]: processes of different ones refuse each other. [`Hello`]
//! and [`Refused`] are understood by all of them, so they never change but by further fields.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Step;
use crate::limits::HANDOVER_REASON_BYTES_MAX;

/// The version that both sides must have in common.
pub const PROTOCOL_MAJOR: u32 = 1;
/// Additions of a side beyond that, for a reader that cares.
pub const PROTOCOL_MINOR: u32 = 0;

/// One message. A kind that the reader does not know is an error: its sender expects an effect.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// The first one, of a process that connects.
    Hello(Hello),
    /// The old process does not do what was asked for.
    Refused(Refused),
    /// All that the new process needs to build itself.
    Manifest(Manifest),
    /// The new process is built, and could take what is large.
    Built,
    /// A piece of what is large.
    Ahead(Enclosed),
    /// There are no more pieces.
    AheadEnd,
    /// The new process could take over.
    Ready,
    /// The old process does not serve any more.
    Pausing,
    /// A part of the state.
    Part(Enclosed),
    /// There are no more parts.
    PartsEnd,
    /// The last parcel is in the new process.
    Ack(Ack),
    /// The new process has restored all and touched nothing.
    Prepared,
    /// From here only the new process serves.
    Commit,
    /// The hand-over ends; the old process goes on.
    Abort(Reason),
    /// To an asker: the step that has begun.
    Progress(Progress),
    /// To an asker: it is done.
    Done(Done),
    /// To an asker: the old process goes on.
    RolledBack(Reason),
}

impl Message {
    /// Descriptors that have to come with it.
    pub(super) fn descriptors(&self) -> u32 {
        match self {
            Self::Manifest(Manifest { enclosed, .. })
            | Self::Ahead(enclosed)
            | Self::Part(enclosed) => {
                enclosed.descriptors.saturating_add(u32::from(enclosed.is_sheet))
            }
            _ => 0,
        }
    }

    /// Its kind, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Refused(_) => "Refused",
            Self::Manifest(_) => "Manifest",
            Self::Built => "Built",
            Self::Ahead(_) => "Ahead",
            Self::AheadEnd => "AheadEnd",
            Self::Ready => "Ready",
            Self::Pausing => "Pausing",
            Self::Part(_) => "Part",
            Self::PartsEnd => "PartsEnd",
            Self::Ack(_) => "Ack",
            Self::Prepared => "Prepared",
            Self::Commit => "Commit",
            Self::Abort(_) => "Abort",
            Self::Progress(_) => "Progress",
            Self::Done(_) => "Done",
            Self::RolledBack(_) => "RolledBack",
        }
    }
}

/// A process, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`PROTOCOL_MAJOR`] of its version.
    pub major: u32,
    /// [`PROTOCOL_MINOR`] of its version.
    #[serde(default)]
    pub minor: u32,
    /// The version of the program.
    pub version: String,
    /// Its number, where it lives.
    pub pid: u32,
}

impl Identity {
    /// This process, which calls its program's version `version`.
    #[must_use]
    pub fn own(version: &str) -> Self {
        let pid = std::process::id();
        Self { major: PROTOCOL_MAJOR, minor: PROTOCOL_MINOR, version: version.to_owned(), pid }
    }
}

/// The first message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) identity: Identity,
    pub(super) purpose: Purpose,
}

/// The reason for which somebody connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A new process takes over.
    TakeOver,
    /// `wsbcast upgrade`: the old process should start a new one.
    AskUpgrade,
    /// Something of a later version.
    #[serde(other)]
    Unknown,
}

/// The answer of an old process that does not do what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The old process.
    pub identity: Identity,
    /// For programs.
    pub reason: RefusedFor,
    /// For people: a sentence's end, in lower case.
    pub text: String,
}

/// Why an old process refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedFor {
    /// Another hand-over is under way, or clients of the last one are still here.
    Busy,
    /// It ends already, and has nothing to hand over any more.
    Restarting,
    /// It speaks another protocol.
    Protocol,
    /// It can't be replaced where it runs: as process 1, or under a supervisor that would not
    /// follow.
    Unsupported,
    /// Something of a later version; the text says it.
    #[serde(other)]
    Other,
}

/// All that a new process needs to build itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The old process.
    pub(super) identity: Identity,
    pub(super) enclosed: Enclosed,
}

/// Opaque content and descriptors.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Enclosed {
    /// Its subject.
    pub(super) kind: PartKind,
    /// The shard that it belongs to.
    #[serde(default)]
    pub(super) shard: Option<u32>,
    /// The content; empty if it is in a sheet.
    #[serde(default)]
    pub(super) content: ByteBuf,
    /// Whether the first descriptor is a sheet with the content.
    #[serde(default)]
    pub(super) is_sheet: bool,
    /// Descriptors that come with it, without that of the sheet.
    #[serde(default)]
    pub(super) descriptors: u32,
    /// Each has its own, from 1 on; the acknowledgement repeats it.
    #[serde(default)]
    pub(super) number: u32,
}

/// The subject of a [`Parcel`](super::Parcel). A kind that the reader does not know is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartKind {
    /// The process: its listeners, its settings.
    Process,
    /// The broker: histories, or what has come since they were sent.
    Broker,
    /// A shard: its logs.
    Shard,
    /// Clients, with a descriptor each.
    Clients,
    /// HTTP connections, with a descriptor each.
    Http,
}

/// The last parcel has arrived, and was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ack {
    /// Of the parcel.
    #[serde(default)]
    pub(super) number: u32,
}

/// Why something ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reason {
    /// A sentence's end, in lower case.
    pub(super) reason: String,
}

impl Reason {
    /// Cut at [`HANDOVER_REASON_BYTES_MAX`].
    pub(super) fn new(reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        if reason.len() > HANDOVER_REASON_BYTES_MAX {
            let fits = |end: &usize| reason.is_char_boundary(*end);
            let end = (0..=HANDOVER_REASON_BYTES_MAX).rev().find(fits).unwrap_or_default();
            reason.truncate(end);
            reason.push('…');
        }
        Self { reason }
    }
}

/// The step that an upgrade is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) step: Step,
}

/// An upgrade is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// The new process.
    pub pid: u32,
    /// From the last moment at which the old process served to COMMIT.
    pub pause_ms: u64,
    /// Clients that were handed over.
    pub clients: u64,
}
