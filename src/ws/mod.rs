//! RFC 6455 without IO: outgoing and incoming frames, the handshake's rules, the reasons to close.
//!
//! Everything here takes bytes or headers and returns values: no socket, clock, runtime or log; the
//! caller decides how to react. Server frames are never masked, so an encoded message is the same
//! for every client.

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod extension;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod handshake;
pub mod utf8;

use serde::{Deserialize, Serialize};

/// The type of a data message: RFC 6455 §5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}
