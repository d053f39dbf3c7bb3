//! A shard's subscriptions while the process is handed over: orders of the control thread, carried
//! out on the shard's.
//!
//! | order | old process | new process |
//! |---|---|---|
//! | [`Order::List`] | the channels that the shard has | |
//! | [`Order::Halt`] | nothing more is let through; the places of all channels | |
//! | [`Order::Level`] | what another shard has had is let through | |
//! | [`Order::AwaitPlaces`] | | nothing is let through |
//! | [`Order::Expect`] | | wants these channels, without clients |
//! | [`Order::Settle`] | | answered when all is subscribed |
//! | [`Order::Adopt`] | | goes on from these places, all is let through |
//! | [`Order::Open`] | all is let through | the same |

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

pub(in crate::broker::redis) use super::subscriptions::Place;
use super::{
    shard_subscriptions::ShardSubscriptions, shared::SharedSubscriber, subscriber::Subscriber,
    subscriptions::Subscriptions,
};
use crate::{channel::ChannelName, limits::LEVEL_REST, position::Position};

/// An order. A sender of an answer that is gone means that nobody waits for it.
#[derive(Debug)]
pub(in crate::broker::redis) enum Order {
    List(oneshot::Sender<Vec<ChannelName>>),
    /// Within this time, or without what is still on its way.
    Halt(Duration, oneshot::Sender<Vec<Place>>),
    /// Within this time, or by what is remembered, or without.
    Level(Vec<Place>, Duration, oneshot::Sender<()>),
    AwaitPlaces,
    Expect(Vec<ChannelName>),
    Settle(oneshot::Sender<()>),
    Adopt(Arc<Vec<Place>>),
    Open,
}

/// The orders to a shard that wait. Bounded by the channels of a process: each order but
/// [`Order::Expect`] waits for its answer, or ends the hand-over.
#[derive(Debug, Default)]
pub(in crate::broker::redis) struct Orders {
    waiting: Mutex<VecDeque<Order>>,
    given: Notify,
}

impl Orders {
    /// A panic elsewhere leaves whole orders: go on.
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives one.
    pub(in crate::broker::redis) fn give(&self, order: Order) {
        self.waiting().push_back(order);
        self.given.notify_one();
    }

    /// Gives one that is answered.
    pub(in crate::broker::redis) fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        self.give(order(sender));
        answer
    }

    async fn next(&self) -> Order {
        loop {
            let given = self.given.notified();
            if let Some(order) = self.waiting().pop_front() {
                return order;
            }
            given.await;
        }
    }
}

/// Carries out `orders`; never returns. Orders that wait already are carried out before the first
/// await.
pub(in crate::broker::redis) async fn carry_out(
    subscriptions: Rc<ShardSubscriptions>,
    shared: Option<Arc<SharedSubscriber>>,
    orders: Arc<Vec<Orders>>,
    shard: usize,
) {
    loop {
        match orders[shard].next().await {
            Order::List(answer) => _ = answer.send(subscriptions.channels()),
            Order::Halt(within, answer) => _ = answer.send(subscriptions.halt(within).await),
            Order::Level(places, within, answer) => {
                subscriptions.level(places, within).await;
                let _ = answer.send(());
            }
            Order::AwaitPlaces => subscriptions.await_places(),
            Order::Expect(channels) => {
                channels.into_iter().for_each(|channel| drop(subscriptions.want(channel)));
            }
            Order::Settle(mut answer) => {
                tokio::select! {
                    () = subscriptions.settled() => { let _ = answer.send(()); }
                    () = answer.closed() => {}
                }
            }
            Order::Adopt(places) => subscriptions.go_on_from(&places, shared.as_deref()),
            Order::Open => subscriptions.open(),
        }
    }
}

impl ShardSubscriptions {
    fn subscribers(&self) -> Vec<Rc<Subscriber>> {
        let on_nodes = self.sharded.as_ref().map(|sharded| sharded.subscribers());
        [self.first.clone()].into_iter().chain(on_nodes.into_iter().flatten()).collect()
    }

    /// Each subscriber's subscriptions, and those that have none.
    fn each(&self, mut act: impl FnMut(&mut Subscriptions)) {
        self.subscribers().iter().for_each(|subscriber| subscriber.change(&mut act));
        if let Some(sharded) = &self.sharded {
            sharded.with_unassigned(act);
        }
    }

