//! The outcome of a read: its content, and what it cost on the wire.

use crate::tls::Input;

/// The outcome of one read from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The plaintext that it brought, or the end.
    pub input: Input,
    /// How many bytes came over the wire: by TLS more than are plaintext, or none if that was here.
    pub wire_bytes: usize,
}
