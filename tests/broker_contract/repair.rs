//! Messages that Redis still has are not lost, whatever happened on the way; the others are told.

use std::collections::HashSet;

use wsbcast::{
    broker::{BrokerSettings, OnLoss, Position, PublishError, Receipt, Since},
    limits::SUBSCRIBE_DEADLINE,
};

use crate::{
    guest::{let_in, shut_out, start_guest},
    history::{after, read, recover},
    process::{
        HISTORY, PATIENCE, Process, channel, keyed, now, offset, pace, redis_settings, run, until,
    },
    redis_server::RedisServer,
};

pub(crate) const META: &str = "test:{a}:meta";
pub(crate) const STREAM: &str = "test:{a}:stream";

pub(crate) fn settings(server: &RedisServer) -> BrokerSettings {
    BrokerSettings { redis: Some(redis_settings(server)), on_loss: OnLoss::Local, history: HISTORY }
}

/// A message that Redis has and sends to nobody.
pub(crate) fn publish_silently(server: &RedisServer, name: &str, text: &str) {
    let script = "redis.call('HSETNX', KEYS[1], 'epoch', 'silent') \
                  local offset = redis.call('HINCRBY', KEYS[1], 'offset', 1) \
                  local previous = redis.call('HGET', KEYS[1], 'nonce') or '0' \
                  redis.call('HSET', KEYS[1], 'nonce', 7) \
                  return redis.call('XADD', KEYS[2], offset .. '-7', \
                  'k', 't', 'd', ARGV[1], 'p', previous)";
    let keys = ["meta", "stream"].map(|key| format!("test:{{{name}}}:{key}"));
    let id = server.cli(&["-c", "EVAL", script, "2", &keys[0], &keys[1], text]);
    assert!(id.ends_with("-7"), "{id}");
}

fn pubsub_clients(server: &RedisServer) -> HashSet<String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    let ids = list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("id="));
    ids.map(str::to_owned).collect()
}

fn stream_reads(server: &RedisServer) -> u64 {
    calls_in(&server.cli(&["INFO", "commandstats"]), "xrevrange")
}

/// How often a command was called, in what `INFO commandstats` has told.
pub(crate) fn calls_in(stats: &str, command: &str) -> u64 {
    let start = format!("cmdstat_{command}:calls=");
    let calls = |line: &str| line.strip_prefix(&start)?.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter_map(calls).sum()
}

#[test]
fn killed_subscriptions_lose_nothing() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        let spared = pubsub_clients(&server);
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        for shard in &process.shards {
            assert_eq!(shard.position(channel("a"), None).await.unwrap().offset, 0);
        }
        let health = process.shared.health();
        let mut count = 0;
        for round in 1..=3 {
            for id in pubsub_clients(&server).difference(&spared) {
                server.cli(&["CLIENT", "KILL", "ID", id]);
            }
            let begun = now();
            while health.repaired() + health.gaps() < 2 * round {
                count += 1;
                assert_eq!(offset(publisher.publish("a", &count.to_string()).await), count);
                assert!(now() - begun < PATIENCE, "nobody misses anything");
                // Slow enough for the history to reach over the outage.
                pace().await;
            }
        }
        for sink in &process.sinks {
            until("the last has arrived", || sink.offsets().last() == Some(&count)).await;
            assert_eq!(sink.offsets(), (1..=count).collect::<Vec<_>>());
            assert_eq!(sink.texts(), (1..=count).map(|n| n.to_string()).collect::<Vec<_>>());
            assert_eq!(sink.gaps(), 0);
        }
        assert_eq!(health.gaps(), 0);
    });
}

#[test]
fn a_hole_is_filled_before_what_follows_it() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        for shard in &process.shards {
            assert_eq!(shard.position(channel("a"), None).await.unwrap().offset, 0);
        }
        publish_silently(&server, "a", "hidden first");
        offset(process.publish("a", "second").await);
        publish_silently(&server, "a", "hidden third");
        publish_silently(&server, "a", "hidden fourth");
        offset(process.publish("a", "fifth").await);
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 5).await;
            let texts = ["hidden first", "second", "hidden third", "hidden fourth", "fifth"];
            assert_eq!(sink.texts(), texts);
            assert_eq!((sink.offsets(), sink.gaps()), (vec![1, 2, 3, 4, 5], 0));
        }
        assert_eq!(process.shared.health().repaired(), 4, "two holes, two shards");
        assert!(stream_reads(&server) <= 2, "one reading a hole, whoever misses it");
    });
}

