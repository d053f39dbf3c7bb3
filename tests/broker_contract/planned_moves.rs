//! Planned moves in a cluster while messages are published: of a slot, and of a master's office.
//!
//! A confirmed message is never lost, repeated or reordered thereby. That no message stays in its
//! process holds where a move takes less time than a publish waits; how long it takes is the
//! cluster's business, so moves are made until one was as quick.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    future::{self, FutureExt},
    stream::{self, StreamExt},
};
use wsbcast::broker::{PublishError, Reach, Receipt};

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{PATIENCE, Process, TestSink, channel, pace, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    sharded::{seen, settings, sharded},
};

/// Moves that may take longer than a publish waits.
const ROUNDS_MAX: usize = 6;

over_redis_and_valkey!(
    a_slot_moving_under_load_loses_nothing,
    a_planned_failover_under_load_loses_nothing,
);

/// The fates of messages.
#[derive(Default)]
struct Answers {
    /// How many there are.
    count: Cell<u64>,
    confirmed: RefCell<Vec<(u64, String)>>,
    /// An answer may be late.
    unconfirmed: RefCell<HashSet<String>>,
    /// Surely not sent, and heard in the publisher's process alone.
    local: RefCell<Vec<String>>,
}

impl Answers {
    /// Publishes number after number, one a millisecond and without waiting for each other, until
    /// `over`.
    async fn publish_until(&self, publisher: &Process, name: &str, over: &Cell<bool>) {
        let numbers =
            stream::iter(self.count.get() + 1..).then(|number| pace().map(move |()| number));
        let numbers = numbers.take_while(|_| future::ready(!over.get()));
        let health = publisher.shared.health();
        let publish = async |number: u64| {
            let told = || (health.reconnects(), health.refused());
            let (before, text) = (told(), number.to_string());
            let answer = publisher.publish(name, &text).await;
            let is_told = health.reach() != Reach::Up || told() != before;
            assert!(is_told || answer != Ok(Receipt::Local), "local, and nothing says why");
            (text, answer)
        };
        let mut answers = pin!(numbers.map(publish).buffered(500));
        while let Some((text, answer)) = answers.next().await {
            self.count.set(self.count.get() + 1);
            match answer {
                Ok(Receipt::Cluster(position)) => {
                    self.confirmed.borrow_mut().push((position.offset, text));
                }
                Ok(Receipt::Local) => self.local.borrow_mut().push(text),
                Err(PublishError::Unconfirmed) => _ = self.unconfirmed.borrow_mut().insert(text),
                Err(other) => panic!("{text}: {other}"),
            }
        }
    }

    /// Nothing that was confirmed is missing, nothing came twice or in another order, and what is
    /// local was heard by the publisher's process, once, and by no other.
    async fn are_kept(&self, publisher: &Process, process: &Process, name: &str) {
        for sink in &process.sinks {
            until("all have arrived", || self.all_in(&seen(sink, name))).await;
            self.assert_all_in(sink, name);
        }
        let (mut kept_here, mut local) = (publisher.sinks[0].texts(), self.local.borrow().clone());
        kept_here.sort_unstable();
        local.sort_unstable();
        assert_eq!(kept_here, local);
    }

    /// Whether a shard has seen all that was confirmed, and after it nothing can be on its way.
    fn all_in(&self, seen: &[(u64, String)]) -> bool {
        let confirmed = self.confirmed.borrow();
        seen.last().map(|(offset, _)| offset) >= confirmed.last().map(|(offset, _)| offset)
    }

    #[track_caller]
    fn assert_all_in(&self, sink: &TestSink, name: &str) {
        let seen = seen(sink, name);
        let offsets = seen.iter().map(|(offset, _)| *offset);
        assert!(offsets.eq(1..=seen.len() as u64), "there is one message in each place");
        let in_doubt = self.unconfirmed.borrow();
        let (unconfirmed, confirmed): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|(_, text)| in_doubt.contains(text));
        assert_eq!(confirmed, *self.confirmed.borrow());
        let once: HashSet<_> = unconfirmed.iter().map(|(_, text)| text).collect();
        assert_eq!(once.len(), unconfirmed.len(), "nothing came twice");
        assert_eq!(sink.gaps(), 0);
    }
}

