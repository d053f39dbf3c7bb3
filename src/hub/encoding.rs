//! The encodings in which logs hold messages, and the trait through which messages are encoded.
//!
//! A channel has a log for each encoding that some client here uses, and a client is a cursor into
//! the log of its own encoding. The hub only tells encodings apart: the publisher of a message
//! knows what a frame looks like, and is asked once per encoding in use and message.

use serde::{Deserialize, Serialize};

use super::LaidOut;
use crate::{
    limits::{COMPRESSED_JSON_FACTOR_MAX, ENCODED_FACTOR_MAX, JSON_FACTOR_MAX},
    ws::{
        Kind,
        extension::WindowBits,
        frame::{self, DataHeader},
    },
};

/// How the messages in a log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// The payload as it was published.
    Plain,
    /// The same, compressed by permessage-deflate with this window where that pays.
    Deflate(WindowBits),
    /// The subprotocol `wsbcast.v1`: JSON text that tells channel and position.
    V1,
    /// The same, compressed where that pays.
    V1Deflate(WindowBits),
    /// Server-sent events: no WebSocket frames at all.
    Sse,
}

impl Encoding {
    /// The window of permessage-deflate, if it was agreed to.
    #[must_use]
    pub fn window(self) -> Option<WindowBits> {
        match self {
            Self::Deflate(window) | Self::V1Deflate(window) => Some(window),
            Self::Plain | Self::V1 | Self::Sse => None,
        }
    }

    /// The same without compression, which is not worth its cost for one client alone.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        match self {
            Self::Plain | Self::Deflate(_) => Self::Plain,
            Self::V1 | Self::V1Deflate(_) => Self::V1,
            Self::Sse => Self::Sse,
        }
    }

    /// About how many bytes in this encoding a byte of a message takes at most.
    pub(super) fn factor_max(self) -> usize {
        match self {
            Self::Plain | Self::Deflate(_) => 1,
            Self::V1 => JSON_FACTOR_MAX,
            Self::V1Deflate(_) => COMPRESSED_JSON_FACTOR_MAX,
            Self::Sse => ENCODED_FACTOR_MAX,
        }
    }

    /// Whether its clients speak WebSocket frames: other clients must never get one.
    #[must_use]
    pub fn has_frames(self) -> bool {
        self != Self::Sse
    }

    /// The subprotocol `wsbcast.v1`, compressed or not.
    #[must_use]
    pub fn is_v1(self) -> bool {
        self.uncompressed() == Self::V1
    }

    /// Whether its clients can be told of missing messages and continue.
    #[must_use]
    pub fn tells_gaps(self) -> bool {
        self.uncompressed() != Self::Plain
    }
}

/// A message that can be written in every encoding.
pub trait Encode {
    /// The whole message in `encoding`, in two parts that follow each other; both are empty if the
    /// message does not concern the clients of this encoding. Called at most once per encoding.
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2];

    /// The length of the payload from which the encodings are written.
    fn payload_bytes(&self) -> usize {
        0
    }

    /// The message in pieces that are written one by one; called instead of [`Encode::encode`] if
    /// all encodings together might be long. None: the message has no pieces.
    fn lay_out(&mut self, _: Encoding) -> Option<LaidOut> {
        None
    }
}

/// A message that is the same in every encoding.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged<'a> {
    header: DataHeader,
    payload: &'a [u8],
}

impl<'a> Unchanged<'a> {
    /// The payload in one frame.
    #[must_use]
    pub fn new(kind: Kind, payload: &'a [u8]) -> Self {
        Self { header: frame::data_header(kind, payload.len()), payload }
    }
}

impl Encode for Unchanged<'_> {
    fn encode(&mut self, _: Encoding) -> [&[u8]; 2] {
        [self.header.as_ref(), self.payload]
    }
}
