//! The raw channel's bridge: one process in the cluster gives foreign programs' messages a place.
//!
//! Every process's first shard hears the raw channel; the one that holds the lease publishes what
//! it hears to the default channel like any other message, so that it has an offset and a
//! history. What is whose is decided in `lease`; this file asks Redis and publishes.

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
        Principal, epoch,
        redis::{
            commands::{call_error::CallError, connectivity::Link, router::Way},
            protocol::{
                arguments::{self, millis},
                replies,
            },
            pubsub::subscriber::Subscriber,
        },
    },
    channel::ChannelName,
    clock,
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
/// What a message takes of it besides its payload: so their number is bounded, too.
const MESSAGE_COST: usize = PUBLISH_BYTES_IN_FLIGHT_MAX / PUBLISHES_IN_FLIGHT_MAX;

/// The first shard's part in bridging.
#[derive(Debug)]
pub(crate) struct Bridge {
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
    pub(crate) fn new(link: &Link, raw: &str) -> Self {
        Self {
            lease: RefCell::new(Lease::new(epoch::random())),
            key: link.process().settings.names.bridge(&ChannelName::default_channel(), raw),
            marks: link.process().settings.names.marks(&ChannelName::default_channel(), raw),
            nudge: Notify::new(),
            left: Notify::new(),
            leaving: Cell::new(false),
            refusal_told: Cell::new(false),
            queue: RefCell::default(),
            queued: Notify::new(),
            room: Arc::new(Semaphore::new(ROOM as usize)),
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
}

impl Subscriber {
    /// A raw message arrived. Waits while too much is on its way to Redis: what comes meanwhile
    /// waits in the connection.
    pub(crate) async fn raw(&self, data: Bytes) {
        let Some(bridge) = &self.bridge else { return };
        if data.len() > self.link.process().settings.max_broadcast_bytes {
            if bridge.lease.borrow().is_bridging(clock::now()) {
                self.link.shared.health_ref().raw_failures.add(PublishFailure::TooBig as usize, 1);
                let (bytes, most) = (data.len(), self.link.process().settings.max_broadcast_bytes);
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
        bridge.lease.borrow_mut().raw(data);
        self.bridge_ready(bridge).await;
    }

    /// A mark of the lease arrived.
    pub(crate) async fn mark(&self, payload: &[u8]) {
        let Some(bridge) = &self.bridge else { return };
        let heard = bridge.lease.borrow_mut().heard(payload);
        match heard {
            LeaseEvent::Noted => {}
            LeaseEvent::Free => bridge.nudge.notify_one(),
            LeaseEvent::Interrupted => {
                self.link.shared.health_ref().raw_handovers.add(1);
                seldom!(warn, "the raw channel was without a bridge: messages may be lost");
            }
        }
        self.bridge_ready(bridge).await;
        if bridge.lease.borrow().has_left() {
            bridge.left.notify_one();
        }
    }

    /// Queues what is to be bridged now.
    async fn bridge_ready(&self, bridge: &Bridge) {
        let Some(waiting) = bridge.lease.borrow_mut().ready(clock::now()) else { return };
        let lost = &self.link.shared.health_ref().raw_failures;
        lost.add(PublishFailure::BrokerLost as usize, waiting.dropped);
        for data in waiting.messages {
            let share = u32::try_from(data.len() + MESSAGE_COST).unwrap_or(ROOM).min(ROOM);
            let room = bridge.room.clone().acquire_many_owned(share).await;
            let room = room.expect("the semaphore is never closed");
            bridge.queue.borrow_mut().push_back((data, room));
            bridge.queued.notify_one();
        }
    }

    /// Publishes what is queued, in order; never returns.
    pub(crate) async fn forward_raw(self: Rc<Self>) {
        let Some(bridge) = &self.bridge else { return };
        let mut in_flight = FuturesUnordered::new();
        loop {
            // The others' time for an answer does not run yet.
            while in_flight.len() < BRIDGE_IN_FLIGHT_MAX
                && let Some((data, room)) = bridge.queue.borrow_mut().pop_front()
            {
                in_flight.push(self.forward(data, room));
            }
            tokio::select! {
                () = bridge.queued.notified() => {}
                Some(()) = in_flight.next() => {}
            }
        }
    }

    /// Publishes one message. Its place in the order is that of the calls.
    fn forward(&self, data: Bytes, room: OwnedSemaphorePermit) -> impl Future<Output = ()> + '_ {
        let process = self.link.process();
        let link = &self.link;
        let channel = ChannelName::default_channel();
        let permit = link.enter(&channel);
        async move {
            let is_text = std::str::from_utf8(&data).is_ok();
            let kind = if is_text { Kind::Text } else { Kind::Binary };
            let args = arguments::stamp(
                &process.settings.history,
                Principal::Api,
                process.settings.names.channel(&channel),
                kind,
                &data,
            );
            let began = Cell::new(None);
            // Not only while every shard is within reach: whoever is not reads the history.
            let publishing = async {
                link.opened(&channel).await;
                began.set(Some(clock::now()));
                let keys = process.settings.names.keys(&channel);
                let script = &process.settings.scripts.publish;
                let answer = link.call(&channel, Way::InOrder(permit), script, keys, args).await?;
                replies::position(answer).map_err(CallError::Unexpected)
            };
            let health = self.link.shared.health_ref();
            let answer = timeout(PUBLISH_CONFIRM_DEADLINE, publishing).await;
            let sent = began.get().unwrap_or_default();
            let failure = match answer {
                Ok(Ok(_)) => {
                    self.link.accepted(&channel, sent);
                    health.raw_published.add(1);
                    drop(room);
                    return;
                }
                Ok(Err(CallError::Refused(error) | CallError::Elsewhere(error))) => {
                    self.link.refused(&channel, &error, sent);
                    PublishFailure::BrokerLost
                }
                Ok(Err(CallError::InDoubt(_))) => PublishFailure::Unconfirmed,
                Ok(Err(CallError::Unexpected(error))) => {
                    let reason = BrokerRefusal::UnexpectedAnswer;
                    self.link.not_taken(&channel, reason, error.details(), sent);
                    PublishFailure::Unconfirmed
                }
                Err(_) if began.get().is_some() => {
                    self.link.not_answered(&channel, sent);
                    PublishFailure::Unconfirmed
                }
                Ok(Err(CallError::NotSent | CallError::NoScript)) | Err(_) => {
                    PublishFailure::BrokerLost
                }
            };
            seldom!(warn, "a message of the raw channel was not (surely) published", ?failure);
            health.raw_failures.add(failure as usize, 1);
        }
    }

    /// Keeps or tries to get the lease; never returns.
    pub(crate) async fn keep_lease(self: Rc<Self>) {
        let Some(bridge) = &self.bridge else { return };
        loop {
            let pause = self.ask_for_lease().await;
            let _ = timeout(pause, bridge.nudge.notified()).await;
        }
    }

    /// Asks Redis once; how long to wait until the next time.
    pub(crate) async fn ask_for_lease(&self) -> Duration {
        let Some(bridge) = &self.bridge else { return BRIDGE_RENEW_INTERVAL };
        let asked = clock::now();
        let can_bridge = !bridge.leaving.get() && self.hears_raw(bridge);
        let ask = bridge.lease.borrow_mut().ask(asked, can_bridge);
        let Some(ask) = ask else { return BRIDGE_RENEW_INTERVAL };
        let word = match ask {
            Ask::Take => "take",
            Ask::Extend => "extend",
            Ask::Release => "release",
        };
        let attempt = bridge.lease.borrow().attempt();
        let answer = timeout(PUBLISH_CONFIRM_DEADLINE, self.tell_lease(bridge, word)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(CallError::Refused(error))) if !bridge.refusal_told.replace(true) => {
                seldom!(warn, "Redis refuses the raw channel's lease", %error);
                return BRIDGE_RENEW_INTERVAL;
            }
            Ok(Err(error)) => {
                tracing::debug!(?error, "the raw channel's lease cannot be asked for");
                return BRIDGE_RENEW_INTERVAL;
            }
            Err(_) => return BRIDGE_RENEW_INTERVAL,
        };
        bridge.refusal_told.set(false);
        match (ask, answer) {
            (Ask::Release, _) => bridge.lease.borrow_mut().released(attempt),
            (_, Some(free_in)) => {
                bridge.lease.borrow_mut().denied(attempt);
                return free_in.min(BRIDGE_RENEW_INTERVAL);
            }
            (_, None) => {
                bridge.lease.borrow_mut().granted(attempt, asked);
                if ask == Ask::Take {
                    seldom!(info, "this process bridges the raw channel");
                }
                // What has come since the mark is ours.
                self.bridge_ready(bridge).await;
            }
        }
        BRIDGE_RENEW_INTERVAL
    }

    /// Runs the lease's script: None if the lease is ours then, else when it may be free.
    async fn tell_lease(&self, bridge: &Bridge, word: &str) -> Result<Option<Duration>, CallError> {
        let args: Vec<Value> = {
            let lease = bridge.lease.borrow();
            let (me, attempt) = (lease.me().into(), lease.attempt().to_string().into());
            vec![word.into(), me, attempt, millis(BRIDGE_LEASE), bridge.marks.clone().into()]
        };
        let script = &self.link.process().settings.scripts.lease;
        let channel = ChannelName::default_channel();
        let keys = vec![bridge.key.clone()];
        let answer = self.link.call(&channel, Way::Among, script, keys, args).await?;
        let free_in = replies::lease(answer).map_err(CallError::InDoubt)?;
        // One more, or it is not over yet.
        Ok(free_in.map(|ms| Duration::from_millis(ms + 1)))
    }

    /// Whether raw messages and marks arrive.
    fn hears_raw(&self, bridge: &Bridge) -> bool {
        let subscriptions = self.subscriptions.borrow();
        let raw = self.link.process().settings.raw_channel.as_ref();
        raw.is_some_and(|raw| subscriptions.confirmed_by(raw).is_some())
            && subscriptions.confirmed_by(&bridge.marks).is_some()
    }

    /// Lets another process bridge, from an agreed message on: everything before is bridged by
    /// this one when it resolves.
    ///
    /// # Cancel safety
    /// May be dropped: then the lease runs out.
    pub(crate) async fn leave_bridge(&self) {
        let Some(bridge) = &self.bridge else { return };
        bridge.leaving.set(true);
        if !bridge.lease.borrow().is_held(clock::now()) {
            return;
        }
        if let Ok(None) = self.tell_lease(bridge, "leave").await {
            while !bridge.lease.borrow().has_left() {
                bridge.left.notified().await;
            }
            // All of it: nothing is on its way.
            let idle = bridge.room.acquire_many(ROOM).await;
            idle.expect("the semaphore is never closed").forget();
        }
        let _ = self.tell_lease(bridge, "release").await;
    }
}
