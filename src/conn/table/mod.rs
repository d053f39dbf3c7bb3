//! The table of a shard's clients: a small entry for each, beside the hub's of the same key.
//!
//! All state that belongs to all clients of a shard is here once, and is private to this folder:
//! each file adds the methods of one subject to [`ConnectionTable`]. An entry lives from the
//! admission to the drop of its descriptor.
//!
//! | file | what is done there |
//! |---|---|
//! | `input`, `commands`, `v1` | what clients say is read, put in order, answered |
//! | `replaying`, `gaps` | what clients missed is given to them, or told |
//! | `arriving` | clients come: into the hub first, then with their sockets |
//! | `closing`, `final_close` | connections end, one by one or all at once |
//! | `pacing`, `disconnecting` | closes over time; clients that an operator sends away |
//! | `hub_events`, `ticks` | what is to be done because the hub says so, or time has passed |
//! | `channel_room`, `longest_connected` | clients that must go, or stay longest |
//! | `tokens` | the rights of clients, by their tokens |
//! | `recording`, `restoring` | clients that go on in another process |
//! | `logging` | clients that came and went |

mod arriving;
mod channel_room;
mod closing;
mod commands;
mod disconnecting;
mod final_close;
mod gaps;
mod hub_events;
mod input;
mod logging;
mod longest_connected;
mod pacing;
mod recording;
mod replaying;
mod restoring;
#[cfg(test)]
mod tests;
mod ticks;
mod tokens;
mod v1;

#[cfg(test)]
use std::net::TcpListener;
use std::{
    collections::{HashMap, HashSet},
    net::TcpStream,
    sync::Arc,
};

use bytes::Bytes;

pub use self::recording::TableRecording;

use crate::{
    admission::{AddressGuard, AddressLimits},
    broker::{History, Publication},
    channel::ChannelName,
    clock::Millis,
    conn::{
        arrival::Arrival,
        client_rates::ClientRates,
        client_rights::ClientRights,
        command_queue::{ClientCommand, Orphan},
        entry::Entry,
        input_budget::InputBudget,
        logged_client::LoggedClient,
        paced_close::PacedClose,
        restored::Restored,
        settings::ClientSettings,
        socket::{Registry, Socket},
        timer_wheel::TimerWheel,
        token_guesses::TokenGuesses,
        write::{encoder::Encoder, replay::Replay},
    },
    drain::{Control, Guard},
    hub::{self, Budget, Hub, Key},
    limits,
    metrics::ShardMetrics,
    tls::Session,
    ws::{close::CloseReason, deflate::Inflater},
};

/// The table's requests to the shard.
#[derive(Debug)]
pub enum Request {
    /// Do what a client wants, then what [`ConnectionTable::next_command`] gives, until it gives
    /// nothing. The guard, taken under the client's own, holds the drain until then.
    Command(Key, ClientCommand, Guard),
    /// No client here is subscribed to this channel any more.
    Abandoned(ChannelName),
}

/// Further work for a client, after other clients have had their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FollowUp {
    /// More of its input is read.
    Read(Key),
    /// The next piece of the history that it missed.
    Replay(Key),
}

/// A client whose handshake has been answered.
#[derive(Debug)]
pub struct Connected {
    /// Non-blocking.
    pub stream: TcpStream,
    /// Its session, if it speaks TLS.
    pub session: Option<Box<Session>>,
    /// Bytes that the client sent after its handshake.
    pub leftover: Bytes,
    /// Last: its guard is dropped after the stream.
    pub arrival: Arrival,
}

#[cfg(test)]
impl Connected {
    /// A client of `listener` that has shown nothing, and its own end.
    pub(crate) fn through(listener: &TcpListener, guard: Guard) -> (Self, TcpStream) {
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let arrival = Arrival::of_anybody(guard);
        (Self { stream, session: None, leftover: Bytes::new(), arrival }, peer)
    }
}

/// All clients of a shard.
///
/// # Invariants
/// - An entry exists exactly as long as its client in the hub.
/// - A live entry has a drain guard, dropped after the descriptor.
#[derive(Debug)]
pub struct ConnectionTable {
    hub: Hub<Socket>,
    entries: Vec<Option<Entry>>,
    registry: Registry,
    wheel: TimerWheel,
    settings: ClientSettings,
    input: InputBudget,
    control: Arc<Control>,
    metrics: Arc<ShardMetrics>,
    now: Millis,
    live: u64,
    read_buffer: Box<[u8]>,
    encoder: Encoder,
    inflater: Inflater,
    hub_events: Vec<hub::Event>,
    due: Vec<usize>,
    follow_ups: Vec<FollowUp>,
    requests: Vec<Request>,
    /// The remaining commands of departed clients; each waits for a message under way.
    orphans: HashMap<Key, Orphan>,
    /// Clients that are being given history.
    replays: HashMap<Key, Replay>,
    /// The end of a drain.
    paced: Option<PacedClose>,
    /// Clients that an operator has come back elsewhere.
    returning: Option<PacedClose>,
    /// Clients that an operator has sent away, to be closed.
    disconnected: Vec<Key>,
    /// Clients that have shown a credential.
    rights: ClientRights,
    /// Clients whose coming was logged.
    logged: HashMap<Key, LoggedClient>,
    /// Clients that are counted at their addresses.
    address_guards: HashMap<Key, AddressGuard>,
    /// How much clients have said lately.
    rates: ClientRates,
    /// Bad tokens, by the addresses of those that show them.
    token_guesses: TokenGuesses,
    /// Clients whose next command does not begin, while none may.
    halted: Option<HashSet<Key>>,
    /// Clients of another process that have not begun here.
    restored: Vec<Restored>,
}

