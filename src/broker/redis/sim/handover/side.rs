//! One process of the simulation: real subscribers, whose connections are driven by hand.

use std::{rc::Rc, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    broker::{
        Sink, Subscribers,
        redis::{
            process::Process,
            pubsub::{
                moving,
                positions::Positions,
                shard_subscriptions::ShardSubscriptions,
                source::{SharedListener, SubscriptionSource},
                subscriber::Subscriber,
                subscriptions::Subscriptions,
            },
            sim::{
                SHARDS_EACH,
                away::View,
                listener::Recorded,
                model::Redis,
                settings::{process_with, recoverer, subscriber},
            },
            task::Task,
        },
    },
    channel::ChannelName,
};

/// One process.
pub(super) struct Side {
    number: usize,
    pub(super) process: Arc<Process>,
    /// Each shard's, or the first one's; and the sign that it waits for.
    pub(super) subscribers: Vec<(Rc<Subscriber>, Option<Sign>)>,
    pub(super) recorded: Vec<Arc<Recorded>>,
    pub(super) sources: Vec<Rc<SubscriptionSource>>,
    pub(super) positions: Vec<Positions>,
    _tasks: Vec<Task>,
}

/// How many messages come before a sign, and its callers.
type Sign = (usize, Vec<oneshot::Sender<()>>);

impl Side {
    pub(super) fn new(
        number: usize,
        redis: &Rc<Redis>,
        kind: Subscribers,
        messages_max: usize,
    ) -> Self {
        let recorded: Vec<Arc<Recorded>> = (0..SHARDS_EACH).map(|_| Arc::default()).collect();
        let sinks = recorded.iter().map(|one| one.clone() as Arc<dyn Sink>).collect();
        let process = Arc::new(process_with(kind, messages_max, sinks));
        let view = || Rc::new(View { redis: redis.clone(), process: number });
        let count = if kind == Subscribers::PerShard { SHARDS_EACH } else { 1 };
        let subscribers: Vec<_> =
            (0..count).map(|shard| Rc::new(subscriber(&process, shard, view()))).collect();
        let own: Vec<_> =
            subscribers.iter().map(|it| Rc::new(ShardSubscriptions::of(it.clone()))).collect();
        let orders = |(shard, own): (usize, &Rc<ShardSubscriptions>)| {
            let (shared, orders) = (process.shared_subscriber.clone(), process.orders.clone());
            Task::spawn(moving::carry_out(own.clone(), shared, orders, shard))
        };
        let tasks = own.iter().enumerate().map(orders).collect();
        let source = |shard: usize| {
            Rc::new(match &process.shared_subscriber {
                Some(shared) => {
                    SubscriptionSource::Shared(SharedListener::new(shared.clone(), shard))
                }
                None => SubscriptionSource::Own(own[shard].clone()),
            })
        };
        let sources: Vec<_> = (0..SHARDS_EACH).map(source).collect();
        let position = |(shard, source): (usize, &Rc<SubscriptionSource>)| {
            Positions::new(recoverer(&process, shard, view()), source.clone())
        };
        let positions = sources.iter().enumerate().map(position).collect();
        let subscribers = subscribers.into_iter().map(|it| (it, None)).collect();
        Self { number, process, subscribers, recorded, sources, positions, _tasks: tasks }
    }

    fn line(&self, shard: usize) -> usize {
        self.number * SHARDS_EACH + shard
    }

    pub(super) fn connect(&mut self, shard: usize, redis: &Redis) {
        let line = self.line(shard);
        if !redis.is_connected(line) && redis.connect(line) {
            self.subscribers[shard].0.change(Subscriptions::connected);
        }
    }

    pub(super) fn disconnect(&mut self, shard: usize, redis: &Redis) {
        redis.disconnect(self.line(shard));
        let (subscriber, halts) = &mut self.subscribers[shard];
        *halts = None;
        subscriber.change(Subscriptions::disconnected);
        drop(subscriber.take_halts());
        if let Some(shared) = &self.process.shared_subscriber {
            shared.disconnected();
        }
    }

    /// A turn of a subscriber without anything to read.
    pub(super) async fn turn(&mut self, shard: usize, redis: &Redis) {
        if !redis.is_connected(self.line(shard)) {
            return;
        }
        let line = self.line(shard);
        let (subscriber, halts) = &mut self.subscribers[shard];
        let mut is_kept = subscriber.let_through().await.is_ok();
        subscriber.take_requests();
        while let Some(command) = subscriber.change(Subscriptions::next_command) {
            subscriber.look_at_hearers(&command);
            subscriber.change(|subscriptions| subscriptions.answered(&command, false));
            subscriber.tell_hearers(&command, false);
        }
        subscriber.note_progress();
        let asked = subscriber.take_halts();
        if !asked.is_empty() {
            let before = redis.lines.borrow()[line].as_ref().map_or(0, |it| it.on_its_way.len());
            *halts = Some((before, asked));
        }
        self.answer_halts(shard);
        let subscriber = &self.subscribers[shard].0;
        if is_kept && !subscriber.is_closed() {
            is_kept = subscriber.delivery.check().await.is_ok();
        }
        if !is_kept {
            self.disconnect(shard, redis);
        }
    }

    fn answer_halts(&mut self, shard: usize) {
        let (subscriber, halts) = &mut self.subscribers[shard];
        if let Some((_, callers)) = halts.take_if(|(before, _)| *before == 0) {
            subscriber.halted(callers);
        }
    }

    /// One message arrives, if one is on its way.
    pub(super) async fn deliver(
        &mut self,
        shard: usize,
        channel: &ChannelName,
        redis: &Redis,
    ) -> bool {
        self.turn(shard, redis).await;
        let Some(payload) = redis.take(self.line(shard)) else { return false };
        let name = self.process.settings.names.channel(channel);
        let (subscriber, halts) = &mut self.subscribers[shard];
        if let Some((before, _)) = halts {
            *before = before.saturating_sub(1);
        }
        let mut is_kept = true;
        if subscriber.delivery.with_tracker(&name, |_| ()).is_some() {
            is_kept = subscriber.arrived(channel.clone(), &name, &payload).await.is_ok();
        }
        self.answer_halts(shard);
        if !is_kept {
            self.disconnect(shard, redis);
        }
        true
    }
}
