//! Where a message gets its place in the order of its channel, and who hears of it.
//!
//! A broker takes a message, gives it an offset, and sees that every shard of every process gets
//! it through its [`Sink`]. It never hears of shards, hubs or sockets. Two implementations:
//! `embedded` (this process alone) and `redis` (a cluster of processes).

mod authorities;
mod embedded;
mod epoch;
mod fanout;
mod health;
mod history;
mod idempotency;
mod principal;
mod quota;
mod reasons;
mod redis;
mod refusing;
mod settings;
mod shared;

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use thiserror::Error;

pub use self::{
    health::{Health, Reach},
    history::{Evicted, Settings as HistorySettings},
    idempotency::{IdempotencyKey, InvalidIdempotencyKey},
    principal::Principal,
    refusing::Refuses,
    settings::{InvalidSettings, OnLoss, Place, RedisSettings, Settings, Subscribers},
    shared::{Shared, check_redis_url, connect},
};
pub use crate::position::{Missed, Position, Recovery, Since};
use crate::{
    channel::ChannelName,
    metrics::{PublishFailure, Scope},
    ws::Kind,
};

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who publishes it.
    pub who: Principal,
    /// Where it goes.
    pub channel: ChannelName,
    /// Text (valid UTF-8) or binary.
    pub kind: Kind,
    /// The payload.
    pub data: Bytes,
    /// With a key it is published once, however often it is sent within
    /// [`crate::limits::IDEMPOTENCY_TTL`] by the same publisher: later ones get the first one's
    /// receipt.
    pub key: Option<IdempotencyKey>,
}

impl Message {
    /// By what its first answer is remembered.
    fn id(&self) -> Option<idempotency::Id> {
        let key = self.key.clone()?;
        Some(idempotency::Id { who: self.who, channel: self.channel.clone(), key })
    }
}

/// A message as it arrives at a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel it belongs to.
    pub channel: ChannelName,
    /// Text (valid UTF-8) or binary.
    pub kind: Kind,
    /// The payload; shared, never copied between shards of the embedded broker.
    pub data: Bytes,
    /// None for local messages.
    pub position: Option<Position>,
}

/// The receiving end: one per shard. May be called from any thread; never blocks.
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Whether `bytes` more of payload would be taken now.
    fn has_room(&self, bytes: usize) -> bool;

    /// A publication arrives. It is taken even past the bound: callers that can refuse ask
    /// [`Sink::has_room`] first, callers that can wait (a Redis subscriber) await
    /// [`Sink::room`] between two deliveries.
    fn deliver(&self, publication: Publication);

    /// Messages of `channel` were lost on their way here and could not be had again: everything
    /// delivered before came before the hole, everything after, after.
    fn gap(&self, channel: &ChannelName, missed: Missed);

    /// Resolves when the mailbox is below its bound. Boxed: it is awaited seldom.
    fn room(&self) -> futures_util::future::BoxFuture<'_, ()>;
}

/// What became of a published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Redis (or the sequencer) has it; every shard of this process is subscribed.
    Cluster(Position),
    /// It was surely not sent to Redis and went to this process's clients alone.
    Local,
}

impl Receipt {
    /// How far it got, for the metrics.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Cluster(_) => Scope::Cluster,
            Self::Local => Scope::Local,
        }
    }
}

/// Why a message was not (surely) published.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// A shard's mailbox is full; nothing was delivered anywhere. Answer 503.
    #[error("a shard of this process is too far behind to take the message")]
    ShardStalled,
    /// Redis is out of reach and the policy is `reject`. Answer 503.
    #[error("Redis is out of reach")]
    BrokerLost,
    /// It was sent and no answer came in time. Answer 504.
    #[error("Redis did not confirm the message in time")]
    Unconfirmed,
    /// There is no room to remember its key; nothing was delivered. Answer 503.
    #[error("too many idempotency keys within five minutes")]
    KeysFull,
    /// Nobody has published to its channel, and too many such ones were begun in Redis lately;
    /// nothing was delivered. Answer 503.
    #[error("too many new channels within five minutes")]
    ChannelsFull,
}

impl From<&PublishError> for PublishFailure {
    fn from(error: &PublishError) -> Self {
        match error {
            PublishError::ShardStalled => Self::ShardStalled,
            PublishError::BrokerLost => Self::BrokerLost,
            PublishError::Unconfirmed => Self::Unconfirmed,
            PublishError::KeysFull => Self::KeysFull,
            PublishError::ChannelsFull => Self::ChannelsFull,
        }
    }
}

/// A shard's (or the control thread's) handle on the broker. Lives on one thread.
pub trait Broker {
    /// Publishes one message. Calls on one handle for one channel keep their order.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the message goes out.
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>>;

    /// Publishes `data` if nobody in the cluster has yet claimed the current slot of
    /// `interval_ms` (by the broker's clock), atomically. Returns what happened and the time
    /// until the next slot begins.
    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome>;

    /// This shard has a first client of `channel`: resolves when the broker has confirmed that
    /// its publications will arrive, or at once while the broker is out of reach, or after
    /// [`crate::limits::SUBSCRIBE_DEADLINE`].
    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()>;

    /// The position of the newest message of `channel`, which this shard has subscribed to: all
    /// that is published after it will arrive here (some that is not may, too). None while the
    /// broker is out of reach. `since`: what will be asked of [`Broker::recover`], which may then
    /// have less to do; a channel that has not got so far is asked for after this call.
    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>>;

    /// Finds out what of `channel`'s history can be read by [`Broker::history`] since `since`, up
    /// to `to`: a position of this shard's. Settles within
    /// [`crate::limits::SUBSCRIBE_DEADLINE`], whatever the broker does.
    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery>;

    /// The messages of `channel` after `after`, up to the offset `to`, which were to be had when
    /// [`Broker::recover`] said so: as many as have up to `bytes_max` of payload, one at least.
    /// None if the first of them is there no more.
    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>>;

    /// The last client of `channel` on this shard has left.
    fn unsubscribe(&self, channel: &ChannelName);

    /// With `takes_clients` tells the other processes that this one does, which counts for
    /// [`crate::limits::PRESENCE_TTL`]; without, whether another one has said so within that time.
    /// False where nobody knows.
    fn presence(&self, takes_clients: bool) -> LocalBoxFuture<'_, bool> {
        let _ = takes_clients;
        std::future::ready(false).boxed_local()
    }

    /// Ends all connections of this handle; after it nothing is delivered any more.
    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// A periodic message: at most one per interval slot for the whole cluster.
#[derive(Clone, Debug)]
pub struct PeriodicSlot {
    /// The channel it goes to.
    pub channel: ChannelName,
    /// Slot length, milliseconds; slot number = broker's Unix time ÷ this.
    pub interval_ms: u64,
    /// The payload (text).
    pub data: Bytes,
}

/// What became of a slot's message.
#[derive(Clone, Debug)]
pub struct SlotOutcome {
    /// `Ok(Some)`: this call published it; `Ok(None)`: another process had.
    pub published: Result<Option<Receipt>, PublishError>,
    /// Milliseconds until the next slot begins.
    pub next_slot_in_ms: u64,
}
