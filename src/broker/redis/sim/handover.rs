//! The clients of a process go on in another one, at any moment, while messages are published and
//! connections are lost: each gets every message once and in order, or is told.
//!
//! The subscribers, what they hold, the orders and the records are the real ones; a client listens
//! to its shard, and then to the same one of the new process. `WSBCAST_SIM_SEED=n` runs one seed
//! alone.

mod side;

use std::{pin::pin, rc::Rc, time::Duration};

use tokio::task::yield_now;

use self::side::Side;
use super::{ALL, SHARDS, SHARDS_EACH, listener::TestListener, model::Redis, settings::block_on};
use crate::{
    broker::{
        Subscribers,
        record::BrokerPart,
        redis::{HaltedProcess, RedisGiving, RedisTaking},
    },
    channel::ChannelName,
    clock::Millis,
    record::recordings::through_bytes,
    seeds,
};

const SEEDS: u64 = 3_000;
/// Until then messages are published while a process waits for something.
const STEPS_MAX: usize = 200;
/// So long the old process waits for what is on its way.
const WITHIN: Duration = Duration::from_millis(300);

#[test]
fn clients_hear_on_where_each_shard_subscribes() {
    run_all(Subscribers::PerShard);
}

#[test]
fn clients_hear_on_where_one_shard_subscribes() {
    run_all(Subscribers::PerProcess);
}

fn run_all(subscribers: Subscribers) {
    let counts = seeds::run_all(SEEDS, |seed| {
        fastrand::seed(seed);
        block_on(async { Stage::new(seed, subscribers).run().await })
    });
    let Some([heard, moved, gaps, failed]) = counts else { return };
    let is_tame = heard < 10 * SEEDS || moved < SEEDS || gaps < SEEDS / 10 || failed < SEEDS / 10;
    assert!(!is_tame, "{counts:?}: too tame");
}

struct Stage {
    random: fastrand::Rng,
    redis: Rc<Redis>,
    channel: ChannelName,
    subscribers: Subscribers,
    messages_max: usize,
    /// Connections are lost.
    is_lossy: bool,
    sides: Vec<Side>,
    /// One for each shard that has clients.
    listeners: Vec<Option<TestListener>>,
    /// The process that they are in.
    at: usize,
}

