//! Several processes on one Redis: their promises, which no toying with Redis can break.

use wsbcast::{
    broker::{BrokerSettings, OnLoss, Receipt, Subscribers},
    channel::ChannelName,
};

use crate::{
    HOUR_MS,
    process::{Process, Seen, channel, next_slot, offset, redis_settings, run, until},
    redis_server::RedisServer,
    slot,
};

fn settings(server: &RedisServer) -> BrokerSettings {
    BrokerSettings {
        redis: Some(redis_settings(server)),
        on_loss: OnLoss::Local,
        history: super::process::HISTORY,
    }
}

#[test]
fn two_processes_act_as_one() {
    run(async {
        let server = RedisServer::start();
        let one = Process::start(settings(&server), 2).await;
        let two = Process::start(settings(&server), 2).await;
        one.subscribe("a").await;
        two.subscribe("a").await;
        let publishes = (0..100).map(|number| async move { number.to_string() });
        let texts = futures_util::future::join_all(publishes).await;
        let from_one = texts.iter().map(|text| one.publish("a", text));
        let from_two = texts.iter().map(|text| two.publish("a", text));
        let receipts = futures_util::future::join_all(from_one.chain(from_two)).await;
        let mut offsets: Vec<u64> = receipts.into_iter().map(offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (1..=200).collect::<Vec<_>>());
        let sinks: Vec<_> = one.sinks.iter().chain(&two.sinks).collect();
        for sink in &sinks {
            until("all have arrived", || sink.messages().len() == 200).await;
            assert_eq!(sink.offsets(), offsets);
            assert_eq!(sink.messages(), sinks[0].messages());
        }
    });
}

#[test]
fn a_slot_belongs_to_one_process_and_outlives_it() {
    run(async {
        let server = RedisServer::start();
        let one = Process::start(settings(&server), 1).await;
        let two = Process::start(settings(&server), 1).await;
        two.subscribe("a").await;
        let (first, second) = tokio::join!(
            one.control.publish_once(slot(HOUR_MS)),
            two.control.publish_once(slot(HOUR_MS))
        );
        let receipts: Vec<_> =
            [first, second].into_iter().filter_map(|outcome| outcome.published.unwrap()).collect();
        assert!(matches!(receipts[..], [Receipt::Cluster(_)]));
        drop(one);
        let three = Process::start(settings(&server), 1).await;
        assert_eq!(three.control.publish_once(slot(HOUR_MS)).await.published, Ok(None));
        offset(three.publish("a", "end").await);
        until("the end has arrived", || two.sinks[0].messages().len() == 2).await;
        assert_eq!(two.sinks[0].texts(), ["notice", "end"]);
    });
}

/// Slots go on without holes or repetitions while processes come and go.
#[test]
fn slots_go_on_while_processes_come_and_go() {
    run(async {
        const INTERVAL_MS: u64 = 200;
        let server = RedisServer::start();
        let watcher = Process::start(settings(&server), 1).await;
        watcher.subscribe("a").await;
        let mut claimed = 0;
        for _ in 0..3 {
            let one = Process::start(settings(&server), 1).await;
            let two = Process::start(settings(&server), 1).await;
            for _ in 0..3 {
                let (first, second) = tokio::join!(
                    one.control.publish_once(slot(INTERVAL_MS)),
                    two.control.publish_once(slot(INTERVAL_MS))
                );
                let both = [first.published.unwrap(), second.published.unwrap()];
                claimed += both.iter().flatten().count();
                next_slot(first.next_slot_in_ms.max(second.next_slot_in_ms)).await;
            }
        }
        let sink = &watcher.sinks[0];
        until("all claimed ones have arrived", || sink.messages().len() == claimed).await;
        assert!(claimed >= 6, "{claimed}");
        assert_eq!(sink.gaps(), 0);
    });
}

#[test]
fn a_script_flush_costs_neither_messages_nor_order() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        offset(process.publish("a", "first").await);
        let texts: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        let publishes = texts.iter().map(|text| process.publish("a", text));
        server.cli(&["SCRIPT", "FLUSH"]);
        let receipts = futures_util::future::join_all(publishes).await;
        let offsets: Vec<u64> = receipts.into_iter().map(offset).collect();
        assert_eq!(offsets, (2..=201).collect::<Vec<_>>());
        until("all have arrived", || process.sinks[0].messages().len() == 201).await;
        assert_eq!(process.sinks[0].texts()[1..], texts);
    });
}

/// Connections that are killed are renewed, and no message comes twice.
#[test]
fn killed_connections_are_renewed_without_repeats() {
    run(async {
        let server = RedisServer::start();
        let mut redis = redis_settings(&server);
        redis.pool = 3;
        let settings = BrokerSettings {
            redis: Some(redis),
            on_loss: OnLoss::Local,
            history: super::process::HISTORY,
        };
        let process = Process::start(settings, 2).await;
        process.subscribe("a").await;
        let mut expected = Vec::new();
        for kind in ["pubsub", "normal", "pubsub"] {
            let text = format!("before {kind}");
            offset(process.publish("a", &text).await);
            expected.push(text);
            for sink in &process.sinks {
                until("it has arrived", || sink.texts() == expected).await;
            }
            let reconnects = process.shared.health().reconnects();
            server.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
            let health = process.shared.health();
            let back = || {
                health.reach();
                health.reconnects() > reconnects
            };
            until("the broker was lost and is back", back).await;
            process.up().await;
        }
        offset(process.publish("a", "end").await);
        expected.push("end".to_owned());
        for sink in &process.sinks {
            until("the end has arrived", || sink.messages().len() >= expected.len()).await;
            assert_eq!(sink.texts(), expected);
            assert_eq!(sink.gaps(), 0);
        }
    });
}

