//! The places of HTTP connections: a fixed number, and which connection leaves when they run out.
//!
//! The connections of a shard's listeners share a fixed number of places, and no newcomer may have
//! to wait for an inactive connection. So when all places are held, one is closed that has kept the
//! server waiting (`leaving`). Only when the server's own work is under way in all of them do
//! newcomers get a spare place, in which health probes are answered and all other requests are told
//! to come again. The memory of all connections is bounded in the same way (`memory`). Clients of a
//! WebSocket or an event stream have left HTTP and hold no place. Nothing here accepts or reads.

mod addresses;
mod budget;
mod leaving;
mod memory;
mod patience;
mod room;
mod stage;
mod suspended;
mod suspension;

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
};

use slab::Slab;
use tokio::{
    sync::{Notify, Semaphore, futures::Notified},
    task::AbortHandle,
    time::{Instant, timeout},
};

pub use self::room::Room;
use self::{
    addresses::FreshByAddress,
    budget::{Bytes, Memory},
    suspended::{Course, Suspended},
};
pub(in crate::http) use self::{memory::Charge, stage::Stage};
use crate::{
    admission::AddressKey,
    clock::Clock,
    limits::{HTTP_CROWDED_LOOK, HTTP_CROWDED_PATIENCE, HTTP_LIFE_MAX},
    metrics::ShardMetrics,
};

/// All places of one listener, or of a shard's listeners together.
pub struct Places {
    clock: Clock,
    room: Room,
    seated: RefCell<Slab<Rc<Standing>>>,
    /// How many of `seated` hold ordinary places; the others have spare places.
    taken: Cell<usize>,
    /// How many of these were dismissed and are not gone yet.
    leaving: Cell<usize>,
    /// How many of `taken`, by their listener, have shown no request yet.
    fresh: Box<[Cell<usize>]>,
    fresh_by_address: FreshByAddress,
    /// The connections that have waited longest, the longest last. Connections that began to wait
    /// since the list was made have waited less.
    next_to_leave: RefCell<Vec<(usize, Instant)>>,
    /// The same of those that a flood of one address consists of.
    next_of_flood: RefCell<Vec<(usize, Instant)>>,
    memory: Memory,
    /// Since when all places are held by connections that the server is working for.
    crowded: Cell<Option<Instant>>,
    freed: Notify,
    /// Accept loops wait for room in line, so that none takes all of it.
    line: Semaphore,
    metrics: Arc<ShardMetrics>,
    course: Cell<Course>,
    /// A connection has stopped, or is gone, while all are to stop.
    stopped: Notify,
}

/// One connection's place, given back when it is dropped: after the connection.
pub struct Place(Rc<Standing>);

/// The shared state of one connection.
pub(in crate::http) struct Standing {
    places: Rc<Places>,
    listener: usize,
    /// It counts by this while it shows no request, and leaves with a flood from there; none: it
    /// speaks for many, or has no limits.
    address: Cell<Option<AddressKey>>,
    key: Cell<usize>,
    stage: Cell<Stage>,
    is_silent: Cell<bool>,
    since: Cell<Instant>,
    accepted: Cell<Instant>,
    /// The server has its request and has not come to it.
    is_queued: Cell<bool>,
    is_body_unread: Cell<bool>,
    has_published: Cell<bool>,
    is_spare: Cell<bool>,
    /// When a byte of a body or an answer last came or went.
    moved: Cell<Instant>,
    /// The part of the budget that it holds.
    held: Bytes,
    /// The part of it in hyper's buffers.
    buffers: Cell<usize>,
    task: OnceCell<AbortHandle>,
    /// Wakes the task, where it waits for its peer.
    waker: RefCell<Option<Waker>>,
    /// While it is stopped.
    suspended: RefCell<Option<Box<Suspended>>>,
}

