//! The client's end of a connection, as far as rights depend on it: address and system user.

use std::net::SocketAddr;

use crate::http::owner::Owner;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Peer {
    pub(in crate::http) address: SocketAddr,
    /// `None`: it was not asked for, and the connection ends with its first answer.
    pub(in crate::http) owner: Option<Owner>,
}
