//! Facts from a client's beginning for the log line about its end.
//!
//! Plain values, kept only while such lines are wanted.

use std::net::SocketAddr;

use tracing::{Level, enabled};

use crate::{clock::Millis, peer::ClientAddress, ws::decoder::CloseFrame};

/// A client that was logged when it came.
#[derive(Debug)]
pub(super) struct LoggedClient {
    pub(super) peer: Option<SocketAddr>,
    pub(super) address: ClientAddress,
    pub(super) forwarded: Option<Box<str>>,
    pub(super) since: Millis,
    pub(super) channels: Channels,
    /// Its Close frame, when it left by itself.
    pub(super) close_frame: Option<CloseFrame>,
}

/// The client's channels.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) count: usize,
    /// Some names; none unless debug lines are wanted.
    pub(super) named: String,
}

/// Whether debug lines about clients are wanted.
pub fn clients_are_logged() -> bool {
    enabled!(Level::DEBUG)
}
