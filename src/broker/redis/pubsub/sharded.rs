//! Where in a Redis Cluster a shard's channels are heard: on the primary of each one's slot.
//!
//! One subscriber per primary that a wanted channel lives on, created on demand and dropped when it
//! is idle: never more than there are primaries. When the slot map changes, channels move from one
//! subscriber to another with all that is known of them; messages they miss on the way are found by
//! the comparison that follows every subscription.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use fred::prelude::Server;
use tokio::sync::{Notify, oneshot};

use super::{
    cluster_node::ClusterNode,
    subscriber::Subscriber,
    subscriptions::{Confirmation, Moving, Subscriptions},
    topic::Topic,
};
use crate::{
    broker::{
        Sink,
        redis::{
            commands::{connectivity::Component, router::CommandRouter},
            protocol::replies::StreamPosition,
            recovery::recoverer::Recoverer,
            task::Task,
        },
    },
    channel::ChannelName,
};

/// A shard's subscribers on the primaries of a cluster.
#[derive(Debug)]
pub(crate) struct ShardedSubscribers {
    recoverer: Rc<Recoverer>,
    sink: Arc<dyn Sink>,
    state: RefCell<State>,
    settled: Notify,
}

/// # Invariants
/// - A wanted channel is with the subscriber on the primary that owns its slot by the router's map,
///   or unassigned if there is none.
#[derive(Debug)]
struct State {
    nodes: HashMap<Server, Running>,
    unassigned: Subscriptions,
    /// Whether arriving messages wait.
    hold: Hold,
}

/// Whether subscribers let through what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Open,
    Closed,
    AwaitsPlaces,
}

/// A subscriber at work.
#[derive(Debug)]
struct Running {
    subscriber: Rc<Subscriber>,
    task: Task,
    /// Nothing was wanted of it when it was last looked at.
    idle: bool,
}

