//! Heartbeats through a Redis that falls silent, comes back, or is no longer where its name leads.

use tokio::time::{sleep, timeout};

use super::{healthy, process};
use crate::{
    broker::{
        HandleOwner, Reach,
        redis::{RedisBroker, net::memory::MemoryNetwork},
    },
    limits::{
        HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_RECONNECT_DELAY, REDIS_SILENCE_MAX,
        WATCH_INTERVAL,
    },
};

const MOMENT: std::time::Duration = std::time::Duration::from_millis(2);

/// A Redis that answers no heartbeat for a second is lost, and it is back with the next one.
#[tokio::test(flavor = "local", start_paused = true)]
async fn redis_is_lost_after_a_second_without_heartbeats() {
    let network = MemoryNetwork::new();
    let redis = network.listen("redis:1", healthy);
    let process = process("redis://redis:1", None);
    let _broker = RedisBroker::start(process.clone(), HandleOwner::Shard(0));
    timeout(HEARTBEAT_INTERVAL, process.health.up()).await.expect("reached at once");
    sleep(20 * HEARTBEAT_INTERVAL).await;
    assert_eq!(process.health.reach(), Reach::Up);
    let opened = redis.opened();

    redis.set_silent(true);
    sleep(HEARTBEAT_SILENCE_MAX - HEARTBEAT_INTERVAL - MOMENT).await;
    assert_eq!(process.health.reach(), Reach::Up, "the last one is not so long ago");
    sleep(HEARTBEAT_INTERVAL + 2 * MOMENT).await;
    assert_eq!(process.health.reach(), Reach::Lost);

    redis.set_silent(false);
    sleep(HEARTBEAT_INTERVAL + MOMENT).await;
    assert_eq!(process.health.reach(), Reach::Up);
    assert_eq!(redis.opened(), opened, "through the same connections");
}

/// Connections on which nothing comes are given up, and not before their time.
#[tokio::test(flavor = "local", start_paused = true)]
async fn silent_connections_are_given_up() {
    let network = MemoryNetwork::new();
    let redis = network.listen("redis:1", healthy);
    let process = process("redis://redis:1", None);
    let _broker = RedisBroker::start(process.clone(), HandleOwner::Shard(0));
    process.health.up().await;
    sleep(HEARTBEAT_INTERVAL).await;
    let opened = redis.opened();

    redis.set_silent(true);
    sleep(REDIS_SILENCE_MAX - HEARTBEAT_INTERVAL - MOMENT).await;
    assert_eq!((redis.opened(), redis.connections()), (opened, opened), "it may come back");
    sleep(2 * HEARTBEAT_INTERVAL + 2 * REDIS_RECONNECT_DELAY).await;
    assert!(redis.opened() > opened, "another one is tried");
    assert!(redis.connections() <= redis.opened() - opened, "all of the old ones are gone");

    redis.set_silent(false);
    sleep(HEARTBEAT_SILENCE_MAX).await;
    assert_eq!(process.health.reach(), Reach::Up);
}

/// Once the name of Redis leads to another server, all connections go there.
#[tokio::test(flavor = "local", start_paused = true)]
async fn connections_go_where_the_name_leads() {
    let network = MemoryNetwork::new();
    let left = network.listen("redis:1", healthy);
    let process = process("redis://redis:1", None);
    let _shard = RedisBroker::start(process.clone(), HandleOwner::Shard(0));
    let _control = RedisBroker::start(process.clone(), HandleOwner::Control);
    process.health.up().await;
    sleep(5 * WATCH_INTERVAL).await;
    let connections = left.connections();
    assert_eq!((process.health.reach(), process.health.reconnects()), (Reach::Up, 0));

    // A connected process notices nothing by itself.
    let found = network.listen("redis:1", healthy);
    sleep(3 * WATCH_INTERVAL).await;
    assert_eq!((left.connections(), found.connections()), (0, connections));
    assert_eq!(process.health.reach(), Reach::Up);
}
