//! The contract of all brokers: a shard's calls to its broker, and the broker's to the shard.

use std::{rc::Rc, sync::Arc};

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::sync::oneshot;

use super::{
    Announcement, Evicted, HandleOwner, Health,
    message::{Message, PeriodicSlot, Publication, PublishError, Receipt, SlotOutcome},
};
use crate::{
    bans::BansFull,
    channel::ChannelName,
    metrics::Scope,
    position::{Missed, Position, Recovery, Since},
};

/// The part of channels' histories that can be read at once, being in memory.
pub trait History {
    /// The messages of `channel` after `after`, up to the offset `to`, which were to be had when
    /// [`Broker::recover`] said so: as many as have up to `bytes_max` of payload, one at least.
    /// None if the first of them is no longer there.
    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>>;
}

/// A shard's (or the control thread's) handle on the broker. Lives on one thread.
///
/// A client joins a channel by [`super::Joins::join`], to which `confirm_subscription`, `position`
/// and `recover` are steps: it alone knows their order.
pub trait Broker: History {
    /// Publishes one message. Calls on one handle for one channel keep their order.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the message goes out.
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>>;

    /// Publishes `data` if nobody in the cluster has yet claimed the current slot of
    /// `interval_ms` (by the broker's clock), atomically. Returns what happened and the time
    /// until the next slot begins.
    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome>;

    /// This shard has a client of `channel`: resolves when the broker has confirmed that its
    /// publications will arrive, or at once while the broker is out of reach, or after
    /// [`crate::limits::SUBSCRIBE_DEADLINE`]. Once [`Broker::position`] has answered, later
    /// messages are sure to arrive, or to be reported as missing; without an answer, once the
    /// broker has found the position out by itself.
    fn confirm_subscription(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()>;

    /// Both, for a caller that has no use for the position: all that is published to `channel` once
    /// this has resolved will arrive here, or be reported as missing, if the broker was within
    /// reach.
    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        async move {
            self.confirm_subscription(channel.clone()).await;
            let _ = self.position(channel, None).await;
        }
        .boxed_local()
    }

    /// The position of the newest message of `channel`, which this shard has subscribed to: all
    /// that is published after it will arrive here (some that is not may, too). None while the
    /// broker is out of reach. `since`: what will be asked of [`Broker::recover`], which may then
    /// have less to do; a channel that has not got so far is asked for after this call.
    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>>;

    /// Finds out which part of `channel`'s history can be read by [`History::history`] since
    /// `since`, up to `to`: a position of this shard's. Settles within
    /// [`crate::limits::SUBSCRIBE_DEADLINE`], whatever the broker does.
    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery>;

    /// The last client of `channel` on this shard has left.
    fn unsubscribe(&self, channel: &ChannelName);

    /// The clients of this shard have come from another process, and have these channels and no
    /// others. To be called before [`super::BrokerTaking::finish`].
    fn keep(&self, channels: Vec<ChannelName>) {
        drop(channels);
    }

    /// With `takes_clients` tells the other processes that this one does, which counts for
    /// [`crate::limits::PRESENCE_TTL`]; without, whether another one has said so within that time.
    /// False where nobody knows.
    fn presence(&self, takes_clients: bool) -> LocalBoxFuture<'_, bool> {
        let _ = takes_clients;
        std::future::ready(false).boxed_local()
    }

    /// Tells all other processes, each of which hands it to the sinks of all its shards, at most
    /// once; a ban is handed to those that were away, too, as long as it lasts. Of a ban that
    /// others learn of it tells the table of this process by itself. Settles within
    /// [`crate::limits::PUBLISH_CONFIRM_DEADLINE`]. Unless it surely went out, the scope is this
    /// process. The error: nobody was told, since all processes together keep out as many as they
    /// may.
    fn announce<'a>(
        &'a self,
        announcement: &'a Announcement,
    ) -> LocalBoxFuture<'a, Result<Scope, BansFull>> {
        let _ = announcement;
        std::future::ready(Ok(Scope::Local)).boxed_local()
    }

    /// Ends all connections of this handle; after it nothing is delivered any more.
    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// The maker of a process's handles, which knows the broker's health.
pub trait BrokerFactory: Send + Sync + std::fmt::Debug {
    /// A handle for the calling thread.
    fn connect(self: Arc<Self>, owner: HandleOwner) -> Rc<dyn Broker>;

    /// How the broker is: always the same, whose facts change.
    fn health(&self) -> Arc<Health>;

    /// The evictions from histories for want of room.
    fn evicted(&self) -> Evicted {
        Evicted::default()
    }
}

/// The receiving end: one per shard. May be called from any thread; never blocks.
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// Whether `bytes` more of payload would be taken now.
    fn has_room(&self, bytes: usize) -> bool;

    /// A publication arrives. It is accepted even past the bound: callers that can refuse ask
    /// [`Sink::has_room`] first, callers that can wait (a Redis subscriber) await
    /// [`Sink::room`] between two deliveries.
    fn deliver(&self, publication: Publication);

    /// Messages of `channel` were lost on their way here and could not be had again: everything
    /// delivered before came before the hole, everything after, after.
    fn gap(&self, channel: &ChannelName, missed: Missed);

    /// The shard is to do something, and to tell `count` how many of its clients that concerns.
    /// It is accepted even past the bound, as [`Sink::deliver`] does.
    fn announce(&self, announcement: Announcement, count: Option<oneshot::Sender<usize>>);

    /// Resolves when the mailbox is below its bound. Boxed: it is awaited seldom.
    fn room(&self) -> futures_util::future::BoxFuture<'_, ()>;
}