#[test]
fn a_miss_while_disconnected_is_repaired_at_once() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        offset(process.publish("a", "first").await);
        until("it has arrived", || process.sinks[0].messages().len() == 1).await;
        publish_silently(&server, "a", "hidden");
        server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        until("it was fetched", || process.sinks[0].messages().len() == 2).await;
        process.up().await;
        assert_eq!(offset(process.publish("a", "third").await), 3);
        until("the third has arrived", || process.sinks[0].messages().len() == 3).await;
        assert_eq!(process.sinks[0].texts(), ["first", "hidden", "third"]);
        assert_eq!(process.sinks[0].gaps(), 0);
    });
}

#[test]
fn a_history_trimmed_in_an_outage_is_told() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        let guest = start_guest(&server, 2).await;
        guest.subscribe("a").await;
        for _ in 1..=3 {
            offset(publisher.publish("a", "x").await);
        }
        for sink in &guest.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
        }
        shut_out(&server, &guest).await;
        for _ in 4..=23 {
            offset(publisher.publish("a", "x").await);
        }
        server.cli(&["XTRIM", STREAM, "MAXLEN", "5"]);
        let_in(&server);
        guest.up().await;
        assert_eq!(offset(publisher.publish("a", "x").await), 24);
        for sink in &guest.sinks {
            until("the last has arrived", || sink.offsets().last() == Some(&24)).await;
            let epoch = sink.messages()[0].position.clone().unwrap().epoch.to_string();
            assert_eq!(sink.missed(), [(epoch, 4, Some(18))]);
            assert_eq!(sink.offsets(), [1, 2, 3, 19, 20, 21, 22, 23, 24]);
        }
    });
}

#[test]
fn a_redis_without_its_data_begins_a_new_epoch() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        offset(process.publish("a", "before").await);
        until("it has arrived", || process.sinks[0].messages().len() == 1).await;
        server.kill();
        process.lost().await;
        server.restart();
        process.up().await;
        assert_eq!(offset(process.publish("a", "after").await), 1);
        let sink = &process.sinks[0];
        until("it has arrived", || sink.messages().len() == 2).await;
        let epochs: Vec<String> = (sink.messages().into_iter())
            .map(|message| message.position.unwrap().epoch.to_string())
            .collect();
        assert_ne!(epochs[0], epochs[1]);
        let missed = sink.missed();
        assert!(matches!(&missed[..], [(epoch, 1, Some(0))] if *epoch != epochs[0]), "{missed:?}");
    });
}

/// Many clients that resume cost Redis two readings of a channel.
#[test]
fn many_resuming_clients_cost_two_readings() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        for _ in 1..=50 {
            offset(publisher.publish("a", "x").await);
        }
        // Clients from before that must not have Redis asked again and again.
        server.cli(&["XTRIM", STREAM, "MAXLEN", "40"]);
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        server.cli(&["CONFIG", "RESETSTAT"]);
        for round in 1..=3 {
            let to = process.shards[0].position(channel("a"), None).await.unwrap();
            let recovers = (0..200).map(|number: u64| {
                let shard = &*process.shards[number as usize % 2];
                recover(shard, after(&to.epoch, number % to.offset), &to)
            });
            let recovered = futures_util::future::join_all(recovers).await;
            for (number, recovered) in (0..).zip(recovered) {
                let from = number % to.offset;
                let missed = (from < 10).then_some((from + 1, Some(10)));
                assert_eq!(recovered, (from.max(10), missed));
            }
            let too_old = recover(&*process.shards[0], after("old", 1), &to).await;
            assert_eq!(too_old, (10, Some((1, Some(10)))));
            assert_eq!(read(&*process.shards[1], 10, &to, 1_000).len() as u64, to.offset - 10);
            let reads = stream_reads(&server);
            assert!((1..=2).contains(&reads), "{reads} readings after round {round}");
            offset(publisher.publish("a", "x").await);
            for sink in &process.sinks {
                until("it has arrived", || sink.messages().len() == round).await;
            }
        }
    });
}

#[test]
fn many_resumes_cost_one_query_a_shard() {
    for shards in [1, 2] {
        many_come_back_at_once(shards);
    }
}

fn many_come_back_at_once(shards: usize) {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        for _ in 1..=50 {
            offset(publisher.publish("a", "x").await);
        }
        let epoch = server.cli(&["HGET", META, "epoch"]);
        let process = Process::start(settings(&server), shards).await;
        process.subscribe("a").await;
        server.cli(&["CONFIG", "RESETSTAT"]);
        let comers = (0..400).map(|number: u64| {
            let (shard, epoch) = (&*process.shards[number as usize % shards], &epoch);
            async move {
                // Half of them missed some, half of them want the newest.
                let (since, from) = match number % 4 {
                    0 | 1 => (after(epoch, 10), 10),
                    _ => (Since::Newest(20), 30),
                };
                let to = shard.position(channel("a"), Some(&since)).await.unwrap();
                assert_eq!(to.offset, 50);
                assert_eq!(recover(shard, since, &to).await, (from, None));
            }
        });
        futures_util::future::join_all(comers).await;
        let newest = Position { epoch: epoch.into(), offset: 50 };
        assert_eq!(read(&*process.shards[0], 10, &newest, 1_000).len(), 40);
        let stats = server.cli(&["INFO", "commandstats"]);
        // A trial of publishing, of which there is one a second, looks at a position, too, and does
        // what nothing else does.
        let queries = calls_in(&stats, "hmget") - calls_in(&stats, "xsetid");
        let reads = calls_in(&stats, "xrevrange");
        assert!((1..=shards as u64).contains(&queries), "{queries} queries");
        assert!((1..=queries).contains(&reads), "{reads} readings");
    });
}

