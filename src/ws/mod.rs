//! RFC 6455 without IO: frames out, frames in, the handshake's rules, the reasons to close.
//!
//! Everything here takes bytes or headers and returns values. No socket, clock, runtime or log;
//! whoever calls decides what to do. Server frames are never masked, so an encoded message is the
//! same for every client.

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod extension;
pub mod frame;
pub mod handshake;
pub mod utf8;

/// What a data message is: RFC 6455 §5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}
