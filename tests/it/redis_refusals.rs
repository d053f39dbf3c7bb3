//! A Redis that can be reached and takes nothing, as an operator sees it.

use serde_json::json;

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::get,
    metrics::metric,
    publish::Publisher,
    redis::{Program, Recipe, RedisServer},
    redis_cluster::RedisCluster,
    server::Server,
};

fn start(url: &str, args: &[&str]) -> Server {
    let server = Server::start(&[&["--redis-url", url], args].concat());
    eventually(PATIENCE, "Redis is reached", || {
        metric(server.addr(), "wsbcast_broker_connected", &[]) == 1.0
    });
    server
}

fn wait_for(server: &Server, status: u16, word: &str) {
    eventually(PATIENCE, word, || {
        let ready = get(server.addr(), "/readyz");
        ready.status == status && ready.json()["status"] == word
    });
}

/// A Redis that takes no message makes the process degraded, and the reason is told. Regression:
/// `/readyz` said ready, `wsbcast_broker_connected` was 1, no counter moved.
#[test]
fn a_full_redis_makes_the_process_degraded() {
    let redis = RedisServer::start();
    let server = start(&redis.url(), &[]);
    wait_for(&server, 200, "ready");
    let mut client = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    publisher.publish_to_all("before");
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    for _ in 0..50 {
        assert!(publisher.publish("refused").is_local());
    }
    wait_for(&server, 200, "degraded");
    let reasons = &get(server.addr(), "/readyz").json()["reasons"];
    assert_eq!(*reasons, json!(["broker_refuses"]));
    let count = |name: &str, labels: &[&str]| metric(server.addr(), name, labels);
    assert_eq!(count("wsbcast_broker_refusals_total", &["reason=\"noreplicas\""]), 50.0);
    assert_eq!(count("wsbcast_published_total", &["source=\"http\"", "scope=\"local\""]), 50.0);
    assert_eq!(count("wsbcast_published_total", &["source=\"http\"", "scope=\"cluster\""]), 1.0);
    server.wait_for_log(&["Redis refuses", "NOREPLICAS", "min-replicas-to-write"]);
    let lines = server.log().lines().filter(|line| line.contains("Redis refuses")).count();
    assert!(lines < 5, "{lines} lines for 50 messages");
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    wait_for(&server, 200, "ready");
    server.wait_for_log(&["Redis accepts again"]);
    publisher.publish_to_all("after");
    client.assert_text("before");
    for _ in 0..50 {
        client.assert_text("refused");
    }
    client.assert_text("after");
}

/// Under `--on-broker-loss reject` a process whose Redis takes no message is not ready for new
/// clients.
#[test]
fn under_reject_a_full_redis_refuses_new_clients() {
    let redis = RedisServer::start();
    let server = start(&redis.url(), &["--on-broker-loss", "reject"]);
    wait_for(&server, 200, "ready");
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    assert_eq!(Publisher::new(server.addr()).publish("x").status, 503);
    wait_for(&server, 503, "unready");
    let reasons = &get(server.addr(), "/readyz").json()["reasons"];
    assert_eq!(*reasons, json!(["broker_refuses"]));
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    wait_for(&server, 200, "ready");
    Publisher::new(server.addr()).publish_to_all("x");
}

/// A cluster that is addressed as a single server is named in the log, with its cure.
#[test]
fn a_cluster_addressed_as_one_server_is_named() {
    let cluster = RedisCluster::start_as(2, false, &Recipe::new(Program::Redis, &[]));
    let server = start(&cluster.masters[0].url(), &[]);
    let name = (0..)
        .map(|number| format!("channel-{number}"))
        .find(|name| {
            let key = format!("wsbcast:{{{name}}}");
            let slot = cluster.masters[0].cli(&["CLUSTER", "KEYSLOT", &key]);
            slot.parse::<u32>().is_ok_and(|slot| slot >= 8192)
        })
        .unwrap();
    assert!(Publisher::on(server.addr(), &name).publish("x").is_local());
    wait_for(&server, 200, "degraded");
    server.wait_for_log(&["MOVED", "this is a cluster: use redis-cluster://"]);
    assert_eq!(metric(server.addr(), "wsbcast_broker_refusals_total", &["reason=\"moved\""]), 1.0);
}

/// A command that Redis lacks is named in the log, and makes the process degraded. Regression: the
/// log did not name the command, and `/readyz` said ready all the time.
#[test]
fn a_missing_command_makes_the_process_degraded() {
    for (command, mode) in [("XADD", "local"), ("HSET", "reject")] {
        let redis = RedisServer::start_with(&["--save", "", "--rename-command", command, ""]);
        let server = start(&redis.url(), &["--on-broker-loss", mode]);
        let (status, word) = if mode == "local" { (200, "degraded") } else { (503, "unready") };
        wait_for(&server, status, word);
        let mut publisher = Publisher::new(server.addr());
        for _ in 0..20 {
            let answer = publisher.publish("x");
            assert!(if mode == "local" { answer.is_local() } else { answer.status == 503 });
        }
        let ready = get(server.addr(), "/readyz").json();
        assert_eq!(
            (&ready["status"], &ready["reasons"]),
            (&json!(word), &json!(["broker_refuses"]))
        );
        server.wait_for_log(&["unknown_command", &format!("({command})"), "rename-command"]);
    }
}

/// With the rights that docs/redis.md names a refusal that has passed leaves nothing degraded.
/// Regression: with the very rights that docs/redis.md asks for it stayed degraded for ever.
#[test]
fn with_the_documented_rights_refusals_end() {
    let redis = RedisServer::start();
    redis.restrict("wsbcast", "notifications", &[]);
    let url = format!("redis://wsbcast:pass@{}", redis.address());
    let server = start(&url, &[]);
    let mut publisher = Publisher::new(server.addr());
    publisher.publish_to_all("before");
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    assert!(publisher.publish("refused").is_local());
    wait_for(&server, 200, "degraded");
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    wait_for(&server, 200, "ready");
}
