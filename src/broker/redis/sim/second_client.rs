//! Clients that come to others which could be told no position: wherever one of them begins, none
//! of the others is robbed of what is on its way, whether each shard subscribes or one for all.
//!
//! A process of two shards; the subscribers and the queries for positions are the real ones, and
//! each shard's log is a model: it drops what is not after the position that it was told. Messages
//! that are delivered wait in the shard's mailbox for some steps.
//! `WSBCAST_SIM_SEED=n` runs one seed alone.

use std::{pin::pin, rc::Rc, sync::Arc};

use tokio::task::yield_now;

use super::{
    ALL, SEEDS, SHARDS, SHARDS_EACH,
    away::View,
    listener::Recorded,
    model::Redis,
    settings::{block_on, process_with, recoverer, subscriber},
};
use crate::{
    broker::{
        Since, Sink, Subscribers,
        redis::{
            process::Process,
            pubsub::{
                positions::Positions,
                shard_subscriptions::ShardSubscriptions,
                source::{SharedListener, SubscriptionSource},
                subscriber::Subscriber,
                subscriptions::Subscriptions,
            },
        },
    },
    channel::ChannelName,
    position::Position,
    seeds,
};

#[test]
fn no_client_is_robbed_where_each_shard_subscribes() {
    run_all(Subscribers::PerShard);
}

#[test]
fn no_client_is_robbed_where_one_shard_subscribes() {
    run_all(Subscribers::PerProcess);
}

fn run_all(subscribers: Subscribers) {
    let counts = seeds::run_all(SEEDS, |seed| {
        fastrand::seed(seed);
        block_on(async { Stage::new(seed, subscribers).run().await })
    });
    let Some([heard, amid, resumed]) = counts else { return };
    let is_tame = heard < 10 * SEEDS || amid < SEEDS / 50 || resumed < SEEDS / 200;
    assert!(!is_tame, "{counts:?}: too tame");
}

struct Stage {
    random: fastrand::Rng,
    redis: Rc<Redis>,
    process: Process,
    channel: ChannelName,
    /// Each shard's, or the first one's.
    subscribers: Vec<Rc<Subscriber>>,
    shards: Vec<Shard>,
    heard: u64,
    /// Clients that asked where they begin while messages were on their way to others.
    amid: u64,
    /// Those of them that had more than the others.
    resumed: u64,
}

struct Shard {
    recorded: Arc<Recorded>,
    source: Rc<SubscriptionSource>,
    positions: Positions,
    /// As long as it has clients.
    log: Option<Log>,
}

/// One shard's log of the channel.
#[derive(Debug, Default)]
struct Log {
    /// The newest offset there, or the one that it was told to begin after.
    last: Option<u64>,
    /// Its clients are to have everything from this offset on.
    next: Option<u64>,
}

impl Log {
    fn append(&mut self, offset: u64) {
        match self.last {
            Some(last) if offset <= last => return,
            Some(_) => assert_eq!(self.next, Some(offset), "messages are missing"),
            // Earlier ones may come as well.
            None => assert!(self.next.is_none_or(|next| offset <= next), "{self:?}: {offset}"),
        }
        (self.last, self.next) = (Some(offset), Some(offset + 1));
    }

    /// A client is told that it begins there.
    fn start(&mut self, at: &Position) {
        if self.last.is_none() {
            self.last = Some(at.offset);
            self.next = self.next.or(Some(at.offset + 1));
        }
    }
}

