//! A broker for tests of admission: out of reach, or slow, on request.

use std::{cell::Cell, rc::Rc};

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::sync::Notify;

use crate::{
    broker::{
        Broker, History, Message, PeriodicSlot, Position, Publication, PublishError, Receipt,
        Recovery, Since, SlotOutcome,
    },
    channel::ChannelName,
};

/// An embedded broker that tells no position while it is out of reach.
pub(super) struct Sometimes {
    pub(super) broker: Rc<dyn Broker>,
    pub(super) is_reached: Cell<bool>,
    /// Answers wait until they are let go.
    pub(super) is_slow: Cell<bool>,
    pub(super) go: Notify,
    /// How often it was asked for a position, and how many of the answers are yet to come.
    pub(super) asked: Cell<usize>,
    pub(super) waiting: Cell<usize>,
}

impl Sometimes {
    pub(super) fn new(broker: Rc<dyn Broker>) -> Self {
        Self {
            broker,
            is_reached: Cell::new(false),
            is_slow: Cell::new(false),
            go: Notify::new(),
            asked: Cell::new(0),
            waiting: Cell::new(0),
        }
    }
}

impl History for Sometimes {
    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.broker.history(channel, after, to, bytes_max)
    }
}

impl Broker for Sometimes {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.broker.publish(message)
    }

    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.broker.publish_once(slot)
    }

    fn confirm_subscription(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.broker.confirm_subscription(channel)
    }

    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        let position = self.broker.position(channel, since);
        async {
            self.asked.set(self.asked.get() + 1);
            if self.is_slow.get() {
                self.waiting.set(self.waiting.get() + 1);
                self.go.notified().await;
                self.waiting.set(self.waiting.get() - 1);
            }
            if self.is_reached.get() { position.await } else { None }
        }
        .boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        self.broker.recover(channel, since, to)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.broker.unsubscribe(channel);
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        self.broker.clone().close()
    }
}
