//! A handle's way to Redis and back, seen as a whole.
//!
//! Command connections and subscribers tell it what happens to them; it tells the process's health
//! when this shard's way is whole: subscribed to everything wanted, and through every command
//! connection a heartbeat came back since. It does no IO of its own.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    hash::RandomState,
    rc::Rc,
    sync::Arc,
};

use fred::error::Error;
#[cfg(test)]
use fred::types::Value;

#[cfg(test)]
use super::call_error::CallError;
use super::{command_connection::CommandConnection, command_order::CommandOrder, router::Routes};
#[cfg(test)]
use crate::broker::redis::protocol::scripts::Script;
use crate::{
    broker::{
        Place, Reach, Shared,
        redis::{
            Process,
            protocol::{arguments::NO_BEAT, refusal},
        },
        refusing::Subject,
    },
    channel::ChannelName,
    clock::{self, Millis},
    limits::{CLUSTER_COMMAND_ORDERS, HEARTBEAT_SILENCE_MAX},
    metrics::BrokerRefusal,
};

/// A part of a shard's way: a subscriber or a command connection to one server, or what has no
/// server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part(usize);

impl Part {
    /// The subscriber that hears the heartbeats.
    pub(crate) const FIRST: Self = Self(0);
    /// Channels whose server is not known.
    pub(crate) const HOMELESS: Self = Self(1);
    /// The rest is numbered from here.
    const NUMBERED: usize = 2;
}

