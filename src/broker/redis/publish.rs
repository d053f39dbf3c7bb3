//! Publishing: into Redis, once, or (surely not sent) to this process alone.
//!
//! A message that was sent and not answered is in doubt: its publisher is told so, and may repeat
//! it with the same key. Order within a channel is that of the calls.

mod periodic;

use std::{cell::Cell, rc::Rc, sync::Arc};

use fred::{
    error::{Error, ErrorKind},
    types::Value,
};
use tokio::sync::Notify;

use super::{
    commands::{
        call_error::CallError,
        command_order::Permit,
        router::{CallOrder, CommandRouter},
    },
    local::state::{Charged, LocalOutcome, QuotasFull},
    process::Process,
    protocol::{
        arguments::{self, millis},
        replies::{self, PublishReply},
        scripts::Script,
    },
};
use crate::{
    broker::{Message, OnLoss, Publication, PublishError, Reach, Receipt, idempotency::Id},
    channel::ChannelName,
    clock::Millis,
    limits::{
        FIRST_REACH_LOOK_PAUSE, FIRST_REACH_PATIENCE, IDEMPOTENCY_TTL, LOSS_PATIENCE,
        PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_CONFIRM_DEADLINE, PUBLISHES_IN_FLIGHT_MAX,
        REDIS_SETTLE, TAKEOVER_LOOK_PAUSE,
    },
    metrics::BrokerRefusal,
    telemetry::seldom,
};

/// The outcome of a command to Redis.
pub(super) enum Outcome<T> {
    Done(T),
    NotSent,
    InDoubt,
}

/// A handle's publishing.
#[derive(Debug)]
pub(super) struct Publisher {
    process: Arc<Process>,
    router: Rc<CommandRouter>,
    /// Publishes on their way, and the bytes of their payloads.
    in_flight: Cell<(usize, usize)>,
    answered: Notify,
}

impl Publisher {
    pub(super) fn new(process: Arc<Process>, router: Rc<CommandRouter>) -> Self {
        Self { process, router, in_flight: Cell::new((0, 0)), answered: Notify::new() }
    }

    /// Resolves when nothing is on its way.
    pub(super) async fn idle(&self) {
        while self.in_flight.get().0 > 0 {
            self.answered.notified().await;
        }
    }

    /// Whether Redis may be used for `channel` now. Just after its return others are not
    /// subscribed yet, so publishing waits a moment; and while another primary takes over; and just
    /// after the start, and after a loss, until Redis is reached.
    async fn is_up(&self, channel: &ChannelName) -> bool {
        let health = &self.process.health;
        loop {
            let now = self.process.clock.now();
            let reach = health.reach_at(now);
            if self.process.destination.primary.is_takeover_awaited(reach == Reach::Up, now) {
                tokio::time::sleep(TAKEOVER_LOOK_PAUSE).await;
                continue;
            }
            let settled = match reach {
                Reach::Up if self.router.is_cut_off(channel) => {
                    if self.router.connection(channel).is_none() {
                        let error = Error::new(ErrorKind::Cluster, "CLUSTERDOWN no primary has it");
                        self.router.refused(channel, &error, now);
                    }
                    return false;
                }
                Reach::Up => health.back_since().map(|since| since + REDIS_SETTLE),
                _ => match self.router.spared_from(channel, now) {
                    None if self.is_new(reach, now) || self.may_be_back(now) => {
                        // Others may be there already, or still: no message is to miss them.
                        let reached = health.reached.notified();
                        let _ = tokio::time::timeout(FIRST_REACH_LOOK_PAUSE, reached).await;
                        continue;
                    }
                    None => return false,
                    spared => spared,
                },
            };
            match settled {
                Some(settled) if settled > now => tokio::time::sleep(settled - now).await,
                _ => return true,
            }
        }
    }

    /// Whether Redis was never reached, and the process has not been there for long either.
    fn is_new(&self, reach: Reach, now: Millis) -> bool {
        reach == Reach::NeverReached && now - self.process.started < FIRST_REACH_PATIENCE
    }

    /// Whether Redis was lost a moment ago, and there is room for publishers that wait for it.
    fn may_be_back(&self, now: Millis) -> bool {
        let (count, bytes) = self.in_flight.get();
        let is_roomy =
            count <= PUBLISHES_IN_FLIGHT_MAX / 2 && bytes <= PUBLISH_BYTES_IN_FLIGHT_MAX / 2;
        is_roomy && self.process.health.lost_for(now) <= LOSS_PATIENCE
    }

