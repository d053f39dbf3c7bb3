//! The forms in which logs hold messages, and who writes them.
//!
//! A channel has a log for each encoding that some client here uses, and a client is a cursor
//! into the one of its own. The hub only tells encodings apart: what a frame of one looks like is
//! the business of whoever publishes, which is asked once per encoding in use and message.

use super::LaidOut;
use crate::{
    limits::{COMPRESSED_JSON_FACTOR_MAX, FORM_FACTOR_MAX, JSON_FACTOR_MAX},
    ws::{
        Kind,
        extension::WindowBits,
        frame::{self, Header},
    },
};

/// How the messages in a log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

    /// The same without compression: what is written for one client alone is not worth it.
    #[must_use]
    pub fn uncompressed(self) -> Self {
        match self {
            Self::Plain | Self::Deflate(_) => Self::Plain,
            Self::V1 | Self::V1Deflate(_) => Self::V1,
            Self::Sse => Self::Sse,
        }
    }

    /// How many bytes one of a message takes at most, about.
    pub(super) fn factor_max(self) -> usize {
        match self {
            Self::Plain | Self::Deflate(_) => 1,
            Self::V1 => JSON_FACTOR_MAX,
            Self::V1Deflate(_) => COMPRESSED_JSON_FACTOR_MAX,
            Self::Sse => FORM_FACTOR_MAX,
        }
    }

    /// Whether its clients speak WebSocket frames: whoever does not must never get one.
    #[must_use]
    pub fn has_frames(self) -> bool {
        self != Self::Sse
    }

    /// The subprotocol `wsbcast.v1`, compressed or not.
    #[must_use]
    pub fn is_v1(self) -> bool {
        self.uncompressed() == Self::V1
    }

    /// Whether its clients can be told of what is missing and go on.
    #[must_use]
    pub fn tells_gaps(self) -> bool {
        self.uncompressed() != Self::Plain
    }
}

/// A message that can be written in every encoding.
pub trait Encode {
    /// The whole message in `encoding`, in two parts that follow each other; both empty if it does
    /// not concern those who use it. Asked for at most once per encoding.
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2];

    /// Length of what its forms are written from.
    fn payload_bytes(&self) -> usize {
        0
    }

    /// The message as it is written piece by piece; asked for instead of [`Encode::encode`] if all
    /// its forms together might be long. None: it has no pieces.
    fn lay_out(&mut self, _: Encoding) -> Option<LaidOut> {
        None
    }
}

/// A message that is the same in every encoding.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged<'a> {
    header: Header,
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
