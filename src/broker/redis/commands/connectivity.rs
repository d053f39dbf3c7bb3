//! Whether a handle's connections to Redis and back work, seen as a whole. Nothing here does IO.
//!
//! Command connections and subscribers report here; the process's health is informed when this
//! shard's link is whole: it is subscribed to everything wanted, and through every connection with
//! heartbeats one has come back since.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fred::prelude::Server;
use tokio::sync::Notify;

use crate::{
    broker::{
        Health,
        redis::{protocol::arguments::PROBE_PAYLOAD, settings::ProcessSettings},
    },
    clock::{Clock, Millis},
    limits::HEARTBEAT_SILENCE_MAX,
};

/// A component of a shard's connectivity: a subscriber or a command connection to one server, or
/// what has no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Component(usize);

impl Component {
    /// The subscriber that hears the heartbeats.
    pub(crate) const FIRST: Self = Self(0);
    /// Channels whose server is not known.
    pub(crate) const UNASSIGNED: Self = Self(1);
    /// The rest is numbered from here.
    const NUMBERED: usize = 2;
}

/// The known facts about one handle's link.
#[derive(Debug)]
pub(crate) struct Connectivity {
    pub(super) clock: Clock,
    health: Arc<Health>,
    shard: Option<usize>,
    /// Where heartbeats go: those of a handle without a subscriber to the first shard's, which
    /// thereby shows that it listens where they were sent.
    heartbeat_channel: Option<String>,
    has_subscriber: bool,
    heard_at: Cell<Millis>,
    /// The components that do not work.
    unheard: RefCell<BTreeSet<Component>>,
    components: Cell<usize>,
    /// The heartbeats of each command connection that has some.
    heartbeats: RefCell<Vec<Heartbeats>>,
    /// By connection: a heartbeat is wanted now.
    heartbeats_wanted: Vec<Notify>,
    /// The primaries of a cluster that answer, by the connections that show it.
    living: RefCell<BTreeMap<Component, Server>>,
    /// One answers (again).
    found: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heartbeats {
    is_open: bool,
    /// When one last came back, since everything is subscribed.
    returned: Option<Millis>,
}

impl Connectivity {
    /// `shard`: the shard whose handle it is, if any.
    pub(crate) fn new(
        settings: &ProcessSettings,
        health: Arc<Health>,
        shard: Option<usize>,
    ) -> Self {
        let is_cluster = settings.is_cluster();
        let subscriber = shard.filter(|&shard| settings.subscribes(shard));
        Self {
            clock: health.clock,
            health,
            shard,
            heartbeat_channel: match subscriber {
                Some(shard) => Some(settings.names.heartbeat(shard)),
                // In a cluster it is on another server, as likely as not.
                None => (!is_cluster).then(|| settings.names.heartbeat(0)),
            },
            has_subscriber: subscriber.is_some(),
            heard_at: Cell::default(),
            unheard: RefCell::new(first_unheard(subscriber.is_some(), is_cluster)),
            components: Cell::new(Component::NUMBERED),
            heartbeats: RefCell::new(vec![Heartbeats::default(); settings.heartbeat_connections()]),
            heartbeats_wanted: (0..settings.heartbeat_connections())
                .map(|_| Notify::new())
                .collect(),
            living: RefCell::default(),
            found: Notify::new(),
        }
    }

    /// A component of its own, for a subscriber on a further server or a command connection to it.
    pub(crate) fn new_component(&self) -> Component {
        let component = self.components.get();
        self.components.set(component + 1);
        Component(component)
    }

    /// `component` is given up: nothing waits for it.
    pub(crate) fn forget(&self, component: Component) {
        self.living.borrow_mut().remove(&component);
        self.subscribed(component);
    }

    /// The channel that heartbeats go to; None if there is no subscriber to hear them.
    pub(super) fn heartbeat_channel(&self) -> Option<&str> {
        self.heartbeat_channel.as_deref()
    }

    /// The subscriber has read something.
    pub(crate) fn heard(&self) {
        self.heard_at.set(self.clock.now());
    }

    /// Whether something has arrived through the subscription after that.
    pub(super) fn has_heard_since(&self, since: Millis) -> bool {
        match self.has_subscriber {
            true => self.heard_at.get() > since,
            false => self.health.has_heartbeat_since(0, since),
        }
    }

    /// The payload of a command connection's heartbeat, `CONNECTION SENT`; ignored if it is not our
    /// own that comes back.
    pub(super) fn heartbeat(&self, connection: usize, sent: Millis) -> String {
        match self.has_subscriber {
            true => format!("{connection} {}", sent.0),
            false => PROBE_PAYLOAD.to_owned(),
        }
    }

    /// Whether there is a subscription to the heartbeats' channel.
    pub(super) fn is_heard(&self) -> bool {
        match self.has_subscriber {
            true => !self.is_awaited(Component::FIRST),
            false => self.health.is_whole(0),
        }
    }

