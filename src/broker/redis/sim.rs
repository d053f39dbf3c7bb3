//! Failovers, lost data, names that lead elsewhere, cut connections, trimmed streams, forgeries and
//! resumes against a naive model, from a seed.
//!
//! Two processes of two shards: their subscribers, repair, memory and queries are the real ones;
//! Redis and the connections to it are a model. The messages that a shard delivers must have no
//! unreported hole, no repetition and no second message in a position, whatever happens; and when
//! all is well again all processes have the history that Redis has. `WSBCAST_SIM_SEED=n` runs one
//! seed alone.

mod away;
mod check;
#[cfg(unix)]
mod contract;
mod forger;
mod handover;
mod held;
mod late;
mod listener;
mod model;
mod publishing;
mod resume;
mod second_client;
mod settings;
mod unplaced;
mod unsent;
mod wire;

use std::{rc::Rc, sync::Arc};

use away::{Leading, View};
use listener::{Recorded, TestListener};
use model::Redis;
use publishing::{Ledger, Publishing};
use settings::{block_on, process, subscriber};

use super::{
    process::Process,
    protocol::envelope,
    pubsub::{subscriber::Subscriber, subscriptions::Subscriptions},
};
use crate::{
    broker::{Since, Sink},
    channel::ChannelName,
    position::Position,
    seeds,
};

const SEEDS: u64 = 10_000;
const PROCESSES: usize = 2;
const SHARDS_EACH: usize = 2;
const SHARDS: usize = PROCESSES * SHARDS_EACH;
/// So many that a stream never has to trim in one run.
const ALL: usize = 10_000;

/// The messages that shards deliver are whole, or the hole is reported, whatever Redis does.
#[test]
fn deliveries_are_whole_or_holes_are_told() {
    let counts = seeds::run_all(SEEDS, run);
    let Some([heard, gaps, resumed, published, local, in_doubt]) = counts else { return };
    assert!(heard > 20 * SEEDS && gaps > SEEDS && resumed > SEEDS, "{counts:?}: too tame");
    assert!(published.min(local).min(in_doubt) > SEEDS, "{counts:?}: too tame");
}

/// The numbers of messages received, gaps reported and clients resumed; the numbers of messages
/// answered as published, as local, and not at all.
fn run(seed: u64) -> [u64; 6] {
    // Epochs and nonces come from there.
    fastrand::seed(seed);
    block_on(async { World::new(seed).run().await })
}

struct Shard {
    process: Arc<Process>,
    subscriber: Subscriber,
    publishing: Publishing,
    recorded: Arc<Recorded>,
    listener: TestListener,
}

