//! Debug lines at both ends of a client, for operators that look for one; `--access-log`'s at its
//! end.
//!
//! Facts of the beginning are kept for the end only while such lines are enabled: otherwise a
//! client costs nothing more. Numbers name a client within its shard and connect the lines;
//! claims of the client, or of a proxy before it, are quoted, and marked where they are unverified.
//! Bytes are those that the system counts anyway.

use std::net::TcpStream;

use tracing::{debug, field};

use crate::{
    channel::ChannelName,
    conn::{
        client_state::ClientState,
        entry::{Endpoint, Entry},
        logged_client::{Channels, LoggedClient, clients_are_logged},
        table::ConnectionTable,
    },
    hub::Key,
    limits::CHANNELS_NAMED,
    peer::ClientAddress,
    telemetry::{access, access_is_logged},
    ws::{close::CloseReason, decoder::CloseFrame},
};

/// The codes that stand for a Close frame without a code, and for an end without a Close frame (RFC
/// 6455 §7.1.5).
const NO_CODE: u16 = 1005;
const NO_CLOSE: u16 = 1006;

impl ConnectionTable {
    /// A client has come.
    pub(super) fn log_connected(
        &mut self,
        key: Key,
        stream: &TcpStream,
        address: ClientAddress,
        forwarded: Option<Box<str>>,
    ) {
        if !clients_are_logged() && !access_is_logged() {
            return;
        }
        let peer = stream.peer_addr().ok();
        let channels = self.channels(key);
        debug!(
            client = key.to_u64(),
            peer = peer.map(field::display),
            %address,
            sub = self.sub(key),
            forwarded_unverified = forwarded.as_deref(),
            channels = channels.count,
            named = channels.named,
            "client connected"
        );
        let since = self.now;
        self.logged.insert(
            key,
            LoggedClient { peer, address, forwarded, since, channels, close_frame: None },
        );
    }

    /// A client leaves by itself.
    pub(super) fn remember_close_frame(&mut self, key: Key, close_frame: CloseFrame) {
        if let Some(seen) = self.logged.get_mut(&key) {
            seen.close_frame = Some(close_frame);
        }
    }

    /// A client is about to lose its channels.
    pub(super) fn remember_channels(&mut self, key: Key) {
        if self.logged.contains_key(&key) {
            let channels = self.channels(key);
            self.logged.entry(key).and_modify(|seen| seen.channels = channels);
        }
    }

    /// A client leaves; its socket is still in the hub.
    pub(super) fn log_gone(&mut self, key: Key, client: &Entry, reason: CloseReason) {
        if client.state() == ClientState::Open {
            self.remember_channels(key);
        }
        let Some(seen) = self.logged.remove(&key) else { return };
        let LoggedClient { peer, address, forwarded, since, channels, close_frame } = seen;
        let close_frame = close_frame.as_ref().filter(|_| reason == CloseReason::Client);
        let implied = if reason == CloseReason::Lost { NO_CLOSE } else { NO_CODE };
        let code = reason.code().or_else(|| close_frame?.code).unwrap_or(implied);
        let seconds = (self.now - since).as_millis() as f64 / 1000.0;
        let bytes = self.acknowledged_bytes(key);
        let code = client.encoding.has_frames().then_some(code);
        access!(
            %address,
            sub = self.sub(key),
            path = path(client),
            channels = channels.count,
            bytes_out = bytes,
            seconds,
            code,
            reason = reason.word(),
            "client"
        );
        debug!(
            client = key.to_u64(),
            peer = peer.map(field::display),
            %address,
            sub = self.sub(key),
            forwarded_unverified = forwarded.as_deref(),
            channels = channels.count,
            named = channels.named,
            seconds,
            bytes,
            code,
            reason = reason.word(),
            text = close_frame.map(|frame| &*frame.text).filter(|text| !text.is_empty()),
            "client gone"
        );
    }

    pub(super) fn acknowledged_bytes(&self, key: Key) -> Option<u64> {
        self.hub.outlet(key)?.acknowledged_bytes(self.hub.shared())
    }

    /// The subject of a client's token, as its issuer has named it.
    fn sub(&self, key: Key) -> Option<&str> {
        self.rights.of_token(key)?.sub.as_deref()
    }

    fn channels(&self, key: Key) -> Channels {
        let count = self.hub.subscription_count(key);
        if !clients_are_logged() {
            return Channels { count, named: String::new() };
        }
        let mut channels = self.hub.channels(key).map(ChannelName::as_str);
        let named: Vec<_> = channels.by_ref().take(CHANNELS_NAMED).collect();
        let more = if channels.next().is_some() { ", …" } else { "" };
        let named = named.join(", ") + more;
        Channels { count, named }
    }
}

/// The route by which the client came.
fn path(client: &Entry) -> &'static str {
    match client.endpoint {
        Endpoint::Echo => "/echo",
        Endpoint::Ws if client.encoding.has_frames() => "/ws",
        Endpoint::Ws => "/sse",
    }
}
