//! Input from clients: read into the shard's one buffer, decoded in place, acted upon.
//!
//! A client holds memory for input only while a message of its own is unfinished; this memory is
//! charged to the process's budget and has a deadline. Reading stops for a client whose output or
//! whose own publications have no room, and continues when they have. Compressed messages are
//! inflated only if their content is wanted, and in small turns, since a few bytes may become many.

use std::io;

use crate::{
    clock::Millis,
    conn::{
        client_rates::PastLimit,
        client_state::ClientState,
        command_queue::{Borrowed, ClientCommand, ClientMessage},
        entry::Endpoint,
        socket::{Ready, Received, Socket},
        table::{ConnectionTable, FollowUp, entry},
        write::control_messages::{self, CloseMessage},
    },
    hub::{Finish, Key},
    limits::{
        ANSWERS_UNSENT_BYTES_MAX, COMMANDS_READ_BYTES, ECHO_UNSENT_BYTES_MAX,
        INBOUND_MESSAGE_DEADLINE, RATE_LIMITED_RETRY_MS, READ_TURN_BYTES_MAX,
    },
    metrics::Limit,
    tls::Input,
    ws::{
        Kind,
        close::CloseReason,
        decoder::{Decoder, Event, FrameRules},
    },
};

/// After a read that did not fill the buffer an edge-triggered set tells of the next byte.
const SHORT_READ_MEANS_EMPTY: bool = cfg!(unix);

impl ConnectionTable {
    /// A socket is ready.
    pub fn on_ready(&mut self, ready: Ready, now: Millis) {
        self.now = self.now.max(now);
        if ready.writable {
            self.hub.writable(ready.key);
            self.handle_hub_events();
        }
        if ready.readable {
            self.read(ready.key, ready.ended);
            self.handle_hub_events();
        }
    }

    /// Reads what there is, up to a turn's worth. `exhaust`: until the kernel says "no more",
    /// since an end may be behind the last byte.
    pub(super) fn read(&mut self, key: Key, exhaust: bool) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut turn_bytes = 0;
        let mut speaks_tls = false;
        while turn_bytes < READ_TURN_BYTES_MAX {
            let room = self.room_to_read(key, buffer.len());
            let paused = entry(&mut self.entries, key).is_none_or(|entry| entry.paused);
            let found = self.hub.outlet_and_shared(key).filter(|_| !paused);
            let Some((socket, tls)) = found else { break };
            speaks_tls = matches!(socket, Socket::Tls(_));
            let read =
                socket.read(tls, &mut buffer[..room]).map(|Received { input, wire_bytes }| {
                    self.charge_input(key, wire_bytes);
                    input
                });
            match read {
                Ok(Input::End) => {
                    self.on_ended(key);
                    break;
                }
                // Records without content are work as well.
                Ok(Input::Nothing) => turn_bytes += room,
                Ok(Input::Plaintext(count)) => {
                    turn_bytes += count;
                    self.on_input(key, &mut buffer[..count]);
                    turn_bytes += self.inflater.take_produced();
                    let is_empty = SHORT_READ_MEANS_EMPTY && count < room && !speaks_tls;
                    if is_empty && !exhaust {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.on_broken(key);
                    break;
                }
            }
        }
        if turn_bytes >= READ_TURN_BYTES_MAX {
            self.follow_ups.push(FollowUp::Read(key));
        }
        self.read_buffer = buffer;
        if speaks_tls {
            // The beginning of a record is no input yet.
            self.account(key);
        }
    }

    /// How much of a client's input is read at once: little, if it may bring many commands, or
    /// messages to inflate. The rest of a frame brings one, however long it is.
    fn room_to_read(&mut self, key: Key, buffer_bytes: usize) -> usize {
        let Some(entry) = entry(&mut self.entries, key) else { return buffer_bytes };
        // Without a right to publish there are still tokens, which wait for one another.
        let has_commands = entry.publisher.is_some() || entry.encoding.is_v1();
        let is_inflated = entry.encoding.window().is_some() && entry.is_listened_to();
        if has_commands || is_inflated {
            COMMANDS_READ_BYTES.max(entry.decoder.frame_rest_bytes()).min(buffer_bytes)
        } else {
            buffer_bytes
        }
    }

    /// Room was made: reading continues where it had stopped.
    pub(super) fn resume(&mut self, key: Key) {
        let unsent = self.hub.unsent(key);
        let Some(entry) = entry(&mut self.entries, key) else { return };
        let unsent_max = match entry.endpoint {
            Endpoint::Echo => ECHO_UNSENT_BYTES_MAX,
            Endpoint::Ws => ANSWERS_UNSENT_BYTES_MAX,
        };
        let room = entry.queue().is_none() && unsent <= unsent_max;
        if entry.paused && room {
            entry.paused = false;
            self.follow_ups.push(FollowUp::Read(key));
        }
    }

