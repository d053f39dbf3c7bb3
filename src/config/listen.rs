//! The addresses of a server's listeners, and whether they can be reached from other machines.
//!
//! Default addresses are skipped where the machine lacks them, while named ones are required.
//! Whether other machines can connect decides which rights need a token.

use std::net::SocketAddr;

use thiserror::Error;

/// The addresses when the operator names none.
pub(super) const LISTEN_DEFAULT: [&str; 2] = ["127.0.0.1:8000", "[::1]:8000"];

/// A public listener's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address; port 0 picks one.
    pub addr: SocketAddr,
    /// It was not asked for: skipped with a log line where the machine lacks the address.
    pub is_default: bool,
}

/// Strangers would reach a server that lets every client publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "everybody who reaches a listener off loopback could publish: set --api-token (then clients \
     show it in the handshake), or allow anyone with --insecure-api"
)]
pub struct OpenToStrangers;

/// Whether all of `listen` can be reached from this machine only.
pub(super) fn is_loopback_only(listen: &[ListenAddr]) -> bool {
    listen.iter().all(|listener| listener.addr.ip().to_canonical().is_loopback())
}
