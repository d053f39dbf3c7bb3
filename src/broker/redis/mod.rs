//! The broker of a cluster of processes: Redis gives every message its offset and carries it.
//!
//! Each handle has a few connections for commands and, if it is a shard's, one more for questions
//! and a subscriber. Publishing is one script in Redis. Whether Redis is within reach is known
//! before a message is sent; so a message goes either into Redis, once, or (surely not sent) to
//! this process alone, and where nobody can know, the answer says so.
//!
//! | folder | what it is |
//! |---|---|
//! | `protocol` | names, scripts, how messages and answers are written and read |
//! | `net` | connections, frames, pipelines, what a URL leads to |
//! | `discovery` | which server is the one: sentinels, slot map, names that lead elsewhere |
//! | `commands` | the connections for commands, their choice and order |
//! | `local` | what the process did without Redis, and what its publishers may add to it |
//! | `recovery` | positions, histories, holes |
//! | `pubsub` | subscriptions, and the delivery of what arrives |
//! | `raw` | the bridge from the raw channel |

mod cluster_view;
mod commands;
mod discovery;
mod local;
mod net;
mod periodic;
mod presence;
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
mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::sync::Notify;

pub(super) use self::process::Process;
use self::{
    cluster_view::ClusterView,
    commands::connectivity::Link,
    discovery::{sentinel, slot_map_refresh},
    net::options,
    pubsub::{
        shard_subscriptions::ShardSubscriptions,
        source::{SharedListener, SubscriptionSource},
        subscriptions::Confirmation,
    },
    task::Task,
};
use super::{
    Broker, Message, PeriodicSlot, Place, Position, Publication, PublishError, Reach, Receipt,
    Recovery, Shared, Since, SlotOutcome,
};
use crate::{
    channel::ChannelName,
    limits::{BROKER_CLOSE_DEADLINE, SUBSCRIBE_DEADLINE},
};

/// Whether a URL is one that could be connected by.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    options::parse(url).map(|_| ())
}

/// A thread's handle.
#[derive(Debug)]
pub(super) struct RedisBroker {
    link: Rc<Link>,
    source: SubscriptionSource,
    /// The first shard's, or each shard's.
    subscriptions: Option<Rc<ShardSubscriptions>>,
    /// By what a channel's subscription is confirmed, and the first question for its position that
    /// was put since.
    confirmed: RefCell<HashMap<ChannelName, (Confirmation, u64)>>,
    sending: RefCell<Vec<Task>>,
    receiving: RefCell<Vec<Task>>,
    /// Publishes on their way, and the bytes of their payloads.
    in_flight: Cell<(usize, usize)>,
    answered: Notify,
}

impl RedisBroker {
    /// Starts the handle's tasks on the calling thread.
    pub(super) fn start(shared: Arc<Shared>, place: Place) -> Self {
        let link = Rc::new(Link::new(shared, place));
        let mut sending: Vec<Task> = (link.connections.iter().chain(&link.questions))
            .map(|connection| Task::spawn(connection.clone().run(link.clone())))
            .collect();
        let mut receiving = Vec::new();
        let subscriptions = match place {
            Place::Shard(shard) if link.process().subscribes(shard) => {
                let (subscriptions, tasks) = ShardSubscriptions::start(&link, shard);
                receiving.extend(tasks);
                Some(Rc::new(subscriptions))
            }
            Place::Shard(_) | Place::Control => None,
        };
        let source = match (place, &subscriptions) {
            (Place::Control, _) => SubscriptionSource::Nothing,
            (Place::Shard(shard), _) if link.process().shared_subscriber.is_some() => {
                SubscriptionSource::Shared(SharedListener::new(link.clone(), shard))
            }
            (Place::Shard(_), Some(subscriptions)) => {
                SubscriptionSource::Own(subscriptions.clone())
            }
            (Place::Shard(_), None) => SubscriptionSource::Nothing,
        };
        if link.routes.is_some() {
            let sharded = subscriptions.as_ref().and_then(|subscriptions| subscriptions.sharded());
            let view = ClusterView::new(link.clone(), sharded);
            sending.push(Task::spawn(view.run()));
            if place == Place::Control {
                sending.push(Task::spawn(slot_map_refresh::run(link.clone())));
            }
        }
        if matches!(place, Place::Control) {
            sending.extend(sentinel::follow(&link.shared));
            sending.push(Task::spawn(watch::run(link.clone())));
        }
        Self {
            link,
            source,
            subscriptions,
            confirmed: RefCell::default(),
            sending: RefCell::new(sending),
            receiving: RefCell::new(receiving),
            in_flight: Cell::new((0, 0)),
            answered: Notify::new(),
        }
    }

    fn process(&self) -> &Process {
        self.link.process()
    }

    async fn subscribe_now(&self, channel: ChannelName) {
        let is_up = self.link.shared.health_ref().reach() == Reach::Up;
        let may_be_heard = is_up || self.link.is_there(&channel);
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
        // delivered any more. Last, what is on its way to Redis gets a moment.
        end(&self.receiving).await;
        let _ = tokio::time::timeout(BROKER_CLOSE_DEADLINE, async {
            while self.in_flight.get().0 > 0 {
                self.answered.notified().await;
            }
        })
        .await;
        end(&self.sending).await;
    }
}

/// Ends tasks, and waits until they and their connections are gone.
async fn end(tasks: &RefCell<Vec<Task>>) {
    let tasks = std::mem::take(&mut *tasks.borrow_mut());
    for task in tasks {
        task.end().await;
    }
}

impl Broker for RedisBroker {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.publish_now(message).boxed_local()
    }

    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.publish_slot(slot).boxed_local()
    }

    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.subscribe_now(channel).boxed_local()
    }

    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        self.position_now(channel, since).boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        async move { self.process().recover(&self.link, &channel, &since, &to).await }.boxed_local()
    }

    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.process().memory().histories.piece(channel, after, to, bytes_max)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.confirmed.borrow_mut().remove(channel);
        self.source.unwant(channel);
    }

    fn presence(&self, takes_clients: bool) -> LocalBoxFuture<'_, bool> {
        self.tell_presence(takes_clients).boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { self.close_now().await }.boxed_local()
    }
}