    /// Bytes of a client, in any pieces.
    pub(super) fn on_input(&mut self, key: Key, input: &mut [u8]) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if !client.encoding.has_frames() {
            // There is nothing to say in an event stream; it is read so that an end is seen.
            return;
        }
        client.keepalive.heard(self.now);
        let rules = FrameRules {
            message_bytes_max: self.settings.message_bytes_max,
            // A message that ends after our Close has no effect: nothing of it is kept.
            keep_payload: client.state() == ClientState::Open && client.is_listened_to(),
            compression: client.encoding.window().is_some(),
        };
        // Out of the entry while its events act on the table; back when the input is used up.
        let mut decoder = std::mem::take(&mut client.decoder);
        let mut was_whole = false;
        let mut start = 0;
        while start < input.len() {
            if entry(&mut self.entries, key).is_none_or(|entry| entry.state().is_deaf()) {
                break;
            }
            match decoder.next(&mut input[start..], &rules) {
                Ok((used, event)) => {
                    start += used;
                    was_whole |= matches!(event, Some(Event::Message { .. }));
                    if let Some(event) = event {
                        self.on_event(key, event);
                    }
                    was_whole |= decoder.is_idle();
                }
                Err(reason) => {
                    self.close(key, reason);
                    break;
                }
            }
        }
        if let Some(entry) = entry(&mut self.entries, key) {
            entry.decoder = decoder;
            if was_whole {
                entry.set_message_begun(None);
            }
            self.account(key);
        }
    }

    /// Charges the unfinished message to the budget and gives it its deadline.
    pub(super) fn account(&mut self, key: Key) {
        let session = self.hub.outlet(key).and_then(|socket| socket.session(self.hub.shared()));
        let (held_by_tls, is_within_record) = session.map_or((0, false), |session| {
            (session.held_input_bytes(), session.has_unfinished_record())
        });
        let Some(entry) = entry(&mut self.entries, key) else { return };
        if entry.state().is_deaf() {
            entry.decoder = Decoder::default();
        }
        let held = entry.decoder.held_bytes() + held_by_tls;
        let charged = entry.charged_bytes();
        entry.set_charged_bytes(held);
        self.input.charge(held);
        self.input.release(charged);
        if entry.decoder.is_idle() && !is_within_record {
            entry.set_message_begun(None);
        } else if entry.message_begun().is_none() {
            entry.set_message_begun(Some(self.now));
            let until = self.now + INBOUND_MESSAGE_DEADLINE;
            self.wheel.put(key.index(), until);
        }
        // Logs are cut first: a client behind in them is worse than one within a message.
        if held > charged && self.input.is_tight() && !self.hub.relieve() {
            self.close(key, CloseReason::Policy);
        }
    }

    /// Bytes of a client have come over the wire, whatever they mean: also those of one that has
    /// nothing to say. Too many, and the client is closed.
    pub(super) fn charge_input(&mut self, key: Key, wire_bytes: usize) {
        let charged = self.rates.charge_input(key, wire_bytes, self.now);
        self.hold_to_limit(key, charged, Limit::Commands);
    }

    /// A client has said something. False: it is too much, and the client is closed.
    fn may_say_more(&mut self, key: Key) -> bool {
        let state = entry(&mut self.entries, key).map(|entry| entry.state());
        if state != Some(ClientState::Open) {
            return true;
        }
        let taken = self.rates.take(key, self.now);
        self.hold_to_limit(key, taken, Limit::Commands)
    }

    /// False: a client, or its address, was past the limit, and is closed.
    pub(super) fn hold_to_limit(
        &mut self,
        key: Key,
        rated: Result<(), PastLimit>,
        limit: Limit,
    ) -> bool {
        let Err(past) = rated else { return true };
        let state = entry(&mut self.entries, key).map(|entry| entry.state());
        if state != Some(ClientState::Open) {
            return true;
        }
        self.metrics.limited.add(limit as usize, 1);
        if past.is_to_end {
            let retry_ms = fastrand::u64(RATE_LIMITED_RETRY_MS);
            self.close_with(key, CloseMessage::RateLimited { retry_ms }, Finish::Frame);
            self.handle_hub_events();
        }
        !past.is_to_end
    }

    fn on_event(&mut self, key: Key, event: Event<'_>) {
        if !matches!(event, Event::Close(_)) && !self.may_say_more(key) {
            return;
        }
        match event {
            Event::Message { kind, compressed: false, data, .. } => {
                self.on_message(key, kind, data);
            }
            Event::Message { kind, data, .. } => self.on_compressed(key, kind, &data),
            Event::Ping(data) => {
                let pong = control_messages::pong(&data);
                if self.hub.is_blocked(key) {
                    self.hub.pong(key, pong.as_ref());
                } else {
                    // One write for all that a read brought: a flood of pings costs no more.
                    self.hub.queue(key, &[pong.as_ref()]);
                }
            }
            Event::Pong(_) => {}
            Event::Close(close) => self.answer_close(key, close),
        }
    }

    /// Unwanted messages are not inflated: 64 bytes can become 64 KiB, and a text that is not
    /// looked at need not be valid.
    fn on_compressed(&mut self, key: Key, kind: Kind, data: &[u8]) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if client.state() != ClientState::Open || !client.is_listened_to() {
            return self.on_message(key, kind, Borrowed::default());
        }
        let mut inflater = std::mem::take(&mut self.inflater);
        match inflater.message(kind, data, self.settings.message_bytes_max) {
            Ok(data) => self.on_message(key, kind, data.into()),
            Err(reason) => self.close(key, reason),
        }
        self.inflater = inflater;
    }

    fn on_message(&mut self, key: Key, kind: Kind, data: Borrowed<'_>) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if client.state() != ClientState::Open {
            return;
        }
        if client.endpoint == Endpoint::Echo {
            let (header, payload) = self.encoder.frame(client.encoding, kind, &data);
            self.hub.queue(key, &[header.as_ref(), payload]);
            if self.hub.unsent(key) > ECHO_UNSENT_BYTES_MAX {
                client.paused = true;
            }
        } else if client.encoding.is_v1() {
            self.on_command(key, kind, &data);
        } else if let Some(publisher) = self.principal(key) {
            let Some(channel) = self.hub.first_channel(key).cloned() else { return };
            let data = data.into_owned().into();
            self.take_command(
                key,
                ClientCommand::Publish(ClientMessage { publisher, channel, kind, data, id: None }),
            );
        } else {
            self.metrics.client_messages_dropped.add(1);
        }
    }
}