impl ConnectionTable {
    /// An empty table at `now`.
    #[must_use]
    pub fn new(
        hub: Hub<Socket>,
        registry: Registry,
        settings: ClientSettings,
        budget: Arc<Budget>,
        control: Arc<Control>,
        metrics: Arc<ShardMetrics>,
        now: Millis,
    ) -> Self {
        let rates = ClientRates::new(&settings.rates);
        Self {
            hub,
            entries: Vec::new(),
            registry,
            wheel: TimerWheel::new(now),
            encoder: Encoder::new(settings.compression_threshold_bytes, metrics.clone()),
            inflater: Inflater::default(),
            settings,
            input: InputBudget::new(budget),
            control,
            metrics,
            now,
            live: 0,
            read_buffer: vec![0; limits::READ_BUFFER_BYTES].into(),
            hub_events: Vec::new(),
            due: Vec::new(),
            follow_ups: Vec::new(),
            requests: Vec::new(),
            orphans: HashMap::new(),
            replays: HashMap::new(),
            paced: None,
            returning: None,
            disconnected: Vec::new(),
            rights: ClientRights::new(),
            logged: HashMap::new(),
            address_guards: HashMap::new(),
            rates,
            token_guesses: TokenGuesses::default(),
            halted: None,
            restored: Vec::new(),
        }
    }

    /// Bad tokens count for their clients' addresses.
    #[must_use]
    pub fn counting_guesses(self, limits: Arc<AddressLimits>) -> Self {
        Self { token_guesses: TokenGuesses::new(limits), ..self }
    }

    /// Clients connected now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Whether any client here has `channel`.
    #[must_use]
    pub fn has_channel(&self, channel: &str) -> bool {
        self.hub.has_channel(channel)
    }

    /// The channels that have a client.
    #[must_use]
    pub fn all_channels(&self) -> Vec<ChannelName> {
        self.hub.all_channels().cloned().collect()
    }

    /// Ends the entry and drops the descriptor, then the guard.
    pub(super) fn end(&mut self, key: Key, reason: CloseReason) {
        let Some(slot) = self.entries.get_mut(key.index()) else { return };
        let Some(mut entry) = slot.take_if(|entry| entry.is_of(key)) else { return };
        self.log_gone(key, &entry, reason);
        self.end_replay(key);
        match entry.take_queue() {
            Some(queue) => self.orphan(key, queue, entry.publisher),
            None => self.rights.remove(key),
        }
        if entry.is_live() {
            self.metrics.connections_closed.add(reason as usize, 1);
        }
        self.forget(key, entry);
    }

    /// Drops what there is of a client, its descriptor, and then its guard.
    pub(super) fn forget(&mut self, key: Key, entry: Entry) {
        self.wheel.remove(key.index());
        self.input.release(entry.charged_bytes());
        self.encoder.leave(entry.encoding);
        self.end_replay(key);
        if let Some(socket) = self.hub.remove(key) {
            self.registry.forget(socket, self.hub.shared_mut());
        }
        if entry.is_live() {
            self.live -= 1;
            self.metrics.connections.set(self.live);
        }
        self.address_guards.remove(&key);
        self.rates.end(key);
        self.token_guesses.end(key);
        // Last: "nobody left" must mean that no descriptor is left.
        drop(entry.guard);
    }

    /// A publication for `channel`: encoded once into each of its logs. False: no client has the
    /// channel.
    pub fn append(&mut self, message: &Publication) -> bool {
        if !self.hub.can_hold(message.data.len()) {
            return self.pass_over(message);
        }
        let position = message.position.as_ref();
        let mut written = self.encoder.publication(message);
        let appended = self.hub.publish_at(message.channel.as_str(), position, &mut written);
        // A client that has missed messages is told before it is given the next ones.
        self.handle_hub_events();
        appended
    }

    /// Moves bytes to the clients while `keep_going` says so; returns what is left and what was
    /// done.
    pub fn pass(&mut self, keep_going: &mut dyn FnMut() -> bool) -> hub::Pass {
        let pass = self.hub.pass(keep_going);
        self.metrics.deliveries.add(pass.deliveries);
        self.metrics.delivered_bytes.add(pass.bytes);
        self.handle_hub_events();
        pass
    }

    /// Requests for the shard. To be called after every other call.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Whether [`ConnectionTable::take_follow_ups`] has something.
    #[must_use]
    pub fn has_follow_ups(&self) -> bool {
        !self.follow_ups.is_empty()
    }

    /// Work to be handed to [`ConnectionTable::follow_up`] after other clients had their turn; each
    /// item once.
    pub fn take_follow_ups(&mut self) -> Vec<FollowUp> {
        let mut follow_ups = std::mem::take(&mut self.follow_ups);
        follow_ups.sort_unstable();
        follow_ups.dedup();
        follow_ups
    }

    /// Continues with a client: one turn of reading, or one piece of its `history`.
    pub fn follow_up(&mut self, follow_up: FollowUp, now: Millis, history: &dyn History) {
        self.now = self.now.max(now);
        match follow_up {
            FollowUp::Read(key) => self.read(key, true),
            FollowUp::Replay(key) => self.replay(key, history),
        }
        self.handle_hub_events();
    }
}

/// The live entry of `key`.
pub(super) fn entry(entries: &mut [Option<Entry>], key: Key) -> Option<&mut Entry> {
    entries.get_mut(key.index())?.as_mut().filter(|entry| entry.is_of(key))
}