#[test]
fn unheard_messages_come_from_redis() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        for _ in 1..=3 {
            offset(process.publish("a", "x").await);
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
        }
        let to = process.shards[0].position(channel("a"), None).await.unwrap();
        process.shards[0].unsubscribe(&channel("a"));
        assert_eq!(read(&*process.shards[0], 0, &to, 1_000).len(), 3, "another shard hears it");
        process.shards[1].unsubscribe(&channel("a"));
        assert_eq!(read(&*process.shards[0], 0, &to, 1_000).len(), 3, "for who comes next");
        offset(process.publish("a", "unheard").await);
        process.subscribe("a").await;
        let to = process.shards[1].position(channel("a"), None).await.unwrap();
        assert_eq!(recover(&*process.shards[1], Since::Newest(2), &to).await, (2, None));
        assert_eq!(read(&*process.shards[1], 2, &to, 1_000), ["x", "unheard"]);
    });
}

/// A process whose Redis is out of reach serves the history that it has.
#[test]
fn without_redis_a_process_serves_what_it_has() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        offset(process.publish("a", "unheard").await);
        process.subscribe("a").await;
        for _ in 2..=4 {
            offset(process.publish("a", "x").await);
        }
        until("all have arrived", || process.sinks[0].messages().len() == 3).await;
        let shard = &*process.shards[0];
        let to = shard.position(channel("a"), None).await.unwrap();
        server.pause();
        let asked = now();
        let recovered = recover(shard, after(&to.epoch, 0), &to).await;
        assert_eq!(recovered, (1, Some((1, Some(1)))));
        assert!(now() - asked <= SUBSCRIBE_DEADLINE * 2);
        server.resume();
        server.kill();
        process.lost().await;
        assert_eq!(recover(shard, after(&to.epoch, 2), &to).await, (2, None));
        assert_eq!(read(shard, 2, &to, 1_000).len(), 2);
        assert_eq!(shard.position(channel("b"), None).await, None);
    });
}

#[test]
fn a_script_flush_costs_no_position_and_no_history() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        offset(process.publish("a", "unheard").await);
        process.subscribe("a").await;
        server.cli(&["SCRIPT", "FLUSH"]);
        let to = process.shards[0].position(channel("a"), None).await.unwrap();
        let recovered = recover(&*process.shards[0], after(&to.epoch, 0), &to).await;
        assert_eq!(recovered, (0, None));
        server.cli(&["SCRIPT", "FLUSH"]);
        let keyed = || process.control.publish(keyed("a", "key", "x"));
        assert_eq!(offset(keyed().await), 2);
        assert_eq!(offset(keyed().await), 2);
    });
}

#[test]
fn a_local_answer_is_repeated_until_redis_is_back() {
    run(async {
        let mut server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        server.kill();
        process.lost().await;
        for handle in process.shards.iter().chain([&process.control]) {
            assert_eq!(handle.publish(keyed("a", "key", "once")).await, Ok(Receipt::Local));
        }
        server.restart();
        process.up().await;
        for handle in [&process.shards[1], &process.control] {
            assert_eq!(offset(handle.publish(keyed("a", "key", "once")).await), 1);
        }
        assert_eq!(offset(process.publish("a", "end").await), 2);
        for sink in &process.sinks {
            until("the end has arrived", || sink.texts().contains(&"end".to_owned())).await;
            assert_eq!(sink.texts(), ["once", "once", "end"]);
        }
    });
}

/// An unconfirmed message can be repeated with its key, and comes once.
#[test]
fn an_unconfirmed_message_can_be_repeated() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        server.pause();
        let publish = || process.shards[0].publish(keyed("a", "key", "once"));
        assert_eq!(publish().await, Err(PublishError::Unconfirmed));
        process.lost().await;
        assert_eq!(publish().await, Err(PublishError::Unconfirmed), "it may be in Redis");
        server.resume();
        process.up().await;
        assert_eq!(offset(publish().await), 1);
        assert_eq!(offset(process.publish("a", "end").await), 2);
        until("the end has arrived", || process.sinks[0].messages().len() == 2).await;
        assert_eq!(process.sinks[0].texts(), ["once", "end"]);
    });
}
