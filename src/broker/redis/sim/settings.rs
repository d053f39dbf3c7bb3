//! The simulated processes, and their settings.

use std::{rc::Rc, sync::Arc, time::Duration};

use crate::{
    broker::{
        HistorySettings, OnLoss, RedisSettings, RedisTls, Sink, Subscribers,
        redis::{
            commands::{connectivity::Connectivity, router::CommandRouter, stand_in::StandIn},
            process::Process,
            pubsub::subscriber::Subscriber,
            recovery::recoverer::Recoverer,
        },
    },
    clock::Clock,
};

/// Runs a simulation with a paused clock and tasks of its own.
pub(super) fn block_on<T>(simulation: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build_local(Default::default());
    runtime.expect("a runtime").block_on(simulation)
}

pub(super) fn process(messages_max: usize, sinks: Vec<Arc<dyn Sink>>) -> Process {
    process_with(Subscribers::PerShard, messages_max, sinks)
}

/// One whose shards hear in this way.
pub(super) fn process_with(
    subscribers: Subscribers,
    messages_max: usize,
    sinks: Vec<Arc<dyn Sink>>,
) -> Process {
    let redis = RedisSettings {
        url: "redis://127.0.0.1:1".to_owned(),
        tls: RedisTls::default(),
        subscribers,
        pool: 1,
        prefix: "test".to_owned(),
        raw_channel: None,
        bans: None,
        keys_bytes_max: usize::MAX,
        max_broadcast_bytes: 1_000,
    };
    let history = HistorySettings {
        messages_max,
        bytes_max: 1 << 20,
        total_bytes_max: 1 << 20,
        ttl: Duration::from_secs(300),
    };
    Process::new(Clock::start(), redis, OnLoss::Local, history, sinks)
        .expect("the settings are good")
}

/// The handle of a `shard` of `process` for whose scripts `stand_in` answers.
pub(super) fn recoverer(
    process: &Process,
    shard: usize,
    stand_in: Rc<dyn StandIn>,
) -> Rc<Recoverer> {
    let connectivity = Connectivity::new(&process.settings, process.health.clone(), Some(shard));
    let mut router = CommandRouter::new(process.destination.clone(), Rc::new(connectivity), true);
    router.stand_in = Some(stand_in);
    let (memory, queries) = (process.memory.clone(), process.queries.clone());
    Rc::new(Recoverer::new(Rc::new(router), memory, queries, process.empty_epoch.clone()))
}

/// The subscriber of a shard.
pub(super) fn subscriber(process: &Process, shard: usize, stand_in: Rc<dyn StandIn>) -> Subscriber {
    let sink = process.sink_of_subscriber(shard);
    let shared = process.shared_subscriber.clone();
    Subscriber::new(recoverer(process, shard, stand_in), shard, sink, shared)
}
