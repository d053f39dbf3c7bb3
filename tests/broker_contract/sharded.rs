//! On a Redis Cluster every channel is heard on the master of its slot, wherever that goes.

use std::sync::Arc;

use futures_util::future;
use wsbcast::{
    broker::{BrokerSettings, OnLoss, Receipt},
    limits::{HEARTBEAT_SILENCE_MAX, SLOT_MAP_PAUSE},
};

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{HISTORY, Process, TestSink, channel, now, offset, redis_settings, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    repair::{calls_in, publish_silently},
};

pub(crate) fn settings(cluster: &RedisCluster) -> BrokerSettings {
    let mut redis = redis_settings(&cluster.masters[0]);
    redis.url = cluster.url();
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// The offsets and texts of one channel, as a shard saw them.
pub(crate) fn seen(sink: &TestSink, name: &str) -> Vec<(u64, String)> {
    let messages = sink.messages().into_iter().filter(|message| message.channel.as_str() == name);
    let seen = messages.map(|message| {
        let text = String::from_utf8(message.data.to_vec()).unwrap();
        (message.position.map_or(0, |position| position.offset), text)
    });
    seen.collect()
}

fn numbered(count: u64) -> Vec<(u64, String)> {
    (1..=count).map(|number| (number, number.to_string())).collect()
}

fn calls(node: &RedisServer, command: &str) -> u64 {
    calls_in(&node.cli(&["INFO", "commandstats"]), command)
}

/// How many messages were published through a node. Each trial of publishing, of which there is one
/// a second, publishes, too, and does what nothing else does.
fn published(node: &RedisServer) -> u64 {
    let stats = node.cli(&["INFO", "commandstats"]);
    calls_in(&stats, "spublish") - calls_in(&stats, "xsetid")
}

pub(crate) fn sharded(node: &RedisServer) -> String {
    node.cli(&["PUBSUB", "SHARDCHANNELS"])
}

/// Connections that hear sharded channels, or did.
fn subscribers(node: &RedisServer) -> usize {
    let list = node.cli(&["CLIENT", "LIST"]);
    let hears = |line: &&str| {
        line.contains("cmd=ssubscribe") || line.contains("cmd=sunsubscribe") || is_sharded(line)
    };
    list.lines().filter(hears).count()
}

fn is_sharded(line: &str) -> bool {
    line.split(' ').any(|word| word.strip_prefix("ssub=").is_some_and(|count| count != "0"))
}

over_redis_and_valkey!(
    channels_arrive_through_their_own_master,
    a_subscription_is_confirmed_on_a_new_master_too,
    a_dead_master_holds_nobody_up_on_the_others,
    a_silent_master_holds_nobody_up_on_the_others,
    the_slot_map_is_read_once_for_all_shards,
    a_cluster_without_sharded_channels_is_used,
);

/// Channels on all masters arrive through the master they live on.
fn channels_arrive_through_their_own_master(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(program, &[]));
        let process = Process::start(settings(&cluster), 2).await;
        let names = cluster.channels();
        for name in &names {
            process.subscribe(name).await;
        }
        for number in 1..=50 {
            let text = number.to_string();
            let publishes = names.iter().map(|name| process.publish(name, &text));
            for receipt in future::join_all(publishes).await {
                assert_eq!(offset(receipt), number);
            }
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 150).await;
            assert_eq!(sink.gaps(), 0);
            for name in &names {
                assert_eq!(seen(sink, name), numbered(50));
            }
        }
        for (node, name) in cluster.masters.iter().zip(&names) {
            assert_eq!(sharded(node), format!("test:{{{name}}}"));
            let plain = node.cli(&["PUBSUB", "CHANNELS", "test:{*"]);
            assert!(plain.is_empty() || plain == "test:{notifications}:bridge:raw", "{plain}");
            assert_eq!(published(node), 50);
            assert_eq!(subscribers(node), 2, "one connection for each shard");
        }
        assert_eq!(process.shared.health().repaired(), 0);
        // A master of which nothing is wanted is left alone.
        for shard in &process.shards {
            shard.unsubscribe(&channel(&names[0]));
        }
        until("nothing is subscribed", || sharded(&cluster.masters[0]).is_empty()).await;
        until("nobody is connected", || subscribers(&cluster.masters[0]) == 0).await;
        assert_eq!(subscribers(&cluster.masters[1]), 2);
        process.up().await;
    });
}

/// A subscription is confirmed before it resolves also on a new master.
fn a_subscription_is_confirmed_on_a_new_master_too(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(program, &[]));
        let process = Process::start(settings(&cluster), 1).await;
        for number in 1..=20 {
            let name = format!("channel-{number}");
            process.subscribe(&name).await;
            assert_eq!(offset(process.publish(&name, &name).await), 1);
            let sink = &process.sinks[0];
            until("it has arrived", || sink.messages().len() == number).await;
        }
        assert_eq!(process.shared.health().reconnects(), 0, "it was up all the time");
    });
}

