//! What the set that waits for all sockets tells of one of them.

use crate::hub::Key;

/// What a socket is ready for.
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
