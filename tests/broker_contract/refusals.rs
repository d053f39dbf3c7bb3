//! A Redis that answers and takes nothing: told within a moment, and healed as fast.

use std::time::Duration;

use wsbcast::{
    broker::{BrokerSettings, OnLoss, PublishError, Reach, Receipt, RefusalExtent},
    metrics::BrokerRefusal,
};

use crate::{
    Program, Recipe,
    process::{
        HISTORY, PATIENCE, Process, keyed, offset, pace, publish_keyed, redis_settings, run,
    },
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
};

fn settings(url: &str, on_loss: OnLoss) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url.to_owned();
    BrokerSettings { redis: Some(redis), on_loss, history: HISTORY }
}

fn set(server: &RedisServer, option: &str, value: &str) {
    assert_eq!(server.cli(&["CONFIG", "SET", option, value]), "OK");
}

pub(crate) fn count(process: &Process, reason: BrokerRefusal) -> u64 {
    process.shared.health().refusals()[reason as usize]
}

/// A server whose every option may be set while it runs.
fn start() -> RedisServer {
    let options = ["--save", "", "--appendonly", "no", "--enable-protected-configs", "yes"];
    RedisServer::start_with(&options)
}

/// Publishes to a Redis that takes messages again; the offset. A server that was a replica for a
/// while is connected to anew just then.
async fn published_again(process: &Process, channel: &str, key: &str) -> u64 {
    let health = process.shared.health();
    publish_keyed(&*process.shards[0], &health, keyed(channel, key, key)).await
}

pub(crate) async fn refuses(process: &Process, what: RefusalExtent) {
    let health = process.shared.health();
    let waiting = async {
        while health.refuses() != what {
            pace().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    let state = (health.refuses(), health.reach(), health.refusals());
    assert!(waited.is_ok(), "it refuses not {what:?}, but {state:?}");
}

/// A way to make a server refuse, how it is called, and how it is undone.
struct Way {
    refuse: fn(&RedisServer),
    accept: fn(&RedisServer),
    reason: BrokerRefusal,
}

const WAYS: [Way; 5] = [
    Way {
        refuse: |server| set(server, "min-replicas-to-write", "1"),
        accept: |server| set(server, "min-replicas-to-write", "0"),
        reason: BrokerRefusal::NoReplicas,
    },
    Way {
        refuse: |server| set(server, "maxmemory", "1"),
        accept: |server| set(server, "maxmemory", "0"),
        reason: BrokerRefusal::Oom,
    },
    Way {
        // No node has it as a master; it stays up, and is none.
        refuse: |server| assert_eq!(server.cli(&["REPLICAOF", "127.0.0.1", "1"]), "OK"),
        accept: |server| assert_eq!(server.cli(&["REPLICAOF", "NO", "ONE"]), "OK"),
        reason: BrokerRefusal::ReadOnly,
    },
    Way {
        refuse: |server| {
            set(server, "dir", "/proc");
            set(server, "save", "1 1");
            // It may have noticed already that it cannot save.
            let changed = server.cli(&["SET", "changed", "1"]);
            assert!(changed == "OK" || changed.starts_with("MISCONF"), "{changed}");
            server.cli(&["BGSAVE"]);
            let failed = || server.cli(&["INFO", "persistence"]).contains("bgsave_status:err");
            crate::wait::eventually(Duration::from_secs(20), "the disk fails", failed);
        },
        accept: |server| set(server, "stop-writes-on-bgsave-error", "no"),
        reason: BrokerRefusal::Misconf,
    },
    Way {
        refuse: |server| {
            assert_eq!(server.cli(&["ACL", "SETUSER", "default", "-evalsha", "-eval"]), "OK");
        },
        accept: |server| {
            assert_eq!(server.cli(&["ACL", "SETUSER", "default", "+evalsha", "+eval"]), "OK");
        },
        reason: BrokerRefusal::NoPerm,
    },
];

/// A Redis that refuses what is published is told and used again at once.
/// Regression: everything became local in silence, the process ready, no counter moved.
#[test]
fn a_refusing_redis_is_used_again_at_once() {
    for Way { refuse, accept, reason } in WAYS {
        run(async {
            let server = start();
            let process = Process::start(settings(&server.url(), OnLoss::Local), 2).await;
            process.subscribe("a").await;
            assert_eq!(offset(process.publish("a", "before").await), 1);
            let health = process.shared.health();
            assert_eq!(health.refuses(), RefusalExtent::Nothing);
            refuse(&server);
            for _ in 0..3 {
                assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local), "{reason:?}");
            }
            assert_eq!(count(&process, reason), 3, "{:?}", health.refusals());
            refuses(&process, RefusalExtent::All).await;
            assert_eq!(health.reach(), Reach::Up, "it can be reached");
            accept(&server);
            // No publisher is there meanwhile.
            refuses(&process, RefusalExtent::Nothing).await;
            assert_eq!(published_again(&process, "a", "after").await, 2, "{reason:?}");
        });
    }
}

