//! The promises of every broker, run over the embedded one, a real Redis and a real Valkey.
//!
//! Promises that only a broker with something to lose can make stand in the modules.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what is not as expected is a failed test")]

mod announcements;
mod bans;
mod cluster;
mod cluster_part_lost;
mod cost;
mod deployments;
mod distant_redis;
mod fake_sentinel;
mod foreign_writes;
mod guest;
mod handover;
mod history;
mod loss;
mod lost_pushes;
mod moves;
mod planned_moves;
mod process;
mod query_priority;
mod quota;
mod raw;
mod refusals;
mod repair;
mod rights;
mod rollback;
mod running;
mod script_proxy;
mod sentinel;
mod sharded;
mod short_outage;
mod stalled_shard;
mod trials;
mod unused_channels;

use std::{collections::HashSet, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use history::{
    a_channel_that_was_never_used_has_a_position, a_key_is_published_once_per_channel,
    a_position_outside_the_window_names_the_gap, history_since_a_position_is_read_in_pieces,
    the_newest_messages_can_be_asked_for, without_history_everything_that_was_missed_is_told,
};
use process::{
    Backend, Process, TestSink, channel, keyed, next_slot, offset, publish_keyed, run,
    run_in_real_time, shared, until,
};
use redis_server::{Program, Recipe, RedisServer};
use testkit::{proxy, redis as redis_server, redis_cluster, wait};
use wsbcast::{
    broker::{
        HandleOwner, Message, PeriodicSlot, Principal, PublishError, Reach, Receipt, connect,
    },
    ws::Kind,
};

/// One test per promise and broker.
macro_rules! contract {
    ($($promise:ident),+ $(,)?) => {
        mod embedded {
            $(#[test] fn $promise() { super::$promise(super::Backend::Embedded) })+
        }
        mod redis {
            $(#[test] fn $promise() {
                super::$promise(super::Backend::Redis(super::RedisServer::start()))
            })+
        }
        mod redis_per_process {
            $(#[test] fn $promise() {
                super::$promise(super::Backend::RedisPerProcess(super::RedisServer::start()))
            })+
        }
        mod valkey {
            $(#[test] fn $promise() {
                super::$promise(super::Backend::Redis(super::RedisServer::start_valkey()))
            })+
        }
    };
}

/// One test per promise and program.
macro_rules! over_redis_and_valkey {
    ($($promise:ident),+ $(,)?) => {
        mod redis {
            $(#[test] fn $promise() { super::$promise(crate::Program::Redis) })+
        }
        mod valkey {
            $(#[test] fn $promise() { super::$promise(crate::Program::Valkey) })+
        }
    };
}
use over_redis_and_valkey;

contract!(
    offsets_rise_by_one_from_one,
    every_channel_has_offsets_of_its_own,
    payloads_arrive_as_published,
    all_shards_of_all_threads_see_one_order,
    calls_on_one_handle_keep_their_order,
    a_message_refused_by_a_full_shard_costs_no_offset,
    a_slot_is_published_once_over_several_handles,
    slots_follow_each_other,
    a_closed_handle_ends_quickly,
    history_since_a_position_is_read_in_pieces,
    a_position_outside_the_window_names_the_gap,
    the_newest_messages_can_be_asked_for,
    a_channel_that_was_never_used_has_a_position,
    a_key_is_published_once_per_channel,
    without_history_everything_that_was_missed_is_told,
);

fn offsets_rise_by_one_from_one(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 2).await;
        process.subscribe("a").await;
        for expected in 1..=50 {
            let receipt = process.publish("a", "x").await;
            let Ok(Receipt::Cluster(position)) = receipt else { panic!("{receipt:?}") };
            assert_eq!(position.offset, expected);
            assert!((1..=32).contains(&position.epoch.len()));
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.offsets().len() == 50).await;
            assert_eq!(sink.offsets(), (1..=50).collect::<Vec<_>>());
            assert_eq!(sink.gaps(), 0);
        }
    });
}

fn every_channel_has_offsets_of_its_own(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 1).await;
        for expected in 1..=3 {
            assert_eq!(offset(process.publish("a", "x").await), expected);
            assert_eq!(offset(process.publish("b", "x").await), expected);
        }
    });
}

fn payloads_arrive_as_published(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 2).await;
        process.subscribe("a").await;
        let payloads: [(Kind, Vec<u8>); 5] = [
            (Kind::Text, b"".to_vec()),
            (Kind::Text, "zwei\nZeilen \u{1f600}\r\n".into()),
            (Kind::Binary, b"\xff\x00\r\n".to_vec()),
            (Kind::Binary, b"1 t e 1\nno header".to_vec()),
            (Kind::Binary, vec![0xfe; 1024 * 1024]),
        ];
        for (kind, data) in &payloads {
            let data = Bytes::from(data.clone());
            let (publisher, kind) = (Principal::Api, *kind);
            let message = Message { publisher, channel: channel("a"), kind, data, key: None };
            offset(process.shards[1].publish(message).await);
        }
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == payloads.len()).await;
            for (message, (kind, data)) in sink.messages().into_iter().zip(&payloads) {
                assert_eq!((message.kind, &*message.data), (*kind, &**data));
                assert_eq!(message.channel, channel("a"));
            }
        }
    });
}

