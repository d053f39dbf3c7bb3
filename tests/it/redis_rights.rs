//! A user of Redis that lacks a right: the log says which one, so that operators need not guess.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    PATIENCE, client::Client, eventually, http::get, let_pass, publish::Publisher,
    redis::RedisServer, server::Server, v1::V1,
};

/// A cluster of one server.
fn cluster() -> RedisServer {
    let options = ["--save", "", "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
    let server = RedisServer::start_with(&options);
    assert_eq!(server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    eventually(PATIENCE, "the cluster is up", || {
        server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    server
}

#[test]
fn a_right_that_lacks_in_a_cluster_is_told() {
    let told = [
        ("+cluster|slots", "Redis is out of reach", "'cluster|slots'"),
        ("+cluster|myid", "Redis does not tell which node it is", "'cluster|myid'"),
        ("+publish", "Redis refuses our heartbeat", "'publish'"),
        ("+ssubscribe", "Redis refuses a subscription", "'ssubscribe'"),
        ("+evalsha", "Redis refuses a message", "'evalsha'"),
        ("+spublish", "Redis refuses a message", ""),
    ];
    for (right, what, which) in told {
        let redis = cluster();
        redis.restrict("wsbcast", "notifications", &[right]);
        let url = format!("redis-cluster://wsbcast:pass@{}", redis.address());
        let server = Server::start(&["--threads", "1", "--redis-url", &url]);
        let is_up = !matches!(right, "+cluster|slots" | "+publish");
        eventually(PATIENCE, "it is as ready as it will be", || {
            (get(server.addr(), "/readyz").status == 200) == is_up
        });
        let _client = Client::connect(server.addr());
        let mut publisher = Publisher::new(server.addr());
        // Its heartbeats are refused and its messages are not, once their master has been there for
        // a second: the first answer may be of either side.
        if right == "+publish" {
            publisher.publish("hi");
        } else {
            // On a busy machine the first answer may come too late to say more than that.
            let is_local = !matches!(right, "+ssubscribe" | "+cluster|myid");
            eventually(PATIENCE, &format!("without {right} messages go where they can"), || {
                publisher.publish("hi").is_local() == is_local
            });
        }
        server.wait_for_log(&[what, which]);
    }
}

/// A right that is missing for history or for the raw channel is told in the log.
#[test]
fn a_missing_right_for_history_or_raw_channel_is_told() {
    let redis = cluster();
    redis.restrict("wsbcast", "notifications", &["+xrevrange"]);
    // Any key but that of the raw channel's lease.
    let keys = ["resetkeys", "~wsbcast:{*}:meta", "~wsbcast:{*}:stream", "~wsbcast:{*}:slot:*"];
    let allowed = redis.cli(&[&["ACL", "SETUSER", "wsbcast"], &keys[..]].concat());
    assert_eq!(allowed, "OK");
    let url = format!("redis-cluster://wsbcast:pass@{}", redis.address());
    let start = || {
        let server = Server::start(&["--threads", "1", "--redis-url", &url]);
        eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
        server
    };
    let first = start();
    first.wait_for_log(&["Redis refuses the raw channel's lease", "NOPERM"]);
    assert!(Publisher::new(first.addr()).publish("hi").is_clustered());
    // Another one has it not in memory.
    let second = start();
    let _client = Client::open(second.addr(), "/ws?last=1");
    // Inside of a script, not every Redis says which command.
    second.wait_for_log(&["Redis refuses to tell the history", "ERR"]);
}

/// One server, without a cluster, whose user lacks `right`.
fn without(right: &str) -> RedisServer {
    let redis = RedisServer::start();
    redis.restrict("wsbcast", "notifications", &[right]);
    redis
}

/// A right that only the script needs is told when it is missing, and the refused message leaves
/// nothing behind.
#[test]
fn a_missing_right_of_a_script_leaves_nothing_behind() {
    for right in ["+xadd", "+pexpire", "+hset"] {
        let redis = without(right);
        let url = format!("redis://wsbcast:pass@{}", redis.address());
        let server = Server::start(&["--redis-url", &url, "--on-broker-loss", "reject"]);
        let mut publisher = Publisher::on(server.addr(), "new");
        let is_refused = || {
            let ready = get(server.addr(), "/readyz");
            ready.status == 503 && ready.text().contains("broker_refuses")
        };
        eventually(PATIENCE, &format!("it is not ready without {right}"), || {
            assert_ne!(publisher.publish("hi").status, 202, "{right}");
            is_refused()
        });
        // It is asked for again and again meanwhile, and stays refused.
        for _ in 0..8 {
            let_pass(Duration::from_millis(100));
            assert!(is_refused(), "without {right} it is still not ready");
        }
        let meta = "wsbcast:{new}:meta";
        let words = ["--user", "wsbcast", "--pass", "pass", "HMGET", meta, "epoch", "offset"];
        assert_eq!(redis.cli(&words), "", "{right}");
    }
}

/// Clients that hear nothing because the right to subscribe was taken away are told so. Regression:
/// clients of a new channel heard nothing, and nobody said so.
#[test]
fn a_lost_right_to_subscribe_is_told_to_clients() {
    let redis = RedisServer::start();
    let server = Server::start(&["--redis-url", &redis.url()]);
    let word = || get(server.addr(), "/readyz").json()["status"].clone();
    eventually(PATIENCE, "it is ready", || word() == "ready");
    let mut before = V1::open(server.addr(), "/ws?channel=before");
    assert_eq!(redis.cli(&["ACL", "SETUSER", "default", "-subscribe"]), "OK");
    let mut plain = Client::open(server.addr(), "/ws?channel=fresh");
    plain.assert_closed(1013);
    let mut client = V1::open(server.addr(), "/ws?channel=fresh");
    let gap = client.next_of("gap");
    assert_eq!((&gap["channel"], &gap["epoch"]), (&json!("fresh"), &json!(null)));
    eventually(PATIENCE, "it is degraded", || word() == "degraded");
    assert_eq!(get(server.addr(), "/readyz").json()["reasons"], json!(["broker_refuses"]));
    server.wait_for_log(&["Redis refuses a subscription", "'subscribe'"]);
    // A client that was there before goes on hearing.
    assert!(Publisher::on(server.addr(), "before").publish("hi").is_clustered());
    assert_eq!(before.message().0, "hi");
    assert_eq!(redis.cli(&["ACL", "SETUSER", "default", "+subscribe"]), "OK");
    eventually(PATIENCE, "it is ready again", || word() == "ready");
    assert!(Publisher::on(server.addr(), "fresh").publish("hi").is_clustered());
    assert_eq!(client.message().0, "hi");
}
