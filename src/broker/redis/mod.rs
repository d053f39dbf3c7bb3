//! The broker of a cluster of processes: Redis gives every message its offset and carries it.
//!
//! Each handle has a few connections for commands and, if it is a shard's, one more for queries
//! and a subscriber. Publishing is one script in Redis. Whether Redis is within reach is known
//! before a message is sent; so a message goes either into Redis, once, or (surely not sent) to
//! this process alone, and where nobody can know, the answer says so.
//!
//! | module | what it is |
//! |---|---|
//! | `protocol` | names, scripts, how messages and answers are written and read |
//! | `net` | connections, frames, pipelines, what a URL leads to |
//! | `discovery` | which server is the one: sentinels, slot map, names that lead elsewhere |
//! | `commands` | the connections for commands, their choice and order |
//! | `local` | the process's own record without Redis, and its publishers' shares of it |
//! | `recovery` | streams and their positions, histories, holes |
//! | `pubsub` | subscriptions, where each begins, and the delivery of what arrives |
//! | `raw` | the bridge from the raw channel |
//! | `publish` | messages on their way into Redis, or past it |
//! | `announcing` | announcements on their way to the other processes |
//! | `probes` | whether Redis accepts writes, and which processes take clients |
//! | `handover` | subscriptions of a process that gives its clients away, or takes some |
//! | `process` | the state that all handles of a process share |
//! | `settings` | the operator's settings for Redis, checked once |
//! | `task` | a task that ends with its owner |
//! | `fuzzing` | what must hold whatever Redis sends |
//! | `sim`, `timed` | for tests: a model of Redis; a paused clock |

mod announcing;
mod commands;
mod discovery;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handover;
mod local;
mod net;
mod probes;
mod process;
mod protocol;
mod publish;
mod pubsub;
mod raw;
mod recovery;
mod settings;
#[cfg(test)]
mod sim;
mod task;
#[cfg(test)]
mod timed;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use fred::prelude::Server;
use futures_util::future::{FutureExt, LocalBoxFuture};

pub use self::handover::{NotLevel, NotSubscribed};
#[cfg(test)]
pub(super) use self::local::{LocalTaking, state::LocalState};
use self::{
    commands::{cluster_view::ClusterView, connectivity::Connectivity, router::CommandRouter},
    discovery::{sentinel, slot_map_refresh::SlotMapRefresher},
    net::options,
    probes::{presence, watch},
    publish::Publisher,
    pubsub::{
        moving,
        positions::Positions,
        shard_subscriptions::ShardSubscriptions,
        source::{SharedListener, SubscriptionSource},
    },
    recovery::recoverer::Recoverer,
    task::Task,
};
pub(super) use self::{
    handover::{HaltedProcess, RedisGiving, RedisTaking},
    local::{LocalOutcome, StreamShare},
    process::Process,
    recovery::sequence::moving::TrackerRecord,
};
use super::{
    Announcement, Broker, HandleOwner, History, Message, PeriodicSlot, Position, Publication,
    PublishError, Reach, Receipt, Recovery, RedisTls, Since, SlotOutcome,
};
use crate::{
    bans::BansFull,
    channel::ChannelName,
    limits::{BROKER_CLOSE_DEADLINE, SUBSCRIBE_DEADLINE},
    metrics::Scope,
};

/// Whether a URL is one that could be connected by.
pub(super) fn check_url(url: &str, tls: &RedisTls) -> Result<(), String> {
    options::parse(url, tls).map(|_| ())
}

/// A thread's handle.
#[derive(Debug)]
pub(super) struct RedisBroker {
    process: Arc<Process>,
    router: Rc<CommandRouter>,
    publisher: Publisher,
    recoverer: Rc<Recoverer>,
    source: Rc<SubscriptionSource>,
    /// The first shard's, or each shard's.
    subscriptions: Option<Rc<ShardSubscriptions>>,
    positions: Positions,
    sending: RefCell<Vec<Task>>,
    receiving: RefCell<Vec<Task>>,
}

