//! Channels that nobody has published to: a query about them stores nothing, and a client that
//! comes back from there gets all that was published since, or is told that nobody knows.

use wsbcast::broker::{Broker, Position, Since};

use crate::{
    Program, Recipe,
    history::{read, recover},
    process::{Process, channel, offset, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    repair::{META, settings},
};

const ERA: &str = "test:{era}:era";

async fn position(process: &Process, name: &str) -> Position {
    process.subscribe(name).await;
    process.shards[0].position(channel(name), None).await.unwrap()
}

/// The texts that a client gets when it comes back to `a` in another process, and what is missing.
async fn comes_back(
    process: &Process,
    from: &Position,
) -> (Vec<String>, Option<(u64, Option<u64>)>) {
    let to = position(process, "a").await;
    let shard: &dyn Broker = &*process.shards[0];
    let (begin, missed) = recover(shard, Since::After(from.clone()), &to).await;
    (read(shard, begin, &to, 1_000), missed)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Asking stores nothing and every process gives one empty position.
#[test]
fn asking_for_an_empty_channel_stores_nothing() {
    run(async {
        let server = RedisServer::start();
        let mut positions = Vec::new();
        let mut settings = settings(&server);
        settings.redis.as_mut().unwrap().raw_channel = None;
        for _ in 0..2 {
            let process = Process::start(settings.clone(), 1).await;
            for number in 0..100 {
                positions.push(position(&process, &format!("c{number}")).await);
                let since = Since::After(positions[0].clone());
                let name = channel(&format!("c{number}"));
                process.shards[0].position(name, Some(&since)).await.unwrap();
            }
        }
        positions.dedup();
        assert_eq!(positions.len(), 1, "{positions:?}");
        assert!(positions[0].is_empty());
        assert_eq!(server.cli(&["KEYS", "*"]), ERA, "the one key that there is");
    });
}

/// A client that comes back to any process gets all that was published since.
#[test]
fn a_client_resumes_on_any_process() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        let empty = position(&process, "a").await;
        for text in ["1", "2", "3"] {
            offset(process.publish("a", text).await);
        }
        until("all have arrived", || process.sinks[0].messages().len() == 3).await;
        assert_eq!(process.sinks[0].gaps(), 0, "nothing is missing before the first");
        let another = Process::start(settings(&server), 1).await;
        for process in [&process, &another] {
            assert_eq!(comes_back(process, &empty).await, (words(&["1", "2", "3"]), None));
        }
        server.cli(&["XTRIM", "test:{a}:stream", "MAXLEN", "1"]);
        let third = Process::start(settings(&server), 1).await;
        assert_eq!(comes_back(&third, &empty).await, (words(&["3"]), Some((1, Some(2)))));
    });
}

#[test]
fn messages_that_redis_has_lost_since_are_reported() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        let empty = position(&process, "a").await;
        offset(process.publish("a", "lost").await);
        server.cli(&["FLUSHALL"]);
        offset(process.publish("a", "1").await);
        // Also to a process that has heard of nothing.
        let another = Process::start(settings(&server), 1).await;
        assert_eq!(comes_back(&another, &empty).await, (words(&["1"]), Some((1, Some(0)))));
        server.cli(&["FLUSHALL"]);
        let third = Process::start(settings(&server), 1).await;
        let (texts, missed) = comes_back(&third, &empty).await;
        assert_eq!(
            (texts.len(), missed),
            (0, Some((1, Some(0)))),
            "nothing since, for all we know"
        );
    });
}

#[test]
fn an_era_counts_until_the_one_after_the_next() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        let empty = position(&process, "a").await;
        for (eras, missed) in [(1, None), (2, Some((1, Some(0))))] {
            // It is renewed in the second half of its life.
            server.cli(&["PEXPIRE", ERA, "10000"]);
            let another = Process::start(settings(&server), 1).await;
            let next = position(&another, "a").await;
            assert_ne!(next, empty, "{eras} later");
            assert_eq!(comes_back(&another, &empty).await, (Vec::new(), missed));
        }
        let lives: u64 = server.cli(&["PTTL", ERA]).parse().unwrap();
        assert!(lives > 11 * 60 * 60 * 1000, "{lives}");
    });
}

/// Positions that an older version has stored are in one history with the empty one.
#[test]
fn older_positions_share_the_empty_ones_history() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        let empty = position(&process, "a").await;
        // A process of that version is asked for it.
        server.cli(&["HSET", META, "epoch", "theirs", "offset", "0", "nonce", "0"]);
        let another = Process::start(settings(&server), 1).await;
        assert_eq!(position(&another, "a").await.to_string(), "theirs:0");
        assert_eq!(comes_back(&another, &empty).await, (Vec::new(), None));
        offset(process.publish("a", "1").await);
        for process in [&process, &another] {
            until("it has arrived", || process.sinks[0].offsets() == [1]).await;
            assert_eq!(process.sinks[0].gaps(), 0);
            assert_eq!(comes_back(process, &empty).await, (words(&["1"]), None));
        }
    });
}

/// A channel that begins anew does not follow the empty position.
#[test]
fn a_new_beginning_leaves_the_empty_position() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        let empty = position(&process, "a").await;
        // As when two histories share an epoch: it is ended, and the next one is not the first.
        server.cli(&["HSET", META, "epoch", "later", "offset", "0", "nonce", "7"]);
        let another = Process::start(settings(&server), 1).await;
        assert_eq!(comes_back(&another, &empty).await, (Vec::new(), Some((1, Some(0)))));
        offset(another.publish("a", "1").await);
        until("it has arrived", || process.sinks[0].offsets() == [1]).await;
        assert_eq!(process.sinks[0].missed(), [("later".to_owned(), 1, Some(0))]);
    });
}

/// The unused channels of all masters of a cluster stand at one empty position.
#[test]
fn a_cluster_has_one_empty_position() {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let mut settings = settings(&cluster.masters[0]);
        settings.redis.as_mut().unwrap().url = cluster.url();
        let process = Process::start(settings.clone(), 1).await;
        let empty = position(&process, "a").await;
        for number in 0..30 {
            assert_eq!(position(&process, &format!("c{number}")).await, empty);
        }
        offset(process.publish("a", "1").await);
        let another = Process::start(settings, 1).await;
        assert_eq!(comes_back(&another, &empty).await, (words(&["1"]), None));
    });
}
