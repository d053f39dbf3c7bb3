//! Clients of the subprotocol `wsbcast.v1`: their commands are run, in their order, and answered.
//!
//! Commands that need the broker take the way of clients' own messages: one at a time, while the
//! client is not read and its further commands wait in its queue. So answers come in the order of
//! the commands, and a client joins at most one channel at a time. The broker is not asked here.

use crate::{
    broker::{Principal, PublishError, Receipt, Start},
    channel::ChannelName,
    conn::{
        client_state::ClientState,
        command_queue::{Borrowed, ClientCommand, ClientMessage},
        positions::{Joined, SubscribeRequest},
        table::{ConnectionTable, entry},
        v1::{
            command::{self, Command, Mistake},
            events::{Code, ErrorEvent, Place, ServerEvent},
        },
    },
    hub::Key,
    limits::{ANSWERS_UNSENT_BYTES_MAX, CHANNELS_FREE, CHANNELS_PER_CLIENT_MAX},
    metrics::PublishFailure,
    ws::{Kind, close::CloseReason, frame},
};

impl ConnectionTable {
    /// A whole message of a client's.
    pub(super) fn on_command(&mut self, key: Key, kind: Kind, data: &Borrowed<'_>) {
        if kind != Kind::Text {
            return self.close(key, CloseReason::Unsupported);
        }
        let command = match command::read(data, self.settings.broadcast_bytes_max) {
            Ok(command) => command,
            Err(Mistake::Fatal(reason)) => return self.close(key, reason),
            Err(Mistake::Told(error_event)) => return self.send_error(key, error_event),
        };
        let command = match command {
            Command::Unknown => return,
            Command::Token(token) => ClientCommand::Token(token),
            Command::Ping => ClientCommand::Ping,
            Command::Subscribe(wanted) => ClientCommand::Subscribe(wanted),
            Command::Unsubscribe(channel) => ClientCommand::Unsubscribe(channel),
            Command::Publish { channel, kind, data, id } => {
                // A token that changes it may be on its way.
                let publisher = self.principal(key).unwrap_or(Principal::Anonymous);
                ClientCommand::Publish(ClientMessage { publisher, channel, kind, data, id })
            }
        };
        self.take_command(key, command);
    }

    /// Sends one client an event, after those it was sent before.
    pub(super) fn send_event(&mut self, key: Key, event: &ServerEvent<'_>) {
        let text = event.to_json();
        let header = frame::data_header(Kind::Text, text.len());
        self.hub.queue(key, &[header.as_ref(), &text]);
        if self.hub.unsent(key) > ANSWERS_UNSENT_BYTES_MAX
            && let Some(entry) = entry(&mut self.entries, key)
        {
            // A client that asks must also read the answers.
            entry.paused = true;
        }
    }

    pub(super) fn send_error(&mut self, key: Key, error_event: ErrorEvent) {
        self.send_event(key, &ServerEvent::Error(&error_event));
    }

    /// The first thing that a client hears.
    pub(super) fn send_hello(&mut self, key: Key, starts: &[Start]) {
        let greeting = self.settings.greeting.take();
        let interval = self.settings.keepalive.interval.unwrap_or_default();
        let hello = ServerEvent::Hello {
            version: env!("CARGO_PKG_VERSION"),
            positions: starts,
            ping_interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            greeting: greeting.as_deref(),
        };
        self.send_event(key, &hello);
        self.settings.greeting = greeting;
    }

    /// A client's message has been published, or not.
    pub fn published(
        &mut self,
        key: Key,
        channel: &ChannelName,
        id: Option<&str>,
        result: &Result<Receipt, PublishError>,
    ) {
        if !entry(&mut self.entries, key).is_some_and(|entry| entry.encoding.is_v1()) {
            return;
        }
        match result {
            Ok(receipt) => {
                let (place, scope) = match receipt {
                    Receipt::Cluster(position) => (Some(position), "cluster"),
                    Receipt::Local => (None, "local"),
                };
                let (place, channel) = (Place::from(place), channel.as_str());
                let clients = self.hub.clients_of(channel);
                self.send_event(
                    key,
                    &ServerEvent::Published { id, channel, place, scope, clients },
                );
            }
            Err(error) => {
                let id = id.map(ToOwned::to_owned);
                let error_event = ErrorEvent::about(channel, error.into(), error.to_string());
                self.send_error(key, ErrorEvent { id, ..error_event });
            }
        }
        self.handle_hub_events();
    }

    /// Lets a connected client join `wanted`, and holds it until [`ConnectionTable::subscribed`]
    /// says where it begins there. None: it does not join, and has been told why.
    pub fn join(&mut self, key: Key, wanted: &SubscribeRequest) -> Option<Joined> {
        let client = entry(&mut self.entries, key)?;
        if client.state() != ClientState::Open {
            return None;
        }
        let (channel, encoding) = (&wanted.channel, client.encoding);
        let refusal = if self.hub.hears(key, channel.as_str()) {
            let position = self.position(channel);
            let (place, channel) = (position.as_ref().into(), channel.as_str());
            self.send_event(key, &ServerEvent::Subscribed { channel, place, recovered: None });
            self.handle_hub_events();
            return None;
        } else if self.hub.subscription_count(key) >= CHANNELS_PER_CLIENT_MAX {
            format!("a client has at most {CHANNELS_PER_CLIENT_MAX} channels")
        } else if !self.make_room(
            std::slice::from_ref(channel),
            encoding,
            self.hub.subscription_count(key) + 1,
        ) {
            format!("a shard has no room for a client's channel beyond {CHANNELS_FREE}; try again")
        } else {
            self.hold(key);
            self.hub.subscribe(key, channel, encoding);
            return Some(Joined { at: self.position(channel) });
        };
        self.send_error(key, ErrorEvent::about(channel, Code::TooManyChannels, refusal));
        self.handle_hub_events();
        None
    }

    /// Tells a client that has joined a channel where it begins there, and sends what it missed.
    pub fn subscribed(&mut self, key: Key, start: Start) {
        let event = ServerEvent::Subscribed {
            channel: start.channel.as_str(),
            place: start.from.as_ref().into(),
            recovered: start.resumed.then_some(start.missed.is_none()),
        };
        self.send_event(key, &event);
        self.begin(key, vec![start]);
    }

    /// A client that has joined a channel has got further elsewhere: it does not stay on it.
    pub fn not_subscribed(&mut self, key: Key, channel: &ChannelName) {
        let message = "this process has not got as far as the position yet; try again";
        self.hub.leave(key, channel.as_str());
        let code = Code::Failure(PublishFailure::BrokerLost);
        self.send_error(key, ErrorEvent::about(channel, code, message.to_owned()));
        self.joined(key);
        self.forget_replay(key, channel);
        self.handle_hub_events();
    }

    /// Too many channels are being joined: a client does not get one more now.
    pub fn too_busy(&mut self, key: Key, channel: &ChannelName) {
        let message = "too many channels are being asked for at once; try again";
        self.send_error(key, ErrorEvent::about(channel, Code::Full, message));
        self.handle_hub_events();
    }

    /// A client does not want a channel any more; with a `code`, it may not have it.
    pub(super) fn unsubscribe(&mut self, key: Key, channel: &ChannelName, code: Option<Code>) {
        self.hub.leave(key, channel.as_str());
        self.send_event(key, &ServerEvent::Unsubscribed { channel: channel.as_str(), code });
        self.forget_replay(key, channel);
    }
}