impl RedisBroker {
    /// Starts the handle's tasks on the calling thread.
    pub(super) fn start(process: Arc<Process>, owner: HandleOwner) -> Self {
        let shard = match owner {
            HandleOwner::Shard(shard) => Some(shard),
            HandleOwner::Control => None,
        };
        let Process { settings, health, destination, .. } = &*process;
        let connectivity = Rc::new(Connectivity::new(settings, health.clone(), shard));
        let router = CommandRouter::new(destination.clone(), connectivity, shard.is_some());
        let router = Rc::new(router);
        let mut sending: Vec<Task> =
            router.to_keep().map(|connection| Task::spawn(connection.clone().run())).collect();
        let mut receiving = Vec::new();
        let recoverer = Rc::new(Recoverer::new(
            router.clone(),
            process.memory.clone(),
            process.queries.clone(),
            process.empty_epoch.clone(),
        ));
        let subscriptions = shard.filter(|&shard| settings.subscribes(shard)).map(|shard| {
            let sink = process.sink_of_subscriber(shard);
            let shared = process.shared_subscriber.clone();
            let (subscriptions, tasks) = ShardSubscriptions::start(&recoverer, shard, sink, shared);
            receiving.extend(tasks);
            Rc::new(subscriptions)
        });
        if let (Some(shard), Some(subscriptions)) = (shard, &subscriptions) {
            let (own, shared) = (subscriptions.clone(), process.shared_subscriber.clone());
            let orders = process.orders.clone();
            receiving.push(Task::spawn(moving::carry_out(own, shared, orders, shard)));
        }
        let source = Rc::new(match (shard, &process.shared_subscriber, &subscriptions) {
            (Some(shard), Some(shared), _) => {
                SubscriptionSource::Shared(SharedListener::new(shared.clone(), shard))
            }
            (Some(_), None, Some(own)) => SubscriptionSource::Own(own.clone()),
            _ => SubscriptionSource::Nothing,
        });
        if settings.is_cluster() {
            let sharded = subscriptions.as_ref().and_then(|own| own.sharded());
            let followed = move || {
                if let Some(sharded) = &sharded {
                    sharded.settle();
                }
            };
            sending.push(Task::spawn(ClusterView::new(router.clone(), followed).run()));
        }
        if matches!(owner, HandleOwner::Control) {
            sending.extend(control_tasks(&process, &router));
        }
        Self {
            publisher: Publisher::new(process.clone(), router.clone()),
            positions: Positions::new(recoverer.clone(), source.clone()),
            process,
            router,
            recoverer,
            source,
            subscriptions,
            sending: RefCell::new(sending),
            receiving: RefCell::new(receiving),
        }
    }

    async fn confirm_subscription_now(&self, channel: ChannelName) {
        let is_up = self.process.health.reach() == Reach::Up;
        let may_be_heard = is_up || self.router.is_alive(&channel);
        let waiter = self.source.want(channel).filter(|_| may_be_heard);
        if let Some(confirmed) = waiter {
            // Confirmed, refused, disconnected or late: the client is let in all the same.
            let _ = tokio::time::timeout(SUBSCRIBE_DEADLINE, confirmed).await;
        }
    }

    async fn close_now(&self) {
        if let Some(subscriptions) = &self.subscriptions {
            let _ = tokio::time::timeout(BROKER_CLOSE_DEADLINE, subscriptions.leave_bridge()).await;
            self.receiving.borrow_mut().extend(subscriptions.close());
        }
        // Then the subscribers: dropping their tasks drops their connections, and nothing is
        // delivered any more. Last, commands under way to Redis get a moment.
        end(&self.receiving).await;
        let _ = tokio::time::timeout(BROKER_CLOSE_DEADLINE, self.publisher.idle()).await;
        end(&self.sending).await;
    }
}

/// The control thread's tasks for all handles of the process.
fn control_tasks(process: &Arc<Process>, router: &Rc<CommandRouter>) -> Vec<Task> {
    let destination = &process.destination;
    let mut tasks = sentinel::follow(destination);
    tasks.push(Task::spawn(watch::run(process.clone(), router.clone())));
    if let Some(hints) = &destination.hints {
        let connections = router.clone();
        let is_lost = move |server: &Server| {
            connections.cluster.as_ref().is_some_and(|cluster| cluster.is_lost(server))
        };
        let refresher = SlotMapRefresher::new(destination.clone(), hints.clone(), is_lost);
        tasks.push(Task::spawn(refresher.run()));
    }
    tasks
}

/// Ends tasks, and waits until they and their connections are gone.
async fn end(tasks: &RefCell<Vec<Task>>) {
    let tasks = std::mem::take(&mut *tasks.borrow_mut());
    for task in tasks {
        task.end().await;
    }
}

impl History for RedisBroker {
    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.process.memory.piece(channel, after, to, bytes_max)
    }
}

impl Broker for RedisBroker {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.publisher.publish(message).boxed_local()
    }

    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.publisher.publish_slot(slot).boxed_local()
    }

    fn confirm_subscription(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.confirm_subscription_now(channel).boxed_local()
    }

    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        self.positions.position(channel, since).boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        async move { self.recoverer.recover(&channel, &since, &to).await }.boxed_local()
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.positions.forget(channel);
        self.source.unwant(channel);
    }

    fn keep(&self, channels: Vec<ChannelName>) {
        self.source.keep(channels);
    }

    fn presence(&self, takes_clients: bool) -> LocalBoxFuture<'_, bool> {
        presence::tell(&self.router, takes_clients).boxed_local()
    }

    fn announce<'a>(
        &'a self,
        announcement: &'a Announcement,
    ) -> LocalBoxFuture<'a, Result<Scope, BansFull>> {
        announcing::announce(&self.router, announcement).boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { self.close_now().await }.boxed_local()
    }
}