impl Stage {
    fn new(seed: u64, subscribers: Subscribers) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let messages_max = if random.bool() { ALL } else { 0 };
        let redis = Rc::new(Redis::new(random.fork(), SHARDS, messages_max, false));
        let sides = (0..2).map(|number| Side::new(number, &redis, subscribers, messages_max));
        Self {
            sides: sides.collect(),
            is_lossy: random.bool(),
            channel: ChannelName::new("a").unwrap(),
            listeners: (0..SHARDS_EACH).map(|_| None).collect(),
            at: 0,
            random,
            redis,
            subscribers,
            messages_max,
        }
    }

    /// The numbers of messages received, clients moved, gaps told, and hand-overs that failed.
    async fn run(mut self) -> [u64; 4] {
        let mut counts = [0; 4];
        for _ in 0..self.random.usize(1..4) {
            for shard in 0..SHARDS_EACH {
                self.steps(0..15).await;
                if self.random.u8(0..4) > 0 {
                    self.join(shard).await;
                }
            }
            match self.hand_over().await {
                true => counts[1] += self.listeners.iter().flatten().count() as u64,
                false => counts[3] += 1,
            }
        }
        self.finish().await;
        for listener in self.listeners.iter().flatten() {
            counts[0] += listener.heard.len() as u64;
            counts[2] += listener.gaps;
            let is_told = self.is_lossy && (self.messages_max == 0 || listener.sure > 0);
            assert!(
                is_told || listener.gaps == 0,
                "lossy {} history {} gaps {}: nothing was lost that could not be had",
                self.is_lossy,
                self.messages_max,
                listener.gaps
            );
        }
        counts
    }

    async fn steps(&mut self, count: std::ops::Range<usize>) {
        for _ in 0..self.random.usize(count) {
            self.step().await;
        }
    }

    /// Something happens in one of the processes.
    async fn step(&mut self) {
        let side = self.random.usize(0..self.sides.len());
        let shard = self.random.usize(0..self.sides[side].subscribers.len());
        let redis = self.redis.clone();
        match self.random.u8(0..100) {
            0..=29 => redis.publish(),
            30..=69 => {
                let channel = self.channel.clone();
                self.sides[side].deliver(shard, &channel, &redis).await;
            }
            70..=73 if self.is_lossy => self.sides[side].disconnect(shard, &redis),
            70..=79 => self.sides[side].connect(shard, &redis),
            _ => self.sides[side].turn(shard, &redis).await,
        }
        yield_now().await;
    }

    /// Goes on until `what` is done; where connections are lost, until time is all that it waits
    /// for.
    async fn drive<T>(&mut self, what: impl Future<Output = T>) -> T {
        let mut what = pin!(what);
        for count in 0.. {
            tokio::select! {
                biased;
                done = &mut what => return done,
                () = yield_now() => {}
            }
            match (count < STEPS_MAX, self.is_lossy) {
                (true, _) => self.step().await,
                (false, true) => break,
                (false, false) => self.settle_all().await,
            }
        }
        what.await
    }

    async fn settle_all(&mut self) {
        for side in 0..self.sides.len() {
            for shard in 0..self.sides[side].subscribers.len() {
                self.settle(side, shard).await;
            }
        }
    }

    /// All that is on its way to a subscriber arrives.
    async fn settle(&mut self, side: usize, shard: usize) {
        let (redis, channel) = (self.redis.clone(), self.channel.clone());
        self.sides[side].connect(shard, &redis);
        yield_now().await;
        while self.sides[side].deliver(shard, &channel, &redis).await {
            yield_now().await;
        }
    }

    /// A shard of the process that serves has a first client, if Redis tells where it begins.
    async fn join(&mut self, shard: usize) {
        if self.listeners[shard].is_some() {
            return;
        }
        let (redis, at) = (self.redis.clone(), self.at);
        let number = shard.min(self.sides[at].subscribers.len() - 1);
        self.sides[at].connect(number, &redis);
        let waiter = self.sides[at].sources[shard].want(self.channel.clone());
        self.sides[at].turn(number, &redis).await;
        drop(waiter);
        // Earlier clients' messages are none of this one's.
        self.sides[at].recorded[shard].offsets();
        let (count, mut listener) =
            (redis.published.borrow().len(), TestListener::new(&self.redis));
        let position = {
            let Side { positions, subscribers, .. } = &self.sides[at];
            let mut asking = pin!(positions[shard].position(self.channel.clone(), None));
            loop {
                tokio::select! {
                    biased;
                    position = &mut asking => break position,
                    () = yield_now() => subscribers[number].0.take_requests(),
                }
            }
        };
        match position {
            Some(position) => {
                listener.begin(position, count);
                self.listeners[shard] = Some(listener);
            }
            None => {
                self.sides[at].positions[shard].forget(&self.channel);
                self.sides[at].sources[shard].unwant(&self.channel);
            }
        }
    }

    /// All that was delivered gets to the clients.
    fn hear(&mut self) {
        for (listener, recorded) in self.listeners.iter_mut().zip(&self.sides[self.at].recorded) {
            match listener {
                Some(listener) => listener.hear(recorded, &self.redis, false),
                None => drop(recorded.offsets()),
            }
        }
    }

    /// The clients go on in a new process; or not, after all.
    async fn hand_over(&mut self) -> bool {
        let (old, new) = (self.at, 1 - self.at);
        self.hear();
        (0..SHARDS_EACH).for_each(|shard| self.redis.disconnect(new * SHARDS_EACH + shard));
        self.sides[new] = Side::new(new, &self.redis, self.subscribers, self.messages_max);
        let ends = self.sides.iter().map(|side| side.process.clone()).collect::<Vec<_>>();
        let (old, new) = (&ends[old], &ends[new]);
        let (mut giving, mut taking) = (old.give(), new.take_over());
        let is_reached = !self.is_lossy || self.random.bool();
        self.tell_channels(&mut giving, &mut taking).await;
        self.steps(0..30).await;
        if is_reached {
            self.drive_to_the_end(async { assert!(new.settled().await) }).await;
        }
        self.steps(0..30).await;
        for shard in 0..SHARDS_EACH {
            if self.random.u8(0..4) == 0 {
                self.hear();
                self.join(shard).await;
            }
        }
        self.tell_channels(&mut giving, &mut taking).await;
        if is_reached {
            self.drive_to_the_end(async { assert!(new.settled().await) }).await;
        }
        let halted: HaltedProcess = self.drive(old.level(&mut giving, WITHIN)).await.unwrap();
        self.hear();
        self.steps(0..20).await;
        if self.random.u8(0..4) == 0 {
            drop((halted, giving, taking));
            return false;
        }
        for part in old.last_parts(giving) {
            new.put(&mut taking, through_bytes(&part), Millis::default()).unwrap();
        }
        self.at = 1 - self.at;
        for (source, listener) in self.sides[self.at].sources.iter().zip(&self.listeners) {
            source.keep(listener.iter().map(|_| self.channel.clone()).collect());
        }
        new.taken_over(taking).unwrap();
        self.steps(0..20).await;
        drop(halted);
        true
    }

    async fn tell_channels(&mut self, giving: &mut RedisGiving, taking: &mut RedisTaking) {
        let [old, new] = [self.at, 1 - self.at].map(|side| self.sides[side].process.clone());
        while let Some(part) = old.next_channels(giving).await {
            let part: BrokerPart = through_bytes(&part);
            new.put(taking, part, Millis::default()).unwrap();
        }
    }

    /// The same for what comes to its end once connections are there.
    async fn drive_to_the_end(&mut self, what: impl Future<Output = ()>) {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                () = &mut what => return,
                () = yield_now() => {}
            }
            self.step().await;
        }
    }

    /// All is well, and all that was published has arrived.
    async fn finish(&mut self) {
        let shows_missing = self.random.bool();
        for _ in 0..5 {
            for shard in 0..self.sides[self.at].subscribers.len() {
                self.settle(self.at, shard).await;
            }
            // Without that nothing that arrives shows what is missing.
            if shows_missing {
                self.redis.publish();
            }
        }
        for shard in 0..self.sides[self.at].subscribers.len() {
            self.settle(self.at, shard).await;
        }
        self.hear();
        let held = self.redis.held.borrow();
        for listener in self.listeners.iter().flatten() {
            let at = listener.at.as_ref().unwrap();
            assert_eq!(Some(&*at.epoch), held.epoch.as_deref());
            assert_eq!(at.offset, held.offset, "somebody does not get to where Redis is");
        }
    }
}
