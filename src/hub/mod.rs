//! Channels, byte logs, subscribers, and the pass that moves bytes from logs to subscribers.
//!
//! **A channel is a byte log of ready-made WebSocket frames; a client is a byte offset into it.**
//! A message is encoded once into the channel's log (once per log, if the channel's clients use
//! several encodings). Sending is a write straight from the log to the client's outlet, and the
//! cursor moves by the number of bytes taken. There is no queue, no allocation and no wake-up per
//! message and client. The module is synchronous and single-threaded, without IO, clock or log: the
//! outlet is a trait, and time comes in as a closure.
//!
//! | files | subject |
//! |---|---|
//! | `subscriptions`, `clients` | subscribing and leaving; the clients and their places in logs |
//! | `subscriber_list`, `audience` | a log's cursors; a channel's clients over all shards |
//! | `bytelog`, `chunk`, `long` | a log's bytes, in chunks; messages written while they are read |
//! | `encoding`, `publish` | the encodings of a message; appending it to each log |
//! | `positions`, `track` | logs in their channels' histories; the position of each frame |
//! | `pass`, `pass_queue`, `tally` | writing logs to all subscribers; turns; results |
//! | `flush`, `outlet` | writing to one client; the trait of its socket |
//! | `output`, `outbox`, `shares` | a client's own output; its buffer; bytes held for several |
//! | `cut`, `hole`, `policy` | logs past their bounds, and the clients that lag |
//! | `close`, `parting` | closing clients, with or without the rest of their logs |
//! | `budget`, `relief` | charging memory; making room when it is short |
//! | `sizes`, `hoards` | the largest logs; the clients that cause the most logs |
//! | `recording`, `due`, `payloads` | clients for another hub: what is each one's, what is shared |
//! | `restoring`, `moved` | clients of another hub, and the rest of its logs |
//! | `record`, `restored` | the data of that, on its way and arrived |
//! | `number`, `check` | 32-bit numbers; the invariants, for tests |

mod audience;
mod budget;
mod bytelog;
#[cfg(test)]
mod check;
mod chunk;
mod clients;
mod close;
mod cut;
mod due;
mod encoding;
mod flush;
mod hoards;
mod hole;
mod long;
mod moved;
mod number;
mod outbox;
mod outlet;
mod output;
mod parting;
mod pass;
mod pass_queue;
mod payloads;
mod policy;
mod positions;
mod publish;
mod record;
mod recording;
mod relief;
mod restored;
mod restoring;
mod shares;
mod sizes;
mod subscriber_list;
mod subscriptions;
mod tally;
#[cfg(test)]
mod tests;
mod track;

use std::{
    collections::{HashMap, VecDeque},
    io,
    marker::PhantomData,
    rc::Rc,
    sync::Arc,
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
    payloads::LongPayloads,
    policy::SlowPolicy,
    record::{
        BehindRecord, BodyRecord, ChannelRecord, ClientOutput, HubRecord, LongRecord, OutputState,
        PayloadForm, PayloadRecord, Piece, SharedPiece,
    },
    recording::HubRecording,
    restored::{BadOutput, OutputTaking, PayloadsTaking, RestoredOutput},
    shares::Source,
    tally::Pass,
};
use self::{
    audience::Seats, budget::BudgetShare, bytelog::ByteLog, clients::Clients, hoards::Hoards,
    hole::Cut, long::LongWindow, moved::Behind, parting::Parting, pass_queue::PassQueue,
    shares::Shares, sizes::LogSizes, subscriber_list::SubscriberList, track::Track,
};
use crate::{
    channel::ChannelName,
    limits::{CHANNELS_FREE, LAGGARDS_PER_PASS},
    position::Position,
};

/// The operator's choices about logs.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// How far a client may fall behind in one log, bytes.
    pub backlog_bytes: usize,
    /// The treatment of a client that has fallen further behind.
    pub slow: SlowPolicy,
    /// The ready-made Close frame for slow consumers.
    pub slow_close_frame: Box<[u8]>,
}

/// News for the owner of the outlets. Keys may be stale by the time they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The outlet took less than it was offered: call [`Hub::writable`] when it takes more.
    Blocked(Key),
    /// After [`Event::Blocked`] or [`Hub::queue`]: everything has been written. Writability need
    /// not be watched any more, and there is room again.
    Drained(Key),
    /// The outlet failed, or the budget had no room for the rest of a begun frame (`OutOfMemory`).
    /// The client is unsubscribed and nothing more will be written: remove it.
    Failed(Key, io::ErrorKind),
    /// The client fell too far behind, or left too much unread; its close with the slow consumers'
    /// frame has begun.
    Slow(Key),
    /// The client fell too far behind and missed this many messages; the hole says which, where
    /// that is known.
    Skipped(Key, u64, Option<Box<Hole>>),
    /// The close of a client has begun because of [`Hub::close_channel`].
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
    /// The position before the log's first message that has one; `last` if the channel was known
    /// before the log began. None: nothing is known yet.
    baseline: Option<Position>,
    /// The newest message's position, the same in all logs of the channel.
    last: Option<Position>,
    /// The position after each frame, if the log's clients can be told which messages they miss.
    track: Track,
    subscriber_list: SubscriberList,
    /// The count of the channel's clients, those of other logs and hubs included.
    seats: Seats,
    /// The client that this log is attributed to, if it is attributed to one.
    owner: Option<u32>,
    /// Distinguishes this log from an earlier one in the same slot.
    serial: u64,
    /// The log is in the hub's list of logs to pass over.
    queued: bool,
    /// Something was published while a pass over the log was paused: it needs another pass.
    again: bool,
    /// Clients that lag behind the log's new tail are being dealt with.
    cut: Option<Cut>,
    /// The memory that this cut will free.
    owed: usize,
    /// Clients that subscribed before messages were lost are being closed.
    parting: Option<Parting>,
}