/// A server that refuses is noticed though nobody publishes.
#[test]
fn a_refusing_server_is_noticed_by_a_trial() {
    for Way { refuse, accept, reason } in &WAYS[..4] {
        run(async {
            let server = start();
            refuse(&server);
            let process = Process::start(settings(&server.url(), OnLoss::Reject), 1).await;
            refuses(&process, RefusalExtent::All).await;
            let answer = process.publish("a", "x").await;
            assert_eq!(answer, Err(PublishError::BrokerLost), "{reason:?}");
            assert!(process.sinks[0].seen().is_empty());
            accept(&server);
            refuses(&process, RefusalExtent::Nothing).await;
            assert_eq!(published_again(&process, "a", "after").await, 1, "{reason:?}");
        });
    }
}

/// One channel that may not be published to says nothing of the others.
#[test]
fn one_refused_channel_does_not_refuse_all() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server.url(), OnLoss::Local), 1).await;
        let allowed = ["ACL", "SETUSER", "default", "resetchannels", "&test:heartbeat:*", "&raw"];
        let channels = ["&test:{notifications}", "&test:{notifications}:bridge:raw"];
        assert_eq!(server.cli(&[&allowed[..], &channels[..]].concat()), "OK");
        process.up().await;
        assert_eq!(process.publish("b", "x").await, Ok(Receipt::Local));
        refuses(&process, RefusalExtent::Some).await;
        assert_eq!(offset(process.publish("notifications", "x").await), 1);
        assert_eq!(process.shared.health().refuses(), RefusalExtent::Some, "that is another one");
        assert_eq!(server.cli(&["ACL", "SETUSER", "default", "allchannels"]), "OK");
        refuses(&process, RefusalExtent::Nothing).await;
        assert_eq!(offset(process.publish("b", "x").await), 1);
    });
}

/// A node of a cluster that is taken for a single server is told.
#[test]
fn a_cluster_node_taken_for_one_server_is_told() {
    run(async {
        let cluster = RedisCluster::start_as(2, false, &Recipe::new(Program::Redis, &[]));
        let names = cluster.channels();
        let url = cluster.masters[0].url();
        let process = Process::start(settings(&url, OnLoss::Local), 1).await;
        assert_eq!(process.publish(&names[1], "x").await, Ok(Receipt::Local));
        assert_eq!(count(&process, BrokerRefusal::Moved), 1);
        refuses(&process, RefusalExtent::All).await;
        offset(process.publish(&names[0], "x").await);
        assert_eq!(
            process.shared.health().refuses(),
            RefusalExtent::All,
            "others are refused still"
        );
    });
}

/// One master of a cluster that refuses is told and used again at once.
#[test]
fn one_refusing_master_of_a_cluster_is_told() {
    run(async {
        let cluster = RedisCluster::start_as(3, false, &Recipe::new(Program::Redis, &[]));
        let names = cluster.channels();
        let process = Process::start(settings(&cluster.url(), OnLoss::Local), 1).await;
        set(&cluster.masters[1], "min-replicas-to-write", "1");
        refuses(&process, RefusalExtent::All).await;
        assert_eq!(process.publish(&names[1], "x").await, Ok(Receipt::Local));
        offset(process.publish(&names[0], "x").await);
        set(&cluster.masters[1], "min-replicas-to-write", "0");
        refuses(&process, RefusalExtent::Nothing).await;
        assert_eq!(offset(process.publish(&names[1], "x").await), 1);
    });
}

