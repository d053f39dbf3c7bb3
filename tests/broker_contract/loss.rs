//! The promises for a Redis that is not there, goes away, or hangs.

use std::{cell::Cell, collections::HashMap, rc::Rc, time::Duration};

use wsbcast::{
    broker::{BrokerSettings, HandleOwner, OnLoss, PublishError, Reach, Receipt, connect},
    limits::{HEARTBEAT_SILENCE_MAX, SHARD_STALL_READY},
};

use crate::{
    HOUR_MS,
    process::{Process, load, now, offset, redis_settings, run, run_in_real_time, shared, until},
    redis_server::RedisServer,
    slot,
};

/// The longest time that a publish may take, and some more for a busy machine.
const ANSWER_MAX: Duration = Duration::from_millis(1_200 + 800);
/// From Redis' return until everything is whole again.
const HEAL_MAX: Duration = Duration::from_secs(2);

fn settings(server: &RedisServer, on_loss: OnLoss) -> BrokerSettings {
    BrokerSettings {
        redis: Some(redis_settings(server)),
        on_loss,
        history: super::process::HISTORY,
    }
}

/// A killed Redis is replaced by local delivery until it is back.
#[test]
fn a_killed_redis_is_replaced_by_local_delivery() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server, OnLoss::Local), 3).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "before").await), 1);
        for sink in &process.sinks {
            until("the first has arrived", || sink.messages().len() == 1).await;
        }
        server.kill();
        process.lost().await;
        assert_eq!(process.publish("a", "meanwhile").await, Ok(Receipt::Local));
        server.restart();
        let back = now();
        process.up().await;
        assert!(now() - back <= HEAL_MAX, "{:?}", now() - back);
        assert_eq!(process.shared.health().reconnects(), 1);
        assert_eq!(offset(process.publish("a", "after").await), 1);
        for sink in &process.sinks {
            until("the last has arrived", || sink.messages().len() == 3).await;
            assert_eq!(sink.texts(), ["before", "meanwhile", "after"]);
            let messages = sink.messages();
            assert_eq!(messages[1].position, None);
            let epoch = |place: usize| messages[place].position.clone().unwrap().epoch;
            assert_ne!(epoch(0), epoch(2), "the history was lost");
        }
    });
}

/// Offsets go on where they were when Redis has kept its data.
#[test]
fn offsets_go_on_when_redis_kept_its_data() {
    run(async {
        let mut server = RedisServer::start_durable();
        let process = Process::start(settings(&server, OnLoss::Local), 1).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "before").await), 1);
        until("the first has arrived", || process.sinks[0].offsets() == [1]).await;
        server.kill();
        process.lost().await;
        server.restart();
        process.up().await;
        assert_eq!(offset(process.publish("a", "after").await), 2);
        until("both have arrived", || process.sinks[0].offsets() == [1, 2]).await;
        assert_eq!(process.sinks[0].gaps(), 0);
    });
}

/// A Redis that is not there at start is found when it comes.
#[test]
fn a_redis_that_starts_late_is_found() {
    run(async {
        let mut server = RedisServer::not_started();
        let process = Process::start_early(settings(&server, OnLoss::Local), 2).await;
        process.subscribe("a").await;
        assert_eq!(process.shared.health().reach(), Reach::NeverReached);
        assert_eq!(process.publish("a", "alone").await, Ok(Receipt::Local));
        let notice = process.control.publish_once(slot(HOUR_MS)).await;
        assert_eq!(notice.published, Ok(Some(Receipt::Local)));
        server.restart();
        let back = now();
        process.up().await;
        assert!(now() - back <= HEAL_MAX, "{:?}", now() - back);
        assert_eq!(offset(process.publish("a", "together").await), 1);
        let again = process.control.publish_once(slot(HOUR_MS)).await;
        assert_eq!(again.published, Ok(None), "this process has seen to the slot");
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
            assert_eq!(sink.texts(), ["alone", "notice", "together"]);
        }
    });
}

/// Under `reject` nothing is delivered while Redis is lost.
#[test]
fn reject_delivers_nothing_while_redis_is_lost() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server, OnLoss::Reject), 2).await;
        server.kill();
        process.lost().await;
        assert_eq!(process.publish("a", "x").await, Err(PublishError::BrokerLost));
        let notice = process.control.publish_once(slot(HOUR_MS)).await;
        assert_eq!(notice.published, Err(PublishError::BrokerLost));
        assert!(process.sinks.iter().all(|sink| sink.seen().is_empty()));
    });
}