/// The first of a channel's logs, or a note that its last subscriber has left, to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Live(u32),
    Abandoned,
}

/// All channels and clients of one thread.
///
/// # Invariants
/// - A client's cursor is between its log's tail and head; a client that would fall behind the tail
///   is closing.
/// - A begun frame is finished before anything else is written to that client, or nothing is
///   written to it ever again; so control frames stand at frame boundaries.
/// - The budget is charged exactly the memory of chunks, outboxes and shared bytes.
/// - A hub belongs to one thread: it is not `Send`.
#[derive(Debug)]
pub struct Hub<O: Outlet> {
    settings: HubSettings,
    budget: BudgetShare,
    clients: Clients<O>,
    shared: O::Shared,
    logs: Slab<Log>,
    by_name: HashMap<ChannelName, Entry>,
    /// How many logs this hub keeps because of each client.
    hoards: Hoards,
    /// How many subscriptions beyond the free ones each client has.
    subscribers: Hoards,
    audience: Arc<Audience>,
    abandoned: Vec<ChannelName>,
    /// Logs to pass over.
    dirty: PassQueue,
    unflushed: Vec<Key>,
    /// Outboxes to flush, too, but so many at once that only passes write them.
    patient: Vec<Key>,
    /// Logs with a [`Log::cut`], and their serials.
    cuts: VecDeque<(u32, u64)>,
    /// The memory that all cuts together will free.
    owed_bytes: usize,
    /// Logs with a [`Log::parting`], and their serials.
    partings: VecDeque<(u32, u64)>,
    /// The logs by the memory that can be freed from them.
    sizes: LogSizes,
    /// Where in `dirty` trimming without a pass continues.
    trim_next: usize,
    /// How many laggards may still be dealt with before the next pass.
    laggards_left: u32,
    laggards_per_pass: u32,
    /// Channels of a client that are attributed to no client and cost nothing.
    channels_free: usize,
    /// Scratch space in which [`Hub::publish`] notes which logs have grown, with their serials.
    grown: Vec<(u32, u64)>,
    events: Vec<Event>,
    /// Bytes held once for several outboxes.
    shares: Shares,
    /// Bytes of another hub's logs that held clients get before those of their own.
    behind: HashMap<Key, Vec<Behind>>,
    /// The buffer for messages that are written while they are read.
    window: LongWindow,
    /// Counts [`Hub::tick`]s.
    ticks: u32,
    /// Deliveries that no pass has reported yet.
    tally: Pass,
    next_serial: u64,
    /// Memory was short at the last tick.
    was_tight: bool,
    /// Room is needed, and no client has been given up for it yet.
    owes_room: bool,
    not_send: PhantomData<Rc<()>>,
}

impl<O: Outlet> Hub<O> {
    /// A hub without channels and clients.
    #[must_use]
    pub fn new(settings: HubSettings, budget: Arc<Budget>) -> Self {
        Self {
            settings,
            shared: O::shared(&budget),
            budget: BudgetShare::new(budget),
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
            partings: VecDeque::new(),
            sizes: LogSizes::default(),
            trim_next: 0,
            laggards_left: LAGGARDS_PER_PASS,
            laggards_per_pass: LAGGARDS_PER_PASS,
            channels_free: CHANNELS_FREE,
            grown: Vec::new(),
            events: Vec::new(),
            shares: Shares::default(),
            behind: HashMap::new(),
            window: LongWindow::default(),
            ticks: 0,
            tally: Pass::default(),
            next_serial: 0,
            was_tight: false,
            owes_room: false,
            not_send: PhantomData,
        }
    }

    /// Counts this hub's clients together with those of other hubs.
    #[must_use]
    pub fn counting(self, audience: Arc<Audience>) -> Self {
        Self { audience, ..self }
    }

    /// How many clients of this process are subscribed to `channel`.
    #[must_use]
    pub fn clients_of(&self, channel: &str) -> usize {
        self.audience.clients(channel)
    }

    /// Adds a client without subscriptions.
    pub fn insert(&mut self, outlet: O) -> Key {
        self.clients.insert(outlet)
    }

    /// Forgets a client and everything that waits for it; returns its outlet.
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

    /// The same, with the part that all outlets share.
    pub fn outlet_and_shared(&mut self, key: Key) -> Option<(&mut O, &mut O::Shared)> {
        let outlet = self.clients.find(key).map(|index| &mut self.clients.get_mut(index).outlet);
        Some((outlet?, &mut self.shared))
    }

    /// The part that all outlets share.
    #[must_use]
    pub fn shared(&self) -> &O::Shared {
        &self.shared
    }

    /// The same, to change.
    pub fn shared_mut(&mut self) -> &mut O::Shared {
        &mut self.shared
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
        has_outboxes || !self.dirty.is_empty() || !self.partings.is_empty() || self.owes_room()
    }

    /// Memory that this hub's logs, carries and outboxes hold, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.budget.held_bytes()
    }

    /// Writes the frames that [`Hub::queue`] has gathered, then moves the events since the last
    /// call to the end of `into`.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        self.flush_queued(&mut || true);
        into.append(&mut self.events);
    }
}
