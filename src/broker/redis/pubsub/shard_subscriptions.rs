//! The subscriptions of a shard over all servers: one subscriber, and in a cluster one more for
//! each primary that a wanted channel lives on.
//!
//! Only the choice of the subscriber is here; a subscription itself is the subscriber's.

use std::{rc::Rc, sync::Arc};

use tokio::sync::oneshot;

use super::{
    sharded::ShardedSubscribers, shared::SharedSubscriber, subscriber::Subscriber,
    subscriptions::Confirmation,
};
use crate::{
    broker::{
        Sink,
        redis::{protocol::replies::StreamPosition, recovery::recoverer::Recoverer, task::Task},
    },
    channel::ChannelName,
    position::Position,
};

/// A shard's subscribers.
#[derive(Debug)]
pub(crate) struct ShardSubscriptions {
    /// Hears our heartbeats and the raw channel; all channels, unless this is a cluster.
    pub(super) first: Rc<Subscriber>,
    pub(super) sharded: Option<Rc<ShardedSubscribers>>,
}

impl ShardSubscriptions {
    /// Starts those of `shard`, which deliver into `sink`, and what keeps them going as long as
    /// these tasks are kept.
    pub(crate) fn start(
        recoverer: &Rc<Recoverer>,
        shard: usize,
        sink: Arc<dyn Sink>,
        shared: Option<Arc<SharedSubscriber>>,
    ) -> (Self, Vec<Task>) {
        let first = Rc::new(Subscriber::new(recoverer.clone(), shard, sink.clone(), shared));
        let mut tasks = vec![Task::spawn(first.clone().run())];
        if let Some(bans) = &recoverer.router.settings.bans {
            tasks.push(Task::spawn(first.clone().keep_bans(bans.clone(), shard == 0)));
        }
        if let Some(bridge) = &first.bridge {
            let hearing = first.clone();
            let hears = move || hearing.hears_raw();
            tasks.push(Task::spawn(bridge.clone().keep_lease(hears)));
            tasks.push(Task::spawn(bridge.clone().forward_queued()));
        }
        let is_cluster = recoverer.router.settings.is_cluster();
        let sharded = is_cluster.then(|| Rc::new(ShardedSubscribers::new(recoverer.clone(), sink)));
        (Self { first, sharded }, tasks)
    }

    /// Those whose one subscriber a test carries on by itself.
    #[cfg(test)]
    pub(crate) fn of(first: Rc<Subscriber>) -> Self {
        Self { first, sharded: None }
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

    pub(super) fn unwant(&self, channel: &ChannelName) {
        match &self.sharded {
            Some(sharded) => sharded.unwant(channel),
            None => self.first.unwant(channel),
        }
    }

    /// The confirmation since which all that is published to `channel` arrives.
    pub(super) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        match &self.sharded {
            Some(sharded) => sharded.confirmed_on(channel),
            None => self.first.confirmed_on(channel),
        }
    }

    /// Where `channel` began that nobody could be told a position of, if nothing has arrived since.
    pub(super) fn begun_at(&self, channel: &ChannelName) -> Option<Position> {
        let subscriber = match &self.sharded {
            Some(sharded) => sharded.owning_subscriber(channel)?,
            None => self.first.clone(),
        };
        let name = subscriber.delivery.recoverer.router.settings.names.channel(channel);
        subscriber.delivery.with_tracker(&name, |tracker| tracker.begun_at())?
    }

    /// Sets the position of `channel`: messages missing since then will show. False: ask again.
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

    /// Lets another process bridge the raw channel; see `Bridge::leave`.
    pub(crate) async fn leave_bridge(&self) {
        if let Some(bridge) = &self.first.bridge {
            bridge.leave().await;
        }
    }

    /// Returns the tasks that have to end with it.
    pub(crate) fn close(&self) -> Vec<Task> {
        self.sharded.as_ref().map(|sharded| sharded.end()).unwrap_or_default()
    }
}