/// A refused subscription breaks nothing else and is made up for.
#[test]
fn a_refused_subscription_is_made_up_for() {
    run(async {
        let server = RedisServer::start();
        let allow = |rules: &[&str]| {
            let command = ["ACL", "SETUSER", "default", "resetchannels"];
            let answer = server.cli(&[&command, rules].concat());
            assert_eq!(answer, "OK");
        };
        allow(&["&test:heartbeat:*", "&test:{a}", "&test:{notifications}:bridge:raw", "&raw"]);
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("b").await;
        process.subscribe("a").await;
        until("the refusal is counted", || process.shared.health().refused() >= 1).await;
        for expected in 1..=3 {
            assert_eq!(offset(process.publish("a", "allowed").await), expected);
        }
        assert_eq!(process.publish("b", "refused").await, Ok(Receipt::Local));
        process.up().await;
        allow(&["allchannels"]);
        process.up().await;
        let held = || server.cli(&["PUBSUB", "NUMSUB", "test:{b}"]).ends_with('1');
        until("it is subscribed after all", held).await;
        assert_eq!(offset(process.publish("b", "allowed").await), 1, "no offset was lost");
        assert_eq!(server.cli(&["XLEN", "test:{b}:stream"]), "1", "nor kept what was refused");
        until("all have arrived", || process.sinks[0].messages().len() == 5).await;
        assert_eq!(process.sinks[0].gaps(), 1, "who did not hear was told, once");
    });
}

#[test]
fn a_hole_before_a_message_is_told_before_it() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "first").await);
        server.cli(&["HINCRBY", "test:{a}:meta", "offset", "1"]);
        assert_eq!(offset(process.publish("a", "third").await), 3);
        for sink in &process.sinks {
            until("the third has arrived", || sink.messages().len() == 2).await;
            assert!(matches!(&sink.seen()[1], Seen::Gap(name, _) if *name == channel("a")));
            let epoch = sink.messages()[0].position.clone().unwrap().epoch;
            assert_eq!(sink.missed(), [(epoch.to_string(), 2, Some(2))]);
        }
        assert_eq!(process.shared.health().gaps(), 2);
    });
}

/// A loss while a connection was gone is told without a further message.
#[test]
fn a_loss_while_disconnected_is_told_at_once() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        process.subscribe("b").await;
        offset(process.publish("a", "first").await);
        offset(process.publish("b", "first").await);
        until("both have arrived", || process.sinks[0].messages().len() == 2).await;
        server.cli(&["HINCRBY", "test:{a}:meta", "offset", "1"]);
        server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        until("the loss is told", || process.sinks[0].gaps() > 0).await;
        assert!(matches!(&process.sinks[0].seen()[2..], [Seen::Gap(name, missed)]
            if *name == channel("a") && (missed.from, missed.to) == (2, Some(2))));
        process.up().await;
        assert_eq!(offset(process.publish("a", "third").await), 3);
        until("the third has arrived", || process.sinks[0].messages().len() == 3).await;
        assert_eq!(process.sinks[0].gaps(), 1);
    });
}

#[test]
fn a_channel_without_clients_is_not_heard() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 1).await;
        process.subscribe("a").await;
        process.subscribe("b").await;
        process.shards[0].unsubscribe(&channel("a"));
        let silent = || server.cli(&["PUBSUB", "NUMSUB", "test:{a}"]).ends_with('0');
        until("Redis was told", silent).await;
        offset(process.publish("a", "unheard").await);
        offset(process.publish("b", "heard").await);
        until("the other arrives", || !process.sinks[0].messages().is_empty()).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "heard again").await), 2);
        until("it arrives again", || process.sinks[0].messages().len() == 2).await;
        assert_eq!(process.sinks[0].texts(), ["heard", "heard again"]);
        assert_eq!(process.sinks[0].gaps(), 0);
    });
}

#[test]
fn a_subscription_is_confirmed_before_it_resolves() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        run(async {
            let server = RedisServer::start();
            let mut settings = settings(&server);
            settings.redis.as_mut().unwrap().subscribers = subscribers;
            let process = Process::start(settings, 2).await;
            for number in 0..50 {
                let name = format!("channel-{number}");
                // The first shard has no client of it.
                process.shards[1].subscribe(channel(&name)).await;
                offset(process.publish(&name, &name).await);
            }
            let sink = &process.sinks[1];
            until("all have arrived", || sink.messages().len() == 50).await;
            let channels: Vec<ChannelName> =
                sink.messages().into_iter().map(|message| message.channel).collect();
            assert!(
                (0..50).all(|number| channels.contains(&channel(&format!("channel-{number}"))))
            );
            assert!(process.sinks[0].messages().is_empty(), "who has no client hears nothing");
        });
    }
}

#[test]
fn a_slow_shard_holds_redis_back_and_loses_nothing() {
    run(async {
        let server = RedisServer::start();
        let slow = Process::start(settings(&server), 1).await;
        let quick = Process::start(settings(&server), 1).await;
        slow.subscribe("a").await;
        slow.sinks[0].set_room(0);
        for number in 0..2_000 {
            offset(quick.publish("a", &number.to_string()).await);
        }
        assert!(slow.sinks[0].messages().is_empty());
        slow.sinks[0].set_room(usize::MAX);
        let all = || slow.sinks[0].messages().len() == 2_000;
        until("everything has arrived", all).await;
        assert_eq!(slow.sinks[0].gaps(), 0);
    });
}