/// The parts of one handle that know of each other.
#[derive(Debug)]
pub(crate) struct Link {
    #[cfg(test)]
    pub(crate) stand_in: Option<Rc<dyn StandIn>>,
    pub(crate) shared: Arc<Shared>,
    /// The command connections of heartbeats; what is published goes through them too, unless this
    /// is a cluster: there it is one, to any master.
    pub(crate) connections: Vec<Rc<CommandConnection>>,
    /// The command connection for questions of a shard, unless this is a cluster.
    pub(crate) questions: Option<Rc<CommandConnection>>,
    /// The command connections to the masters, in a cluster.
    pub(crate) routes: Option<Routes>,
    pub(crate) orders: Vec<CommandOrder>,
    pub(crate) hasher: RandomState,
    shard: Option<usize>,
    /// Where heartbeats go: those of a handle without a subscriber to the first shard's, which
    /// thereby shows that it listens where they were sent.
    beat_channel: Option<String>,
    has_subscriber: bool,
    heard_at: Cell<Millis>,
    /// What does not work as it should.
    unheard: RefCell<BTreeSet<Part>>,
    parts: Cell<usize>,
    /// When a heartbeat last came back through each command connection, since everything is
    /// subscribed.
    beats: RefCell<Vec<Option<Millis>>>,
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>, place: Place) -> Self {
        let hints = shared.redis().hints.clone();
        let is_cluster = hints.is_some();
        // In a cluster only heartbeats go through them.
        let pool = if is_cluster { 1 } else { shared.redis().settings.pool };
        let orders = if is_cluster { CLUSTER_COMMAND_ORDERS } else { pool };
        let shard = match place {
            Place::Shard(shard) => Some(shard),
            Place::Control => None,
        };
        let subscriber = shard.filter(|&shard| shared.redis().subscribes(shard));
        let connections: Vec<_> =
            (0..pool).map(|index| Rc::new(CommandConnection::new(index, shared.clone()))).collect();
        // Whoever has no clients has few questions.
        let has_questions = shard.is_some() && !is_cluster;
        let questions = has_questions
            .then(|| Rc::new(CommandConnection::for_questions(connections[0].clone())));
        Self {
            #[cfg(test)]
            stand_in: None,
            connections,
            questions,
            routes: hints.map(Routes::new),
            orders: (0..orders).map(|_| CommandOrder::default()).collect(),
            hasher: RandomState::new(),
            beat_channel: match subscriber {
                Some(shard) => Some(shared.redis().settings.names.heartbeat(shard)),
                // In a cluster it is on another server, as likely as not.
                None => (!is_cluster).then(|| shared.redis().settings.names.heartbeat(0)),
            },
            has_subscriber: subscriber.is_some(),
            heard_at: Cell::default(),
            unheard: RefCell::new(first_unheard(subscriber.is_some(), is_cluster)),
            parts: Cell::new(Part::NUMBERED),
            beats: RefCell::new(vec![None; pool]),
            shard,
            shared,
        }
    }

    /// A part of its own, for a subscriber on a further server or a command connection to it.
    pub(crate) fn new_part(&self) -> Part {
        let part = self.parts.get();
        self.parts.set(part + 1);
        Part(part)
    }

    pub(crate) fn process(&self) -> &Process {
        self.shared.redis()
    }

    /// Where heartbeats go; None if nobody would hear them.
    pub(crate) fn beat_channel(&self) -> Option<&str> {
        self.beat_channel.as_deref()
    }

    /// The subscriber has read something.
    pub(crate) fn heard(&self) {
        self.heard_at.set(clock::now());
    }

    /// Whether something has arrived through the subscription after that.
    pub(crate) fn has_heard_since(&self, since: Millis) -> bool {
        match self.has_subscriber {
            true => self.heard_at.get() > since,
            false => self.shared.health_ref().has_beaten_since(0, since),
        }
    }

    /// What a command connection's heartbeat says: `CONNECTION SENT`; nothing, where it is not our
    /// own that comes back.
    pub(crate) fn beat(&self, connection: usize, sent: Millis) -> String {
        match self.has_subscriber {
            true => format!("{connection} {}", sent.0),
            false => NO_BEAT.to_owned(),
        }
    }

    /// Whether this handle is a shard's, whose clients want to know much.
    pub(crate) fn has_clients(&self) -> bool {
        self.shard.is_some()
    }

    /// Whether somebody is subscribed to the heartbeats' channel.
    pub(crate) fn is_heard(&self) -> bool {
        match self.has_subscriber {
            true => !self.is_awaited(Part::FIRST),
            false => self.shared.health_ref().is_whole(0),
        }
    }

    /// A command connection has no client (any more).
    pub(crate) fn connection_closed(&self, connection: usize) {
        self.beats.borrow_mut()[connection] = None;
        self.broken();
    }

    /// Redis has refused a message to `channel` that was sent at `began`.
    pub(crate) fn refused(&self, channel: &ChannelName, error: &Error, began: Millis) {
        self.not_taken(channel, refusal::reason(error.details()), error.details(), began);
    }

    /// Redis has not taken it, as far as is known.
    pub(crate) fn not_taken(
        &self,
        channel: &ChannelName,
        reason: BrokerRefusal,
        error: &str,
        began: Millis,
    ) {
        let refusing = &self.shared.health_ref().refusing;
        refusing.count(reason);
        let subject = Subject::Channel(channel.clone());
        refusing.refused(subject, reason, &error, (began, clock::now()));
    }

    /// Redis has not answered for it. Where Redis is out of reach, that is said elsewhere.
    pub(crate) fn not_answered(&self, channel: &ChannelName, began: Millis) {
        if self.shared.health_ref().reach() == Reach::Up {
            self.not_taken(channel, BrokerRefusal::NoAnswer, "no answer within a second", began);
        }
    }

    /// Redis has taken it.
    pub(crate) fn accepted(&self, channel: &ChannelName, began: Millis) {
        let subjects = || {
            let server = self.connection(channel).and_then(|connection| connection.server());
            let server = server.map(|server| Subject::Server(server.to_string()));
            (Subject::Channel(channel.clone()), server)
        };
        self.shared.health_ref().refusing.accepted(subjects, began, clock::now());
    }

    /// Everything wanted of `part` is subscribed, or nothing is wanted of it any more. If that
    /// was the last one: a heartbeat now shows that the link is whole.
    pub(crate) fn subscribed(&self, part: Part) {
        let mut unheard = self.unheard.borrow_mut();
        if unheard.remove(&part) && unheard.is_empty() {
            self.beats.borrow_mut().fill(None);
            for connection in &self.connections {
                connection.beat_now.notify_one();
            }
        }
    }

    /// Whether `part` is not subscribed yet, or not any more.
    pub(crate) fn is_awaited(&self, part: Part) -> bool {
        self.unheard.borrow().contains(&part)
    }

    /// The link is not whole before `part` is subscribed.
    pub(crate) fn expect(&self, part: Part) {
        self.unheard.borrow_mut().insert(part);
    }

    /// A subscriber's connection is gone or silent, or could not be made.
    pub(crate) fn unsubscribed(&self, part: Part) {
        self.unheard.borrow_mut().insert(part);
        self.broken();
    }

    fn broken(&self) {
        if let Some(shard) = self.shard {
            self.shared.health_ref().link_broken(shard);
        }
    }

    /// A heartbeat arrived at the subscriber: `CONNECTION SENT`.
    pub(crate) fn beat_returned(&self, payload: &[u8]) {
        let Some((connection, sent)) = parse_beat(payload) else { return };
        self.came_back(connection, sent);
    }

    /// A command connection's heartbeat that goes no further than Redis was answered: all that a
    /// shard without a subscriber can know by itself.
    pub(crate) fn beat_answered(&self, connection: usize, sent: Millis) {
        if !self.has_subscriber {
            self.came_back(connection, sent);
        }
    }

    fn came_back(&self, connection: usize, sent: Millis) {
        let now = clock::now();
        let mut beats = self.beats.borrow_mut();
        let unheard = self.unheard.borrow();
        if unheard.contains(&Part::FIRST) || sent > now || connection >= beats.len() {
            return;
        }
        if self.connections[connection].is_open() {
            beats[connection] = Some(now);
        }
        let fresh = |returned: &Millis| now - *returned <= HEARTBEAT_SILENCE_MAX;
        if let Some(shard) = self.shard
            && beats.iter().all(|beat| beat.as_ref().is_some_and(fresh))
        {
            let health = self.shared.health_ref();
            match unheard.is_empty() {
                true => health.beat_returned(shard, sent, now),
                false => health.beat_heard(shard, now),
            }
        }
    }
}

/// What does not work before anything has begun.
fn first_unheard(has_subscriber: bool, is_cluster: bool) -> BTreeSet<Part> {
    match (has_subscriber, is_cluster) {
        // Who has no subscriber does not wait for it.
        (false, _) => BTreeSet::new(),
        (true, false) => BTreeSet::from([Part::FIRST]),
        (true, true) => BTreeSet::from([Part::FIRST, Part::HOMELESS]),
    }
}

fn parse_beat(payload: &[u8]) -> Option<(usize, Millis)> {
    let (connection, sent) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((connection.parse().ok()?, Millis(sent.parse().ok()?)))
}

/// Answers scripts in place of Redis.
#[cfg(test)]
pub(crate) trait StandIn: std::fmt::Debug {
    fn answer(&self, script: &Script, args: Vec<Value>) -> Result<Value, CallError>;
}