/// A cluster, a process that publishes to one of its channels, and one that hears it.
struct World {
    cluster: Arc<RedisCluster>,
    name: String,
    publisher: Process,
    process: Process,
    answers: Answers,
}

impl World {
    /// The channel lives on this master.
    async fn start(cluster: RedisCluster, master: usize) -> Self {
        let publisher = Process::start(settings(&cluster), 1).await;
        let process = Process::start(settings(&cluster), 2).await;
        let name = cluster.channels().swap_remove(master);
        process.subscribe(&name).await;
        for shard in &process.shards {
            assert_eq!(shard.position(channel(&name), None).await.unwrap().offset, 0);
        }
        Self { cluster: Arc::new(cluster), name, publisher, process, answers: Answers::default() }
    }

    /// Publishes until `moving` is over: whether all of it went to the cluster.
    async fn publish_during(&self, moving: impl Future<Output = ()>) -> bool {
        let (over, answers) = (Cell::new(false), &self.answers);
        let local = answers.local.borrow().len();
        let moving = async {
            self.some_are_published().await;
            moving.await;
            over.set(true);
        };
        tokio::join!(answers.publish_until(&self.publisher, &self.name, &over), moving);
        answers.are_kept(&self.publisher, &self.process, &self.name).await;
        answers.local.borrow().len() == local
    }

    async fn some_are_published(&self) {
        let before = self.answers.count.get();
        until("some are published", || self.answers.count.get() > before + 50).await;
    }

    /// Whether it is heard there, and nothing else.
    fn is_heard_on(&self, node: &RedisServer) -> bool {
        sharded(node) == format!("test:{{{}}}", self.name)
    }
}

/// A slot that moves under load loses, repeats and reorders nothing.
fn a_slot_moving_under_load_loses_nothing(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(program, &[]));
        let world = World::start(cluster, 0).await;
        let moving = async || {
            for (from, to) in [(0, 1), (1, 2), (2, 0)] {
                world.some_are_published().await;
                let (cluster, name) = (world.cluster.clone(), world.name.clone());
                let step = move || cluster.move_slot(&name, from, to);
                tokio::task::spawn_blocking(step).await.unwrap();
            }
        };
        let mut rounds = 1;
        while !world.publish_during(moving()).await {
            assert!(rounds < ROUNDS_MAX, "each time some were kept here");
            rounds += 1;
        }
        let [home, others @ ..] = &world.cluster.masters[..] else { unreachable!("three") };
        until("it is heard where it is", || world.is_heard_on(home)).await;
        assert!(others.iter().all(|node| sharded(node).is_empty()));
    });
}

/// Makes a replica the master, in agreement with the one before.
async fn take_over(replica: &RedisServer) {
    let is_master = || replica.cli(&["ROLE"]).starts_with("master");
    let asking = async {
        while !is_master() {
            // Not before it is one: a master that was replaced becomes one a little later.
            until("it is a replica", || replica.cli(&["CLUSTER", "FAILOVER"]) == "OK").await;
            // Redis gives it up by itself after five seconds, if the others were slow.
            let promoted = until("it is promoted", is_master);
            let _ = tokio::time::timeout(Duration::from_secs(6), promoted).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "it is not promoted");
}

/// A planned failover under load loses, repeats and reorders nothing.
fn a_planned_failover_under_load_loses_nothing(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, true, &Recipe::new(program, &[]));
        let world = World::start(cluster, 1).await;
        let (one, other) = (&world.cluster.masters[1], &world.cluster.replicas[1]);
        for (from, to) in [(one, other), (other, one)].into_iter().cycle().take(ROUNDS_MAX) {
            let failing_over = async {
                take_over(to).await;
                until("it is heard on the new master", || world.is_heard_on(to)).await;
            };
            let all_clustered = world.publish_during(failing_over).await;
            assert_eq!(sharded(from), "");
            if all_clustered {
                return;
            }
            let follows = || from.cli(&["INFO", "replication"]).contains("link_status:up");
            until("the old master follows", follows).await;
        }
        panic!("in each of {ROUNDS_MAX} rounds some were kept here");
    });
}
