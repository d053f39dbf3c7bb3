//! Several processes on one Redis act as one service.

use std::{collections::BTreeMap, thread};

use serde_json::json;

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards, eventually,
    frames::{BINARY, TEXT},
    http::post_with,
    metrics::metric,
    publish::Publisher,
    redis::RedisServer,
    server::{Launch, Server},
};

/// A process on `redis`, ready to serve.
fn member(redis: &RedisServer, args: &[&str]) -> Server {
    let server = Server::start(&[&["--redis-url", &redis.url()], args].concat());
    server.wait_until_ready();
    server
}

#[test]
fn messages_to_one_process_reach_clients_of_all() {
    let redis = RedisServer::start();
    let servers = [member(&redis, &["--threads", "3"]), member(&redis, &["--threads", "2"])];
    let mut clients = clients_on_all_shards(servers[0].addr(), "/ws", 3);
    clients.extend(clients_on_all_shards(servers[1].addr(), "/ws", 2));
    let mut publishers = servers.each_ref().map(|server| Publisher::new(server.addr()));
    let mut epochs = Vec::new();
    for round in 0..20 {
        for (n, publisher) in publishers.iter_mut().enumerate() {
            let answer = publisher.publish(format!("{round} through {n}"));
            assert!(answer.is_clustered(), "{answer:?}");
            assert_eq!(answer.offset, Some(2 * round + n as u64 + 1), "one sequence for all");
            epochs.extend(answer.epoch);
        }
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "one epoch for all: {epochs:?}");
    for client in &mut clients {
        for round in 0..20 {
            client.assert_text(&format!("{round} through 0"));
            client.assert_text(&format!("{round} through 1"));
        }
    }
    for client in clients {
        assert_eq!(client.leave(), Vec::<String>::new(), "nothing twice");
    }
}