impl Places {
    /// Without connections, for so many listeners; `metrics` counts dismissals.
    #[must_use]
    pub fn new(clock: Clock, room: Room, listeners: usize, metrics: Arc<ShardMetrics>) -> Rc<Self> {
        Rc::new(Self {
            clock,
            room,
            seated: RefCell::default(),
            taken: Cell::new(0),
            leaving: Cell::new(0),
            fresh: vec![Cell::new(0); listeners].into(),
            fresh_by_address: FreshByAddress::among(room.places),
            next_to_leave: RefCell::default(),
            next_of_flood: RefCell::default(),
            memory: Memory::default(),
            crowded: Cell::new(None),
            freed: Notify::new(),
            line: Semaphore::new(1),
            metrics,
            course: Cell::default(),
            stopped: Notify::new(),
        })
    }

    /// Waits until a connection may be seated; it makes room if there is a connection to dismiss.
    /// The room is the caller's until it awaits something else.
    ///
    /// # Cancel safety
    /// May be dropped: a connection that was dismissed stays so.
    pub async fn room(&self) {
        let _first = self.line.acquire().await;
        loop {
            let freed = self.freed.notified();
            if self.taken.get() < self.room.places {
                self.crowded.set(None);
                return;
            }
            if self.leaving.get() > 0 || self.make_room() {
                freed.await;
                continue;
            }
            let now = self.clock.instant();
            let since = self.crowded.get().unwrap_or(now);
            self.crowded.set(Some(since));
            if now - since >= HTTP_CROWDED_PATIENCE && self.has_spare_room() {
                return;
            }
            self.wait_a_moment(freed).await;
        }
    }

    /// Seats a connection that has just been accepted at a listener, by its number, and starts the
    /// task that drives it.
    pub fn seat<F>(self: &Rc<Self>, listener: usize, drive: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start(self.enter_at(listener), drive);
    }

    /// Starts the task that drives a connection.
    fn start<F>(place: Place, drive: impl FnOnce(Place) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        let standing = place.0.clone();
        let task = tokio::task::spawn_local(drive(place));
        // Set once: right here.
        let _ = standing.task.set(task.abort_handle());
    }

    /// A place for a connection of the first listener.
    #[cfg(any(test, fuzzing))]
    pub(in crate::http) fn enter(self: &Rc<Self>) -> Place {
        self.enter_at(0)
    }

    pub(in crate::http) fn enter_at(self: &Rc<Self>, listener: usize) -> Place {
        let is_spare = self.taken.get() >= self.room.places;
        if !is_spare {
            increase(&self.taken);
            increase(&self.fresh[listener]);
        }
        let now = self.clock.instant();
        let standing = Rc::new(Standing {
            places: self.clone(),
            listener,
            address: Cell::new(None),
            key: Cell::new(0),
            stage: Cell::new(Stage::Fresh),
            is_silent: Cell::new(true),
            since: Cell::new(now),
            accepted: Cell::new(now),
            is_queued: Cell::new(false),
            is_body_unread: Cell::new(false),
            has_published: Cell::new(false),
            is_spare: Cell::new(is_spare),
            moved: Cell::new(now),
            held: Bytes::default(),
            buffers: Cell::new(0),
            task: OnceCell::new(),
            waker: RefCell::default(),
            suspended: RefCell::default(),
        });
        standing.key.set(self.seated.borrow_mut().insert(standing.clone()));
        Place(standing)
    }

    fn has_spare_room(&self) -> bool {
        self.seated.borrow().len() - self.taken.get() < self.room.spare || self.dismiss(true)
    }

    /// A connection that begins to wait is not reported, so this is looked at again.
    async fn wait_a_moment(&self, freed: Notified<'_>) {
        let _ = timeout(HTTP_CROWDED_LOOK, freed).await;
    }
}

impl Place {
    /// The peer has sent something, and the connection waits for its turn to be worked on.
    pub fn set_queued(&self, is_queued: bool) {
        self.0.is_queued.set(is_queued);
    }