impl ShardedSubscribers {
    pub(crate) fn new(recoverer: Rc<Recoverer>, sink: Arc<dyn Sink>) -> Self {
        let (nodes, unassigned) = (HashMap::new(), Subscriptions::awaited());
        let state = State { nodes, unassigned, hold: Hold::Open };
        Self { recoverer, sink, state: RefCell::new(state), settled: Notify::new() }
    }

    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        let name = self.router().settings.names.channel(&channel);
        let state = &mut *self.state.borrow_mut();
        if let Some(owner) = self.router().owner(&name) {
            return self.subscriber(state, &owner).want(channel);
        }
        if !state.unassigned.is_wanted(&name) {
            self.recoverer.queries.heard(&channel);
        }
        state.unassigned.want(name, Topic::Channel(channel))
    }

    pub(super) fn unwant(&self, channel: &ChannelName) {
        if let Some(subscriber) = self.owning_subscriber(channel) {
            return subscriber.unwant(channel);
        }
        let name = self.router().settings.names.channel(channel);
        let unassigned = &mut self.state.borrow_mut().unassigned;
        if unassigned.is_wanted(&name) {
            self.recoverer.queries.unheard(channel);
        }
        unassigned.unwant(&name);
    }

    pub(super) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        self.owning_subscriber(channel)?.confirmed_on(channel)
    }

    pub(crate) fn set_baseline(
        &self,
        channel: &ChannelName,
        at: &StreamPosition,
        before: Option<Confirmation>,
    ) -> bool {
        if let Some(subscriber) = self.owning_subscriber(channel) {
            return subscriber.set_baseline(channel, at, before);
        }
        let name = self.router().settings.names.channel(channel);
        let unassigned = &mut self.state.borrow_mut().unassigned;
        let now = self.router().clock.now();
        unassigned.set_baseline(&name, &at.position, at.nonce, None, now)
    }

    /// The subscribers' tasks, to be ended. Nothing is wanted any more.
    pub(super) fn end(&self) -> Vec<Task> {
        let mut state = self.state.borrow_mut();
        state.unassigned = Subscriptions::default();
        let nodes = std::mem::take(&mut state.nodes);
        nodes.into_values().map(|running| running.task).collect()
    }

    /// Brings every channel to where it lives now, and tries again what was refused.
    pub(crate) fn settle(&self) {
        let state = &mut *self.state.borrow_mut();
        for (name, moving) in state.take_misplaced(self.router()) {
            match self.router().owner(&name) {
                Some(owner) => {
                    tracing::debug!(%name, server = %owner, "a channel is heard elsewhere now");
                    let subscriber = self.subscriber(state, &owner);
                    subscriber.change(|subscriptions| subscriptions.adopt(name, moving));
                }
                None => state.unassigned.adopt(name, moving),
            }
        }
        // There is no point in waiting for a server that is not there.
        state.unassigned.disconnected();
        match state.unassigned.wanted().next() {
            Some(name) => {
                tracing::debug!(%name, "no server of the cluster has this channel's slot");
                self.router().connectivity.unsubscribed(Component::UNASSIGNED);
            }
            None => self.router().connectivity.subscribed(Component::UNASSIGNED),
        }
        state.nodes.retain(|_, running| self.is_needed(running));
        self.settled.notify_waiters();
    }

    /// Resolves when the server of every wanted channel is known.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(super) async fn assigned(&self) {
        while self.state.borrow().unassigned.wanted().next().is_some() {
            self.settled.notified().await;
        }
    }

    fn is_needed(&self, running: &mut Running) -> bool {
        let subscriber = &running.subscriber;
        let was_idle = running.idle;
        running.idle = subscriber.change(|subscriptions| {
            subscriptions.retry_refused();
            subscriptions.wanted().next().is_none()
        });
        let is_needed = !running.idle || (!was_idle && subscriber.is_connected());
        if !is_needed {
            self.router().connectivity.subscribed(subscriber.component);
        }
        is_needed
    }

    fn router(&self) -> &CommandRouter {
        &self.recoverer.router
    }

    /// The subscriber on the server that owns `channel`'s slot, if there is one.
    pub(super) fn owning_subscriber(&self, channel: &ChannelName) -> Option<Rc<Subscriber>> {
        let name = self.router().settings.names.channel(channel);
        let owner = self.router().owner(&name)?;
        let state = self.state.borrow();
        state.nodes.get(&owner).map(|running| running.subscriber.clone())
    }

    /// Those that are at work.
    pub(super) fn subscribers(&self) -> Vec<Rc<Subscriber>> {
        let state = self.state.borrow();
        state.nodes.values().map(|running| running.subscriber.clone()).collect()
    }

    /// Channels whose server is not known.
    pub(super) fn with_unassigned<R>(&self, act: impl FnOnce(&mut Subscriptions) -> R) -> R {
        act(&mut self.state.borrow_mut().unassigned)
    }

    /// From here on nothing is let through.
    pub(super) fn close(&self) {
        self.state.borrow_mut().hold = Hold::Closed;
        self.subscribers().iter().for_each(|subscriber| subscriber.close());
    }

    /// Nothing is let through until the places of another process are known.
    pub(super) fn await_places(&self) {
        let mut state = self.state.borrow_mut();
        state.hold = Hold::AwaitsPlaces;
        state.unassigned.hold();
        state.nodes.values().for_each(|running| running.subscriber.await_places());
    }

    /// All is let through.
    pub(super) fn open(&self) {
        let mut state = self.state.borrow_mut();
        state.hold = Hold::Open;
        state.unassigned.go_on();
        state.nodes.values().for_each(|running| running.subscriber.open());
    }

    /// The subscriber on `server`, started if there was none.
    fn subscriber(&self, state: &mut State, server: &Server) -> Rc<Subscriber> {
        let running = state.nodes.entry(server.clone()).or_insert_with(|| {
            let node = ClusterNode::new(server.clone());
            let component = self.router().connectivity.new_component();
            let (recoverer, sink) = (self.recoverer.clone(), self.sink.clone());
            let subscriber = Rc::new(Subscriber::on_node(recoverer, sink, component, node));
            match state.hold {
                Hold::Open => {}
                Hold::Closed => subscriber.close(),
                Hold::AwaitsPlaces => subscriber.await_places(),
            }
            let task = Task::spawn(subscriber.clone().run());
            Running { subscriber, task, idle: false }
        });
        running.subscriber.clone()
    }
}

impl State {
    /// Takes the channels that are not where the map has them.
    fn take_misplaced(&mut self, router: &CommandRouter) -> Vec<(String, Moving)> {
        let mut taken = Vec::new();
        for (server, running) in &self.nodes {
            let is_in_place = |name: &String| router.owner(name).as_ref() == Some(server);
            running.subscriber.change(|subscriptions| {
                take_unless(subscriptions, is_in_place, &mut taken);
            });
        }
        let is_unassigned = |name: &String| router.owner(name).is_none();
        take_unless(&mut self.unassigned, is_unassigned, &mut taken);
        taken
    }
}

fn take_unless(
    subscriptions: &mut Subscriptions,
    stays: impl Fn(&String) -> bool,
    taken: &mut Vec<(String, Moving)>,
) {
    let names: Vec<String> = subscriptions.wanted().filter(|name| !stays(name)).cloned().collect();
    for name in names {
        if let Some(moving) = subscriptions.take(&name) {
            taken.push((name, moving));
        }
    }
}