/// A message that was sent to a hanging Redis is unconfirmed, and arrives once when Redis goes on.
#[test]
fn a_hanging_redis_gets_each_message_once() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server, OnLoss::Local), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "first").await);
        server.pause();
        let asked = now();
        let answer = process.publish("a", "in doubt").await;
        assert_eq!(answer, Err(PublishError::Unconfirmed));
        assert!(now() - asked <= ANSWER_MAX);
        let notice = process.control.publish_once(slot(HOUR_MS)).await.published;
        assert!(
            matches!(notice, Err(PublishError::Unconfirmed) | Ok(Some(Receipt::Local))),
            "{notice:?}"
        );
        process.lost().await;
        assert_eq!(process.control.publish_once(slot(HOUR_MS)).await.published, Ok(None));
        assert_eq!(process.publish("a", "local").await, Ok(Receipt::Local));
        server.resume();
        process.up().await;
        offset(process.publish("a", "last").await);
        for sink in &process.sinks {
            until("the last has arrived", || sink.texts().contains(&"last".to_owned())).await;
            let texts = sink.texts();
            for text in ["first", "in doubt", "notice", "local", "last"] {
                assert_eq!(texts.iter().filter(|seen| *seen == text).count(), 1, "{texts:?}");
            }
            assert_eq!(sink.gaps(), 0);
        }
    });
}

fn count_seen(process: &Process) -> Vec<HashMap<String, usize>> {
    let count = |texts: Vec<String>| {
        texts.into_iter().fold(HashMap::new(), |mut counts, text| {
            *counts.entry(text).or_insert(0) += 1;
            counts
        })
    };
    process.sinks.iter().map(|sink| count(sink.texts())).collect()
}

/// A pause of Redis under load repeats nothing and loses nothing.
#[test]
fn a_pause_under_load_repeats_and_loses_nothing() {
    run(async {
        let server = RedisServer::start();
        let process = Rc::new(Process::start(settings(&server, OnLoss::Local), 2).await);
        process.subscribe("a").await;
        let stop = Rc::new(Cell::new(false));
        let loading = tokio::task::spawn_local(load(process.clone(), 8, ANSWER_MAX, stop.clone()));
        let sink = &process.sinks[0];
        until("some have arrived", || sink.messages().len() >= 50).await;
        server.pause();
        process.lost().await;
        let before = sink.messages().len();
        until("local ones arrive", || sink.messages().len() >= before + 50).await;
        server.resume();
        process.up().await;
        let health = process.shared.health();
        let offsets = sink.offsets().len();
        until("clustered ones arrive again", || sink.offsets().len() >= offsets + 50).await;
        stop.set(true);
        let answers = loading.await.unwrap();
        let end = offset(process.publish("a", "end").await);
        for sink in &process.sinks {
            until("the end has arrived", || sink.offsets().last() == Some(&end)).await;
            assert_eq!(sink.gaps(), 0);
        }
        assert!(answers.values().any(|answer| *answer == Err(PublishError::Unconfirmed)));
        assert!(answers.values().any(|answer| *answer == Ok(Receipt::Local)));
        for seen in count_seen(&process) {
            for (text, answer) in &answers {
                let times = seen.get(text).copied().unwrap_or(0);
                assert_eq!(times, 1, "{text}: {answer:?}");
            }
        }
        assert_eq!(health.duplicates(), 0);
    });
}

#[test]
fn a_kill_under_load_repeats_nothing() {
    run(async {
        let mut server = RedisServer::start();
        let process = Rc::new(Process::start(settings(&server, OnLoss::Local), 2).await);
        process.subscribe("a").await;
        let stop = Rc::new(Cell::new(false));
        let loading = tokio::task::spawn_local(load(process.clone(), 8, ANSWER_MAX, stop.clone()));
        let sink = &process.sinks[0];
        for _ in 0..3 {
            let offsets = sink.offsets().len();
            until("clustered ones arrive", || sink.offsets().len() >= offsets + 50).await;
            server.kill();
            process.lost().await;
            let before = sink.messages().len();
            until("local ones arrive", || sink.messages().len() >= before + 50).await;
            server.restart();
            let back = now();
            process.up().await;
            assert!(now() - back <= HEAL_MAX, "{:?}", now() - back);
        }
        stop.set(true);
        let answers = loading.await.unwrap();
        let end = offset(process.publish("a", "end").await);
        for sink in &process.sinks {
            until("the end has arrived", || sink.offsets().last() == Some(&end)).await;
        }
        for seen in count_seen(&process) {
            assert!(seen.values().all(|times| *times == 1), "something came twice");
            let local = answers.iter().filter(|(_, answer)| **answer == Ok(Receipt::Local));
            for (text, _) in local {
                assert_eq!(seen.get(text), Some(&1), "{text}");
            }
        }
    });
}

