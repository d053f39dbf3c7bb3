//! The raw channel's bridge: one process in the cluster gives foreign programs' messages a place.
//!
//! Every process's first shard hears the raw channel; the holder of the lease publishes its
//! messages to the default channel like any other message, so that they have an offset and a
//! history. `lease` decides whose messages they are; this file asks Redis and publishes.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fred::types::Value;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::lease::{Ask, Lease, LeaseEvent};
use crate::{
    broker::{
        PublisherClass, epoch,
        redis::{
            commands::{
                call_error::CallError,
                router::{CallOrder, CommandRouter},
            },
            protocol::{
                arguments::{self, millis},
                replies,
            },
        },
    },
    channel::ChannelName,
    limits::{
        BRIDGE_IN_FLIGHT_MAX, BRIDGE_LEASE, BRIDGE_RENEW_INTERVAL, HISTORY_COPY_BYTES_MAX,
        PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_CONFIRM_DEADLINE, PUBLISHES_IN_FLIGHT_MAX,
    },
    metrics::{BrokerRefusal, PublishFailure},
    telemetry::seldom,
    ws::Kind,
};

/// All that may be on its way to Redis.
const ROOM: u32 = PUBLISH_BYTES_IN_FLIGHT_MAX as u32;
/// The cost of a message besides its payload: so their number is bounded, too.
const MESSAGE_COST: usize = PUBLISH_BYTES_IN_FLIGHT_MAX / PUBLISHES_IN_FLIGHT_MAX;

/// The first shard's part in bridging.
#[derive(Debug)]
pub(crate) struct Bridge {
    router: Rc<CommandRouter>,
    lease: RefCell<Lease>,
    key: String,
    /// The Redis channel of the lease's marks.
    marks: String,
    nudge: Notify,
    left: Notify,
    leaving: Cell<bool>,
    /// Told once, until Redis answers otherwise: it is asked again and again.
    refusal_told: Cell<bool>,
    /// Taken over and not yet handed to Redis: each has its share of the room, which bounds it.
    queue: RefCell<VecDeque<(Bytes, OwnedSemaphorePermit)>>,
    queued: Notify,
    room: Arc<Semaphore>,
}

impl Bridge {
    pub(crate) fn new(router: Rc<CommandRouter>, raw: &str) -> Self {
        let names = &router.settings.names;
        Self {
            lease: RefCell::new(Lease::new(epoch::random())),
            key: names.bridge(&ChannelName::default_channel(), raw),
            marks: names.marks(&ChannelName::default_channel(), raw),
            nudge: Notify::new(),
            left: Notify::new(),
            leaving: Cell::new(false),
            refusal_told: Cell::new(false),
            queue: RefCell::default(),
            queued: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
            router,
        }
    }

    /// Where the lease's marks are published.
    pub(crate) fn marks(&self) -> &str {
        &self.marks
    }

    /// The subscriber's connection is gone, and what was published since.
    pub(crate) fn disconnected(&self) {
        self.lease.borrow_mut().disconnected();
        self.nudge.notify_one();
    }

    /// A raw message arrived. Waits while too much is on its way to Redis: what comes meanwhile
    /// waits in the connection.
    pub(crate) async fn raw(&self, data: Bytes) {
        if data.len() > self.router.settings.max_broadcast_bytes {
            if self.lease.borrow().is_bridging(self.router.clock.now()) {
                self.router.health.raw_failures.add(PublishFailure::TooBig as usize, 1);
                let (bytes, most) = (data.len(), self.router.settings.max_broadcast_bytes);
                seldom!(
                    warn,
                    "a raw message is larger than --max-broadcast-size: dropped",
                    bytes,
                    most
                );
            }
            return;
        }
        // A view would keep the whole buffer that it was read into.
        let is_small = data.len() <= HISTORY_COPY_BYTES_MAX;
        let data = if is_small { Bytes::copy_from_slice(&data) } else { data };
        self.lease.borrow_mut().raw(data);
        self.bridge_ready().await;
    }