/// A process that hears the channels, each of which has one message.
async fn start_in_use(cluster: &RedisCluster, names: &[String]) -> Process {
    let started = now();
    let process = Process::start(settings(cluster), 2).await;
    for name in names {
        process.subscribe(name).await;
        assert_eq!(offset(process.publish(name, "1").await), 1);
    }
    for sink in &process.sinks {
        until("all have arrived", || sink.messages().len() == names.len()).await;
    }
    let is_known = || now() - started > 2 * HEARTBEAT_SILENCE_MAX;
    until("all masters are known to be there", is_known).await;
    process
}

/// A master that dies holds nobody up on the others and what was missed is repaired.
fn a_dead_master_holds_nobody_up_on_the_others(program: Program) {
    run(async {
        let mut cluster = RedisCluster::start_as(3, true, &Recipe::new(program, &[]));
        let names = cluster.channels();
        let process = start_in_use(&cluster, &names).await;
        cluster.masters[1].kill();
        process.lost().await;
        assert_eq!(process.publish(&names[1], "local").await, Ok(Receipt::Local));
        for number in 2..=10 {
            for name in [&names[0], &names[2]] {
                assert_eq!(offset(process.publish(name, &number.to_string()).await), number);
            }
        }
        for sink in &process.sinks {
            let arrived = || [0, 2].iter().all(|&index| seen(sink, &names[index]).len() == 10);
            until("the others' messages arrive meanwhile", arrived).await;
        }
        until("the replica is promoted", || cluster.is_promoted(1)).await;
        publish_silently(&cluster.replicas[1], &names[1], "2");
        process.up().await;
        assert_eq!(offset(process.publish(&names[1], "3").await), 3);
        for sink in &process.sinks {
            let local = (0, "local".to_owned());
            until("all have arrived", || seen(sink, &names[1]).len() == 4).await;
            let [first, rest @ ..] = &numbered(3)[..] else { unreachable!() };
            assert_eq!(seen(sink, &names[1]), [&[first.clone(), local], rest].concat());
            for name in [&names[0], &names[2]] {
                assert_eq!(seen(sink, name), numbered(10));
            }
            assert_eq!(sink.gaps(), 0);
        }
    });
}

/// A master that says nothing is noticed and holds nobody up on the others.
fn a_silent_master_holds_nobody_up_on_the_others(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(program, &[]));
        let names = cluster.channels();
        let process = start_in_use(&cluster, &names).await;
        cluster.masters[2].pause();
        process.lost().await;
        for number in 2..=10 {
            for name in &names[..2] {
                assert_eq!(offset(process.publish(name, &number.to_string()).await), number);
            }
        }
        for sink in &process.sinks {
            let arrived = || names[..2].iter().all(|name| seen(sink, name) == numbered(10));
            until("the others' messages arrive meanwhile", arrived).await;
        }
        cluster.masters[2].resume();
        process.up().await;
        assert_eq!(offset(process.publish(&names[2], "2").await), 2);
        for sink in &process.sinks {
            until("it arrives again", || seen(sink, &names[2]) == numbered(2)).await;
            assert_eq!(sink.gaps(), 0);
        }
    });
}

fn the_slot_map_is_read_once_for_all_shards(program: Program) {
    run(async {
        let cluster = Arc::new(RedisCluster::start_as(3, false, &Recipe::new(program, &[])));
        let readings =
            || cluster.masters.iter().map(|node| calls(node, "cluster|slots")).sum::<u64>();
        let process = Process::start(settings(&cluster), 16).await;
        // One, and one more if something was not there at once.
        assert!(readings() <= 2, "{} readings for 16 shards", readings());
        let name = cluster.channels().swap_remove(0);
        process.subscribe(&name).await;
        let before = readings();
        let began = now();
        let moving = (cluster.clone(), name.clone());
        let step = move || moving.0.move_slot(&moving.1, 0, 1);
        tokio::task::spawn_blocking(step).await.unwrap();
        let shard_channel = format!("test:{{{name}}}");
        let heard = || cluster.masters[1].cli(&["PUBSUB", "SHARDNUMSUB", &shard_channel]);
        until("all hear it where it is now", || heard().ends_with("\n16")).await;
        let possible = 1 + (now() - began).as_millis() / SLOT_MAP_PAUSE.as_millis();
        assert!(u128::from(readings() - before) <= possible, "{possible} are possible for one");
        assert_eq!(offset(process.publish(&name, "1").await), 1);
        for sink in &process.sinks {
            until("it has arrived", || seen(sink, &name) == numbered(1)).await;
        }
    });
}

/// A cluster that knows no sharded channels is used as before.
fn a_cluster_without_sharded_channels_is_used(program: Program) {
    run(async {
        let old = ["--rename-command", "SSUBSCRIBE", "", "--rename-command", "SPUBLISH", ""];
        let cluster = RedisCluster::start_as(2, false, &Recipe::new(program, &old));
        let process = Process::start(settings(&cluster), 2).await;
        for name in &cluster.channels() {
            process.subscribe(name).await;
            assert_eq!(offset(process.publish(name, "1").await), 1);
            assert_eq!(offset(process.publish(name, "2").await), 2);
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 4).await;
            assert_eq!(sink.gaps(), 0);
        }
        assert!(cluster.masters.iter().all(|node| sharded(node).is_empty()));
    });
}