    /// The connection comes from this address, which answers for it as long as it shows no request.
    pub fn set_address(&self, address: AddressKey) {
        let one = &self.0;
        let is_counted = !one.is_spare.get() && self.is_fresh();
        let earlier = one.address.replace(Some(address));
        if is_counted && earlier.is_none() {
            one.places.fresh_by_address.add(address);
        }
    }

    /// Whether the first request is still to come, with all that comes before it.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.0.stage.get() == Stage::Fresh
    }

    /// Whether no request has come, and that is the peer's doing: not of a connection that was sent
    /// away for others, unless its address was a flood.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.0.is_silent.get()
    }

    pub(in crate::http) fn standing(&self) -> Rc<Standing> {
        self.0.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Standing { places, key, is_spare, .. } = &*self.0;
        self.0.hold_nothing();
        places.seated.borrow_mut().remove(key.get());
        if !is_spare.get() {
            decrease(&places.taken);
            match self.0.stage.get() {
                Stage::Leaving => decrease(&places.leaving),
                Stage::Fresh => self.0.is_fresh_no_more(),
                _ => {}
            }
        }
        places.freed.notify_waiters();
        drop(self.0.suspended.take());
        places.one_has_stopped();
    }
}

impl Standing {
    pub(in crate::http) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// The moment of the server's clock.
    pub(in crate::http) fn now(&self) -> Instant {
        self.places.clock.instant()
    }

    pub(in crate::http) fn since(&self) -> Instant {
        self.since.get()
    }

    /// A dismissed connection enters no further stage.
    pub(in crate::http) fn enter(&self, stage: Stage) {
        if self.stage.get() != Stage::Leaving {
            self.set_stage(stage);
            self.since.set(self.now());
            if stage == Stage::Lingering {
                self.places.one_has_stopped();
            }
        }
    }

    fn set_stage(&self, stage: Stage) {
        if !matches!(stage, Stage::Fresh | Stage::Leaving) {
            self.is_silent.set(false);
        }
        match (self.stage.replace(stage), stage) {
            _ if self.is_spare.get() => {}
            (Stage::Fresh, Stage::Fresh) => {}
            (Stage::Fresh, _) => self.is_fresh_no_more(),
            (_, Stage::Fresh) => self.is_fresh_now(),
            _ => {}
        }
    }

    fn is_fresh_now(&self) {
        increase(&self.places.fresh[self.listener]);
        if let Some(address) = self.address.get() {
            self.places.fresh_by_address.add(address);
        }
    }

    fn is_fresh_no_more(&self) {
        decrease(&self.places.fresh[self.listener]);
        if let Some(address) = self.address.get() {
            self.places.fresh_by_address.remove(address);
        }
    }

    pub(in crate::http) fn set_body_unread(&self, is_unread: bool) {
        self.is_body_unread.set(is_unread);
    }

    pub(in crate::http) fn is_body_unread(&self) -> bool {
        self.is_body_unread.get()
    }

    /// An authorised publisher has published: the connection may live on.
    pub(in crate::http) fn has_published(&self) {
        self.has_published.set(true);
    }

    /// When the connection has lived for long enough; `None`: it may live on.
    pub(in crate::http) fn end_of_life(&self) -> Option<Instant> {
        (!self.has_published.get()).then(|| self.accepted.get() + HTTP_LIFE_MAX)
    }

    /// Whether there is room for more than a health probe; a connection in a spare place asks for
    /// an ordinary one.
    pub(in crate::http) fn may_work(&self) -> bool {
        let places = &self.places;
        if self.is_spare.get() && (places.taken.get() < places.room.places || places.dismiss(false))
        {
            self.is_spare.set(false);
            increase(&places.taken);
            if self.stage.get() == Stage::Fresh {
                self.is_fresh_now();
            }
        }
        !self.is_spare.get()
    }

    pub(in crate::http) fn is_spare(&self) -> bool {
        self.is_spare.get()
    }
}

fn increase(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

fn decrease(count: &Cell<usize>) {
    count.set(count.get() - 1);
}
