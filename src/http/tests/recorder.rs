//! The broker of the tests: it records what it is given.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::sync::Notify;

use crate::{
    broker::{
        Broker, History, Message, PeriodicSlot, Position, Publication, PublishError, Receipt,
        Recovery, Since, SlotOutcome,
    },
    channel::ChannelName,
    ws::Kind,
};

/// A broker that records what it is given and answers as instructed; else with the next offset.
#[derive(Default)]
pub(in crate::http) struct Recorder {
    pub(in crate::http) published: RefCell<Vec<(String, Kind, Bytes)>>,
    /// The publisher's key of each of these.
    pub(in crate::http) keys: RefCell<Vec<Option<String>>>,
    pub(in crate::http) answers: RefCell<VecDeque<Result<Receipt, PublishError>>>,
    /// Publications wait for `gate`, the first of them the longest.
    pub(in crate::http) is_held: Cell<bool>,
    pub(in crate::http) gate: Notify,
}

impl History for Recorder {
    fn history(&self, _: &ChannelName, _: &Position, _: u64, _: usize) -> Option<Vec<Publication>> {
        unreachable!("the shard reads history")
    }
}

impl Broker for Recorder {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        let Message { channel, kind, data, key, .. } = message;
        self.keys.borrow_mut().push(key.map(|key| key.as_str().to_owned()));
        self.published.borrow_mut().push((channel.to_string(), kind, data));
        let offset = self.published.borrow().len() as u64;
        let next = Ok(Receipt::Cluster(Position { epoch: "e1".into(), offset }));
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(next);
        async move {
            if self.is_held.get() {
                self.gate.notified().await;
            }
            answer
        }
        .boxed_local()
    }

    fn publish_once(&self, _: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        unreachable!("HTTP publishes no slots")
    }

    fn confirm_subscription(&self, _: ChannelName) -> LocalBoxFuture<'_, ()> {
        unreachable!("admission subscribes")
    }

    fn position<'a>(
        &'a self,
        _: ChannelName,
        _: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        unreachable!("admission asks for positions")
    }

    fn recover(&self, _: ChannelName, _: Since, _: Position) -> LocalBoxFuture<'_, Recovery> {
        unreachable!("admission recovers")
    }

    fn unsubscribe(&self, _: &ChannelName) {
        unreachable!("admission subscribes")
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        unreachable!("the shard closes its broker")
    }
}
