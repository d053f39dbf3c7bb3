//! How a client's connection ends: Close frame, answer, descriptor, each with a deadline.
//!
//! `Open → Closing` (our Close frame is on its way to the kernel) `→ Closed` (it is there; the
//! peer's answer is awaited) `→` gone. A client that does not take its Close frame in time is
//! reset, and counted as cut off while the process drains. Reasons come from the one table.

use crate::{
    channel::ChannelName,
    clock::Millis,
    conn::{
        client_state::ClientState,
        keepalive::Action,
        table::{ConnectionTable, FollowUp, entry},
        write::control_messages::{self, CloseMessage},
    },
    drain::Phase,
    hub::{Encoding, Finish, Key},
    limits::{CLOSE_ANSWER_DEADLINE, CLOSE_WRITE_DEADLINE, INBOUND_MESSAGE_DEADLINE},
    tls::Session,
    ws::{
        close::CloseReason,
        decoder::{CloseFrame, Decoder},
    },
};

impl ConnectionTable {
    /// Closes `key` for `reason`, without waiting for the rest of its logs.
    pub fn close(&mut self, key: Key, reason: CloseReason) {
        self.close_with(key, CloseMessage::For(reason), Finish::Frame);
        self.handle_hub_events();
    }

    /// Answers the peer's Close with its own code.
    pub(super) fn answer_close(&mut self, key: Key, close: CloseFrame) {
        let Some(entry) = entry(&mut self.entries, key) else { return };
        match entry.state() {
            ClientState::Open => {
                let answer = CloseMessage::Answer(close.code);
                self.remember_close_frame(key, close);
                self.close_with(key, answer, Finish::Frame);
                self.set_peer_closed(key);
            }
            ClientState::Closing { .. } => self.set_peer_closed(key),
            ClientState::Closed { reason, .. } => self.end(key, reason),
        }
    }

    fn set_peer_closed(&mut self, key: Key) {
        if let Some(entry) = entry(&mut self.entries, key)
            && let ClientState::Closing { reason, until, hurried, .. } = entry.state()
        {
            entry.set_state(ClientState::Closing { reason, until, hurried, peer_closed: true });
        }
    }

