//! What comes from programs that are none of ours.

use wsbcast::{
    broker::{OnLoss, Settings},
    channel::ChannelName,
    ws::Kind,
};

use crate::{
    process::{Process, offset, redis_settings, run, until},
    redis_server::RedisServer,
};

async fn process(server: &RedisServer) -> Process {
    let mut redis = redis_settings(server);
    redis.max_broadcast_bytes = 10;
    Process::start(
        Settings { redis: Some(redis), on_loss: OnLoss::Local, history: super::process::HISTORY },
        3,
    )
    .await
}

#[test]
fn the_raw_channel_goes_as_it_is_to_the_default_channel() {
    run(async {
        let server = RedisServer::start();
        let process = process(&server).await;
        server.cli(&["PUBLISH", "raw", "hi \u{1f600}"]);
        server.cli(&["EVAL", r"return redis.call('PUBLISH', 'raw', '\255\0')", "0"]);
        for sink in &process.sinks {
            until("both have arrived", || sink.messages().len() == 2).await;
            let messages = sink.messages();
            assert!(messages.iter().all(|message| message.position.is_none()));
            assert!(
                messages.iter().all(|message| message.channel == ChannelName::default_channel())
            );
            assert_eq!(messages[0].kind, Kind::Text);
            assert_eq!(messages[0].data, "hi \u{1f600}");
            assert_eq!(
                (messages[1].kind, &*messages[1].data),
                (Kind::Binary, b"\xff\0".as_slice())
            );
        }
        assert_eq!(process.shared.health().raw_published(), 2, "once per process");
    });
}

#[test]
fn what_is_too_big_on_the_raw_channel_is_dropped_and_counted_once() {
    run(async {
        let server = RedisServer::start();
        let process = process(&server).await;
        server.cli(&["PUBLISH", "raw", "12345678901"]);
        server.cli(&["PUBLISH", "raw", "1234567890"]);
        for sink in &process.sinks {
            until("the smaller has arrived", || !sink.messages().is_empty()).await;
            assert_eq!(sink.texts(), ["1234567890"]);
        }
        assert_eq!(process.shared.health().raw_too_big(), 1);
        assert_eq!(process.shared.health().raw_published(), 1);
    });
}

#[test]
fn garbage_and_repetitions_on_our_channels_reach_nobody() {
    run(async {
        let server = RedisServer::start();
        let process = process(&server).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "first").await), 1);
        for sink in &process.sinks {
            until("the first has arrived", || sink.messages().len() == 1).await;
        }
        let epoch = process.sinks[0].messages()[0].position.clone().unwrap().epoch;
        server.cli(&["PUBLISH", "test:{a}", "garbage"]);
        let nonce = server.cli(&["HGET", "test:{a}:meta", "nonce"]);
        server.cli(&["PUBLISH", "test:{a}", &format!("2 t {epoch} 1 {nonce} 0\nfirst")]);
        assert_eq!(offset(process.publish("a", "second").await), 2);
        for sink in &process.sinks {
            until("the second has arrived", || sink.messages().len() >= 2).await;
            assert_eq!(sink.texts(), ["first", "second"]);
            assert_eq!(sink.gaps(), 0);
        }
        assert_eq!(process.shared.health().foreign(), 3);
        assert_eq!(process.shared.health().duplicates(), 3);
    });
}
