//! How a handle hears: through its own subscriber, through the process's one, or not at all.
//!
//! The rest of the handle need not know which; the promises of [`crate::broker::Broker`] are the
//! same. Nothing here talks to Redis.

use std::{cell::RefCell, collections::HashSet, rc::Rc, sync::Arc};

use tokio::sync::oneshot;

use super::{
    shard_subscriptions::ShardSubscriptions, shared::SharedSubscriber, subscriptions::Confirmation,
};
use crate::{
    broker::redis::protocol::replies::StreamPosition, channel::ChannelName, position::Position,
};

/// The subscriber that a handle asks for the channels of its clients.
#[derive(Debug)]
pub(crate) enum SubscriptionSource {
    /// It only publishes.
    Nothing,
    /// Its own subscribers.
    Own(Rc<ShardSubscriptions>),
    /// The first shard's, which subscribes for all.
    Shared(SharedListener),
}

/// A shard that hears through the process's one subscriber.
#[derive(Debug)]
pub(crate) struct SharedListener {
    subscriber: Arc<SharedSubscriber>,
    shard: usize,
    wanted: RefCell<HashSet<ChannelName>>,
}

impl SharedListener {
    pub(crate) fn new(subscriber: Arc<SharedSubscriber>, shard: usize) -> Self {
        Self { subscriber, shard, wanted: RefCell::default() }
    }
}

impl SubscriptionSource {
    /// Wants `channel`. The answer resolves (by value or by being dropped) when that is settled;
    /// None if there is nothing to wait for.
    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        match self {
            Self::Nothing => None,
            Self::Own(subscriptions) => subscriptions.want(channel),
            Self::Shared(listener) => {
                let waiter = listener.subscriber.want(listener.shard, &channel);
                listener.wanted.borrow_mut().insert(channel);
                waiter
            }
        }
    }

    /// No longer wants `channel`.
    pub(crate) fn unwant(&self, channel: &ChannelName) {
        match self {
            Self::Nothing => {}
            Self::Own(subscriptions) => subscriptions.unwant(channel),
            Self::Shared(listener) => {
                if listener.wanted.borrow_mut().remove(channel) {
                    listener.subscriber.unwant(listener.shard, channel);
                }
            }
        }
    }

    /// The handle's clients have these channels, and no others.
    pub(crate) fn keep(&self, channels: Vec<ChannelName>) {
        match self {
            Self::Nothing => {}
            Self::Own(subscriptions) => subscriptions.keep(channels),
            Self::Shared(_) => channels.into_iter().for_each(|channel| drop(self.want(channel))),
        }
    }

    /// The confirmation since which all that is published to `channel` arrives.
    pub(crate) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        match self {
            Self::Nothing => None,
            Self::Own(subscriptions) => subscriptions.confirmed_on(channel),
            Self::Shared(listener) => listener.subscriber.confirmed_on(channel),
        }
    }

    /// Where `channel` began on its own here, since the clients that it has were told no position;
    /// if nothing has arrived since.
    pub(super) fn begun_at(&self, channel: &ChannelName) -> Option<Position> {
        match self {
            Self::Nothing => None,
            Self::Own(subscriptions) => subscriptions.begun_at(channel),
            Self::Shared(listener) => listener.subscriber.begun_at(channel),
        }
    }

    /// Sets the position of `channel`: once this resolves, messages missing since then will show.
    /// False: ask again.
    pub(crate) async fn set_baseline(
        &self,
        channel: &ChannelName,
        at: &StreamPosition,
        before: Option<Confirmation>,
    ) -> bool {
        match self {
            Self::Nothing => true,
            Self::Own(subscriptions) => subscriptions.set_baseline(channel, at, before),
            Self::Shared(listener) => {
                match listener.subscriber.set_baseline(channel, at, before) {
                    // Dropped: the channel is not wanted any more, or the handle has ended.
                    Some(noted) => noted.await.unwrap_or(true),
                    None => true,
                }
            }
        }
    }
}
