//! Channels, byte logs, subscribers and the pass that moves bytes from the one to the other.
//!
//! **A channel is a byte log of ready-made WebSocket frames; a client is a byte offset into it.**
//! A message is encoded once into the channel's log (into each, if its clients use several
//! encodings); sending is a write straight from the log to
//! the client's outlet, and the cursor moves by what was taken. No queue, no allocation and no
//! wake-up per message and client. Synchronous, single-threaded, without IO, clock or log: the
//! outlet is a trait, time comes in as a closure.

mod audience;
mod budget;
mod bytelog;
mod check;
mod chunk;
mod clients;
mod close;
mod cut;
mod encoding;
mod flush;
mod hoards;
mod hole;
mod long;
mod number;
mod outbox;
mod outlet;
mod output;
mod parting;
mod pass;
mod pass_queue;
mod policy;
mod positions;
mod publish;
mod relief;
mod shares;
mod sizes;
mod subscriber_list;
mod subscriptions;
mod tally;
#[cfg(test)]
mod tests;
mod track;

use std::{
    collections::HashMap, collections::VecDeque, io, marker::PhantomData, rc::Rc, sync::Arc,
};

use slab::Slab;

pub use self::{
    audience::Audience,
    budget::Budget,
    clients::Key,
    encoding::{Encode, Encoding, Unchanged},
    hole::Hole,
    long::{LaidOut, Pieces},
    outlet::Outlet,
    parting::Finish,
    policy::SlowPolicy,
    shares::Source,
    tally::Pass,
};
use self::{
    audience::Seats, budget::BudgetShare, bytelog::ByteLog, clients::Clients, hoards::Hoards,
    hole::Cut, long::Window, parting::Parting, pass_queue::PassQueue, shares::Shares, sizes::Sizes,
    subscriber_list::SubscriberList, track::Track,
};
use crate::{channel::ChannelName, limits::LAGGARDS_PER_PASS, position::Position};

/// What an operator chooses about logs.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// How far a client may fall behind in one log, bytes.
    pub backlog_bytes: usize,
    /// What happens to it then.
    pub slow: SlowPolicy,
    /// The ready-made Close frame for slow consumers.
    pub slow_close_frame: Box<[u8]>,
}

/// What the owner of the outlets has to know. Keys may be stale by the time they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The outlet took less than it was offered: call [`Hub::writable`] when it takes more.
    Blocked(Key),
    /// After [`Event::Blocked`] or [`Hub::queue`]: everything has been written, so there is no
    /// need to watch for writability, and there is room again.
    Drained(Key),
    /// The outlet failed, or the budget's limit left no room for the rest of a begun frame
    /// (`OutOfMemory`); the client is unsubscribed and nothing more will be written: remove it.
    Failed(Key, io::ErrorKind),
    /// The client fell too far behind, or left too much unread; its close with the slow consumers'
    /// frame has begun.
    Slow(Key),
    /// The client fell too far behind and missed this many messages; which ones, if it can be
    /// told.
    Skipped(Key, u64, Option<Box<Hole>>),
    /// The close of a client has begun that heard a channel of [`Hub::close_channel`].
    Parting(Key),
    /// The client's Close frame was taken whole.
    CloseSent(Key),
}

/// One channel on this thread, in one encoding.
#[derive(Debug)]
struct Log {
    name: ChannelName,
    encoding: Encoding,
    /// The channel's next log, in another encoding.
    sibling: Option<u32>,
    bytes: ByteLog,
    /// The position before the first message in it that has one; `last` where the channel was
    /// known before. None: nothing is known yet.
    anchor: Option<Position>,
    /// The newest message's position; the same in all logs of the channel.
    last: Option<Position>,
    /// The position after each frame, if its clients can be told what they miss.
    track: Track,
    subscriber_list: SubscriberList,
    /// The channel's clients, also those of other logs and hubs.
    seats: Seats,
    /// To whom it is put down, if it is.
    owner: Option<u32>,
    /// Tells this log from an earlier one in the same place.
    serial: u64,
    /// Stands in the hub's list of logs to pass over.
    queued: bool,
    /// Something was published while a pass over it was paused: it needs another one.
    again: bool,
    /// Those are being worked off who lag behind its new tail.
    cut: Option<Cut>,
    /// The memory that this gives back.
    owed: usize,
    /// Some of those are still here who were when something was lost.
    hole: Option<Parting>,
}

/// The first of a name's logs, or that its last subscriber has left and nobody was told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Live(u32),
    Abandoned,
}