fn all_shards_of_all_threads_see_one_order(backend: Backend) {
    const SHARDS: usize = 3;
    const EACH: usize = 200;
    let (shared, sinks) = shared(backend.settings(), SHARDS);
    std::thread::scope(|scope| {
        for shard in 0..SHARDS {
            let (shared, sinks) = (shared.clone(), &sinks);
            scope.spawn(move || {
                run_in_real_time(async {
                    let broker = connect(shared.clone(), HandleOwner::Shard(shard)).await;
                    let up = || matches!(shared.health().reach(), Reach::Up | Reach::Embedded);
                    until("the broker is up", up).await;
                    broker.subscribe(channel("a")).await;
                    let ready = format!("ready {shard}");
                    publish_keyed(
                        &*broker,
                        &shared.health(),
                        keyed("a", &format!("key-{shard}"), &ready),
                    )
                    .await;
                    let all_ready = || {
                        let texts = sinks[shard].texts();
                        texts.contains(&ready)
                    };
                    until("the own message has arrived", all_ready).await;
                    for number in 0..EACH {
                        let text = format!("{shard}:{number}");
                        publish_keyed(&*broker, &shared.health(), keyed("a", &text, &text)).await;
                    }
                    let last = SHARDS * (EACH + 1);
                    let arrived = || {
                        sinks[shard].offsets().last().is_some_and(|offset| *offset == last as u64)
                    };
                    until("everyone's messages have arrived", arrived).await;
                });
            });
        }
    });
    let placed = |sink: &Arc<TestSink>| {
        let messages = sink.messages().into_iter();
        messages.filter(|message| message.position.is_some()).collect::<Vec<_>>()
    };
    let views: Vec<_> = sinks.iter().map(placed).collect();
    // Shards subscribe at different times: from there on they see the same.
    let shortest = views.iter().map(Vec::len).min().unwrap();
    assert!(shortest >= EACH);
    for view in &views {
        assert_eq!(view[view.len() - shortest..], views[0][views[0].len() - shortest..]);
        let offsets: Vec<_> =
            view.iter().map(|message| message.position.as_ref().unwrap().offset).collect();
        assert!(offsets.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
    assert_eq!(sinks.iter().map(|sink| sink.gaps()).sum::<usize>(), 0);
}

fn calls_on_one_handle_keep_their_order(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 1).await;
        process.subscribe("a").await;
        let texts: Vec<String> = (0..500).map(|number| number.to_string()).collect();
        let publishes = texts.iter().map(|text| process.publish("a", text));
        let receipts = futures_util::future::join_all(publishes).await;
        let offsets: Vec<u64> = receipts.into_iter().map(offset).collect();
        assert_eq!(offsets, (1..=500).collect::<Vec<_>>());
        until("all have arrived", || process.sinks[0].messages().len() == 500).await;
        assert_eq!(process.sinks[0].texts(), texts);
    });
}

/// A message that a full shard refuses costs no offset.
fn a_message_refused_by_a_full_shard_costs_no_offset(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 2).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "first").await), 1);
        for sink in &process.sinks {
            until("the first has arrived", || sink.messages().len() == 1).await;
        }
        process.sinks[1].set_room(0);
        for _ in 0..3 {
            assert_eq!(process.publish("a", "refused").await, Err(PublishError::ShardStalled));
        }
        process.sinks[1].set_room(usize::MAX);
        assert_eq!(offset(process.publish("a", "second").await), 2);
        for sink in &process.sinks {
            until("the second has arrived", || sink.messages().len() == 2).await;
            assert_eq!(sink.texts(), ["first", "second"]);
        }
    });
}

fn slot(interval_ms: u64) -> PeriodicSlot {
    let text_at = Rc::new(|_| Bytes::from_static(b"notice"));
    PeriodicSlot { channel: channel("a"), interval_ms, text_at }
}

/// An interval so long that no test sees the next slot, unless it starts at a boundary.
const HOUR_MS: u64 = 3_600_000;

fn a_slot_is_published_once_over_several_handles(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 3).await;
        process.subscribe("a").await;
        let claims = process.shards.iter().chain([&process.control]).map(|handle| async {
            let outcome = handle.publish_once(slot(HOUR_MS)).await;
            assert!((1..=HOUR_MS).contains(&outcome.next_slot_in_ms));
            outcome.published.unwrap()
        });
        let published: Vec<_> = futures_util::future::join_all(claims).await;
        let receipts: Vec<_> = published.into_iter().flatten().collect();
        assert!(matches!(&receipts[..], [Receipt::Cluster(position)] if position.offset == 1));
        for handle in &process.shards {
            assert_eq!(handle.publish_once(slot(HOUR_MS)).await.published, Ok(None));
        }
        // The next message comes behind the one notice.
        assert_eq!(offset(process.publish("a", "end").await), 2);
        for sink in &process.sinks {
            until("both have arrived", || sink.messages().len() == 2).await;
            assert_eq!(sink.texts(), ["notice", "end"]);
        }
    });
}

fn slots_follow_each_other(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 1).await;
        process.subscribe("a").await;
        let mut offsets = Vec::new();
        let number_at = |time: Duration| Bytes::from((time.as_millis() / 100).to_string());
        let slot = PeriodicSlot { text_at: Rc::new(number_at), ..slot(100) };
        while offsets.len() < 3 {
            let outcome = process.control.publish_once(slot.clone()).await;
            if let Some(receipt) = outcome.published.unwrap() {
                offsets.push(offset(Ok(receipt)));
            }
            next_slot(outcome.next_slot_in_ms).await;
        }
        assert_eq!(offsets, [1, 2, 3]);
        until("all have arrived", || process.sinks[0].messages().len() == 3).await;
        assert_eq!(process.sinks[0].offsets().into_iter().collect::<HashSet<_>>().len(), 3);
        let texts = process.sinks[0].texts();
        assert_eq!(texts.iter().collect::<HashSet<_>>().len(), 3, "each names its slot: {texts:?}");
    });
}

fn a_closed_handle_ends_quickly(backend: Backend) {
    run(async {
        let process = Process::start(backend.settings(), 2).await;
        let closing = tokio::time::timeout(Duration::from_secs(1), process.close());
        assert!(closing.await.is_ok());
    });
}