/// A Redis that hangs for long is used again as soon as it goes on.
#[test]
fn a_redis_that_hung_is_used_again() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server, OnLoss::Local), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "first").await);
        for sink in &process.sinks {
            // Else a local one may overtake it.
            until("the first has arrived", || sink.texts() == ["first"]).await;
        }
        server.pause();
        let paused = now();
        let patience = wsbcast::limits::REDIS_SILENCE_MAX + Duration::from_secs(1);
        until("its connections are given up", || now() - paused > patience).await;
        assert_eq!(process.publish("a", "local").await, Ok(Receipt::Local));
        server.resume();
        let back = now();
        process.up().await;
        assert!(now() - back <= HEAL_MAX, "{:?}", now() - back);
        offset(process.publish("a", "last").await);
        for sink in &process.sinks {
            until("the last has arrived", || sink.messages().len() == 3).await;
            assert_eq!(sink.texts(), ["first", "local", "last"]);
        }
    });
}

/// Publishes just after Redis is back wait for others and keep their order.
#[test]
fn publishes_after_a_return_keep_their_order() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server, OnLoss::Local), 1).await;
        let other = Process::start(settings(&server, OnLoss::Local), 1).await;
        process.subscribe("a").await;
        other.subscribe("a").await;
        server.kill();
        process.lost().await;
        server.restart();
        process.up().await;
        let texts: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let publishes = texts.iter().map(|text| process.publish("a", text));
        let receipts = futures_util::future::join_all(publishes).await;
        let offsets: Vec<u64> = receipts.into_iter().map(offset).collect();
        assert_eq!(offsets, (1..=100).collect::<Vec<_>>());
        for sink in [&process.sinks[0], &other.sinks[0]] {
            until("all have arrived", || sink.messages().len() == 100).await;
            assert_eq!(sink.texts(), texts);
        }
    });
}

#[test]
fn a_shard_that_does_nothing_is_named() {
    let server = RedisServer::start();
    let (shared, _sinks) = shared(settings(&server, OnLoss::Local), 2);
    let health = shared.health();
    let is_up = || health.reach() == Reach::Up;
    let shard = |place: usize| connect(shared.clone(), HandleOwner::Shard(place));
    let blocked = std::sync::Barrier::new(2);
    let done = tokio::sync::Notify::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            run_in_real_time(async {
                let _broker = shard(1).await;
                until("both are up", is_up).await;
                blocked.wait();
                done.notified().await;
            });
        });
        run_in_real_time(async {
            let _broker = shard(0).await;
            until("both are up", is_up).await;
            assert_eq!(health.stalled_shard(), None);
            until("the other is missed", || health.stalled_shard() == Some(1)).await;
            blocked.wait();
            until("the other is back", || health.stalled_shard().is_none() && is_up()).await;
            done.notify_one();
        });
    });
}

#[test]
fn closing_is_quick_when_redis_hangs_or_is_gone() {
    run(async {
        let mut server = RedisServer::start();
        let hanging = Process::start(settings(&server, OnLoss::Local), 1).await;
        let gone = Process::start(settings(&server, OnLoss::Local), 1).await;
        server.pause();
        for handle in [hanging.shards[0].clone(), hanging.control.clone()] {
            let begun = now();
            handle.close().await;
            assert!(now() - begun < Duration::from_millis(500));
        }
        server.resume();
        server.kill();
        let begun = now();
        gone.close().await;
        assert!(now() - begun < Duration::from_millis(500));
    });
}

/// Regression: shards for whose connections Redis had no place were told as stalled.
#[test]
fn a_shard_that_redis_has_no_place_for_is_not_stalled() {
    run(async {
        let server = RedisServer::start();
        let (shared, _sinks) = shared(settings(&server, OnLoss::Local), 2);
        let health = shared.health();
        let _first = connect(shared.clone(), HandleOwner::Shard(0)).await;
        let connections = || server.cli(&["CLIENT", "LIST"]).lines().count();
        // Two for commands and one to hear through, and the one that asks.
        until("the first shard is connected", || connections() == 4).await;
        assert_eq!(server.cli(&["CONFIG", "SET", "maxclients", "3"]), "OK");
        let begun = now();
        let _second = connect(shared.clone(), HandleOwner::Shard(1)).await;
        let long = SHARD_STALL_READY + 2 * HEARTBEAT_SILENCE_MAX;
        until("the second has tried for long", || {
            assert_eq!((health.stalled_shard(), health.reach()), (None, Reach::NeverReached));
            now() - begun > long
        })
        .await;
    });
}