/// All channels and clients of one thread.
///
/// # Invariants
/// - A client's cursor is between its log's tail and head; one that would not be is closing.
/// - A frame begun is finished before anything else is written to that client, or the outlet is
///   never written again; so control frames stand at frame boundaries.
/// - What the budget has been charged is what chunks, outboxes and what these share hold.
/// - Belongs to one thread: it is not `Send`.
#[derive(Debug)]
pub struct Hub<O> {
    settings: HubSettings,
    account: BudgetShare,
    clients: Clients<O>,
    logs: Slab<Log>,
    by_name: HashMap<ChannelName, Entry>,
    /// Who makes this hub keep how many logs.
    hoards: Hoards,
    /// Who has how many subscriptions that are not free.
    subscribers: Hoards,
    audience: Arc<Audience>,
    abandoned: Vec<ChannelName>,
    /// Logs to pass over.
    dirty: PassQueue,
    unflushed: Vec<Key>,
    /// Outboxes, too, but of so many at once that only passes write them.
    patient: Vec<Key>,
    /// Logs with a [`Log::cut`], and their serials.
    cuts: VecDeque<(u32, u64)>,
    /// What all of them give back.
    owed_bytes: usize,
    /// Logs with a [`Log::hole`], and their serials.
    holes: VecDeque<(u32, u64)>,
    /// By what may go of them.
    sizes: Sizes,
    /// Where in `dirty` logs are trimmed next without a pass.
    trim_next: usize,
    /// How many laggards may still be worked off before the next pass.
    laggards_left: u32,
    laggards_per_pass: u32,
    /// Room for [`Hub::publish`] to note which logs have grown, with their serials.
    grown: Vec<(u32, u64)>,
    events: Vec<Event>,
    /// What is held once for several outboxes.
    shares: Shares,
    /// For messages that are written while they are read.
    window: Window,
    /// Counts [`Hub::tick`]s.
    ticks: u32,
    /// Deliveries that no pass has reported yet.
    tally: Pass,
    next_serial: u64,
    /// Memory was short when the last tick came.
    was_tight: bool,
    /// Room is to be made for which nobody has had to go yet.
    owes_room: bool,
    not_send: PhantomData<Rc<()>>,
}

impl<O: Outlet> Hub<O> {
    /// A hub without channels and clients.
    #[must_use]
    pub fn new(settings: HubSettings, budget: Arc<Budget>) -> Self {
        Self {
            settings,
            account: BudgetShare::new(budget),
            clients: Clients::new(),
            logs: Slab::new(),
            by_name: HashMap::new(),
            hoards: Hoards::default(),
            subscribers: Hoards::default(),
            audience: Arc::default(),
            abandoned: Vec::new(),
            dirty: PassQueue::default(),
            unflushed: Vec::new(),
            patient: Vec::new(),
            cuts: VecDeque::new(),
            owed_bytes: 0,
            holes: VecDeque::new(),
            sizes: Sizes::default(),
            trim_next: 0,
            laggards_left: LAGGARDS_PER_PASS,
            laggards_per_pass: LAGGARDS_PER_PASS,
            grown: Vec::new(),
            events: Vec::new(),
            shares: Shares::default(),
            window: Window::default(),
            ticks: 0,
            tally: Pass::default(),
            next_serial: 0,
            was_tight: false,
            owes_room: false,
            not_send: PhantomData,
        }
    }

    /// Counts its clients with those of other hubs.
    #[must_use]
    pub fn counting(self, audience: Arc<Audience>) -> Self {
        Self { audience, ..self }
    }

    /// How many clients of this process hear `channel`.
    #[must_use]
    pub fn clients_of(&self, channel: &str) -> usize {
        self.audience.clients(channel)
    }

    /// Adds a client without subscriptions.
    pub fn insert(&mut self, outlet: O) -> Key {
        self.clients.insert(outlet)
    }

    /// Forgets a client and all that waits for it; its outlet comes back.
    pub fn remove(&mut self, key: Key) -> Option<O> {
        let index = self.clients.find(key)?;
        self.unsubscribe_all(index);
        self.drop_outbox(index);
        Some(self.clients.remove(index).outlet)
    }

    /// A client's outlet.
    #[must_use]
    pub fn outlet(&self, key: Key) -> Option<&O> {
        self.clients.find(key).map(|index| &self.clients.get(index).outlet)
    }

    /// A client's outlet, to change. Bytes written to it behind the hub's back tear frames apart.
    pub fn outlet_mut(&mut self, key: Key) -> Option<&mut O> {
        self.clients.find(key).map(|index| &mut self.clients.get_mut(index).outlet)
    }

    /// Number of clients.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All clients.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.clients.keys()
    }

    /// Puts a log on the list for a pass.
    fn mark_dirty(&mut self, log: u32) {
        let target = &mut self.logs[log as usize];
        if target.queued {
            target.again = true;
        } else {
            target.queued = true;
            self.dirty.push((log, target.serial));
        }
    }

    /// Whether [`Hub::pass`] has anything to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let has_outboxes = !self.unflushed.is_empty() || !self.patient.is_empty();
        has_outboxes || !self.dirty.is_empty() || !self.holes.is_empty() || self.owes_room()
    }

    /// Memory that this hub's logs, carries and outboxes hold, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.account.held_bytes()
    }

    /// Writes what [`Hub::queue`] has gathered, then moves what happened since the last call to
    /// the end of `into`.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        self.flush_queued(&mut || true);
        into.append(&mut self.events);
    }
}
