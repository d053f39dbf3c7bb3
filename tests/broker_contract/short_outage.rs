//! A moment without Redis: messages of that moment reach the others all the same.

use std::time::Duration;

use futures_util::future::{join, join_all};
use wsbcast::broker::{BrokerSettings, OnLoss, Receipt};

use crate::{
    process::{HISTORY, Process, keyed, offset, redis_settings, run, until},
    proxy::Proxy,
    redis_server::RedisServer,
};

/// A busy machine may take longer to connect again than a publish waits, but not each time.
const ROUNDS_MAX: usize = 20;

fn settings(url: String, on_loss: OnLoss) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    BrokerSettings { redis: Some(redis), on_loss, history: HISTORY }
}

/// A message published just after a reset waits for Redis to be back.
/// Regression: whatever came in the moment until the connections were there again was local, or
/// rejected, at once: of a batch thousands of lines.
#[test]
fn messages_after_a_reset_wait_for_redis() {
    for on_loss in [OnLoss::Local, OnLoss::Reject] {
        run(async {
            let server = RedisServer::start();
            let between = Proxy::start(&server.address(), Duration::ZERO);
            let url = format!("redis://{}", between.address());
            let process = Process::start(settings(url, on_loss), 2).await;
            for _ in 0..ROUNDS_MAX {
                between.cut();
                process.lost().await;
                let receipts = join_all((0..100).map(|_| process.publish("a", "x"))).await;
                if receipts.iter().all(|receipt| matches!(receipt, Ok(Receipt::Cluster(_)))) {
                    return;
                }
                process.up().await;
            }
            panic!("in none of {ROUNDS_MAX} rounds all of them waited");
        });
    }
}

/// A message that still waits to be written when its connection is reset goes on the next one, in
/// its place: Redis is there. Regression: it was local, or rejected, at once.
#[test]
fn messages_that_a_reset_cut_off_are_sent_again() {
    for on_loss in [OnLoss::Local, OnLoss::Reject] {
        run(async {
            let server = RedisServer::start();
            let between = Proxy::start(&server.address(), Duration::ZERO);
            let url = format!("redis://{}", between.address());
            let process = Process::start(settings(url, on_loss), 1).await;
            // More than any socket takes at once: those after it are not written.
            let large = "x".repeat(24 << 20);
            for _ in 0..ROUNDS_MAX {
                let texts = [&*large, "1", "2", "3"];
                let publishing = join_all(texts.map(|text| process.publish("a", text)));
                // First all are on their way.
                let (receipts, ()) = join(publishing, async { between.cut() }).await;
                let place = |receipt: &Result<Receipt, _>| match receipt {
                    Ok(Receipt::Cluster(position)) => Some(position.offset),
                    Ok(_) | Err(_) => None,
                };
                let places: Vec<_> = receipts[1..].iter().filter_map(place).collect();
                if let [first, second, third] = places[..] {
                    assert_eq!([second, third], [first + 1, first + 2], "they keep their order");
                    return;
                }
                process.up().await;
            }
            panic!("in none of {ROUNDS_MAX} rounds all of them were sent again");
        });
    }
}

/// A local message that is sent again with its key reaches the others.
/// Regression: with its key it was local for ever, and the others never heard it.
#[test]
fn a_local_message_repeated_with_its_key_reaches_all() {
    run(async {
        let server = RedisServer::start();
        let [one, other] = [
            Process::start(settings(server.url(), OnLoss::Local), 1).await,
            Process::start(settings(server.url(), OnLoss::Local), 1).await,
        ];
        one.subscribe("a").await;
        other.subscribe("a").await;
        let say = async |process: &Process| process.shards[0].publish(keyed("a", "key", "x")).await;
        assert_eq!(server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
        for _ in 0..3 {
            assert_eq!(say(&one).await, Ok(Receipt::Local));
        }
        assert_eq!(one.sinks[0].texts(), ["x"], "here it is heard once");
        assert_eq!(server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
        for process in [&one, &other, &one] {
            assert_eq!(offset(say(process).await), 1);
        }
        offset(one.publish("a", "end").await);
        for (process, expected) in [(&one, &["x", "x", "end"][..]), (&other, &["x", "end"])] {
            let sink = &process.sinks[0];
            until("the end has arrived", || sink.texts().contains(&"end".to_owned())).await;
            assert_eq!(sink.texts(), expected);
        }
        assert_eq!(server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
        assert_eq!(offset(say(&one).await), 1, "Redis knows it, and need not take it");
    });
}
