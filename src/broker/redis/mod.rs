//! The broker of a cluster of processes: Redis gives every message its offset and carries it.
//!
//! Each handle has a few publishing lanes (fred's clients) and, if it is a shard's, a subscriber
//! on a connection of its own. Publishing is one script in Redis. Whether Redis is within reach
//! is known before a message is sent; so a message goes either into Redis, once, or (surely not
//! sent) to this process alone, and where nobody can know, the answer says so.

mod audit;
mod connection;
mod lane;
mod link;
mod names;
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
    hash::{BuildHasher, Hasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use fred::{error::Error, prelude::Config, types::Value};
use futures_util::future::{FutureExt, LocalBoxFuture};
use tokio::{
    sync::Notify,
    task::{JoinHandle, spawn_local},
};

use self::{
    lane::{CallError, Lane},
    link::Link,
    names::Names,
    script::{Script, Scripts},
    subscriber::Subscriber,
};
use super::{
    Broker, InvalidSettings, OnLoss, Place, Position, Publication, PublishError, Reach, Receipt,
    RedisSettings, Shared, Sink, Slot, SlotOutcome, embedded::SlotsDone, epoch, fanout::Fanout,
};
use crate::{
    channel::ChannelName,
    clock,
    limits::{
        BROKER_CLOSE_DEADLINE, PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_CONFIRM_DEADLINE,
        PUBLISHES_IN_FLIGHT_MAX, REDIS_META_TTL, REDIS_SETTLE, SUBSCRIBE_DEADLINE,
    },
    ws::Kind,
};

/// What all handles of a process share: checked settings, and the way to all shards without
/// Redis.
#[derive(Debug)]
pub(super) struct Process {
    config: Config,
    pool: usize,
    names: Names,
    scripts: Scripts,
    raw_channel: Option<String>,
    max_broadcast_bytes: usize,
    sinks: Vec<Arc<dyn Sink>>,
    local: Fanout<SlotsDone>,
}

impl Process {
    pub(super) fn new(
        settings: RedisSettings,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Result<Self, InvalidSettings> {
        let config = target::parse(&settings.url)?;
        if settings.prefix.is_empty() || settings.prefix.contains(['{', '}']) {
            return Err(InvalidSettings::Prefix);
        }
        let raw_channel = settings.raw_channel.filter(|name| !name.is_empty());
        let names = Names::new(settings.prefix.clone(), epoch::random());
        if raw_channel.as_ref().is_some_and(|raw| names.may_be_ours(raw)) {
            return Err(InvalidSettings::RawChannel(settings.prefix));
        }
        Ok(Self {
            config,
            pool: settings.pool.max(1),
            names,
            scripts: Scripts::new(),
            raw_channel,
            max_broadcast_bytes: settings.max_broadcast_bytes,
            local: Fanout::new(sinks.clone(), SlotsDone::default()),
            sinks,
        })
    }
}

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

/// What became of a command to Redis.
enum Outcome<T> {
    Done(T),
    NotSent,
    InDoubt,
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
                let (auditor, link) = (subscriber.clone(), link.clone());
                receiving.push(Task(spawn_local(async move { auditor.audit.run(link).await })));
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

    /// All messages of a channel go through one lane: they keep their order.
    fn lane(&self, channel: &ChannelName) -> &Lane {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(channel.as_str().as_bytes());
        let lanes = &self.link.lanes;
        &lanes[(hasher.finish() % lanes.len() as u64) as usize]
    }

    /// Whether Redis may be used now. Just after its return others are not subscribed yet, so
    /// publishing waits a moment.
    async fn is_up(&self) -> bool {
        let health = self.link.shared.health_ref();
        loop {
            let now = clock::now();
            if health.reach_at(now) != Reach::Up {
                return false;
            }
            match health.back_since().map(|since| since + REDIS_SETTLE) {
                Some(settled) if settled > now => tokio::time::sleep(settled - now).await,
                _ => return true,
            }
        }
    }

    async fn publish_now(
        &self,
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
    ) -> Result<Receipt, PublishError> {
        let _admitted = self.admit(data.len()).ok_or(PublishError::ShardStalled)?;
        self.process().local.turn().check_room(data.len())?;
        match self.publish_to_redis(&channel, kind, &data).await {
            Outcome::Done(position) => Ok(Receipt::Cluster(position)),
            Outcome::InDoubt => Err(PublishError::Unconfirmed),
            Outcome::NotSent => self.publish_locally(channel, kind, data),
        }
    }

    async fn publish_to_redis(
        &self,
        channel: &ChannelName,
        kind: Kind,
        data: &Bytes,
    ) -> Outcome<Position> {
        let process = self.process();
        let keys = vec![process.names.meta(channel)];
        let args = self.stamp_args(channel, kind, data);
        self.run(&process.scripts.publish, channel, keys, args, script::position).await
    }

    /// Runs `script` in Redis if it is within reach; settled within
    /// [`PUBLISH_CONFIRM_DEADLINE`], the wait for others included.
    async fn run<T>(
        &self,
        script: &Script,
        channel: &ChannelName,
        keys: Vec<String>,
        args: Vec<Value>,
        read: fn(Value) -> Result<T, Error>,
    ) -> Outcome<T> {
        let began = Cell::new(false);
        let lane = self.lane(channel);
        // Before any wait: who publishes first is first, also when all had to wait.
        let ticket = lane.enter();
        let call = async {
            if !self.is_up().await {
                return Err(CallError::NotSent);
            }
            if !lane.is_open() {
                // The shards are back, this handle (the control thread's) is about to be.
                let _ = tokio::time::timeout(REDIS_SETTLE, lane.changed.notified()).await;
            }
            began.set(true);
            let value = lane.call(ticket, script, keys, args).await?;
            read(value).map_err(CallError::InDoubt)
        };
        match tokio::time::timeout(PUBLISH_CONFIRM_DEADLINE, call).await {
            Ok(Ok(value)) => Outcome::Done(value),
            Ok(Err(CallError::NotSent)) => Outcome::NotSent,
            Ok(Err(CallError::Refused(error))) => {
                self.link.shared.health_ref().refused.add(1);
                tracing::warn!(%error, "Redis refuses a message");
                Outcome::NotSent
            }
            Ok(Err(CallError::InDoubt(error))) => {
                tracing::debug!(%error, "Redis did not confirm a message");
                Outcome::InDoubt
            }
            Err(_) if began.get() => Outcome::InDoubt,
            Err(_) => Outcome::NotSent,
        }
    }

    /// What the stamping part of both scripts takes.
    fn stamp_args(&self, channel: &ChannelName, kind: Kind, data: &Bytes) -> Vec<Value> {
        let ttl_ms = i64::try_from(REDIS_META_TTL.as_millis()).unwrap_or(i64::MAX);
        vec![
            self.process().names.channel(channel).into(),
            wire::letter(kind).into(),
            data.clone().into(),
            epoch::random().into(),
            ttl_ms.into(),
        ]
    }

    fn publish_locally(
        &self,
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
    ) -> Result<Receipt, PublishError> {
        match self.link.shared.on_loss() {
            OnLoss::Reject => Err(PublishError::BrokerLost),
            OnLoss::Local => {
                let turn = self.process().local.turn();
                turn.check_room(data.len())?;
                turn.deliver(&Publication { channel, kind, data, position: None });
                Ok(Receipt::Local)
            }
        }
    }

    /// Takes a place among the publishes in flight; None if there are too many.
    fn admit(&self, bytes: usize) -> Option<Admitted<'_>> {
        let (count, total) = self.in_flight.get();
        let fits = total == 0 || total + bytes <= PUBLISH_BYTES_IN_FLIGHT_MAX;
        (count < PUBLISHES_IN_FLIGHT_MAX && fits).then(|| {
            self.in_flight.set((count + 1, total + bytes));
            Admitted { broker: self, bytes }
        })
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

/// A publish in flight.
struct Admitted<'a> {
    broker: &'a RedisBroker,
    bytes: usize,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let (count, total) = self.broker.in_flight.get();
        self.broker.in_flight.set((count - 1, total - self.bytes));
        self.broker.answered.notify_one();
    }
}

impl Broker for RedisBroker {
    fn publish(
        &self,
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
    ) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.publish_now(channel, kind, data).boxed_local()
    }

    fn publish_once(&self, slot: Slot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.publish_slot(slot).boxed_local()
    }

    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.subscribe_now(channel).boxed_local()
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