    /// A command connection with heartbeats is open.
    pub(super) fn connection_opened(&self, connection: usize) {
        self.heartbeats.borrow_mut()[connection].is_open = true;
    }

    /// It is not (any more).
    pub(super) fn connection_closed(&self, connection: usize) {
        self.heartbeats.borrow_mut()[connection] = Heartbeats::default();
        self.broken();
    }

    /// Resolves when `connection` is to send a heartbeat at once.
    ///
    /// # Cancel safety
    /// May be dropped: a wish that came is found by the next call.
    pub(super) async fn heartbeat_wanted(&self, connection: usize) {
        self.heartbeats_wanted[connection].notified().await;
    }

    /// Everything wanted of `component` is subscribed, or nothing is wanted of it any more. If that
    /// was the last one: a heartbeat now shows that all of it works.
    pub(crate) fn subscribed(&self, component: Component) {
        let mut unheard = self.unheard.borrow_mut();
        if unheard.remove(&component) && unheard.is_empty() {
            for heartbeats in &mut *self.heartbeats.borrow_mut() {
                heartbeats.returned = None;
            }
            self.heartbeats_wanted.iter().for_each(Notify::notify_one);
        }
    }

    /// Whether `component` is not subscribed yet, or not any more.
    pub(crate) fn is_awaited(&self, component: Component) -> bool {
        self.unheard.borrow().contains(&component)
    }

    /// The connectivity is not whole before `component` is subscribed.
    pub(crate) fn expect(&self, component: Component) {
        self.unheard.borrow_mut().insert(component);
    }

    /// A subscriber's connection is gone or silent, or could not be made.
    pub(crate) fn unsubscribed(&self, component: Component) {
        self.unheard.borrow_mut().insert(component);
        self.broken();
    }

    /// The primary `server` of a cluster answers through `component`.
    pub(super) fn answers(&self, component: Component, server: &Server) {
        self.living.borrow_mut().insert(component, server.clone());
        self.subscribed(component);
        self.found.notify_waiters();
    }

    /// A primary of a cluster does not answer through `component` (any more).
    pub(super) fn answers_not(&self, component: Component) {
        self.living.borrow_mut().remove(&component);
        self.unsubscribed(component);
    }

    /// Some primary of a cluster that answers, as soon as there is one.
    pub(super) async fn living(&self) -> Server {
        loop {
            let living: BTreeSet<Server> = self.living.borrow().values().cloned().collect();
            // By chance, so that all together use all of them.
            if let Some(server) = fastrand::choice(living) {
                return server;
            }
            self.found.notified().await;
        }
    }

    fn broken(&self) {
        if let Some(shard) = self.shard {
            self.health.link_broken(shard);
        }
    }

    /// A heartbeat arrived at the subscriber: `CONNECTION SENT`.
    pub(crate) fn heartbeat_returned(&self, payload: &[u8]) {
        let Some((connection, sent)) = parse_heartbeat(payload) else { return };
        self.came_back(connection, sent);
    }

    /// A command connection's heartbeat that goes no further than Redis was answered: all that a
    /// shard without a subscriber can know by itself.
    pub(super) fn heartbeat_answered(&self, connection: usize, sent: Millis) {
        if !self.has_subscriber {
            self.came_back(connection, sent);
        }
    }

    fn came_back(&self, connection: usize, sent: Millis) {
        let now = self.clock.now();
        let mut heartbeats = self.heartbeats.borrow_mut();
        let unheard = self.unheard.borrow();
        if unheard.contains(&Component::FIRST) || sent > now || connection >= heartbeats.len() {
            return;
        }
        if heartbeats[connection].is_open {
            heartbeats[connection].returned = Some(now);
        }
        let fresh = |returned: Millis| now - returned <= HEARTBEAT_SILENCE_MAX;
        if let Some(shard) = self.shard
            && heartbeats.iter().all(|heartbeats| heartbeats.returned.is_some_and(fresh))
        {
            match unheard.is_empty() {
                true => self.health.heartbeat_returned(shard, sent, now),
                false => self.health.heartbeat_heard(shard, now),
            }
        }
    }
}

/// The components that do not work before anything has begun.
fn first_unheard(has_subscriber: bool, is_cluster: bool) -> BTreeSet<Component> {
    match (has_subscriber, is_cluster) {
        // A handle without a subscriber does not wait for it.
        (false, _) => BTreeSet::new(),
        (true, false) => BTreeSet::from([Component::FIRST]),
        (true, true) => BTreeSet::from([Component::FIRST, Component::UNASSIGNED]),
    }
}

fn parse_heartbeat(payload: &[u8]) -> Option<(usize, Millis)> {
    let (connection, sent) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((connection.parse().ok()?, Millis(sent.parse().ok()?)))
}
