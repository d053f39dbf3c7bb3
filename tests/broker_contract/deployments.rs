//! The other ways in which Redis is run: with a password, as a cluster, behind sentinels.

use wsbcast::broker::{BrokerSettings, InvalidSettings, OnLoss, Shared};
use wsbcast::clock::Clock;

use crate::{
    Program, Recipe, over_redis_and_valkey,
    process::{Process, channel, offset, redis_settings, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    repair::publish_silently,
};

fn settings(server: &RedisServer, url: &str) -> BrokerSettings {
    let mut redis = redis_settings(server);
    redis.url = url.to_owned();
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: super::process::HISTORY }
}

async fn works(settings: BrokerSettings) {
    let process = Process::start(settings, 2).await;
    for name in ["a", "b", "c"] {
        process.subscribe(name).await;
        let first = offset(process.publish(name, "first").await);
        assert_eq!(offset(process.publish(name, "second").await), first + 1);
    }
    for sink in &process.sinks {
        until("all have arrived", || sink.messages().len() == 6).await;
        assert_eq!(sink.gaps(), 0);
    }
}

over_redis_and_valkey!(
    a_password_and_a_user_are_sent,
    a_cluster_works,
    a_primary_is_found_through_its_sentinel,
);

fn a_password_and_a_user_are_sent(program: Program) {
    run(async {
        let server = RedisServer::start_as(&Recipe::new(program, &["--requirepass", "secret"]));
        works(settings(&server, &format!("redis://:secret@{}", server.address()))).await;
        let rule = "on >pass ~* &* +@all";
        let words: Vec<&str> = ["-a", "secret", "--no-auth-warning", "ACL", "SETUSER", "bob"]
            .into_iter()
            .chain(rule.split(' '))
            .collect();
        assert_eq!(server.cli(&words), "OK");
        works(settings(&server, &format!("redis://bob:pass@{}", server.address()))).await;
    });
}

fn a_cluster_works(program: Program) {
    run(async {
        let cluster = RedisCluster::start_as(2, false, &Recipe::new(program, &[]));
        let nodes = &cluster.masters;
        let settings = settings(&nodes[0], &format!("redis-cluster://{}", nodes[0].address()));
        works(settings.clone()).await;
        // And what one process missed comes, from whichever node has the channel.
        let process = Process::start(settings, 2).await;
        for name in ["a", "b", "c"] {
            process.subscribe(name).await;
            for shard in &process.shards {
                // Earlier messages may still be on their way between the nodes.
                assert_eq!(shard.position(channel(name), None).await.unwrap().offset, 2);
            }
            assert_eq!(offset(process.publish(name, "third").await), 3);
        }
        for sink in &process.sinks {
            until("all third ones have arrived", || sink.messages().len() == 3).await;
        }
        for name in ["a", "b", "c"] {
            publish_silently(&nodes[0], name, "hidden");
        }
        for node in nodes {
            node.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        for sink in &process.sinks {
            until("what was missed has arrived", || sink.messages().len() == 6).await;
            assert_eq!(
                (&sink.texts()[3..], sink.gaps()),
                (&["hidden"; 3].map(str::to_owned)[..], 0)
            );
        }
    });
}

fn a_primary_is_found_through_its_sentinel(program: Program) {
    run(async {
        let recipe = Recipe::new(program, &[]);
        let server = RedisServer::start_as(&recipe);
        let sentinel = RedisServer::start_sentinel_as(&recipe, &server.address());
        let url = format!("redis-sentinel://{}?sentinelServiceName=main", sentinel.address());
        works(settings(&server, &url)).await;
    });
}

#[test]
fn two_databases_with_one_prefix_are_two_services() {
    run(async {
        let server = RedisServer::start();
        let in_database = |number| {
            let mut settings = settings(&server, &format!("{}/{number}", server.url()));
            settings.redis.as_mut().unwrap().raw_channel = Some(format!("raw{number}"));
            Process::start(settings, 2)
        };
        let processes = [in_database(0).await, in_database(1).await, in_database(2).await];
        for process in &processes {
            process.subscribe("a").await;
            process.subscribe("notifications").await;
        }
        for round in 1..=10 {
            for (number, process) in processes.iter().enumerate() {
                let receipt = process.publish("a", &format!("{round} in {number}")).await;
                assert_eq!(offset(receipt), round);
            }
        }
        // Each has the bridge from its own raw channel.
        for (number, process) in processes.iter().enumerate() {
            let raw = format!("raw{number}");
            until("it listens", || !server.cli(&["PUBSUB", "NUMSUB", &raw]).ends_with('0')).await;
            for sink in &process.sinks {
                until("the raw message has arrived", || {
                    server.cli(&["PUBLISH", &raw, "hi"]);
                    sink.texts().contains(&"hi".to_owned())
                })
                .await;
            }
        }
        for (number, process) in processes.iter().enumerate() {
            for sink in &process.sinks {
                let texts = sink.texts().into_iter().filter(|text| text != "hi");
                let own = (1..=10).map(|round| format!("{round} in {number}"));
                assert_eq!(texts.collect::<Vec<_>>(), own.collect::<Vec<_>>());
                assert_eq!(sink.gaps(), 0);
            }
        }
    });
}

#[test]
fn the_server_tested_as_valkey_is_valkey() {
    let server = RedisServer::start_valkey();
    let info = server.cli(&["INFO", "server"]);
    assert!(info.contains("server_name:valkey"), "{info}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let server = RedisServer::not_started();
    let good = settings(&server, &server.url()).redis.unwrap();
    let refusal = |redis| {
        let settings = BrokerSettings {
            redis: Some(redis),
            on_loss: OnLoss::Local,
            history: super::process::HISTORY,
        };
        Shared::new(Clock::start(), settings, Vec::new()).err()
    };
    assert_eq!(refusal(good.clone()), None);
    let mut bad = good.clone();
    bad.url = "http://127.0.0.1".to_owned();
    assert!(matches!(refusal(bad), Some(InvalidSettings::Url(_))));
    let mut bad = good.clone();
    bad.prefix = "a{b".to_owned();
    assert_eq!(refusal(bad), Some(InvalidSettings::Prefix));
    let mut bad = good;
    bad.raw_channel = Some("test:{a}".to_owned());
    assert_eq!(refusal(bad), Some(InvalidSettings::RawChannel("test".to_owned())));
}