impl Stage {
    fn new(seed: u64, subscribers: Subscribers) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let redis = Rc::new(Redis::new(random.fork(), SHARDS, ALL, false));
        let recorded: Vec<Arc<Recorded>> = (0..SHARDS_EACH).map(|_| Arc::default()).collect();
        let sinks = recorded.iter().map(|one| one.clone() as Arc<dyn Sink>).collect();
        let process = process_with(subscribers, ALL, sinks);
        let view = || Rc::new(View { redis: redis.clone(), process: 0 });
        let count = if subscribers == Subscribers::PerShard { SHARDS_EACH } else { 1 };
        let subscribers: Vec<_> =
            (0..count).map(|shard| Rc::new(subscriber(&process, shard, view()))).collect();
        let shard = |(number, recorded): (usize, Arc<Recorded>)| {
            let source = Rc::new(match &process.shared_subscriber {
                Some(shared) => {
                    SubscriptionSource::Shared(SharedListener::new(shared.clone(), number))
                }
                None => {
                    let own = ShardSubscriptions::of(subscribers[number].clone());
                    SubscriptionSource::Own(Rc::new(own))
                }
            });
            let positions = Positions::new(recoverer(&process, number, view()), source.clone());
            Shard { recorded, source, positions, log: None }
        };
        let shards = recorded.into_iter().enumerate().map(shard).collect();
        let channel = ChannelName::new("a").unwrap();
        Self { random, redis, process, channel, subscribers, shards, heard: 0, amid: 0, resumed: 0 }
    }

    async fn run(mut self) -> [u64; 3] {
        for _ in 0..self.random.usize(20..80) {
            self.step().await;
        }
        // All is well again, and something is published that shows what is missing.
        for number in 0..self.subscribers.len() {
            self.connect(number);
            self.look_after(number).await;
        }
        self.redis.publish();
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for number in 0..self.subscribers.len() {
                while self.deliver(number).await {
                    is_quiet = false;
                }
            }
        }
        (0..SHARDS_EACH).for_each(|shard| self.hear(shard));
        let newest = self.redis.held.borrow().offset;
        for shard in &self.shards {
            let next = shard.log.as_ref().map(|log| log.next);
            assert!(next.is_none_or(|next| next == Some(newest + 1)), "{:?}", shard.log);
        }
        [self.heard, self.amid, self.resumed]
    }

    async fn step(&mut self) {
        let shard = self.random.usize(0..SHARDS_EACH);
        let number = self.random.usize(0..self.subscribers.len());
        match self.random.u8(0..100) {
            0..=24 => self.redis.publish(),
            25..=34 => {
                self.deliver(number).await;
            }
            35..=39 => self.disconnect(number),
            40..=49 => self.connect(number),
            50..=69 => self.look_after(number).await,
            70..=79 => self.come(shard),
            80..=89 => self.ask(shard).await,
            90..=93 => self.hear(shard),
            _ => self.leave(shard),
        }
    }

    fn connect(&self, number: usize) {
        if !self.redis.is_connected(number) && self.redis.connect(number) {
            self.subscribers[number].change(Subscriptions::connected);
            self.tell(number);
        }
    }

    fn disconnect(&self, number: usize) {
        self.redis.disconnect(number);
        self.subscribers[number].change(Subscriptions::disconnected);
        if let Some(shared) = &self.process.shared_subscriber {
            shared.disconnected();
        }
    }

    /// Redis confirms all commands.
    fn tell(&self, number: usize) {
        let subscriber = &self.subscribers[number];
        subscriber.take_requests();
        while let Some(command) = subscriber.change(Subscriptions::next_command) {
            subscriber.look_at_hearers(&command);
            subscriber.change(|subscriptions| subscriptions.answered(&command, false));
            subscriber.tell_hearers(&command, false);
        }
    }

    /// One message arrives, if one is on its way.
    async fn deliver(&mut self, number: usize) -> bool {
        let Some(payload) = self.redis.take(number) else { return false };
        let subscriber = &self.subscribers[number];
        let name = self.process.settings.names.channel(&self.channel);
        if subscriber.delivery.with_tracker(&name, |_| ()).is_some() {
            let channel = self.channel.clone();
            subscriber.delivery.publication(channel, &name, &payload).await.unwrap();
        }
        true
    }

    /// All that was delivered to a shard goes into its log.
    fn hear(&mut self, shard: usize) {
        let Shard { recorded, log, .. } = &mut self.shards[shard];
        for offset in recorded.offsets() {
            if let Some(log) = log {
                log.append(offset);
                self.heard += 1;
            }
        }
    }

    /// The subscriber finds out what it does not know.
    async fn look_after(&mut self, number: usize) {
        if !self.redis.is_connected(number) {
            return;
        }
        self.tell(number);
        self.subscribers[number].change(Subscriptions::check_unplaced);
        self.subscribers[number].delivery.check().await.unwrap();
        let Some(at) = self.begun_at(number) else { return };
        let is_shared = self.process.shared_subscriber.is_some();
        for (shard, Shard { log, .. }) in self.shards.iter_mut().enumerate() {
            if let Some(log) = log
                && (is_shared || shard == number)
            {
                log.next.get_or_insert(at.offset + 1);
            }
        }
    }

    fn begun_at(&self, number: usize) -> Option<Position> {
        let name = self.process.settings.names.channel(&self.channel);
        let delivery = &self.subscribers[number].delivery;
        delivery.with_tracker(&name, |tracker| tracker.begun_at()).flatten()
    }

    /// A client comes, and is let in without a position, since Redis does not answer it in time.
    fn come(&mut self, shard: usize) {
        drop(self.shards[shard].source.want(self.channel.clone()));
        self.shards[shard].log.get_or_insert_default();
    }

    /// A client comes and asks where it begins.
    async fn ask(&mut self, shard: usize) {
        self.come(shard);
        let number = shard.min(self.subscribers.len() - 1);
        self.tell(number);
        if self.shards[shard].log.as_ref().is_some_and(|log| log.last.is_some()) {
            return;
        }
        let (epoch, newest) = {
            let held = self.redis.held.borrow();
            (held.epoch.clone(), held.offset)
        };
        let begun_at = self.begun_at(number).filter(|at| at.offset < newest);
        self.amid += u64::from(begun_at.is_some());
        let since = epoch.filter(|_| self.random.bool()).map(|epoch| {
            let offset = self.random.u64(0..=newest);
            self.resumed += u64::from(begun_at.is_some_and(|at| at.offset < offset));
            Since::After(Position { epoch: epoch.as_str().into(), offset })
        });
        let at = {
            let asking =
                self.shards[shard].positions.position(self.channel.clone(), since.as_ref());
            let mut asking = pin!(asking);
            loop {
                tokio::select! {
                    biased;
                    at = &mut asking => break at,
                    () = yield_now() => self.subscribers[number].take_requests(),
                }
            }
        };
        // Messages that wait in the mailbox go first.
        self.hear(shard);
        if let (Some(at), Some(log)) = (at, &mut self.shards[shard].log) {
            log.start(&at);
        }
    }

    /// The shard's last client leaves.
    fn leave(&mut self, shard: usize) {
        self.hear(shard);
        let Shard { source, positions, log, .. } = &mut self.shards[shard];
        if log.take().is_some() {
            positions.forget(&self.channel);
            source.unwant(&self.channel);
        }
    }
}