struct World {
    random: fastrand::Rng,
    redis: Rc<Redis>,
    /// The stream keeps all, and Redis answers whenever it is up: then rollbacks are always found.
    is_plain: bool,
    /// Now and then Redis is where it was before.
    goes_back: bool,
    /// Instead of all that loses data.
    leading: Leading,
    /// The processes publish, too.
    publishes: bool,
    /// Nothing happens except that another program publishes as well.
    is_calm: bool,
    channel: ChannelName,
    shards: Vec<Shard>,
    /// Where the channel stood when nobody had published to it, and how many messages there were.
    empty: Vec<(Position, usize)>,
    /// All messages that resuming clients were given.
    resumed_with: Vec<(Position, String)>,
    /// Messages that the processes publish themselves.
    ledger: Ledger,
    published: [u64; 3],
    heard: u64,
    gaps: u64,
    resumed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let is_plain = random.bool();
        let messages_max = if is_plain { ALL } else { random.usize(1..10) };
        let redis = Rc::new(Redis::new(random.fork(), SHARDS, messages_max, !is_plain));
        let mut shards = Vec::new();
        for number in 0..PROCESSES {
            let recorded: Vec<Arc<Recorded>> = (0..SHARDS_EACH).map(|_| Arc::default()).collect();
            let sinks = recorded.iter().map(|one| one.clone() as Arc<dyn Sink>).collect();
            let process = Arc::new(process(messages_max, sinks));
            for (index, recorded) in recorded.into_iter().enumerate() {
                let view = Rc::new(View { redis: redis.clone(), process: number });
                let subscriber = subscriber(&process, index, view);
                let process = process.clone();
                let router = &subscriber.delivery.recoverer.router;
                shards.push(Shard {
                    publishing: Publishing::new(&process, router),
                    process,
                    subscriber,
                    recorded,
                    listener: TestListener::default(),
                });
            }
        }
        let is_calm = is_plain && random.u8(0..8) == 0;
        Self {
            redis,
            is_calm,
            publishes: random.u8(0..4) == 0,
            is_plain,
            goes_back: random.bool(),
            leading: [Leading::Never, Leading::Never, Leading::IntoSilence, Leading::IntoAnother]
                [random.usize(0..4)],
            channel: ChannelName::new("a").unwrap(),
            shards,
            empty: Vec::new(),
            resumed_with: Vec::new(),
            ledger: Ledger::default(),
            published: [0; 3],
            heard: 0,
            gaps: 0,
            resumed: 0,
            random,
        }
    }

    async fn run(mut self) -> [u64; 6] {
        for shard in 0..SHARDS {
            self.connect(shard).await;
            self.join(shard).await;
        }
        for _ in 0..self.random.usize(20..150) {
            self.step().await;
        }
        self.finish().await;
        for shard in &self.shards {
            self.heard += shard.listener.heard.len() as u64;
            self.gaps += shard.listener.gaps;
        }
        let [published, local, in_doubt] = self.published;
        [self.heard, self.gaps, self.resumed, published, local, in_doubt]
    }

    async fn step(&mut self) {
        let shard = self.random.usize(0..SHARDS);
        if self.publishes && self.random.bool() {
            for _ in 0..self.random.usize(1..6) {
                let shard = self.random.usize(0..SHARDS);
                self.publishing_step(shard).await;
            }
            return;
        }
        if self.is_calm {
            return self.calm_step(shard).await;
        }
        match self.random.u8(0..100) {
            0..=34 => self.redis.publish(),
            35..=64 => {
                self.deliver(shard).await;
            }
            65..=74 => self.connect(shard).await,
            75..=79 => self.disconnect(shard),
            80..=85 => self.resume(shard).await,
            86..=88 => self.rejoin(shard).await,
            89..=92 => self.redis.replicate(),
            93..=96 if self.leading != Leading::Never => self.lead(),
            93 | 94 => self.redis.fail_over(),
            95 if self.goes_back => match self.random.u8(0..8) {
                0 | 1 => self.redis.save(),
                2 => self.redis.restore(),
                3 => self.redis.fail_back(),
                _ => self.redis.swap(),
            },
            95 => self.redis.fail_over(),
            96 => self.redis.lose_all(),
            97 => self.redis.is_up.set(false),
            _ => self.redis.is_up.set(true),
        }
    }

    fn process(&self, shard: usize) -> &Process {
        &self.shards[shard].process
    }

    /// One message arrives, if one is on its way.
    async fn deliver(&mut self, shard: usize) -> bool {
        let Some(payload) = self.redis.take(shard) else { return false };
        let before = self.redis.turn_begins();
        let (name, channel) =
            (self.process(shard).settings.names.channel(&self.channel), &self.channel);
        let subscriber = &self.shards[shard].subscriber;
        let health = &self.shards[shard].process.health;
        let counts = || (health.foreign.get(), health.duplicates.get());
        let (before_it, sure) = (counts(), self.shards[shard].listener.sure);
        let is_remembered = {
            let message = envelope::decode(&payload).unwrap();
            let process = self.process(shard);
            process.memory.nonce_at(channel, message.epoch, message.offset).is_some()
        };
        let is_kept =
            subscriber.delivery.publication(channel.clone(), &name, &payload).await.is_ok();
        // A forgery, as far as Redis says; a repetition, as far as anybody here remembers.
        let (foreign, repeated) = counts();
        let is_excused = foreign > before_it.0 || (repeated > before_it.1 && !is_remembered);
        self.hear(shard, before);
        if self.is_plain && is_kept && !is_excused && self.shards[shard].listener.sure == sure {
            self.assert_not_dropped(shard, &payload);
        }
        if !is_kept {
            self.disconnect(shard);
        }
        true
    }

    fn hear(&mut self, shard: usize, failures_before: u64) {
        let has_failed = self.redis.failures.get() > failures_before;
        let Shard { recorded, listener, .. } = &mut self.shards[shard];
        listener.hear(recorded, &self.redis, has_failed);
    }

    /// A connection is made, if there is none, or one that leads nowhere.
    async fn connect(&mut self, shard: usize) {
        if self.redis.is_connected(shard) && !self.redis.is_stale(shard) {
            return;
        }
        self.disconnect(shard);
        if !self.redis.connect(shard) {
            return;
        }
        self.note_where(shard);
        self.shards[shard].subscriber.change(|subscriptions| subscriptions.connected());
        self.tell(shard);
        if self.random.bool() {
            // It came with the confirmation.
            self.deliver(shard).await;
        }
        self.check(shard).await;
    }

    /// Redis confirms all commands.
    fn tell(&self, shard: usize) {
        self.shards[shard].subscriber.change(|subscriptions| {
            while let Some(command) = subscriptions.next_command() {
                subscriptions.answered(&command, false);
            }
        });
    }

    async fn check(&mut self, shard: usize) {
        let before = self.redis.turn_begins();
        let is_kept = self.shards[shard].subscriber.delivery.check().await.is_ok();
        self.hear(shard, before);
        self.begin_unplaced(shard, is_kept && self.redis.failures.get() == before);
        if !is_kept {
            self.disconnect(shard);
        }
    }

    fn disconnect(&self, shard: usize) {
        self.redis.disconnect(shard);
        self.shards[shard].process.health.link_broken(shard % SHARDS_EACH);
        self.shards[shard].subscriber.change(|subscriptions| subscriptions.disconnected());
    }

    /// The shard has a first client, which is told where it begins.
    async fn join(&mut self, shard: usize) {
        let subscriber = &self.shards[shard].subscriber;
        drop(subscriber.want(self.channel.clone()));
        self.tell(shard);
        if self.random.u8(0..6) == 0 {
            // It was let in before Redis had told it where.
            self.shards[shard].subscriber.change(Subscriptions::check_unplaced);
            return self.check(shard).await;
        }
        for _ in 0..2 {
            let before = self.shards[shard].subscriber.confirmed_on(&self.channel);
            if self.random.u8(0..10) == 0 {
                self.deliver(shard).await;
            }
            let count = self.redis.published.borrow().len();
            let since = self.random.bool().then_some(Since::Newest(3));
            let recoverer = &self.shards[shard].subscriber.delivery.recoverer;
            let query = recoverer.ask_stream_position(&self.channel, since.as_ref());
            let Ok(stream_position) = query.await else { return };
            if stream_position.position.is_empty() {
                self.empty.push((stream_position.position.clone(), count));
            }
            if self.random.u8(0..10) == 0 {
                self.deliver(shard).await;
            }
            let Shard { subscriber, listener, .. } = &mut self.shards[shard];
            listener.since = self.redis.newest_text();
            if subscriber.set_baseline(&self.channel, &stream_position, before) {
                listener.begin(stream_position.position, count);
                break;
            }
        }
        self.check(shard).await;
    }

    /// The last client leaves, and another one comes.
    async fn rejoin(&mut self, shard: usize) {
        self.shards[shard].subscriber.unwant(&self.channel);
        self.heard += self.shards[shard].listener.heard.len() as u64;
        self.shards[shard].listener = TestListener::new(&self.redis);
        if self.random.bool() {
            self.tell(shard);
        }
        self.join(shard).await;
    }

    /// All is well again: everybody gets to where Redis is.
    async fn finish(&mut self) {
        self.redis.is_up.set(true);
        self.redis.come_back();
        for shard in 0..SHARDS {
            self.connect(shard).await;
        }
        self.settle_publishing().await;
        for _ in 0..20 {
            for shard in 0..SHARDS {
                self.connect(shard).await;
                while self.deliver(shard).await {}
            }
            if self.is_settled() {
                break;
            }
            self.redis.publish();
        }
        self.assert_all_was_heard_or_told();
        self.published = self.check_published();
        self.check_order();
        let held = self.redis.held.borrow();
        let newest = held.epoch.as_ref().map(|epoch| (epoch.clone(), held.offset));
        for Shard { listener, .. } in &self.shards {
            let at = listener.at.as_ref().filter(|at| !at.is_empty());
            let at = at.map(|at| (at.epoch.to_string(), at.offset));
            assert_eq!(at, newest, "somebody does not get to where Redis is");
        }
        if self.redis.losses.get() > 1 {
            // An epoch may have been over, and have come back.
            self.resumed_with.clear();
        }
        let heard = self.shards.iter().flat_map(|shard| &shard.listener.heard);
        for (Position { epoch, offset }, text) in heard.chain(&self.resumed_with) {
            if self.is_plain && Some(&**epoch) == held.epoch.as_deref() {
                let truth = &held.texts[*offset as usize - 1];
                assert_eq!(text, truth, "{epoch}:{offset} was rolled back without a word");
            }
        }
    }

    fn is_settled(&self) -> bool {
        let held = self.redis.held.borrow();
        let is_there = |at: &Position| match &held.epoch {
            Some(epoch) => **epoch == *at.epoch && at.offset == held.offset,
            None => at.is_empty(),
        };
        self.shards.iter().all(|shard| shard.listener.at.as_ref().is_some_and(is_there))
    }
}
