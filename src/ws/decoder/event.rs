//! The events of a client's stream: complete messages and control frames, and the rules for them.
//!
//! Plain values: the decoder makes events, and its caller acts on them. The rules come with each
//! read, since they follow from the options and from the handshake.

use std::borrow::Cow;

use crate::ws::{
    Kind,
    close::{self, CloseReason},
    deflate::compressed_len_max,
};

/// The rules for a client's frames. They do not change during a connection, except that payload may
/// cease to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRules {
    /// Longest message, all its fragments together; past it `TooBig`.
    pub message_bytes_max: usize,
    /// Whether the messages' bytes are wanted. If not, they are checked and counted, and never
    /// stored.
    pub keep_payload: bool,
    /// permessage-deflate was agreed upon: messages may be compressed.
    pub compression: bool,
}

/// A complete message or control frame from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A data message; text is known to be UTF-8, unless it is compressed.
    Message {
        /// Text or binary.
        kind: Kind,
        /// `data` has yet to be inflated, which may fail.
        compressed: bool,
        /// Length in bytes as received, even when `data` is not kept.
        len: usize,
        /// The payload: borrowed from the input if it was all there, else assembled; empty without
        /// `keep_payload`.
        data: Cow<'a, [u8]>,
    },
    /// To be answered by a Pong with the same payload, at most 125 bytes.
    Ping(Cow<'a, [u8]>),
    /// A sign of life.
    Pong(Cow<'a, [u8]>),
    /// The client closes. Anything that it sends afterwards is to be discarded unread.
    Close(CloseFrame),
}

/// The content of a client's Close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// Its code, to be echoed; only a code that a peer may send.
    pub code: Option<u16>,
    /// Its text, often empty.
    pub text: String,
}

impl Event<'_> {
    /// The same event with bytes of its own, for callers that outlive the input.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        let own = |data: Cow<'_, [u8]>| Cow::Owned(data.into_owned());
        match self {
            Self::Message { kind, compressed, len, data } => {
                Event::Message { kind, compressed, len, data: own(data) }
            }
            Self::Ping(data) => Event::Ping(own(data)),
            Self::Pong(data) => Event::Pong(own(data)),
            Self::Close(frame) => Event::Close(frame),
        }
    }
}

impl FrameRules {
    /// The longest message as received. The inflater bounds the length of an inflated one.
    pub(super) fn bytes_max(&self, compressed: bool) -> usize {
        if compressed { compressed_len_max(self.message_bytes_max) } else { self.message_bytes_max }
    }
}

impl CloseFrame {
    /// RFC 6455 §5.5.1: nothing, or a code and a text.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, CloseReason> {
        let Some((code, text)) = payload.split_first_chunk() else {
            let nothing = Self { code: None, text: String::new() };
            return if payload.is_empty() { Ok(nothing) } else { Err(CloseReason::Protocol) };
        };
        let code = u16::from_be_bytes(*code);
        if !close::is_valid_from_peer(code) {
            return Err(CloseReason::Protocol);
        }
        let text = std::str::from_utf8(text).map_err(|_| CloseReason::BadUtf8)?;
        Ok(Self { code: Some(code), text: text.to_owned() })
    }
}
