//! A neighbour with all rights writes into our keys: their channels begin anew, and go on.

use wsbcast::broker::{Receipt, Since};

use crate::{
    process::{Process, channel, keyed, offset, run, until},
    redis_server::RedisServer,
    repair::{META, STREAM, settings},
};

/// Commands that leave one of a channel's keys in a state that none of us wrote.
const DEEDS: [&str; 21] = [
    "SET META text",
    "HSET META epoch no!epoch",
    "HSET META epoch empty-0123456789abcdef",
    "HSET META epoch aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "HSET META offset 9007199254740989",
    "HSET META offset 9007199254740990",
    "HSET META offset 9007199254740991",
    "HSET META offset 18446744073709551615",
    "HSET META offset many",
    "HSET META offset -7",
    "HSET META nonce 1e300",
    "HDEL META offset",
    "HDEL META quota",
    "HSET META quota text",
    "HSET META quota 9007199254740991~1~1~0",
    "HSET META quota 1~9007199254740991~9007199254740991~1",
    "HSET META quota 1~99999999999999999999999999999999999999999~1~0",
    "SET STREAM text",
    "XADD STREAM 18446744073709551615-18446744073709551615 a b",
    "XADD STREAM * a b",
    "XADD STREAM 9007199254740990-1 k t",
];

/// Publishing and coming back go on, whatever was written into a channel's keys.
#[test]
fn odd_keys_in_redis_stop_nothing() {
    run(async {
        let server = RedisServer::start();
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        let mut published = 0;
        for deed in DEEDS {
            for text in ["before", "before that"] {
                offset(process.publish("a", text).await);
                published += 1;
            }
            let deed = deed.replace("META", META).replace("STREAM", STREAM);
            // A tilde is a space within a word.
            let words: Vec<String> = deed.split(' ').map(|word| word.replace('~', " ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if words[0] != "HSET" && words[0] != "HDEL" {
                server.cli(&["DEL", words[1]]);
            }
            server.cli(&words);
            // A message that does not follow is looked for in Redis: it must not be gone by then.
            for text in ["after", "after that"] {
                offset(process.publish("a", text).await);
                published += 1;
                for sink in &process.sinks {
                    let what = format!("all have arrived after {deed}");
                    until(&what, || sink.messages().len() == published).await;
                }
            }
            // Another process reads what there is.
            let other = Process::start(settings(&server), 1).await;
            other.subscribe("a").await;
            let position = other.shards[0].position(channel("a"), Some(&Since::Newest(3))).await;
            let newest = process.sinks[0].messages().last().unwrap().position.clone();
            assert_eq!(position, newest, "{deed}");
            other.close().await;
        }
    });
}

/// Keys of another type and a lease without end hold nobody up.
#[test]
fn keys_of_another_type_hold_nobody_up() {
    run(async {
        let server = RedisServer::start();
        for key in ["test:{a}:idem:one", "test:{notifications}:presence", "test:{a}:idem:two"] {
            server.cli(&["RPUSH", key, "x"]);
        }
        server.cli(&["SET", "test:{a}:idem:three", "empty-0 1"]);
        server.cli(&["SET", "test:{a}:idem:two", "no!epoch 9007199254740999"]);
        server.cli(&["SET", "test:{notifications}:bridge:raw", "somebody 1"]);
        let process = Process::start(settings(&server), 2).await;
        process.subscribe("a").await;
        process.subscribe("notifications").await;
        let keys = [("one", 1), ("two", 2), ("three", 3), ("one", 1), ("two", 2), ("three", 3)];
        for (key, expected) in keys {
            let receipt = process.shards[0].publish(keyed("a", key, "x")).await;
            assert!(
                !matches!(&receipt, Ok(Receipt::Cluster(at)) if at.epoch.starts_with("empty-"))
            );
            assert_eq!(offset(receipt), expected, "{key}");
        }
        until("the raw channel is bridged", || {
            server.cli(&["PUBLISH", "raw", "hi"]);
            process.sinks[0].texts().contains(&"hi".to_owned())
        })
        .await;
    });
}