    pub(super) async fn publish(&self, message: Message) -> Result<Receipt, PublishError> {
        let _admitted = self.admit(message.data.len()).ok_or(PublishError::ShardStalled)?;
        let id = message.id();
        let charged = {
            let (mut guard, now) = (self.process.local.lock(), self.process.clock.now());
            guard.check_room(message.data.len())?;
            guard.state.charge(&message, id.as_ref(), now)?
        };
        let (process, id) = (&*self.process, id.as_ref());
        let sent = Cell::new(None);
        let on_its_way =
            OnItsWay { process, message: &message, charged: Some(charged), sent: &sent };
        let outcome = self.publish_to_redis(&message, id, charged.full, &sent).await;
        on_its_way.settle(id, &outcome);
        match outcome {
            Outcome::Done(PublishReply::New { position, .. }) => Ok(Receipt::Cluster(position)),
            Outcome::Done(PublishReply::Known(position)) => Ok(Receipt::Cluster(position)),
            Outcome::Done(PublishReply::KeysFull) => Err(PublishError::KeysFull),
            Outcome::Done(PublishReply::ChannelsFull) => Err(PublishError::ChannelsFull),
            Outcome::InDoubt => Err(PublishError::Unconfirmed),
            Outcome::NotSent => self.publish_locally(message),
        }
    }

    async fn publish_to_redis(
        &self,
        message: &Message,
        id: Option<&Id>,
        full: QuotasFull,
        sent: &Cell<Option<Millis>>,
    ) -> Outcome<PublishReply> {
        let process = &self.process;
        let Message { channel, kind, data, .. } = message;
        let mut keys = process.settings.names.keys(channel);
        let mut args = arguments::stamp(
            &process.settings.history,
            message.publisher.class(),
            process.settings.names.channel(channel),
            *kind,
            data,
        );
        args.push(full.words().into());
        if let Some(id) = id {
            keys.push(process.settings.names.idempotency(id));
            args.push(millis(IDEMPOTENCY_TTL));
        }
        let is_new = |stamp: &PublishReply| matches!(stamp, PublishReply::New { .. });
        self.run(
            &process.settings.scripts.publish,
            channel,
            (keys, args),
            replies::publish_reply,
            is_new,
            sent,
        )
        .await
    }

    /// Runs `script` in Redis if it is within reach; settled within
    /// [`PUBLISH_CONFIRM_DEADLINE`], the wait for others included. Whether the answer `is_proof`
    /// that messages are taken is a matter of its own. `sent` is set before anything may be.
    pub(super) async fn run<T>(
        &self,
        script: &Script,
        channel: &ChannelName,
        (keys, args): (Vec<String>, Vec<Value>),
        read: fn(Value) -> Result<T, Error>,
        is_proof: fn(&T) -> bool,
        sent: &Cell<Option<Millis>>,
    ) -> Outcome<T> {
        // Before any wait: the first call is the first to be sent, also when all had to wait.
        let permit = self.router.enter(channel);
        let call = async {
            let value = self.call(script, channel, &permit, (&keys, &args), sent).await?;
            read(value).map_err(CallError::Unexpected)
        };
        let answer = tokio::time::timeout(PUBLISH_CONFIRM_DEADLINE, call).await;
        let sent_at = sent.get().unwrap_or_default();
        match answer {
            Ok(Ok(value)) => {
                if is_proof(&value) {
                    self.router.accepted(channel, sent_at);
                }
                Outcome::Done(value)
            }
            Ok(Err(CallError::NotSent | CallError::NoScript)) => Outcome::NotSent,
            Ok(Err(CallError::Refused(error) | CallError::Elsewhere(error))) => {
                self.router.refused(channel, &error, sent_at);
                Outcome::NotSent
            }
            Ok(Err(CallError::InDoubt(error))) => {
                tracing::debug!(%error, "Redis did not confirm a message");
                if matches!(error.kind(), ErrorKind::Timeout) {
                    self.router.not_answered(channel, sent_at);
                }
                Outcome::InDoubt
            }
            Ok(Err(CallError::Unexpected(error))) => {
                self.router.not_taken(
                    channel,
                    BrokerRefusal::UnexpectedAnswer,
                    error.details(),
                    sent_at,
                );
                Outcome::InDoubt
            }
            Err(_) if sent.get().is_some() => {
                self.router.not_answered(channel, sent_at);
                Outcome::InDoubt
            }
            Err(_) => Outcome::NotSent,
        }
    }

