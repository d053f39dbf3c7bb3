//! What a shard hears, on whichever servers it is: one subscriber, and in a cluster one more for
//! each master that a wanted channel lives on.
//!
//! Only the way to the right subscriber is here; what a subscription is stands there.

use std::rc::Rc;

use tokio::{sync::oneshot, task::spawn_local};

use super::{
    sharded::Cluster,
    subscriber::{Heard, Subscriber},
};
use crate::{
    broker::redis::{Task, commands::connectivity::Link, protocol::replies::Standing},
    channel::ChannelName,
};

/// A shard's subscribers.
#[derive(Debug)]
pub(crate) struct Hearing {
    /// Hears our heartbeats and the raw channel; all channels, unless this is a cluster.
    first: Rc<Subscriber>,
    cluster: Option<Rc<Cluster>>,
}

impl Hearing {
    /// Starts it, and what keeps it going as long as these tasks are kept.
    pub(crate) fn start(link: &Rc<Link>, shard: usize) -> (Self, Vec<Task>) {
        let first = Rc::new(Subscriber::new(link.clone(), shard));
        let mut tasks = vec![Task(spawn_local(first.clone().run()))];
        if first.bridge.is_some() {
            tasks.push(Task(spawn_local(first.clone().keep_lease())));
            tasks.push(Task(spawn_local(first.clone().forward_raw())));
        }
        let cluster = link.routes.as_ref().map(|_| Rc::new(Cluster::new(link.clone(), shard)));
        (Self { first, cluster }, tasks)
    }

    pub(crate) fn cluster(&self) -> Option<Rc<Cluster>> {
        self.cluster.clone()
    }

    /// Wants `channel`; resolves when it is subscribed, or surely is not.
    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        match &self.cluster {
            Some(cluster) => cluster.want(channel),
            None => self.first.want(channel),
        }
    }

    pub(crate) fn unwant(&self, channel: &ChannelName) {
        match &self.cluster {
            Some(cluster) => cluster.unwant(channel),
            None => self.first.unwant(channel),
        }
    }

    /// On which connection all that is published to `channel` arrives.
    pub(crate) fn confirmed_on(&self, channel: &ChannelName) -> Option<Heard> {
        match &self.cluster {
            Some(cluster) => cluster.confirmed_on(channel),
            None => self.first.confirmed_on(channel),
        }
    }

    /// Where `channel` stands: what is missing since then shows. False: ask again.
    pub(crate) fn anchor(
        &self,
        channel: &ChannelName,
        at: &Standing,
        before: Option<Heard>,
    ) -> bool {
        match &self.cluster {
            Some(cluster) => cluster.anchor(channel, at, before),
            None => self.first.anchor(channel, at, before),
        }
    }

    /// Lets another process bridge the raw channel; see [`Subscriber::leave_bridge`].
    pub(crate) async fn leave_bridge(&self) {
        self.first.leave_bridge().await;
    }

    /// What else has to end with it.
    pub(crate) fn close(&self) -> Vec<Task> {
        self.cluster.as_ref().map(|cluster| cluster.close()).unwrap_or_default()
    }
}
