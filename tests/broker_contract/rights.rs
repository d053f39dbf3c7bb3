//! A Redis whose users may do little: what docs/redis.md asks for is enough, what lacks is told.

use std::time::Duration;

use wsbcast::{
    bans::Bearer,
    broker::{Announcement, BrokerSettings, Disconnection, OnLoss, Receipt, Selector, Since},
    metrics::Scope,
};

use crate::{
    HOUR_MS, Program, Recipe,
    process::{HISTORY, Process, channel, keyed, offset, redis_settings, run, until},
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    slot,
};

fn settings(url: &str) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url.replacen("://", "://wsbcast:pass@", 1);
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// Publishes, hears, asks and resumes, also what it has to read from Redis.
async fn works(settings: BrokerSettings, names: &[String]) {
    let one = Process::start(settings.clone(), 2).await;
    for name in names {
        one.subscribe(name).await;
        for number in 1..=3 {
            assert_eq!(offset(one.publish(name, &number.to_string()).await), number);
        }
    }
    for sink in &one.sinks {
        until("all have arrived", || sink.messages().len() == 3 * names.len()).await;
    }
    let message = keyed(&names[0], "key", "4");
    for _ in 0..2 {
        assert_eq!(offset(one.shards[0].publish(message.clone()).await), 4);
    }
    let notice = one.control.publish_once(slot(HOUR_MS)).await.published.unwrap();
    assert!(matches!(notice, Some(Receipt::Cluster(_))), "{notice:?}");
    let two = Process::start(settings, 1).await;
    for name in names {
        two.subscribe(name).await;
        let to = two.shards[0].position(channel(name), None).await.unwrap();
        assert!(to.offset >= 3, "{to:?}");
        let since = Since::Newest(2);
        let recovery = two.shards[0].recover(channel(name), since, to.clone()).await;
        assert_eq!((recovery.missed, recovery.from.offset), (None, to.offset - 2));
        let read = two.shards[0].history(&channel(name), &recovery.from, to.offset, 1 << 20);
        assert_eq!(read.unwrap().len(), 2);
    }
    for banned_for in [None, Some(Duration::from_secs(60))] {
        let selector = Selector::Bearer(Bearer::Subject("alice".into()));
        let disconnection = Disconnection { selector, may_return: false, banned_for };
        let told = one.control.announce(&Announcement::Disconnect(disconnection)).await;
        assert_eq!(told, Ok(Scope::Cluster));
    }
    until("the other one is told", || two.sinks[0].announced().len() >= 2).await;
    for process in [&one, &two] {
        assert_eq!(process.shared.health().refused(), 0);
    }
    one.close().await;
    two.close().await;
}

fn denied(node: &RedisServer) -> String {
    node.cli(&["ACL", "LOG"])
}

/// The rights that the page on Redis names are enough on a single server.
#[test]
fn documented_rights_are_enough_on_a_single_server() {
    run(async {
        let server = RedisServer::start();
        server.restrict("test", "raw", &[]);
        works(settings(&server.url()), &["a".to_owned()]).await;
        assert_eq!(denied(&server), "");
    });
}

/// The rights that the page on Redis names are enough on a cluster.
#[test]
fn documented_rights_are_enough_on_a_cluster() {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        for node in &cluster.masters {
            node.restrict("test", "raw", &[]);
        }
        works(settings(&cluster.url()), &cluster.channels()).await;
        for node in &cluster.masters {
            assert_eq!(denied(node), "");
        }
    });
}
