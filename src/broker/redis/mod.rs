//! The broker of a cluster of processes: Redis gives every message its offset and carries it.
//!
//! Each handle has a few publishing lanes (fred's clients) and, if it is a shard's, a subscriber
//! on a connection of its own. Publishing is one script in Redis. Whether Redis is within reach
//! is known before a message is sent; so a message goes either into Redis, once, or (surely not
//! sent) to this process alone, and where nobody can know, the answer says so.

mod answers;
mod connection;
mod lane;
mod link;
mod names;
mod process;
mod publish;
mod reader;
mod repair;
mod script;
mod slot;
mod subscriber;
mod subscriptions;
mod target;
mod track;
mod turnstile;
mod wire;

use std::{
    cell::{Cell, RefCell},
    hash::RandomState,
    rc::Rc,
    sync::Arc,
};

use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_local},
};

pub(super) use self::process::Process;
use self::{link::Link, subscriber::Subscriber};
use super::{
    Broker, Message, Place, Position, Publication, PublishError, Reach, Receipt, Recovery, Shared,
    Since, Slot, SlotOutcome,
};
use crate::{
    channel::ChannelName,
    limits::{BROKER_CLOSE_DEADLINE, SUBSCRIBE_DEADLINE},
};

/// A thread's handle.
#[derive(Debug)]
pub(super) struct RedisBroker {
    link: Rc<Link>,
    subscriber: Option<Rc<Subscriber>>,
    sending: RefCell<Vec<Task>>,
    receiving: RefCell<Vec<Task>>,
    hasher: RandomState,
    /// Publishes on their way, and the bytes of their payloads.
    in_flight: Cell<(usize, usize)>,
    answered: Notify,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RedisBroker {
    /// Starts the handle's tasks on the calling thread.
    pub(super) fn start(shared: Arc<Shared>, place: Place) -> Self {
        let link = Rc::new(Link::new(shared, place));
        let sending: Vec<Task> = (link.lanes.iter())
            .map(|lane| Task(spawn_local(lane.clone().run(link.clone()))))
            .collect();
        let mut receiving = Vec::new();
        let subscriber = match place {
            Place::Control => None,
            Place::Shard(shard) => {
                let subscriber = Rc::new(Subscriber::new(link.clone(), shard));
                receiving.push(Task(spawn_local(subscriber.clone().run())));
                Some(subscriber)
            }
        };
        Self {
            link,
            subscriber,
            sending: RefCell::new(sending),
            receiving: RefCell::new(receiving),
            hasher: RandomState::new(),
            in_flight: Cell::new((0, 0)),
            answered: Notify::new(),
        }
    }

    fn process(&self) -> &Process {
        self.link.process()
    }

    async fn subscribe_now(&self, channel: ChannelName) {
        let Some(subscriber) = &self.subscriber else { return };
        let waiter = subscriber.want(channel);
        if self.link.shared.health_ref().reach() != Reach::Up {
            return;
        }
        if let Some(confirmed) = waiter {
            // Confirmed, refused, disconnected or late: the client is let in all the same.
            let _ = tokio::time::timeout(SUBSCRIBE_DEADLINE, confirmed).await;
        }
    }

    async fn position_now(&self, channel: ChannelName) -> Option<Position> {
        let subscriber = self.subscriber.as_ref();
        let confirmed = subscriber.is_some_and(|subscriber| subscriber.is_confirmed(&channel));
        let asking = self.process().standing(self.lane(&channel), &channel);
        let standing = tokio::time::timeout(SUBSCRIBE_DEADLINE, asking).await.ok()?.ok()?;
        if let Some(subscriber) = subscriber {
            subscriber.anchor(&channel, &standing, confirmed);
        }
        Some(standing.position)
    }

    async fn close_now(&self) {
        // First the subscriber: dropping its task drops its connection, and nothing is
        // delivered any more. Then what is on its way to Redis gets a moment.
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
    for mut task in tasks {
        task.0.abort();
        // Cancelled, as it should be.
        let _ = (&mut task.0).await;
    }
}

impl Broker for RedisBroker {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.publish_now(message).boxed_local()
    }

    fn publish_once(&self, slot: Slot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.publish_slot(slot).boxed_local()
    }

    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.subscribe_now(channel).boxed_local()
    }

    fn position(&self, channel: ChannelName) -> LocalBoxFuture<'_, Option<Position>> {
        self.position_now(channel).boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        self.recover_now(channel, since, to).boxed_local()
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
        if let Some(subscriber) = &self.subscriber {
            subscriber.unwant(channel);
        }
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { self.close_now().await }.boxed_local()
    }
}
