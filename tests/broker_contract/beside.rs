//! Questions go beside what is published: no message and no heartbeat waits for them.

use std::{cell::Cell, time::Duration};

use futures_util::future::join_all;
use wsbcast::{
    broker::{OnLoss, Place, Reach, Settings, connect},
    clock,
    limits::PUBLISH_CONFIRM_DEADLINE,
};

use crate::{
    process::{
        HISTORY, Process, channel, offset, pace, publish, redis_settings, run, shared, until,
    },
    proxy::Proxy,
    redis_server::RedisServer,
};

/// What a thin line lets through, each way and on each connection.
const THIN_BYTES_PER_SECOND: usize = 100_000;
/// Each asks for some 150 bytes: they take twice as long as a message may take, and more.
const QUESTIONS: usize = 2000;

fn settings(url: String) -> Settings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    Settings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
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
fn no_message_waits_behind_questions() {
    run(async {
        let server = RedisServer::start();
        let thin = Proxy::start_thin(&server.address(), Duration::ZERO, THIN_BYTES_PER_SECOND);
        let process = Process::start(settings(format!("redis://{}", thin.address())), 1).await;
        // The shard's two, and the control thread's.
        until("all stand", || ready_commanders(&server) == 3).await;
        let health = process.shared.health();
        let shard = &process.shards[0];
        let answered = Cell::new(0);
        let asking = async {
            let ask = async |number| {
                let position = shard.position(channel(&format!("asked-{number}")), None).await;
                answered.set(answered.get() + usize::from(position.is_some()));
            };
            // Who asks does not wait for longer than a message; others come.
            for wave in 0..3 {
                join_all((0..QUESTIONS).map(|number| ask(wave * QUESTIONS + number))).await;
            }
        };
        let publishing = async {
            for number in 1.. {
                assert_eq!(offset(process.publish("a", "x").await), number);
                assert_eq!(health.reach(), Reach::Up);
                pace().await;
            }
        };
        let begun = clock::now();
        tokio::select! {
            () = asking => {}
            () = publishing => {}
        }
        assert!(clock::now() - begun > 2 * PUBLISH_CONFIRM_DEADLINE, "they have filled the line");
        assert!(answered.get() < QUESTIONS, "nor could all be answered in time");
    });
}

/// The connection for questions ends: what is published does not notice, and questions go with it
/// for as long as there is no other.
#[test]
fn without_a_connection_of_their_own_questions_go_with_what_is_published() {
    run(async {
        let server = RedisServer::start();
        // No control thread's connections: the older one of the two is for what is published.
        let (shared, _sinks) = shared(settings(server.url()), 1);
        let shard = connect(shared.clone(), Place::Shard(0)).await;
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
