//! Redis is far away, or about to be reached: nobody is split off for that.

use std::{rc::Rc, time::Duration};

use futures_util::future::join_all;
use wsbcast::{
    broker::{OnLoss, Reach, Receipt, Settings},
    clock,
};

use crate::{
    Program, Recipe,
    process::{HISTORY, Process, offset, publish, redis_settings, run, until},
    proxy::Proxy,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
};

fn settings(url: String) -> Settings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    Settings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// Publishes from the first moment on, through every handle: all of it goes to the cluster, in
/// the order of the calls.
async fn first_moments(url: String) {
    let process = Process::start_early(settings(url), 2).await;
    assert_eq!(process.shared.health().reach(), Reach::NeverReached);
    let texts: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let handles = [&process.shards[0], &process.shards[1], &process.control];
    let publishes = texts.iter().enumerate().map(|(number, text)| {
        let name = format!("channel-{}", number % 3);
        async move { publish(&**handles[number % 3], &name, text).await }
    });
    let receipts = join_all(publishes).await;
    for (number, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(offset(receipt), 1 + number as u64 / 3, "nobody was there before");
    }
}

/// Regression: for some milliseconds everything was local.
#[test]
fn what_is_published_in_the_first_moments_waits_for_redis() {
    run(async {
        let server = RedisServer::start();
        first_moments(server.url()).await;
    });
}

#[test]
fn what_is_published_in_the_first_moments_waits_for_a_redis_that_is_far_away() {
    run(async {
        let server = RedisServer::start();
        let far = Proxy::start(&server.address(), Duration::from_millis(50));
        first_moments(format!("redis://{}", far.address())).await;
    });
}

#[test]
fn what_is_published_in_the_first_moments_waits_for_a_cluster() {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        first_moments(cluster.url()).await;
    });
}

#[test]
fn what_waits_for_a_redis_that_never_comes_is_answered_in_time() {
    run(async {
        let nobody = RedisServer::not_started();
        let process = Rc::new(Process::start_early(settings(nobody.url()), 1).await);
        let begun = clock::now();
        let publishes = (0..100).map(|_| process.publish("a", "x"));
        let receipts = join_all(publishes).await;
        let took = clock::now() - begun;
        assert!(receipts.iter().all(|receipt| *receipt == Ok(Receipt::Local)));
        // 1.2 s, and some more for a busy machine; they wait side by side.
        assert!(took < Duration::from_secs(4), "{took:?}");
        until("it was tried for long", || {
            clock::now() - begun > wsbcast::limits::FIRST_REACH_PATIENCE
        })
        .await;
        let asked = clock::now();
        for _ in 0..20 {
            assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local));
        }
        let took = clock::now() - asked;
        assert!(took < Duration::from_secs(4), "then nobody waits any longer: {took:?}");
    });
}
