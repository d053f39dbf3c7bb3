//! A broker on which messages are published before, during and after each step of a join.

use std::{cell::RefCell, rc::Rc};

use futures_util::future::{FutureExt as _, LocalBoxFuture, ready};

use super::*;
use crate::broker::{
    History, Message, PeriodicSlot, Publication, PublishError, Receipt, SlotOutcome,
};

/// How many messages are published at each moment of the join.
const MOMENTS: usize = 6;

/// One channel, and the log of the shard that has subscribed to it.
#[derive(Default)]
struct Channel {
    bursts: [u64; MOMENTS],
    moment: usize,
    newest: u64,
    is_subscribed: bool,
    /// The messages that have arrived in the log, and the offset after which they count.
    arrived: Vec<u64>,
    baseline: Option<u64>,
}

impl Channel {
    /// The next moment: messages published then arrive if the shard has subscribed.
    fn passes(&mut self) {
        for _ in 0..self.bursts[self.moment] {
            self.newest += 1;
            if self.is_subscribed && self.baseline.is_none_or(|baseline| self.newest > baseline) {
                self.arrived.push(self.newest);
                self.baseline.get_or_insert(self.newest - 1);
            }
        }
        self.moment += 1;
    }
}

fn at(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

#[derive(Clone, Default)]
struct Stepwise(Rc<RefCell<Channel>>);

impl History for Stepwise {
    fn history(&self, _: &ChannelName, _: &Position, _: u64, _: usize) -> Option<Vec<Publication>> {
        unreachable!("a join reads none")
    }
}

impl Broker for Stepwise {
    fn confirm_subscription(&self, _: ChannelName) -> LocalBoxFuture<'_, ()> {
        let mut channel = self.0.borrow_mut();
        channel.passes();
        channel.is_subscribed = true;
        channel.passes();
        ready(()).boxed_local()
    }

    fn position<'a>(
        &'a self,
        _: ChannelName,
        _: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        let mut channel = self.0.borrow_mut();
        channel.passes();
        let newest = channel.newest;
        channel.passes();
        ready(Some(at(newest))).boxed_local()
    }

    fn recover(&self, _: ChannelName, since: Since, _: Position) -> LocalBoxFuture<'_, Recovery> {
        let mut channel = self.0.borrow_mut();
        channel.passes();
        channel.passes();
        let Since::After(from) = since else { unreachable!("it says after which") };
        ready(Recovery { from, missed: None }).boxed_local()
    }

    fn publish(&self, _: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        unreachable!("a join publishes nothing")
    }

    fn publish_once(&self, _: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        unreachable!("a join publishes nothing")
    }

    fn unsubscribe(&self, _: &ChannelName) {
        unreachable!("a join does not leave")
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        unreachable!("a join does not close")
    }
}

impl JoinedLog for Stepwise {
    fn start(&self, baseline: Option<&Position>) -> Option<Position> {
        let mut channel = self.0.borrow_mut();
        if let Some(baseline) = baseline {
            channel.baseline.get_or_insert(baseline.offset);
        }
        channel.baseline.map(at)
    }

    async fn settled(&self) {}

    async fn catch_up(&self, _: &Position) -> Option<Position> {
        unreachable!("nobody has got further")
    }
}

/// A client that joins gets each message once whenever it is published.
#[test]
fn a_joining_client_gets_each_message_once() {
    for case in 0..3_u64.pow(u32::try_from(MOMENTS).unwrap()) {
        let bursts: [u64; MOMENTS] =
            std::array::from_fn(|moment| case / 3_u64.pow(u32::try_from(moment).unwrap()) % 3);
        let world = Stepwise::default();
        *world.0.borrow_mut() = Channel { bursts, newest: 5, ..Channel::default() };
        let joins = Joins::new(Rc::new(world.clone()));
        let since = Some(Since::After(at(3)));
        let join = joins.join(&world, ChannelName::default_channel(), since).now_or_never();
        let Start { from, to, .. } = join.expect("it answers at once").expect("it is not ahead");
        let mut channel = world.0.borrow_mut();
        // Some more, so that the end is seen.
        channel.moment = 0;
        channel.bursts = [1; MOMENTS];
        channel.passes();
        let history = from.unwrap().offset + 1..=to.unwrap().offset;
        let given: Vec<_> = history.chain(channel.arrived.iter().copied()).collect();
        assert_eq!(given, (4..=channel.newest).collect::<Vec<_>>(), "{bursts:?}");
        assert!(joins.is_idle());
    }
}
