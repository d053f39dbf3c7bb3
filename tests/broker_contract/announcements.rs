//! Announcements: each other process has all its shards do something, once, however Redis is run.

use wsbcast::{
    broker::{Announcement, BrokerSettings, Disconnection, OnLoss, Selector},
    metrics::Scope,
};

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{Backend, HISTORY, Process, channel, redis_settings, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
};

fn announcement(name: &str) -> Announcement {
    let selector = Selector::Channel(channel(name));
    Announcement::Disconnect(Disconnection { selector, may_return: true, banned_for: None })
}

/// Each of two processes tells the other one, once, and nothing comes back.
async fn works(settings: [BrokerSettings; 2]) {
    let [one, other] = settings;
    let processes = [Process::start(one, 2).await, Process::start(other, 3).await];
    let told = [[announcement("a"), announcement("b")], [announcement("c"), announcement("d")]];
    for ([first, second], process) in told.iter().zip(&processes) {
        assert_eq!(process.shards[0].announce(first).await, Ok(Scope::Cluster));
        assert_eq!(process.control.announce(second).await, Ok(Scope::Cluster));
    }
    for (process, told) in processes.iter().zip(told.iter().rev()) {
        for sink in &process.sinks {
            until("the other one's have arrived", || sink.announced().len() == 2).await;
            // They go over different connections.
            let announced = sink.announced();
            assert!(told.iter().all(|one| announced.contains(one)), "{announced:?}");
            assert_eq!(sink.seen(), []);
        }
        assert_eq!(process.shared.health().foreign(), 0);
    }
    for process in processes {
        process.close().await;
    }
}

over_redis_and_valkey!(
    announcements_reach_all_shards_of_other_processes,
    announcements_go_through_a_whole_cluster,
    announcements_follow_sentinels,
);

fn announcements_reach_all_shards_of_other_processes(program: Program) {
    let server = || RedisServer::start_as(&Recipe::new(program, &[]));
    let subscriptions = [Backend::Redis as fn(_) -> _, Backend::RedisPerProcess];
    for subscribe in subscriptions {
        let backend = subscribe(server());
        run(works([backend.settings(), backend.settings()]));
    }
}

fn settings(server: &RedisServer, url: String) -> BrokerSettings {
    let mut redis = redis_settings(server);
    redis.url = url;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

fn announcements_go_through_a_whole_cluster(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(program, &[]));
        // Each process knows another node first.
        let of = |node: &RedisServer| settings(node, format!("redis-cluster://{}", node.address()));
        works([of(&cluster.masters[0]), of(&cluster.masters[2])]).await;
    });
}

fn announcements_follow_sentinels(program: Program) {
    run(async {
        let recipe = Recipe::new(program, &[]);
        let server = RedisServer::start_as(&recipe);
        let sentinel = RedisServer::start_sentinel_as(&recipe, &server.address());
        let url = format!("redis-sentinel://{}?sentinelServiceName=main", sentinel.address());
        works([settings(&server, url.clone()), settings(&server, url)]).await;
    });
}

/// A process without Redis has no others, and one that cannot reach it says so within the time
/// that publishing takes.
#[test]
fn announcements_without_others_are_local() {
    run(async {
        let alone = Process::start(Backend::Embedded.settings(), 2).await;
        assert_eq!(alone.shards[1].announce(&announcement("a")).await, Ok(Scope::Local));
        assert!(alone.sinks.iter().all(|sink| sink.announced().is_empty()));

        let mut server = RedisServer::start();
        let settings = settings(&server, server.url());
        let process = Process::start(settings, 1).await;
        server.kill();
        process.lost().await;
        assert_eq!(process.control.announce(&announcement("a")).await, Ok(Scope::Local));
        server.restart();
        process.up().await;
        server.pause();
        assert_eq!(process.control.announce(&announcement("a")).await, Ok(Scope::Local));
        server.resume();
    });
}

/// A shard without room holds the next announcements back, however many a stranger publishes.
#[test]
fn a_full_mailbox_holds_announcements_back() {
    run(async {
        let server = RedisServer::start();
        let settings = settings(&server, server.url());
        let processes =
            [Process::start(settings.clone(), 1).await, Process::start(settings, 1).await];
        let sink = &processes[1].sinks[0];
        sink.set_room(0);
        for _ in 0..100 {
            assert_eq!(processes[0].control.announce(&announcement("a")).await, Ok(Scope::Cluster));
        }
        assert_eq!(sink.announced().len(), 0);
        sink.set_room(usize::MAX);
        until("all have arrived", || sink.announced().len() == 100).await;
    });
}