    /// The state first, the hub second: the hub may report at once that the frame is out.
    pub(super) fn close_with(&mut self, key: Key, close_message: CloseMessage, finish: Finish) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let encoding = client.encoding;
        let hurried = finish == Finish::Frame;
        if client.state() == ClientState::Open {
            self.remember_channels(key);
        }
        if self.set_closing(key, close_message.reason(), hurried) {
            self.hub.close(key, close_message.encoded(encoding).as_ref(), finish);
        }
    }

    /// The hub has begun to close `key` by itself.
    pub(super) fn begin_closing(&mut self, key: Key, reason: CloseReason, finish: Finish) {
        self.set_closing(key, reason, finish == Finish::Frame);
    }

    fn set_closing(&mut self, key: Key, reason: CloseReason, hurried: bool) -> bool {
        let until = self.now + CLOSE_WRITE_DEADLINE;
        let Some(client) = entry(&mut self.entries, key) else { return false };
        if client.state() != ClientState::Open {
            return false;
        }
        client.set_state(ClientState::Closing { reason, until, hurried, peer_closed: false });
        if client.state().is_deaf() {
            // The rest is thrown away: a client that is waited for must not hold what was begun.
            client.decoder = Decoder::default();
            self.input.release(client.charged_bytes());
            client.set_charged_bytes(0);
        }
        // From now on input is only searched for the peer's Close.
        if std::mem::take(&mut client.paused) {
            self.follow_ups.push(FollowUp::Read(key));
        }
        if hurried {
            self.end_replay(key);
        }
        if matches!(reason, CloseReason::Disconnected | CloseReason::TokenExpired) {
            // The right to do what waits has ended.
            self.discard_queue(key);
        }
        self.keep_publications(key);
        self.schedule(key, until);
        true
    }

    /// Our Close frame is fully in the kernel.
    pub(super) fn on_close_sent(&mut self, key: Key) {
        let until = self.now + CLOSE_ANSWER_DEADLINE;
        let Some(entry) = entry(&mut self.entries, key) else { return };
        let ClientState::Closing { reason, peer_closed, .. } = entry.state() else { return };
        if peer_closed {
            return self.end(key, reason);
        }
        entry.set_state(ClientState::Closed { reason, until });
        if let Some((socket, tls)) = self.hub.outlet_and_shared(key) {
            socket.shutdown_write(tls);
        }
        self.schedule(key, until);
    }

    /// The peer has ended its side, which is the only way to leave for a client without frames.
    pub(super) fn on_ended(&mut self, key: Key) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if client.state() == ClientState::Open && !client.encoding.has_frames() {
            return self.end(key, CloseReason::Client);
        }
        self.on_broken(key);
    }

    /// The peer has ended its side without a Close frame, or the connection broke.
    pub(super) fn on_broken(&mut self, key: Key) {
        let Some(entry) = entry(&mut self.entries, key) else { return };
        let reason = match entry.state() {
            ClientState::Open => CloseReason::Lost,
            ClientState::Closing { reason, .. } | ClientState::Closed { reason, .. } => reason,
        };
        self.end(key, reason);
    }

    /// Messages of `channel` were lost before they reached this process: clients that cannot be
    /// told of the gap otherwise get a Close after everything that came before it.
    pub(super) fn close_for_gap(&mut self, channel: &ChannelName) {
        // A client that cannot be told of gaps speaks plain frames.
        let close_frame = CloseMessage::For(CloseReason::Gap).encoded(Encoding::Plain);
        self.hub.close_channel(channel.as_str(), close_frame.as_ref());
        self.handle_hub_events();
    }

    /// All clients, connected or about to be: a copy, since each may leave while it is used.
    pub fn keys(&self) -> Vec<Key> {
        self.hub.keys().collect()
    }

    /// Whether any client is left, connected or about to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hub.is_empty()
    }

    /// Whether the Close of `key` is in the kernel, or the client has gone.
    #[cfg(test)]
    pub(crate) fn has_sent_close(&self, key: Key) -> bool {
        let entry = self.entries.get(key.index()).and_then(Option::as_ref);
        let client = entry.filter(|entry| entry.is_of(key));
        client.is_none_or(|client| matches!(client.state(), ClientState::Closed { .. }))
    }

    /// Has `key` looked at by `due`, or earlier: its entry knows what is due.
    pub(super) fn schedule(&mut self, key: Key, due: Millis) {
        if entry(&mut self.entries, key).is_some() {
            self.wheel.put(key.index(), due);
        }
    }

    pub(super) fn on_due(&mut self, index: usize) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        let key = entry.key(index);
        match entry.state() {
            ClientState::Open => self.on_open_due(key),
            ClientState::Closing { reason, until, hurried, peer_closed } => {
                if until > self.now {
                    self.schedule(key, until);
                } else if hurried {
                    self.cut_off(key, reason);
                } else {
                    let until = self.now + CLOSE_WRITE_DEADLINE;
                    entry.set_state(ClientState::Closing {
                        reason,
                        until,
                        hurried: true,
                        peer_closed,
                    });
                    self.schedule(key, until);
                    self.hub.hurry(key);
                    self.handle_hub_events();
                }
            }
            ClientState::Closed { reason, until } => {
                if until > self.now {
                    self.schedule(key, until);
                } else {
                    self.end(key, reason);
                }
            }
        }
    }

    fn on_open_due(&mut self, key: Key) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if client.message_begun().is_some() && client.queue().is_some() {
            // Not read because of its own commands on their way: the delay is ours.
            client.set_message_begun(Some(self.now));
        }
        let message_until = client.message_begun().map(|begun| begun + INBOUND_MESSAGE_DEADLINE);
        if message_until.is_some_and(|until| until <= self.now) {
            return self.close(key, CloseReason::Policy);
        }
        let Some(token_until) = self.on_token_due(key) else { return };
        if self.is_worn(key) {
            self.begin_paced_return(self.now, vec![key]);
        }
        let pause_until = self.on_pause_due(key);
        let mut next = [message_until, token_until, pause_until].into_iter().flatten().min();
        let Some(entry) = entry(&mut self.entries, key) else { return };
        let (encoding, keepalive) = (entry.encoding, &mut entry.keepalive);
        let action = if encoding.has_frames() {
            keepalive.on_deadline(self.now, &self.settings.keepalive)
        } else {
            keepalive.on_deadline_unanswered(self.now, &self.settings.keepalive)
        };
        match action {
            None => {}
            Some(Action::GiveUp) => return self.give_up(key, next),
            Some(Action::Wait(until)) => next = earlier(next, until),
            Some(Action::Ping(until)) => {
                next = earlier(next, until);
                self.hub.ping(key, control_messages::sign_of_life(encoding).as_ref());
                self.handle_hub_events();
            }
        }
        if let Some(next) = next {
            self.schedule(key, next);
        }
    }

    /// Its key of TLS has been used enough.
    fn is_worn(&self, key: Key) -> bool {
        let session = self.hub.outlet(key).and_then(|socket| socket.session(self.hub.shared()));
        session.is_some_and(Session::is_worn)
    }

    /// A client has not answered its ping, as far as is known; `next` is its other deadline.
    fn give_up(&mut self, key: Key, next: Option<Millis>) {
        // A shard that was busy or asleep may not have read what has long been there.
        self.read(key, true);
        let is_there = self.is_acknowledging(key);
        let Some(entry) = entry(&mut self.entries, key) else { return };
        if entry.state() != ClientState::Open {
            return;
        }
        // Not read because of its own messages on their way: the silence is ours.
        if entry.queue().is_some() && is_there {
            entry.keepalive.heard(self.now);
        }
        match entry.keepalive.on_deadline(self.now, &self.settings.keepalive) {
            Some(Action::Wait(until)) => {
                if let Some(next) = earlier(next, until) {
                    self.schedule(key, next);
                }
            }
            _ => self.close(key, CloseReason::PingTimeout),
        }
    }

    /// Whether the system at a client's other end has acknowledged anything in the time in which
    /// the client would have to answer a ping. True as well where that is not known.
    fn is_acknowledging(&self, key: Key) -> bool {
        let silence_max = self.settings.keepalive.silence_max();
        let socket = self.hub.outlet(key);
        let silence = socket.and_then(|socket| socket.acknowledgement_age(self.hub.shared()));
        silence.zip(silence_max).is_none_or(|(silence, most)| silence <= most)
    }

    /// The Close frame was not taken in time: what the kernel holds is thrown away. A client
    /// whose 101 is not out yet does not count as cut off.
    pub(super) fn cut_off(&mut self, key: Key, reason: CloseReason) {
        if let Some(socket) = self.hub.outlet(key) {
            socket.reset_on_drop(self.hub.shared());
        }
        let is_live = entry(&mut self.entries, key).is_some_and(|entry| entry.is_live());
        if is_live && self.control.phase() > Phase::Serving {
            self.control.barrier.count_cut_off();
        }
        self.end(key, reason);
    }
}

fn earlier(first: Option<Millis>, second: Millis) -> Option<Millis> {
    Some(first.map_or(second, |first| first.min(second)))
}