    /// A mark of the lease arrived.
    pub(crate) async fn mark(&self, payload: &[u8]) {
        let heard = self.lease.borrow_mut().heard(payload);
        match heard {
            LeaseEvent::Noted => {}
            LeaseEvent::Free => self.nudge.notify_one(),
            LeaseEvent::Interrupted => {
                self.router.health.raw_handovers.add(1);
                seldom!(warn, "the raw channel was without a bridge: messages may be lost");
            }
        }
        self.bridge_ready().await;
        if self.lease.borrow().has_left() {
            self.left.notify_one();
        }
    }

    /// Queues the messages to be bridged now.
    async fn bridge_ready(&self) {
        let Some(waiting) = self.lease.borrow_mut().ready(self.router.clock.now()) else { return };
        let lost = &self.router.health.raw_failures;
        lost.add(PublishFailure::BrokerLost as usize, waiting.dropped);
        for data in waiting.messages {
            let share = u32::try_from(data.len() + MESSAGE_COST).unwrap_or(ROOM).min(ROOM);
            let room = self.room.clone().acquire_many_owned(share).await;
            let room = room.expect("the semaphore is never closed");
            self.queue.borrow_mut().push_back((data, room));
            self.queued.notify_one();
        }
    }

    /// Publishes the queued messages, in order; never returns.
    pub(crate) async fn forward_queued(self: Rc<Self>) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            // The others' time for an answer does not run yet.
            while in_flight.len() < BRIDGE_IN_FLIGHT_MAX
                && let Some((data, room)) = self.queue.borrow_mut().pop_front()
            {
                in_flight.push(self.forward(data, room));
            }
            tokio::select! {
                () = self.queued.notified() => {}
                Some(()) = in_flight.next() => {}
            }
        }
    }

    /// Publishes one message. Its place in the order is that of the calls.
    fn forward(&self, data: Bytes, room: OwnedSemaphorePermit) -> impl Future<Output = ()> + '_ {
        let settings = &self.router.settings;
        let router = &self.router;
        let channel = ChannelName::default_channel();
        let permit = router.enter(&channel);
        async move {
            let is_text = std::str::from_utf8(&data).is_ok();
            let kind = if is_text { Kind::Text } else { Kind::Binary };
            let args = arguments::stamp(
                &settings.history,
                PublisherClass::Api,
                settings.names.channel(&channel),
                kind,
                &data,
            );
            let began = Cell::new(None);
            // Not only while every shard is within reach: a shard that is not reads the history.
            let publishing = async {
                router.opened(&channel).await;
                began.set(Some(self.router.clock.now()));
                let keys = settings.names.keys(&channel);
                let script = &settings.scripts.publish;
                let order = CallOrder::Ordered(&permit);
                let answer = router.call(&channel, order, script, &keys, &args).await?;
                replies::position(answer).map_err(CallError::Unexpected)
            };
            let health = &self.router.health;
            let answer = timeout(PUBLISH_CONFIRM_DEADLINE, publishing).await;
            let sent = began.get().unwrap_or_default();
            let failure = match answer {
                Ok(Ok(_)) => {
                    self.router.accepted(&channel, sent);
                    health.raw_published.add(1);
                    drop(room);
                    return;
                }
                Ok(Err(CallError::Refused(error) | CallError::Elsewhere(error))) => {
                    self.router.refused(&channel, &error, sent);
                    PublishFailure::BrokerLost
                }
                Ok(Err(CallError::InDoubt(_))) => PublishFailure::Unconfirmed,
                Ok(Err(CallError::Unexpected(error))) => {
                    let reason = BrokerRefusal::UnexpectedAnswer;
                    self.router.not_taken(&channel, reason, error.details(), sent);
                    PublishFailure::Unconfirmed
                }
                Err(_) if began.get().is_some() => {
                    self.router.not_answered(&channel, sent);
                    PublishFailure::Unconfirmed
                }
                Ok(Err(CallError::NotSent | CallError::NoScript)) | Err(_) => {
                    PublishFailure::BrokerLost
                }
            };
            seldom!(
                warn,
                "a message of the raw channel was not (surely) published",
                reason = failure.word()
            );
            health.raw_failures.add(failure as usize, 1);
        }
    }

    /// Keeps or tries to get the lease; never returns. `hears`: whether raw messages and marks
    /// arrive.
    pub(crate) async fn keep_lease(self: Rc<Self>, hears: impl Fn() -> bool) {
        loop {
            let pause = self.ask_for_lease(hears()).await;
            let _ = timeout(pause, self.nudge.notified()).await;
        }
    }

    /// Asks Redis once; how long to wait until the next time. `hears`: raw messages and marks
    /// arrive.
    pub(crate) async fn ask_for_lease(&self, hears: bool) -> Duration {
        let asked = self.router.clock.now();
        let can_bridge = !self.leaving.get() && hears;
        let ask = self.lease.borrow_mut().ask(asked, can_bridge);
        let Some(ask) = ask else { return BRIDGE_RENEW_INTERVAL };
        let word = match ask {
            Ask::Take => "take",
            Ask::Extend => "extend",
            Ask::Release => "release",
        };
        let attempt = self.lease.borrow().attempt();
        let answer = timeout(PUBLISH_CONFIRM_DEADLINE, self.tell_lease(word)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(CallError::Refused(error))) if !self.refusal_told.replace(true) => {
                seldom!(warn, "Redis refuses the raw channel's lease", error = error.details());
                return BRIDGE_RENEW_INTERVAL;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the raw channel's lease cannot be asked for");
                return BRIDGE_RENEW_INTERVAL;
            }
            Err(_) => return BRIDGE_RENEW_INTERVAL,
        };
        self.refusal_told.set(false);
        match (ask, answer) {
            (Ask::Release, _) => self.lease.borrow_mut().released(attempt),
            (_, Some(free_in)) => {
                self.lease.borrow_mut().denied(attempt);
                return free_in.min(BRIDGE_RENEW_INTERVAL);
            }
            (_, None) => {
                self.lease.borrow_mut().granted(attempt, asked);
                if ask == Ask::Take {
                    seldom!(info, "this process bridges the raw channel");
                }
                // The messages since the mark are ours.
                self.bridge_ready().await;
            }
        }
        BRIDGE_RENEW_INTERVAL
    }

    /// Runs the lease's script: None if the lease is ours then, else when it may be free.
    async fn tell_lease(&self, word: &str) -> Result<Option<Duration>, CallError> {
        let args: Vec<Value> = {
            let lease = self.lease.borrow();
            let (me, attempt) = (lease.me().into(), lease.attempt().to_string().into());
            vec![word.into(), me, attempt, millis(BRIDGE_LEASE), self.marks.clone().into()]
        };
        let script = &self.router.settings.scripts.lease;
        let channel = ChannelName::default_channel();
        let keys = vec![self.key.clone()];
        let answer = self.router.call(&channel, CallOrder::Unordered, script, &keys, &args).await?;
        let free_in = replies::lease(answer).map_err(CallError::InDoubt)?;
        // One more, or it is not over yet.
        Ok(free_in.map(|ms| Duration::from_millis(ms + 1)))
    }

    /// Lets another process bridge, from an agreed message on: everything before is bridged by
    /// this one when it resolves.
    ///
    /// # Cancel safety
    /// May be dropped: then the lease runs out.
    pub(crate) async fn leave(&self) {
        self.leaving.set(true);
        if !self.lease.borrow().is_held(self.router.clock.now()) {
            return;
        }
        if let Ok(None) = self.tell_lease("leave").await {
            while !self.lease.borrow().has_left() {
                self.left.notified().await;
            }
            // All of it: nothing is on its way.
            let idle = self.room.acquire_many(ROOM).await;
            idle.expect("the semaphore is never closed").forget();
        }
        let _ = self.tell_lease("release").await;
    }
}
