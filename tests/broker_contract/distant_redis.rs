//! Redis is far away, or about to be reached: nobody is split off for that.

use std::{
    process::{Command, Stdio},
    rc::Rc,
    time::Duration,
};

use futures_util::future::join_all;
use wsbcast::{
    broker::{BrokerSettings, OnLoss, PublishError, Reach, Receipt},
    limits::PUBLISH_CONFIRM_DEADLINE,
};

use crate::{
    Program, Recipe,
    process::{
        HISTORY, Process, keyed, now, offset, publish, publish_keyed, redis_settings, run,
        run_in_real_time, until,
    },
    proxy::Proxy,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
};

/// 1.2 s, and some more for a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(4);

fn settings(url: String) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
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

/// Messages that are published in the first moments wait for Redis. Regression: for some
/// milliseconds everything was local.
#[test]
fn the_first_messages_wait_for_redis() {
    run(async {
        let server = RedisServer::start();
        first_moments(server.url()).await;
    });
}

/// A message published in the first moments waits for a Redis that is far away.
#[test]
fn early_messages_wait_for_a_distant_redis() {
    run(async {
        let server = RedisServer::start();
        let far = Proxy::start(&server.address(), Duration::from_millis(50));
        first_moments(format!("redis://{}", far.address())).await;
    });
}

/// A message published in the first moments waits for a cluster.
#[test]
fn early_messages_wait_for_a_cluster() {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        first_moments(cluster.url()).await;
    });
}

/// The way to Redis takes longer than a publish may wait: what is answered then is what is
/// answered when Redis is lost, and nothing of it gets there later.
async fn answered_before_it_is_reached(on_loss: OnLoss) {
    let server = RedisServer::start();
    let far = Proxy::start(&server.address(), Duration::from_millis(300));
    let url = format!("redis://{}", far.address());
    let process = Process::start_early(BrokerSettings { on_loss, ..settings(url) }, 1).await;
    let begun = now();
    let receipts = join_all((0..50).map(|_| process.publish("a", "early"))).await;
    let took = now() - begun;
    assert_eq!(process.shared.health().reach(), Reach::NeverReached);
    let (answer, delivered) = match on_loss {
        OnLoss::Local => (Ok(Receipt::Local), 50),
        OnLoss::Reject => (Err(PublishError::BrokerLost), 0),
    };
    assert!(receipts.iter().all(|receipt| *receipt == answer), "{receipts:?}");
    assert!((PUBLISH_CONFIRM_DEADLINE..ANSWER_MAX).contains(&took), "{took:?}");
    assert_eq!(process.sinks[0].messages().len(), delivered, "to whom it is answered");
    process.subscribe("a").await;
    process.up().await;
    let late = keyed("a", "late", "late");
    let place = publish_keyed(&*process.shards[0], &process.shared.health(), late).await;
    assert_eq!(place, 1, "nobody was there before");
    assert_eq!(process.sinks[0].texts().iter().filter(|text| *text == "early").count(), delivered);
}

/// A message published before a slow Redis is reached stays here and says so.
#[test]
fn early_messages_stay_local_and_say_so() {
    run_in_real_time(answered_before_it_is_reached(OnLoss::Local));
}

/// A message published before a slow Redis is reached is refused where that is wanted.
#[test]
fn early_messages_are_refused_under_reject() {
    run_in_real_time(answered_before_it_is_reached(OnLoss::Reject));
}

/// Regression: one that still reads its data takes heartbeats: it counted as reached, and each
/// message was answered at once, by what it refused.
#[test]
fn a_redis_that_still_reads_its_data_is_waited_for() {
    run_in_real_time(async {
        // A millisecond for each key.
        let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
        let server = RedisServer::start_with(
            &[&["--save", "", "--enable-debug-command", "yes"], &slow[..]].concat(),
        );
        assert_eq!(server.cli(&["DEBUG", "POPULATE", "5000", "key", "10"]), "OK");
        let port = server.address().rsplit(':').next().unwrap().to_owned();
        let mut reload = Command::new("redis-cli")
            .args(["-p", &port, "DEBUG", "RELOAD"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        until("it reads", || server.cli(&["GET", "a"]).starts_with("LOADING")).await;
        let process = Process::start_early(settings(server.url()), 1).await;
        let begun = now();
        assert_eq!(process.publish("a", "early").await, Ok(Receipt::Local));
        assert!(now() - begun >= PUBLISH_CONFIRM_DEADLINE, "it was waited for");
        let health = process.shared.health();
        assert_eq!((health.reach(), health.refused()), (Reach::NeverReached, 0));
        process.up().await;
        let late = keyed("a", "late", "late");
        assert_eq!(publish_keyed(&*process.shards[0], &health, late).await, 1);
        reload.wait().unwrap();
    });
}

/// A message that waits for a Redis that never comes is answered in time.
#[test]
fn waiting_for_an_absent_redis_is_bounded() {
    run(async {
        let nobody = RedisServer::not_started();
        let process = Rc::new(Process::start_early(settings(nobody.url()), 1).await);
        let begun = now();
        let publishes = (0..100).map(|_| process.publish("a", "x"));
        let receipts = join_all(publishes).await;
        let took = now() - begun;
        assert!(receipts.iter().all(|receipt| *receipt == Ok(Receipt::Local)));
        assert!(took < ANSWER_MAX, "they wait side by side: {took:?}");
        until("it was tried for long", || now() - begun > wsbcast::limits::FIRST_REACH_PATIENCE)
            .await;
        let asked = now();
        for _ in 0..20 {
            assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local));
        }
        let took = now() - asked;
        assert!(took < ANSWER_MAX, "then nobody waits any longer: {took:?}");
    });
}
