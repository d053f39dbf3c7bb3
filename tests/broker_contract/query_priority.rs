//! Queries go beside what is published: no message and no heartbeat waits for them.

use std::{cell::Cell, time::Duration};

use futures_util::future::join_all;
use wsbcast::{
    broker::{BrokerSettings, HandleOwner, OnLoss, Reach, Receipt, connect},
    limits::{PUBLISH_CONFIRM_DEADLINE, REDIS_SILENCE_MAX},
};

use crate::{
    process::{
        HISTORY, Process, channel, now, offset, pace, publish, redis_settings, run,
        run_in_real_time, shared, until,
    },
    proxy::Proxy,
    redis_server::RedisServer,
};

/// The bytes that a thin line lets through, each way and on each connection.
const THIN_BYTES_PER_SECOND: usize = 40_000;
/// Each asks with some 150 bytes: they take twice as long as a message may take, and more.
const QUERIES: usize = 600;
/// Messages that are in time also on a machine so busy that for a while heartbeats are not. Behind
/// the queries it would be one or two, before the first of these are on their way.
const IN_TIME: usize = 20;
/// On a busy machine Redis may count as lost meanwhile, but not each time.
const ROUNDS_MAX: usize = 5;

fn settings(url: String) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// The connections that have not subscribed to anything, oldest first.
fn commanders(server: &RedisServer) -> Vec<u64> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    let lines = list.lines().filter(|line| !line.contains("cmd=client|list"));
    let id = |line: &str| line.split(' ').next()?.strip_prefix("id=")?.parse().ok();
    let mut ids: Vec<u64> = lines.filter_map(id).collect();
    ids.sort_unstable();
    ids
}

/// How many of them send heartbeats: they know all scripts.
fn ready_commanders(server: &RedisServer) -> usize {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    list.lines().filter(|line| line.contains("cmd=publish")).count()
}

/// Regression: what was published waited behind all that those who came wanted to know, for longer
/// than a message may take.
#[test]
fn no_message_waits_behind_queries() {
    run_in_real_time(async {
        let server = RedisServer::start();
        let thin = Proxy::start_thin(&server.address(), Duration::ZERO, THIN_BYTES_PER_SECOND);
        let process = Process::start(settings(format!("redis://{}", thin.address())), 1).await;
        // The shard's two, and the control thread's.
        until("all stand", || ready_commanders(&server) == 3).await;
        for round in 0..ROUNDS_MAX {
            if messages_beside_queries(&process, round).await >= IN_TIME {
                return;
            }
            process.up().await;
        }
        panic!("in none of {ROUNDS_MAX} rounds so many as {IN_TIME} were in time");
    });
}

/// How many messages are in time while the line is full of queries.
async fn messages_beside_queries(process: &Process, round: usize) -> usize {
    let answered = Cell::new(0);
    let asking = async {
        let ask = async |number| {
            let asked = channel(&format!("asked-{round}-{number}"));
            let position = process.shards[0].position(asked, None).await;
            answered.set(answered.get() + usize::from(position.is_some()));
        };
        // A query waits for no longer than a message; others come.
        for wave in 0..3 {
            join_all((0..QUERIES).map(|number| ask(wave * QUERIES + number))).await;
        }
    };
    let clustered = Cell::new(0);
    let publishing = async {
        loop {
            let receipt = process.publish("a", "x").await;
            let is_clustered = matches!(receipt, Ok(Receipt::Cluster(_)));
            clustered.set(clustered.get() + usize::from(is_clustered));
            pace().await;
        }
    };
    let health = process.shared.health();
    let (begun, before) = (now(), health.reconnects());
    tokio::select! {
        () = asking => {}
        () = publishing => {}
    }
    if health.reach() == Reach::Up && health.reconnects() == before {
        assert!(now() - begun > 2 * PUBLISH_CONFIRM_DEADLINE, "they have filled the line");
        assert!(answered.get() < 3 * QUERIES, "nor could all be answered in time");
    }
    clustered.get()
}

/// Queries go with the messages while their own connection says nothing. Regression: no query
/// was answered as long as the connection for queries said nothing, though the other one worked.
#[test]
fn queries_fall_back_to_the_publishing_connection() {
    run(async {
        let server = RedisServer::start();
        let proxy = Proxy::start(&server.address(), Duration::ZERO);
        let (shared, _sinks) = shared(settings(format!("redis://{}", proxy.address())), 1);
        let shard = connect(shared.clone(), HandleOwner::Shard(0)).await;
        until("it is up", || shared.health().reach() == Reach::Up).await;
        until("both stand", || ready_commanders(&server) == 2).await;
        let id = format!("id={} ", commanders(&server)[1]);
        let list = server.cli(&["CLIENT", "LIST"]);
        let line = list.lines().find(|line| line.starts_with(&id)).unwrap();
        let address = line.split(' ').find_map(|word| word.strip_prefix("addr=")).unwrap();
        proxy.stall(address.parse().unwrap());
        let begun = now();
        // The first are lost with it.
        while shard.position(channel("a"), None).await.is_none() {
            offset(publish(&*shard, "a", "x").await);
        }
        assert!(now() - begun < REDIS_SILENCE_MAX, "it is not given up yet");
        for _ in 0..20 {
            offset(publish(&*shard, "a", "x").await);
            assert!(shard.position(channel("a"), None).await.is_some());
        }
        assert_eq!(shared.health().reach(), Reach::Up);
        assert_eq!(shared.health().reconnects(), 0);
    });
}

/// Queries go with the messages while they have no connection of their own. The connection for
/// queries ends: messages are not affected, and queries go with them for as long as there is no
/// other.
#[test]
fn queries_without_their_own_connection_go_on() {
    run(async {
        let server = RedisServer::start();
        // No control thread's connections: the older one of the two is for what is published.
        let (shared, _sinks) = shared(settings(server.url()), 1);
        let shard = connect(shared.clone(), HandleOwner::Shard(0)).await;
        until("it is up", || shared.health().reach() == Reach::Up).await;
        until("both stand", || commanders(&server).len() == 2).await;
        for _ in 0..3 {
            let ids = commanders(&server);
            assert_eq!(server.cli(&["CLIENT", "KILL", "ID", &ids[1].to_string()]), "1");
            for _ in 0..50 {
                offset(publish(&*shard, "a", "x").await);
                assert!(shard.position(channel("a"), None).await.is_some());
            }
            let is_new = || match commanders(&server)[..] {
                [one, two] => one == ids[0] && two != ids[1],
                _ => false,
            };
            until("there is another one", is_new).await;
        }
        assert_eq!(shared.health().reach(), Reach::Up);
        assert_eq!(shared.health().reconnects(), 0);
    });
}
