//! The readiness of one socket, as the set that waits for all of them reports it.

use crate::hub::Key;

/// The readiness of a socket.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The client.
    pub key: Key,
    /// Bytes, an end or an error can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The peer has ended its side, or the connection broke.
    pub ended: bool,
}
