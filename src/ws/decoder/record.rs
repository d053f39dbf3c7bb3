//! A decoder amid a message or a frame, as plain data, for another process that goes on reading.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::header::Carries;
use crate::ws::Kind;

/// The unfinished parts of one client's input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecoderRecord {
    /// The beginning of a header.
    #[serde(default)]
    pub(super) header: Bytes,
    #[serde(default)]
    pub(super) frame: Option<FrameRecord>,
    /// The part of a control frame's payload that has arrived.
    #[serde(default)]
    pub(super) control: Bytes,
    #[serde(default)]
    pub(super) message: Option<MessageRecord>,
}

/// A frame whose payload has not all arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FrameRecord {
    pub(super) fin: bool,
    pub(super) compressed: bool,
    pub(super) carries: Carries,
    /// Payload bytes to come.
    pub(super) remaining: usize,
    /// The masking key, rotated to the next of these bytes.
    pub(super) key: [u8; 4],
}

/// A data message that has arrived in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageRecord {
    pub(super) kind: Kind,
    pub(super) compressed: bool,
    /// Payload bytes so far, also those that are not kept.
    pub(super) len: usize,
    /// The beginning of the character that is cut.
    #[serde(default)]
    pub(super) cut: Bytes,
    #[serde(default)]
    pub(super) data: Bytes,
}