/// Clients of all processes see the messages of concurrent publishers in one and the same order.
#[test]
fn all_clients_of_all_processes_see_one_order() {
    const MESSAGES: usize = 60;
    let redis = RedisServer::start();
    let servers = [member(&redis, &[]), member(&redis, &[])];
    let mut clients = clients_on_all_shards(servers[0].addr(), "/ws", 2);
    clients.extend(clients_on_all_shards(servers[1].addr(), "/ws", 2));
    let publishers: Vec<_> = (0..6)
        .map(|n| {
            let addr = servers[n % 2].addr();
            thread::spawn(move || {
                let mut publisher = Publisher::new(addr);
                (0..MESSAGES)
                    .map(|message| {
                        let text = format!("{n}:{message}");
                        (publisher.publish_to_all(&text), text)
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let by_offset: BTreeMap<u64, String> =
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
    assert!(by_offset.keys().copied().eq(1..=6 * MESSAGES as u64), "no hole, none twice");
    let expected: Vec<String> = by_offset.into_values().collect();
    for client in &mut clients {
        let received: Vec<String> = (0..expected.len()).map(|_| client.text()).collect();
        assert_eq!(received, expected, "the order of the offsets");
    }
}

#[test]
fn channels_and_kinds_survive_the_way_through_redis() {
    let redis = RedisServer::start();
    let servers = [member(&redis, &[]), member(&redis, &[])];
    let mut a = Client::open(servers[1].addr(), "/ws?channel=a:b.c-d_e");
    let mut default = Client::connect(servers[1].addr());
    let bytes: Vec<u8> = (0..=255).collect();
    let target = "/broadcast?channel=a:b.c-d_e";
    let kind = "Content-Type: application/octet-stream\r\n";
    let answer = post_with(servers[0].addr(), target, kind, &bytes);
    answer.assert_status(202);
    assert_eq!(answer.json()["scope"], json!("cluster"));
    let message = a.message();
    assert_eq!((message.opcode, &message.payload[..]), (BINARY, &bytes[..]));
    let text = "Grüße\r\n\0 {\"$1\": \"*3\"}";
    Publisher::on(servers[0].addr(), "a:b.c-d_e").publish_to_all(text);
    a.assert_text(text);
    Publisher::new(servers[0].addr()).publish_to_all("sentinel");
    default.assert_text("sentinel");
}

/// A client of another process sees messages that are published right after its upgrade.
#[test]
fn a_client_sees_other_processes_at_once() {
    let redis = RedisServer::start();
    let servers = [member(&redis, &[]), member(&redis, &[])];
    for round in 0..30 {
        let channel = format!("channel-{round}");
        let mut client = Client::open(servers[1].addr(), &format!("/ws?channel={channel}"));
        Publisher::on(servers[0].addr(), &channel).publish_to_all("at once");
        client.assert_text("at once");
    }
}

/// A message that any program publishes on the raw channel reaches every client of every process.
#[test]
fn the_raw_channel_reaches_every_client() {
    let redis = RedisServer::start();
    let servers = [member(&redis, &["--threads", "3"]), member(&redis, &[])];
    let mut clients = clients_on_all_shards(servers[0].addr(), "/ws", 3);
    clients.extend(clients_on_all_shards(servers[1].addr(), "/ws", 2));
    let mut other = Client::open(servers[0].addr(), "/ws?channel=other");
    assert!(redis.publish("notifications", "hi 👋".as_bytes()) > 0);
    redis.publish("notifications", b"\xFF\x00binary");
    redis.publish("notifications", b"");
    for client in &mut clients {
        client.assert_text("hi 👋");
        let message = client.message();
        assert_eq!((message.opcode, &message.payload[..]), (BINARY, &b"\xFF\x00binary"[..]));
        let message = client.message();
        assert_eq!((message.opcode, message.payload.len()), (TEXT, 0));
    }
    let offset = Publisher::new(servers[0].addr()).publish_to_all("sentinel");
    assert_eq!(offset, 4, "raw messages have their place among all");
    let mut resumed = Client::open(servers[1].addr(), "/ws?channel=notifications&last=4");
    resumed.assert_text("hi 👋");
    assert_eq!(resumed.message().opcode, BINARY);
    resumed.assert_text("");
    resumed.assert_text("sentinel");
    for client in clients {
        let mut client = client;
        client.assert_text("sentinel");
        assert_eq!(client.leave(), Vec::<String>::new(), "each once");
    }
    Publisher::on(servers[0].addr(), "other").publish_to_all("sentinel");
    other.assert_text("sentinel");
}

/// A raw message beyond the limit is dropped and counted.
#[test]
fn a_raw_message_too_big_is_dropped_and_counted() {
    let redis = RedisServer::start();
    let server = member(&redis, &["--max-broadcast-size", "1KiB"]);
    let mut client = Client::connect(server.addr());
    redis.publish("notifications", &[b'x'; 1025]);
    redis.publish("notifications", &[b'y'; 1024]);
    client.assert_text(&"y".repeat(1024));
    let too_big = ["reason=\"too_big\""];
    assert_eq!(metric(server.addr(), "wsbcast_publish_failures_total", &too_big), 1.0);
    let from_redis = ["source=\"redis\""];
    eventually(PATIENCE, "the other is counted", || {
        metric(server.addr(), "wsbcast_published_total", &from_redis) == 1.0
    });
}

/// The raw channel has the name that the operator gives it, or is off.
#[test]
fn the_raw_channel_is_named_or_off_as_wanted() {
    let redis = RedisServer::start();
    let named = member(&redis, &["--redis-raw-channel", "from-others"]);
    let off = member(&redis, &["--redis-raw-channel", ""]);
    let mut of_named = Client::connect(named.addr());
    let mut of_off = Client::connect(off.addr());
    redis.publish("notifications", b"not here");
    assert!(redis.publish("from-others", b"here") > 0);
    of_named.assert_text("here");
    of_off.assert_text("here");
    Publisher::new(off.addr()).publish_to_all("sentinel");
    of_off.assert_text("sentinel");
    of_named.assert_text("sentinel");
}

/// Services with different prefixes share one Redis without hearing each other.
#[test]
fn services_with_other_prefixes_share_a_redis() {
    let redis = RedisServer::start();
    let ours = member(&redis, &["--redis-prefix", "ours", "--redis-raw-channel", ""]);
    let theirs = member(&redis, &["--redis-prefix", "theirs", "--redis-raw-channel", ""]);
    let mut client = Client::connect(ours.addr());
    assert_eq!(Publisher::new(theirs.addr()).publish_to_all("theirs"), 1);
    assert_eq!(Publisher::new(ours.addr()).publish_to_all("ours"), 1);
    client.assert_text("ours");
}

/// Redis' URL may come from either of two variables, and the program's own one wins.
#[test]
fn the_url_may_come_from_either_variable() {
    let redis = RedisServer::start();
    let nobody = RedisServer::not_started();
    let server = Launch::on_a_free_port(&[]).env("REDIS_URL", &redis.url()).start();
    server.wait_until_ready();
    assert!(Publisher::new(server.addr()).publish("x").is_clustered());
    let server = Launch::on_a_free_port(&[])
        .env("REDIS_URL", &nobody.url())
        .env("WSBCAST_REDIS_URL", &redis.url())
        .start();
    server.wait_until_ready();
    assert_eq!(Publisher::new(server.addr()).publish_to_all("x"), 2);
}

/// A process that joins later goes on in the epoch of the others.
#[test]
fn a_later_process_goes_on_in_the_same_epoch() {
    let redis = RedisServer::start();
    let first = member(&redis, &[]);
    let before = Publisher::new(first.addr()).publish("before");
    drop(first);
    let second = member(&redis, &[]);
    let after = Publisher::new(second.addr()).publish("after");
    assert_eq!((after.epoch, after.offset), (before.epoch, Some(2)));
}

/// A client that stops reading delays neither other clients nor the messages from Redis.
#[test]
fn a_stopped_reader_delays_nobody() {
    let redis = RedisServer::start();
    let servers = [member(&redis, &["--threads", "1"]), member(&redis, &[])];
    let _stalled: Vec<Client> =
        (0..5).map(|_| Client::with_little_room(servers[0].addr(), "/ws")).collect();
    let mut prompt = Client::connect(servers[0].addr());
    let mut publisher = Publisher::new(servers[1].addr());
    let text = "x".repeat(16 * 1024);
    for _ in 0..200 {
        publisher.publish_to_all(&text);
        prompt.assert_text(&text);
    }
    redis.publish("notifications", b"raw too");
    prompt.assert_text("raw too");
}
