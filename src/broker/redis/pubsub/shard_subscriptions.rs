//! What a shard hears, on whichever servers it is: one subscriber, and in a cluster one more for
//! each master that a wanted channel lives on.
//!
//! Only the way to the right subscriber is here; what a subscription is stands there.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::{sharded::ShardedSubscribers, subscriber::Subscriber, subscriptions::Confirmation};
use crate::{
    broker::redis::{commands::connectivity::Link, protocol::replies::StreamPosition, task::Task},
    channel::ChannelName,
};

/// A shard's subscribers.
#[derive(Debug)]
pub(crate) struct ShardSubscriptions {
    /// Hears our heartbeats and the raw channel; all channels, unless this is a cluster.
    first: Rc<Subscriber>,
    sharded: Option<Rc<ShardedSubscribers>>,
}

impl ShardSubscriptions {
    /// Starts it, and what keeps it going as long as these tasks are kept.
    pub(crate) fn start(link: &Rc<Link>, shard: usize) -> (Self, Vec<Task>) {
        let first = Rc::new(Subscriber::new(link.clone(), shard));
        let mut tasks = vec![Task::spawn(first.clone().run())];
        if first.bridge.is_some() {
            tasks.push(Task::spawn(first.clone().keep_lease()));
            tasks.push(Task::spawn(first.clone().forward_raw()));
        }
        let sharded =
            link.routes.as_ref().map(|_| Rc::new(ShardedSubscribers::new(link.clone(), shard)));
        (Self { first, sharded }, tasks)
    }

    pub(crate) fn sharded(&self) -> Option<Rc<ShardedSubscribers>> {
        self.sharded.clone()
    }

    /// Wants `channel`; resolves when it is subscribed, or surely is not.
    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        match &self.sharded {
            Some(sharded) => sharded.want(channel),
            None => self.first.want(channel),
        }
    }

    pub(crate) fn unwant(&self, channel: &ChannelName) {
        match &self.sharded {
            Some(sharded) => sharded.unwant(channel),
            None => self.first.unwant(channel),
        }
    }

    /// On which connection all that is published to `channel` arrives.
    pub(crate) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        match &self.sharded {
            Some(sharded) => sharded.confirmed_on(channel),
            None => self.first.confirmed_on(channel),
        }
    }

    /// Where `channel` stands: what is missing since then shows. False: ask again.
    pub(crate) fn set_baseline(
        &self,
        channel: &ChannelName,
        at: &StreamPosition,
        before: Option<Confirmation>,
    ) -> bool {
        match &self.sharded {
            Some(sharded) => sharded.set_baseline(channel, at, before),
            None => self.first.set_baseline(channel, at, before),
        }
    }

    /// Lets another process bridge the raw channel; see [`Subscriber::leave_bridge`].
    pub(crate) async fn leave_bridge(&self) {
        self.first.leave_bridge().await;
    }

    /// What else has to end with it.
    pub(crate) fn close(&self) -> Vec<Task> {
        self.sharded.as_ref().map(|sharded| sharded.close()).unwrap_or_default()
    }
}