/// Refusals that pass with the rights of the user of docs/redis.md, besides [`WAYS`].
const RIGHTS: [&str; 9] = [
    "-evalsha -eval",
    "-hset",
    "-pexpire",
    "-xadd",
    "-del",
    "-xdel",
    "-xsetid",
    "-hmget",
    "resetkeys",
];

/// Lets the user of docs/redis.md have what its line says.
fn restrict(server: &RedisServer) {
    server.restrict("test", "raw", &[]);
    assert_eq!(server.cli(&["ACL", "SETUSER", "default", "allkeys"]), "OK");
}

fn change(server: &RedisServer, rules: &str) {
    let words: Vec<&str> =
        ["ACL", "SETUSER", "wsbcast"].into_iter().chain(rules.split(' ')).collect();
    assert_eq!(server.cli(&words), "OK");
}

/// Each kind of refusal, and its end.
async fn heals(process: &Process, server: &RedisServer, name: &str) {
    let is_refused = async |what: &str| {
        refuses(process, RefusalExtent::All).await;
        // These rights are needed where a channel is new, or a message taken back.
        if !["-del", "-xdel", "-xsetid"].contains(&what) {
            assert_eq!(process.publish(name, "x").await, Ok(Receipt::Local), "{what}");
        }
    };
    // No node of a cluster may be made a replica like that.
    let is_possible = |way: &&Way| {
        server.cli(&["CLUSTER", "INFO"]).contains("ERR") || way.reason != BrokerRefusal::ReadOnly
    };
    for Way { refuse, accept, reason } in WAYS[..4].iter().filter(is_possible) {
        refuse(server);
        is_refused("").await;
        accept(server);
        heals_soon(process).await;
        published_again(process, name, &format!("{reason:?}")).await;
    }
    for right in RIGHTS {
        change(server, right);
        is_refused(right).await;
        change(server, &right.replace('-', "+").replace("resetkeys", "~test:*"));
        heals_soon(process).await;
        published_again(process, name, &right.replace(' ', "")).await;
    }
}

/// Well before what trials don't see is over by itself; nobody publishes meanwhile.
async fn heals_soon(process: &Process) {
    let healing = refuses(process, RefusalExtent::Nothing);
    let healed = tokio::time::timeout(Duration::from_secs(8), healing).await;
    assert!(healed.is_ok(), "it does not heal: {:?}", process.shared.health().refusals());
}

fn url_of_the_user(url: &str) -> BrokerSettings {
    settings(&url.replacen("://", "://wsbcast:pass@", 1), OnLoss::Local)
}

/// Every refusal that passes heals with the rights that the page on Redis names.
/// Regression: with the page's own line, a refusal that had passed stood for ever.
#[test]
fn documented_rights_heal_every_refusal() {
    for path in ["", "/3"] {
        run(async {
            let server = start();
            restrict(&server);
            let url = format!("{}{path}", server.url());
            if !path.is_empty() {
                change(&server, "+select");
            }
            let process = Process::start(url_of_the_user(&url), 1).await;
            heals(&process, &server, "notifications").await;
        });
    }
}

/// Every refusal that passes heals with the rights that the page on Redis names on a cluster.
#[test]
fn documented_rights_heal_every_refusal_of_a_cluster() {
    run(async {
        let options = ["--enable-protected-configs", "yes"];
        let recipe = Recipe::new(Program::Redis, &options);
        let cluster = RedisCluster::start_as(3, false, &recipe);
        cluster.masters.iter().for_each(restrict);
        let process = Process::start(url_of_the_user(&cluster.url()), 1).await;
        let owner = cluster.owner("notifications");
        heals(&process, &cluster.masters[owner], "notifications").await;
    });
}
