//! Queries that are asked once for all shards: a shard at a standstill holds no other up, and no
//! answer is taken for newer than its query.
//!
//! A future that was polled once and never again stands for its thread.

use std::pin::pin;

use futures_util::{future::join, poll};
use wsbcast::broker::{Broker, Position, Since};

use crate::{
    history::recover,
    process::{Process, channel, offset, run},
    redis_server::RedisServer,
    repair::{META, settings},
};

#[test]
fn where_a_channel_stands_is_asked_by_others_too() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 3).await;
        process.subscribe("a").await;
        let position = |shard: usize| process.shards[shard].position(channel("a"), None);
        let known = position(0).await;
        assert!(known.is_some());
        // The first shares the query of the second, the third asks after that.
        for other in [0, 2] {
            let mut stands_still = pin!(position(1));
            assert!(poll!(&mut stands_still).is_pending());
            assert_eq!(position(other).await, known, "{other}");
            assert_eq!(stands_still.await, known, "it was answered, too");
        }
    });
}

#[test]
fn a_history_is_read_by_others_too() {
    run(async {
        let server = RedisServer::start();
        let source = Process::start(settings(&server), 1).await;
        for text in ["1", "2", "3"] {
            offset(source.publish("a", text).await);
        }
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        let to = process.shards[0].position(channel("a"), None).await.unwrap();
        let since = Since::After(Position { epoch: to.epoch.clone(), offset: 0 });

        let mut stands_still =
            pin!(process.shards[0].recover(channel("a"), since.clone(), to.clone()));
        assert!(poll!(&mut stands_still).is_pending());
        let shard: &dyn Broker = &*process.shards[1];
        assert_eq!(recover(shard, since, &to).await, (0, None));
    });
}

/// An answer does not count against what was heard after its query.
/// Regression: a client that had got further elsewhere since the query was sent was taken for one
/// of another history, and given all of it once more.
#[test]
fn an_answer_does_not_count_against_later_messages() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "1").await);
        let known = process.shards[0].position(channel("a"), None).await.unwrap();

        let mut earlier = pin!(process.shards[1].position(channel("a"), None));
        assert!(poll!(&mut earlier).is_pending());
        // Answers come in the order of the queries: the first one's is here.
        assert!(process.shards[1].position(channel("b"), None).await.is_some());
        // One more message, which others have heard, and which is still on its way to here: all
        // that Redis shows of it.
        server.cli(&["HINCRBY", META, "offset", "1"]);
        let heard = Position { epoch: known.epoch, offset: 2 };
        let since = Since::After(heard.clone());
        let later = process.shards[0].position(channel("a"), Some(&since));
        let (later, earlier) = join(later, earlier).await;
        assert_eq!(earlier.unwrap().offset, 1, "the older query's answer");
        assert_eq!(later, Some(heard));
    });
}
