//! Listening clients cost Redis next to nothing, however often they come and go.

use wsbcast::broker::{Position, Since};

use crate::{
    history::{after, read, recover},
    process::{Process, channel, now, offset, run, until},
    redis_server::RedisServer,
    repair::settings,
};

/// Readings of streams since the last look, and bytes that Redis sent, its answer to this included.
fn costs(server: &RedisServer) -> (u64, u64) {
    let number = |section: &str, start: &str| {
        let told = server.cli(&["INFO", section]);
        let number = |line: &str| line.strip_prefix(start)?.split(',').next()?.trim().parse().ok();
        told.lines().find_map(number).unwrap_or(0)
    };
    let reads = number("commandstats", "cmdstat_xrevrange:calls=");
    let bytes = number("stats", "total_net_output_bytes:");
    server.cli(&["CONFIG", "RESETSTAT"]);
    (reads, bytes)
}

/// A client comes alone, asks, is answered, and leaves; the result is what it may read.
async fn come_and_leave(process: &Process, since: Since) -> Vec<String> {
    process.subscribe("a").await;
    let shard = &*process.shards[0];
    let to: Position = shard.position(channel("a"), Some(&since)).await.unwrap();
    let (from, missed) = recover(shard, since, &to).await;
    assert_eq!(missed, None);
    let texts = read(shard, from, &to, 1 << 20);
    shard.unsubscribe(&channel("a"));
    texts
}

/// The history of a client that comes and leaves again and again is read once.
#[test]
fn a_flapping_client_has_its_history_read_once() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        for number in 1..=200 {
            offset(publisher.publish("a", &number.to_string()).await);
        }
        let process = Process::start(settings(&server), 1).await;
        costs(&server);
        for _ in 0..50 {
            assert_eq!(come_and_leave(&process, Since::Newest(1_000_000)).await.len(), 200);
        }
        let (reads, _) = costs(&server);
        assert_eq!(reads, 1);
        // Then only what is newer.
        for number in 201..=210 {
            offset(publisher.publish("a", &number.to_string()).await);
        }
        for _ in 0..50 {
            let texts = come_and_leave(&process, Since::Newest(1_000_000)).await;
            assert_eq!((texts.len(), &*texts[209]), (210, "210"));
        }
        let (reads, bytes) = costs(&server);
        assert_eq!(reads, 1);
        assert!(bytes < 50_000, "{bytes}");
    });
}

#[test]
fn nothing_is_read_that_was_not_asked_for() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        let text = "x".repeat(10_000);
        for _ in 0..200 {
            offset(publisher.publish("a", &text).await);
        }
        let epoch = server.cli(&["HGET", crate::repair::META, "epoch"]);
        for since in [Since::Newest(3), after(&epoch, 197)] {
            let process = Process::start(settings(&server), 1).await;
            costs(&server);
            assert_eq!(come_and_leave(&process, since.clone()).await.len(), 3);
            let (reads, bytes) = costs(&server);
            assert!(reads == 1 && bytes < 200_000, "{bytes} for 30,000");
            // A client that wants more then gets it.
            assert_eq!(come_and_leave(&process, Since::Newest(200)).await.len(), 200);
            assert_eq!(come_and_leave(&process, after(&epoch, 100)).await.len(), 100);
            assert_eq!(costs(&server).0, 1);
        }
    });
}

/// A shard that was deaf for a while hears what follows.
#[test]
fn a_shard_that_was_deaf_hears_what_follows() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        let process = Process::start(settings(&server), 1).await;
        offset(publisher.publish("a", "1").await);
        assert_eq!(come_and_leave(&process, Since::Newest(10)).await, ["1"]);
        offset(publisher.publish("a", "2").await);
        process.subscribe("a").await;
        offset(publisher.publish("a", "3").await);
        until("it has arrived", || process.sinks[0].offsets().last() == Some(&3)).await;
        assert_eq!(process.sinks[0].gaps(), 0, "it was nobody's");
        assert_eq!(come_and_leave(&process, Since::Newest(10)).await, ["1", "2", "3"]);
    });
}

/// Reading for clients that come back is bounded, and a client that would wait is told what it
/// misses.
/// A process may keep little, and many come at once for much.
#[test]
fn readings_for_resumes_are_bounded() {
    run(async {
        let server = RedisServer::start();
        let publisher = Process::start(settings(&server), 1).await;
        let text = "x".repeat(32 * 1024);
        let names: Vec<String> = (0..500).map(|number| format!("c{number}")).collect();
        for name in &names {
            for _ in 0..8 {
                offset(publisher.publish(name, &text).await);
            }
        }
        // 125 MiB, of which 4 may be kept.
        let mut small = settings(&server);
        (small.history.bytes_max, small.history.total_bytes_max) = (1 << 20, 4 << 20);
        let process = Process::start(small, 1).await;
        costs(&server);
        let shard = &*process.shards[0];
        let come = names.iter().map(|name| async move {
            shard.subscribe(channel(name)).await;
            let since = Since::Newest(8);
            let to = shard.position(channel(name), Some(&since)).await?;
            Some(shard.recover(channel(name), since, to).await.missed.is_none())
        });
        let began = now();
        let whole = futures_util::future::join_all(come).await;
        let took = now() - began;
        let (_, bytes) = costs(&server);
        let allowed = (4 << 20) + 32 * 1024 * u64::try_from(took.as_millis()).unwrap();
        // The first ones are begun before it is known how large they are.
        assert!(bytes < allowed + (16 << 20), "{bytes} B in {took:?}");
        assert!(whole.contains(&Some(true)), "some got all");
    });
}