    /// Runs `script` in its place as soon as Redis is within reach; once more as long as nothing of
    /// it was written, since its connection ended before, or had too much to write.
    async fn call(
        &self,
        script: &Script,
        channel: &ChannelName,
        permit: &Permit<'_>,
        (keys, args): (&[String], &[Value]),
        sent: &Cell<Option<Millis>>,
    ) -> Result<Value, CallError> {
        loop {
            if !self.is_up(channel).await {
                return Err(CallError::NotSent);
            }
            let connection =
                self.router.connection(channel).filter(|connection| !connection.is_open());
            if let Some(connection) = connection
                && !self.process.settings.is_cluster()
            {
                // The shards are there, this handle (the control thread's) is about to be.
                connection.opened().await;
            }
            permit.first_turn().await;
            sent.set(Some(self.process.clock.now()));
            let order = CallOrder::Ordered(permit);
            let answer = self.router.call(channel, order, script, keys, args).await;
            if !matches!(answer, Err(CallError::NotSent)) {
                return answer;
            }
            sent.set(None);
            if !self.router.goes_again(permit).await {
                return answer;
            }
        }
    }

    pub(super) fn publish_locally(&self, message: Message) -> Result<Receipt, PublishError> {
        if self.process.on_loss == OnLoss::Reject {
            return Err(PublishError::BrokerLost);
        }
        let (mut guard, now) = (self.process.local.lock(), self.process.clock.now());
        let id = message.id();
        if let Some(id) = &id {
            match guard.state.local_outcome(id, now) {
                Some(LocalOutcome::Local) => return Ok(Receipt::Local),
                Some(LocalOutcome::InDoubt) => return Err(PublishError::Unconfirmed),
                None => guard.state.check_room(id, now)?,
            }
        }
        guard.check_room(message.data.len())?;
        if let Some(id) = id {
            guard.state.remember(id, LocalOutcome::Local, now);
        }
        let Message { channel, kind, data, .. } = message;
        guard.deliver(&Publication { channel, kind, data, position: None });
        Ok(Receipt::Local)
    }

    /// Takes a place among the publishes in flight; None if there are too many.
    fn admit(&self, bytes: usize) -> Option<Admitted<'_>> {
        let (count, total) = self.in_flight.get();
        let fits = total == 0 || total + bytes <= PUBLISH_BYTES_IN_FLIGHT_MAX;
        (count < PUBLISHES_IN_FLIGHT_MAX && fits).then(|| {
            self.in_flight.set((count + 1, total + bytes));
            Admitted { publisher: self, bytes }
        })
    }
}

/// A message that was charged: it is accounted for, whatever its outcome. If its caller no longer
/// waits for it, it is in doubt, unless it was surely not sent.
struct OnItsWay<'a> {
    process: &'a Process,
    message: &'a Message,
    charged: Option<Charged>,
    sent: &'a Cell<Option<Millis>>,
}

impl OnItsWay<'_> {
    fn settle(mut self, id: Option<&Id>, outcome: &Outcome<PublishReply>) {
        let Some(charged) = self.charged.take() else { return };
        let Self { process, message, .. } = self;
        let (mut guard, now) = (process.local.lock(), process.clock.now());
        let (position, bytes) = match outcome {
            Outcome::Done(PublishReply::New { position, bytes, .. }) => (position, *bytes),
            Outcome::InDoubt => {
                return guard.state.in_doubt(message, id, charged, now);
            }
            _ => return guard.state.give_back(message, id, charged),
        };
        guard.state.published(message, position, bytes, charged, now);
        drop(guard);
        if matches!(outcome, Outcome::Done(PublishReply::New { has_ended: true, .. })) {
            process.memory.count_evicted();
        }
        if charged.full.histories && bytes == 0 {
            seldom!(
                warn,
                "histories in Redis are full: what this publisher says is not kept there",
                publisher = %message.publisher,
                channel = %message.channel
            );
        }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let Some(charged) = self.charged else { return };
        let (id, mut guard) = (self.message.id(), self.process.local.lock());
        match self.sent.get() {
            Some(_) => {
                guard.state.in_doubt(self.message, id.as_ref(), charged, self.process.clock.now())
            }
            None => guard.state.give_back(self.message, id.as_ref(), charged),
        }
    }
}

/// A publish in flight.
struct Admitted<'a> {
    publisher: &'a Publisher,
    bytes: usize,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let (count, total) = self.publisher.in_flight.get();
        self.publisher.in_flight.set((count - 1, total - self.bytes));
        self.publisher.answered.notify_one();
    }
}