    fn channels(&self) -> Vec<ChannelName> {
        let mut all = Vec::new();
        self.each(|subscriptions| all.extend(subscriptions.channels().cloned()));
        all
    }

    /// Nothing is let through once all has been that was published by now, or cannot be within this
    /// time.
    async fn halt(&self, within: Duration) -> Vec<Place> {
        let subscribers = self.subscribers();
        let halts: Vec<_> = subscribers.iter().map(|it| it.halt()).collect();
        let waiting = async {
            let mut are_certain = Vec::new();
            for halt in halts {
                are_certain.push(match halt {
                    Some(halt) => halt.await.is_ok(),
                    None => false,
                });
            }
            are_certain
        };
        let _ = timeout(within, waiting).await;
        let are_certain: Vec<_> = subscribers.iter().map(|it| it.is_closed()).collect();
        self.first.close();
        if let Some(sharded) = &self.sharded {
            sharded.close();
        }
        let now = self.first.delivery.recoverer.router.clock.now();
        let mut places = Vec::new();
        for (subscriber, is_certain) in subscribers.iter().zip(are_certain) {
            subscriber.change(|it| places.extend(it.places(is_certain, now)));
        }
        if let Some(sharded) = &self.sharded {
            sharded.with_unassigned(|it| places.extend(it.places(false, now)));
        }
        places
    }

    /// Gets as far as `places`: by what arrives, by what other shards have had, or by telling what
    /// is missing.
    async fn level(&self, places: Vec<Place>, within: Duration) {
        let names = &self.first.delivery.recoverer.router.settings.names;
        let name_of = |place: &Place| names.channel(&place.channel);
        let goal = |place: &Place| Some((name_of(place), place.tracker.newest()?.0.clone()));
        let goals: HashMap<String, Position> = places.iter().filter_map(goal).collect();
        let subscribers = self.subscribers();
        for subscriber in &subscribers {
            subscriber.set_goals(goals.clone());
        }
        let leveling = async {
            for subscriber in &subscribers {
                subscriber.level().await;
            }
        };
        let _ = timeout(within.saturating_sub(LEVEL_REST), leveling).await;
        let each = || subscribers.iter().flat_map(|it| places.iter().map(move |place| (it, place)));
        let reading = async {
            for (subscriber, place) in each() {
                subscriber.delivery.read_to(&name_of(place), place).await;
            }
        };
        let _ = timeout(LEVEL_REST, reading).await;
        for (subscriber, place) in each() {
            subscriber.delivery.pass_over_to(&name_of(place), place);
        }
        subscribers.iter().for_each(|subscriber| subscriber.set_goals(HashMap::new()));
    }

    fn await_places(&self) {
        self.first.await_places();
        if let Some(sharded) = &self.sharded {
            sharded.await_places();
        }
    }

    /// Resolves when Redis has confirmed or refused all that is wanted; what was published before
    /// is the other process' matter.
    async fn settled(&self) {
        if let Some(sharded) = &self.sharded {
            sharded.assigned().await;
        }
        for subscriber in self.subscribers() {
            subscriber.settled().await;
        }
        for subscriber in self.subscribers() {
            subscriber.hear_from_now_on();
        }
    }

    /// Goes on from the places of another process.
    fn go_on_from(&self, places: &[Place], shared: Option<&SharedSubscriber>) {
        let router = &self.first.delivery.recoverer.router;
        let now = router.clock.now();
        for place in places {
            let name = router.settings.names.channel(&place.channel);
            self.each(|subscriptions| subscriptions.adopt_place(&name, place, now));
            if let Some(shared) = shared {
                shared.adopted(&place.channel, self.begun_at(&place.channel), place);
            }
        }
        if let Some(shared) = shared {
            shared.end_unheard(self.channels());
        }
        self.open();
    }

    fn open(&self) {
        self.first.open();
        if let Some(sharded) = &self.sharded {
            sharded.open();
        }
    }

    /// The shard's clients have these channels, and no others.
    pub(super) fn keep(&self, channels: Vec<ChannelName>) {
        let kept: HashSet<&ChannelName> = channels.iter().collect();
        for channel in self.channels() {
            if !kept.contains(&channel) {
                self.unwant(&channel);
            }
        }
        channels.into_iter().for_each(|channel| drop(self.want(channel)));
    }
}
