//! Redis is elsewhere all of a sudden: who publishes there, listens there.
//!
//! A name that moves and a proxy that is switched look the same from here: new connections lead
//! elsewhere, those that stand stay where they are.

use std::time::Duration;

use wsbcast::{
    broker::{OnLoss, Receipt, Refuses, Settings, Subscribers},
    clock,
};

use crate::{
    process::{HISTORY, PATIENCE, Process, offset, pace, publish, redis_settings, run, until},
    proxy::Proxy,
    redis_server::RedisServer,
};

/// The two seconds that are promised, as asserted on a machine that is busy with other tests.
const MOVE_MAX: Duration = Duration::from_secs(6);

fn settings(proxy: &Proxy, subscribers: Subscribers) -> Settings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = format!("redis://{}", proxy.address());
    redis.subscribers = subscribers;
    redis.pool = 2;
    Settings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// How many messages of ours have arrived at a server, by the offset of a channel.
fn taken(server: &RedisServer, name: &str) -> u64 {
    server.cli(&["HGET", &format!("test:{{{name}}}:meta"), "offset"]).parse().unwrap_or(0)
}

/// All that is published by anybody of `process` goes to `server`, and arrives.
async fn moved_to(process: &Process, server: &RedisServer) {
    let begun = clock::now();
    let all_arrive = async {
        loop {
            let mut handles = process.shards.iter().chain([&process.control]).enumerate();
            let is_there = loop {
                let Some((number, handle)) = handles.next() else { break true };
                let name = format!("channel-{number}");
                let before = taken(server, &name);
                let receipt = publish(&**handle, &name, "x").await;
                if !matches!(receipt, Ok(Receipt::Cluster(_))) || taken(server, &name) == before {
                    break false;
                }
            };
            let hearers = server.cli(&["PUBSUB", "CHANNELS", "test:heartbeat:*"]);
            let subscribers = process.sinks.len().min(hearers.lines().count());
            if is_there && subscribers > 0 {
                return;
            }
            pace().await;
        }
    };
    tokio::time::timeout(PATIENCE, all_arrive).await.expect("everything goes there");
    let took = clock::now() - begun;
    assert!(took < MOVE_MAX, "{took:?}");
    // Whoever listens is there as well.
    for sink in &process.sinks {
        let before = sink.messages().len();
        let heard = publish(&*process.shards[0], "a", "heard").await;
        offset(heard);
        until("it is heard", || sink.messages().len() > before).await;
    }
}

fn two_servers() -> (RedisServer, RedisServer) {
    (RedisServer::start(), RedisServer::start())
}

/// `replica` is one of `master`'s from now on.
fn follow(replica: &RedisServer, master: &RedisServer) {
    let address = master.address();
    let (host, port) = address.split_once(':').unwrap();
    assert_eq!(replica.cli(&["REPLICAOF", host, port]), "OK");
}

async fn start(proxy: &Proxy, subscribers: Subscribers) -> Process {
    let process = Process::start(settings(proxy, subscribers), 2).await;
    process.subscribe("a").await;
    offset(process.publish("a", "before").await);
    process
}

const BOTH: [Subscribers; 2] = [Subscribers::PerShard, Subscribers::PerProcess];

/// Regression: whoever was connected stayed, whoever came later was elsewhere.
#[test]
fn a_name_that_leads_to_another_server_is_followed_though_the_old_one_lives() {
    for subscribers in BOTH {
        run(async {
            let (old, new) = two_servers();
            let proxy = Proxy::start(&old.address(), Duration::ZERO);
            let process = start(&proxy, subscribers).await;
            proxy.lead_to(&new.address());
            moved_to(&process, &new).await;
        });
    }
}

/// Regression: subscribers stayed on the old server for as long as it answered their pings.
#[test]
fn who_has_to_connect_again_takes_the_others_along() {
    for kind in ["normal", "pubsub"] {
        for subscribers in BOTH {
            run(async {
                let (old, new) = two_servers();
                let proxy = Proxy::start(&old.address(), Duration::ZERO);
                let process = start(&proxy, subscribers).await;
                proxy.lead_to(&new.address());
                old.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
                moved_to(&process, &new).await;
            });
        }
    }
}

/// Regression: only the client that was refused looked again; the subscriber, and other clients,
/// stayed on what was a replica now.
#[test]
fn a_master_that_becomes_a_replica_is_left_by_all() {
    for subscribers in BOTH {
        run(async {
            let (old, new) = two_servers();
            let proxy = Proxy::start(&old.address(), Duration::ZERO);
            let process = start(&proxy, subscribers).await;
            proxy.lead_to(&new.address());
            follow(&old, &new);
            moved_to(&process, &new).await;
            until("nobody listens on the replica", || {
                old.cli(&["PUBSUB", "CHANNELS", "test:heartbeat:*"]).is_empty()
            })
            .await;
        });
    }
}

/// Regression: each refused command in flight threw away a client, the new one as well.
#[test]
fn many_refusals_at_once_cost_one_move() {
    run(async {
        let (old, new) = two_servers();
        let proxy = Proxy::start(&old.address(), Duration::ZERO);
        let process = start(&proxy, Subscribers::PerShard).await;
        proxy.lead_to(&new.address());
        assert_eq!(old.cli(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
        let publishes = (0..300).map(|_| process.publish("a", "x"));
        futures_util::future::join_all(publishes).await;
        process.up().await;
        moved_to(&process, &new).await;
        let ids = || -> Vec<String> {
            let list = new.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
            let ids = list.lines().filter_map(|line| line.split(' ').next());
            let mut ids: Vec<String> = ids.map(ToOwned::to_owned).collect();
            // Redis lists them in no order.
            ids.sort_unstable();
            ids
        };
        until("both shards listen there", || ids().len() == 2).await;
        let (before, health) = (ids(), process.shared.health());
        let reconnects = health.reconnects();
        let begun = clock::now();
        until("time passes", || clock::now() - begun > Duration::from_secs(2)).await;
        assert_eq!((ids(), health.reconnects()), (before, reconnects), "nothing moves any more");
        assert!(reconnects <= 2, "{reconnects}");
    });
}

/// A name that leads to a replica for good: nothing is torn down, everything is told.
#[test]
fn who_is_led_to_a_replica_stays_and_says_so() {
    run(async {
        let (master, replica) = two_servers();
        follow(&replica, &master);
        let proxy = Proxy::start(&replica.address(), Duration::ZERO);
        let process = Process::start(settings(&proxy, Subscribers::PerShard), 2).await;
        process.subscribe("a").await;
        let health = process.shared.health();
        until("it is told", || health.refuses() == Refuses::All).await;
        for _ in 0..20 {
            assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local));
        }
        let begun = clock::now();
        until("time passes", || clock::now() - begun > Duration::from_secs(1)).await;
        assert_eq!(health.reconnects(), 0, "its connections stand");
        assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        until("it is used", || health.refuses() == Refuses::Nothing).await;
        moved_to(&process, &replica).await;
    });
}
