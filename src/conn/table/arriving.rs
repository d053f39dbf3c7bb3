//! How clients come: into the hub first, and with their sockets once their handshakes are answered.
//!
//! In between a client is pending: what is published for it waits in the log. One that is known by
//! then to be kept out is closed before anything goes out.

use crate::{
    admission::AddressGuard,
    channel::ChannelName,
    clock::Millis,
    conn::{
        arrival::Arrival,
        entry::{Endpoint, Entry},
        keepalive::Keepalive,
        socket::Socket,
        table::{Connected, ConnectionTable, FollowUp, entry},
        write::control_messages,
    },
    hub::{Encoding, Key},
    peer::ClientAddress,
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// A client is about to be answered with 101: from here on it misses nothing. It stays
    /// pending until [`ConnectionTable::connect`] or [`ConnectionTable::withdraw`].
    pub fn admit(
        &mut self,
        endpoint: Endpoint,
        encoding: Encoding,
        channels: &[ChannelName],
    ) -> Key {
        let key = self.hub.insert(Socket::Pending);
        self.encoder.join(encoding);
        for channel in channels {
            self.hub.subscribe(key, channel, encoding);
        }
        if endpoint == Endpoint::Ws {
            let opening = control_messages::opening(encoding, self.settings.greeting.as_deref());
            if !opening.as_ref().is_empty() {
                self.hub.control(key, opening.as_ref());
            }
        }
        let index = key.index();
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(Entry::new(key, endpoint, encoding, self.now));
        self.pace_too(key);
        self.handle_hub_events();
        key
    }

    /// The 101 of `key` is out: what waited for it goes out, what the client sent is read.
    pub fn connect(&mut self, key: Key, connected: Connected, now: Millis) {
        self.take_over(key, connected, None, now);
    }

    /// The 101 of a client is out that must go: it gets nothing but its close, and is not heard.
    pub fn connect_to_close(
        &mut self,
        key: Key,
        connected: Connected,
        reason: CloseReason,
        now: Millis,
    ) {
        self.take_over(key, connected, Some(reason), now);
    }

    /// A client counts for the limits of its own and of its address.
    fn begin_limits(&mut self, key: Key, client: ClientAddress, guard: Option<AddressGuard>) {
        self.rates.begin(key, client);
        if entry(&mut self.entries, key).is_some_and(|entry| entry.encoding.is_v1()) {
            self.token_guesses.begin(key, client);
        }
        if let Some(guard) = guard {
            self.address_guards.insert(key, guard);
        }
    }

    fn take_over(
        &mut self,
        key: Key,
        connected: Connected,
        reason: Option<CloseReason>,
        now: Millis,
    ) {
        self.now = self.now.max(now);
        // Ended meanwhile: dropped as a whole, the stream before the guard.
        let Some(entry) = entry(&mut self.entries, key) else { return drop(connected) };
        let Connected { stream, session, leftover, arrival } = connected;
        let Arrival { publisher, credential, client, forwarded, guard, address_guard } = arrival;
        entry.publisher = publisher.filter(|_| self.settings.client_publish.is_on());
        entry.guard = Some(guard);
        entry.keepalive = Keepalive::new(self.now);
        let first = entry.keepalive.first_deadline(&self.settings.keepalive);
        let has_no_pongs = !entry.encoding.has_frames();
        self.begin_limits(key, client, address_guard);
        self.live += 1;
        self.metrics.connections_opened.add(1);
        self.metrics.connections.set(self.live);
        if let Some(credential) = credential {
            self.set_credential(key, credential);
        }
        self.log_connected(key, &stream, client, forwarded);
        let holds_input = session.as_ref().is_some_and(|session| session.has_plaintext());
        let held_bytes = session.as_ref().map(|session| session.held_input_bytes());
        match self.registry.adopt(stream, session, key, self.hub.shared_mut()) {
            Ok(socket) => {
                if has_no_pongs && let Some(silence) = self.settings.keepalive.silence_max() {
                    socket.give_up_after(self.hub.shared(), silence);
                }
                if let Some(outlet) = self.hub.outlet_mut(key) {
                    *outlet = socket;
                }
            }
            Err(_) => {
                self.end(key, CloseReason::Lost);
                return self.handle_hub_events();
            }
        }
        if let Some(first) = first {
            self.schedule(key, first);
        }
        if let Some(reason) = reason {
            self.close(key, reason);
        }
        self.hub.writable(key);
        self.go_on_with_replay(key);
        self.handle_hub_events();
        let begun_bytes = leftover.len() + held_bytes.unwrap_or_default();
        if begun_bytes > 0 {
            self.charge_input(key, begun_bytes);
        }
        if !leftover.is_empty() {
            self.on_input(key, &mut Vec::from(leftover));
            self.handle_hub_events();
        }
        if held_bytes.is_some() {
            // The beginning of a record may have come with the handshake.
            self.account(key);
        }
        // Further input by now is reported by the registration itself, if it is in the socket.
        if holds_input {
            self.follow_ups.push(FollowUp::Read(key));
        }
    }

    /// The 101 of `key` never went out.
    pub fn withdraw(&mut self, key: Key) {
        self.end(key, CloseReason::Lost);
        self.handle_hub_events();
    }
}
