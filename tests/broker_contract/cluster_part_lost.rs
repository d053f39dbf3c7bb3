//! A part of a Redis Cluster is gone: only the channels that live there suffer.

use std::collections::BTreeSet;

use futures_util::future;
use wsbcast::{
    broker::{Broker, BrokerSettings, OnLoss, PublishError, Reach, Receipt, Since},
    channel::ChannelName,
    limits::HEARTBEAT_SILENCE_MAX,
};

use crate::{
    Program, Recipe,
    process::{
        HISTORY, PATIENCE, Process, channel, now, offset, pace, publish, redis_settings, run, until,
    },
    redis_cluster::RedisCluster,
};

fn settings(cluster: &RedisCluster) -> BrokerSettings {
    let mut redis = redis_settings(&cluster.masters[0]);
    redis.url = cluster.url();
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// Waits until the lanes to all masters have stood for as long as counts.
async fn proven() {
    let started = now();
    until("all masters are known to be there", || now() - started > 2 * HEARTBEAT_SILENCE_MAX)
        .await;
}

/// Names of channels, and the master of each.
fn channels(cluster: &RedisCluster, count: usize) -> Vec<(String, usize)> {
    let names = (0..count).map(|number| format!("channel-{number}"));
    names.map(|name| (name.clone(), cluster.owner(&name))).collect()
}

/// The masters on which the raw channel is heard.
fn hearing_raw(cluster: &RedisCluster) -> BTreeSet<usize> {
    let hears =
        |index: &usize| cluster.masters[*index].cli(&["PUBSUB", "CHANNELS", "raw"]) == "raw";
    (0..cluster.masters.len()).filter(hears).collect()
}

/// A process that hears the raw channel on another master than `home`, and which one that is.
async fn heard_away_from(cluster: &RedisCluster, home: usize) -> (Process, usize) {
    // Each does so by chance, in two of three cases.
    for _ in 0..100 {
        let process = Process::start(settings(cluster), 1).await;
        let heard = hearing_raw(cluster);
        if let Some(master) = heard.into_iter().find(|master| *master != home) {
            return (process, master);
        }
        process.close().await;
        until("nobody hears it", || hearing_raw(cluster).is_empty()).await;
    }
    panic!("it is always heard on master {home}");
}

/// Publishes `text` until the cluster surely has it, as the first message after the offset `after`;
/// its offset. On a busy machine an answer may come too late: that message may be there as well.
async fn publish_to_cluster(process: &Process, name: &str, text: &str, after: u64) -> u64 {
    let mut unconfirmed = 0;
    let publishing = async {
        loop {
            match process.publish(name, text).await {
                Ok(Receipt::Cluster(position)) => return position.offset,
                Err(PublishError::Unconfirmed) => unconfirmed += 1,
                _ => {}
            }
            pace().await;
        }
    };
    let offset = tokio::time::timeout(PATIENCE, publishing).await.expect("its master lives");
    assert!((1..=1 + unconfirmed).contains(&(offset - after)), "{offset}, {unconfirmed} unknown");
    offset
}

/// Kills a master, and publishes to all channels for a while, through one of the `handles` each:
/// those of living masters go to the whole cluster, the others never.
async fn only_its_own_become_local(
    cluster: &mut RedisCluster,
    victim: usize,
    handles: &[&dyn Broker],
    channels: &[(String, usize)],
) {
    cluster.masters[victim].kill();
    let killed = now();
    let mut count = 0;
    while count == 0 || now() - killed < 4 * HEARTBEAT_SILENCE_MAX {
        count += 1;
        let publishes = channels.iter().zip(handles.iter().cycle()).map(
            |((name, master), handle)| async move {
                let receipt = publish(*handle, name, "x").await;
                if *master == victim {
                    // A message that was on its way when the master died may have arrived.
                    assert!(count == 1 || receipt == Ok(Receipt::Local), "{receipt:?}");
                } else {
                    assert_eq!(offset(receipt), count, "{name} lives");
                }
            },
        );
        future::join_all(publishes).await;
        pace().await;
    }
}

/// The channels of the other masters never become local, whichever master dies.
#[test]
fn a_masters_death_makes_no_other_channel_local() {
    for victim in 0..3 {
        run(async {
            let mut cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
            let process = Process::start(settings(&cluster), 2).await;
            let channels = channels(&cluster, 30);
            proven().await;
            let handles = [&*process.shards[0], &*process.shards[1], &*process.control];
            only_its_own_become_local(&mut cluster, victim, &handles, &channels).await;
            assert_eq!(process.shared.health().reach(), Reach::Lost, "readiness tells of it");
        });
    }
}

/// A master that dies just after the start takes no other channels along.
/// Regression: lanes that had stood for less than a second counted as not there, though all of
/// the cluster had been up with them.
#[test]
fn a_master_that_dies_early_takes_only_its_channels() {
    run(async {
        let mut cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let channels = channels(&cluster, 30);
        let process = Process::start(settings(&cluster), 2).await;
        let handles = [&*process.shards[0], &*process.shards[1]];
        only_its_own_become_local(&mut cluster, 1, &handles, &channels).await;
        assert_eq!(process.shared.health().reach(), Reach::Lost, "readiness tells of it");
    });
}

/// The raw channel is bridged though the master that it was heard on is gone.
#[test]
fn the_raw_channel_survives_its_master() {
    run(async {
        let mut cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let home = cluster.owner(ChannelName::default_channel().as_str());
        let (process, victim) = heard_away_from(&cluster, home).await;
        process.subscribe("notifications").await;
        proven().await;
        cluster.masters[victim].kill();
        process.lost().await;
        let sink = &process.sinks[0];
        until("it is heard elsewhere", || {
            cluster.masters[home].cli(&["PUBLISH", "raw", "hi"]);
            sink.texts().contains(&"hi".to_owned())
        })
        .await;
        assert_eq!(process.shared.health().reach(), Reach::Lost);
        assert!(sink.messages()[0].position.is_some(), "it has a place in the history");
    });
}

/// A client that comes while a master is gone misses nothing of the others.
#[test]
fn a_client_beside_a_dead_master_misses_nothing() {
    run(async {
        let mut cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let process = Process::start(settings(&cluster), 2).await;
        let names: Vec<String> = cluster.channels();
        proven().await;
        cluster.masters[0].kill();
        process.lost().await;
        for name in &names[1..] {
            for number in 1..=20 {
                assert_eq!(offset(process.publish(name, &number.to_string()).await), number);
            }
            // A client that is let in hears all that is published from then on.
            process.subscribe(name).await;
            assert_eq!(offset(process.publish(name, "live").await), 21);
            for (shard, sink) in process.shards.iter().zip(&process.sinks) {
                let arrived =
                    || sink.messages().iter().any(|message| message.channel == channel(name));
                until("it arrives", arrived).await;
                let to = shard.position(channel(name), None).await.unwrap();
                assert_eq!(to.offset, 21);
                let recovery = shard.recover(channel(name), Since::Newest(5), to).await;
                assert_eq!((recovery.missed, recovery.from.offset), (None, 16));
                assert_eq!(sink.gaps(), 0);
            }
        }
        assert_eq!(process.shared.health().reach(), Reach::Lost);
    });
}

/// A process that starts while a master is gone serves what lives on the others.
#[test]
fn a_process_starts_beside_a_dead_master() {
    run(async {
        let mut cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let home = cluster.owner(ChannelName::default_channel().as_str());
        let victim = (home + 1) % 3;
        let names = cluster.channels();
        cluster.masters[victim].kill();
        let process = Process::start_early(settings(&cluster), 2).await;
        for (name, _) in names.iter().zip(0..).filter(|(_, master)| *master != victim) {
            let before = publish_to_cluster(&process, name, "before", 0).await;
            process.subscribe(name).await;
            publish_to_cluster(&process, name, "after", before).await;
            for sink in &process.sinks {
                let arrived = || {
                    let mut messages = sink.messages().into_iter();
                    messages.any(|message| {
                        message.channel == channel(name) && message.position.is_some()
                    })
                };
                until("it arrives", arrived).await;
            }
        }
        assert_eq!(process.publish(&names[victim], "1").await, Ok(Receipt::Local));
        process.subscribe("notifications").await;
        until("the raw channel is bridged", || {
            cluster.masters[home].cli(&["PUBLISH", "raw", "hi"]);
            process.sinks[1].texts().contains(&"hi".to_owned())
        })
        .await;
    });
}
