//! One subscription for all shards of a process: the same promises, and less for Redis to send.

use crate::{
    redis_loss,
    support::{
        PATIENCE, client::Client, clients_on_all_shards, eventually, publish::Publisher,
        redis::RedisServer, server::Server,
    },
};

const SHARDS: usize = 4;

fn member(redis: &RedisServer) -> Server {
    let shards = SHARDS.to_string();
    let options = ["--threads", &shards, "--redis-subscribers", "per-process"];
    let server = Server::start(&[&["--redis-url", &redis.url()], &options[..]].concat());
    server.wait_until_ready();
    server
}

/// How many connections are subscribed to `channel` in Redis.
fn subscribers(redis: &RedisServer, channel: &str) -> String {
    redis.cli(&["PUBSUB", "NUMSUB", &format!("wsbcast:{{{channel}}}")])
}

#[test]
fn one_subscription_serves_all_shards_of_a_process() {
    let redis = RedisServer::start();
    let servers = [member(&redis), member(&redis)];
    let mut clients = clients_on_all_shards(servers[0].addr(), "/ws?channel=a", SHARDS);
    clients.extend(clients_on_all_shards(servers[1].addr(), "/ws?channel=a", SHARDS));
    assert!(subscribers(&redis, "a").ends_with('2'), "one for each process");
    let mut publishers = servers.each_ref().map(|server| Publisher::on(server.addr(), "a"));
    for round in 0..50 {
        for (n, publisher) in publishers.iter_mut().enumerate() {
            let offset = publisher.publish_to_all(format!("{round} through {n}"));
            assert_eq!(offset, 2 * round + n as u64 + 1);
        }
    }
    for client in &mut clients {
        for round in 0..50 {
            client.assert_text(&format!("{round} through 0"));
            client.assert_text(&format!("{round} through 1"));
        }
    }
    let mut resumed = Client::open(servers[1].addr(), "/ws?channel=a&last=2");
    resumed.assert_text("49 through 0");
    resumed.assert_text("49 through 1");
    resumed.leave();
    for client in clients {
        assert_eq!(client.leave(), Vec::<String>::new(), "nothing twice");
    }
    eventually(PATIENCE, "nobody hears it", || subscribers(&redis, "a").ends_with('0'));
}

/// A client of any shard sees messages that are published right after its upgrade.
#[test]
fn no_shard_misses_messages_after_an_upgrade() {
    let redis = RedisServer::start();
    let servers = [member(&redis), member(&redis)];
    for round in 0..40 {
        // Half of the channels are new, half have been left by everyone.
        let channel = format!("channel-{}", round / 2);
        let mut client = Client::open(servers[1].addr(), &format!("/ws?channel={channel}"));
        Publisher::on(servers[0].addr(), &channel).publish_to_all(format!("at once {round}"));
        client.assert_text(&format!("at once {round}"));
        assert_eq!(client.leave(), Vec::<String>::new());
    }
}

/// Messages that the process' one subscription missed are repaired for all shards.
#[test]
fn a_hole_of_the_one_subscription_is_repaired_for_all() {
    let redis = RedisServer::start();
    let servers = [member(&redis), member(&redis)];
    let mut clients = clients_on_all_shards(servers[0].addr(), "/ws", SHARDS);
    let mut publisher = Publisher::new(servers[1].addr());
    let mut sent = Vec::new();
    for round in 0..5 {
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        for number in 0..20 {
            let text = format!("{round}:{number}");
            if publisher.publish(&text).is_clustered() {
                sent.push(text);
            }
        }
        servers.iter().for_each(Server::wait_until_ready);
        sent.push(format!("end of {round}"));
        publisher.publish_to_all(sent.last().unwrap());
    }
    for client in &mut clients {
        for text in &sent {
            client.assert_text(text);
        }
    }
}

#[test]
fn while_redis_comes_back_readiness_is_never_red() {
    let mut redis = RedisServer::start();
    let server = member(&redis);
    redis_loss::readiness_is_never_red(&mut redis, &server);
}
