//! Debug lines at both ends of a client, for whoever looks for one.
//!
//! What the second line tells of the first is kept only while such lines are wanted: at any other
//! level a client costs nothing more. Numbers name a client within its shard and tie the lines.

use std::{net::SocketAddr, net::TcpStream};

use tracing::{Level, debug, enabled};

use super::{Clients, Key};
use crate::{clock::Millis, ws::close::CloseReason};

/// A client that was logged when it came.
#[derive(Debug)]
pub(super) struct Seen {
    peer: Option<SocketAddr>,
    since: Millis,
    channels: usize,
}

impl Clients {
    /// A client has come.
    pub(super) fn see_coming(&mut self, key: Key, stream: &TcpStream) {
        if !enabled!(Level::DEBUG) {
            return;
        }
        let peer = stream.peer_addr().ok();
        let channels = self.hub.subscription_count(key);
        let first = self.hub.first_channel(key).map(ToString::to_string);
        debug!(client = key.to_u64(), ?peer, channels, ?first, "client connected");
        self.seen.insert(key, Seen { peer, since: self.now, channels });
    }

    /// A client goes.
    pub(super) fn see_going(&mut self, key: Key, reason: CloseReason) {
        if self.seen.is_empty() {
            return;
        }
        let Some(Seen { peer, since, channels }) = self.seen.remove(&key) else { return };
        let seconds = (self.now - since).as_secs_f64();
        let (code, reason) = (reason.code(), reason.word());
        debug!(client = key.to_u64(), ?peer, channels, seconds, ?code, reason, "client gone");
    }
}
