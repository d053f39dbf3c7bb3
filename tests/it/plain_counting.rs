//! Plain clients that count their messages to know where they are: where docs/listening.md says
//! that they may.

use crate::support::{
    PATIENCE, client::Client, eventually, http::get, publish::Publisher, redis::RedisServer,
    server::Server,
};

/// Under `--on-broker-loss reject` a plain client that counts its messages comes back to the right
/// position.
#[test]
fn under_reject_a_counting_client_resumes_rightly() {
    let mut redis = RedisServer::start_durable();
    let server = Server::start(&["--redis-url", &redis.url(), "--on-broker-loss", "reject"]);
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    let mut client = Client::connect(server.addr());
    let header = client.upgrade.header("wsbcast-position").expect("positions are told");
    let (epoch, offset) = header.trim_start_matches("notifications=").split_once(':').unwrap();
    let (epoch, begun) = (epoch.to_owned(), offset.parse::<u64>().unwrap());
    let mut publisher = Publisher::new(server.addr());
    publisher.publish_to_all("before");
    redis.kill();
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    for _ in 0..3 {
        assert_eq!(publisher.publish("during").status, 503);
    }
    redis.restart();
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    publisher.publish_to_all("after");
    let mut counted = 0;
    for text in ["before", "after"] {
        client.assert_text(text);
        counted += 1;
    }
    client.leave();
    for text in ["missed 1", "missed 2"] {
        assert!(publisher.publish(text).is_clustered());
    }
    let mut client = Client::open(server.addr(), &format!("/ws?since={epoch}:{}", begun + counted));
    for text in ["missed 1", "missed 2"] {
        client.assert_text(text);
    }
}
