//! A process' clients go on in another process: they miss nothing, and get nothing twice, whatever
//! is published meanwhile, and whether there is a history or none.

use std::{cell::Cell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use wsbcast::{
    broker::{
        BrokerGiving, BrokerSettings, BrokerTaking, HaltedBroker, HistorySettings, NotSubscribed,
        OnLoss, Reach, Subscribers,
    },
    limits::LEVEL_DEADLINE,
};

use crate::{
    Program, Recipe,
    process::{
        HISTORY, PATIENCE, Process, TestSink, channel, load, offset, pace, redis_settings, run,
        until,
    },
    proxy::Proxy,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
    sharded,
};

/// Nothing is remembered anywhere.
const NO_HISTORY: HistorySettings = HistorySettings { messages_max: 0, ..HISTORY };
const NONE: Duration = Duration::ZERO;

fn settings(
    server: &RedisServer,
    subscribers: Subscribers,
    history: HistorySettings,
) -> BrokerSettings {
    let mut redis = redis_settings(server);
    redis.subscribers = subscribers;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history }
}

/// A hand-over that has begun: the new process is subscribed.
struct HandOver {
    giving: BrokerGiving,
    taking: BrokerTaking,
    new: Process,
}

/// By channel, the offsets that the clients of a shard have got.
type Heard = HashMap<String, Vec<u64>>;

fn heard(process: &Process) -> Vec<Heard> {
    let of_sink = |sink: &Arc<TestSink>| {
        let mut heard = Heard::new();
        for message in sink.messages() {
            let name = message.channel.as_str().to_owned();
            heard.entry(name).or_default().extend(message.position.map(|it| it.offset));
        }
        heard
    };
    process.sinks.iter().map(of_sink).collect()
}

impl HandOver {
    /// The new process is built, and knows what the old one sends ahead.
    async fn prepare(old: &Process, settings: BrokerSettings, shards: usize) -> Self {
        let mut giving = old.shared.give().unwrap();
        let new = Process::start_early(settings, shards).await;
        let mut taking = new.shared.take_over().unwrap();
        while let Some(chunk) = giving.next_chunk() {
            taking.put(&chunk).unwrap();
        }
        while let Some(chunk) = giving.next_channels().await {
            taking.put(&chunk).unwrap();
        }
        Self { giving, taking, new }
    }

    async fn begin(old: &Process, settings: BrokerSettings, shards: usize) -> Self {
        let mut begun = Self::prepare(old, settings, shards).await;
        begun.taking.subscribed(PATIENCE).await.unwrap();
        begun
    }

    /// The old process stops; what its clients have got by then.
    async fn stop(&mut self, old: &Process) -> (HaltedBroker, Vec<Heard>) {
        while let Some(chunk) = self.giving.next_channels().await {
            self.taking.put(&chunk).unwrap();
        }
        self.taking.subscribed(PATIENCE).await.unwrap();
        let halted = self.giving.level(LEVEL_DEADLINE).await.unwrap();
        (halted, heard(old))
    }

    /// The new process goes on; its shards have clients of these channels.
    fn go_on(self, channels: &[&[&str]]) -> Process {
        let Self { giving, mut taking, new } = self;
        giving.finish().for_each(|chunk| taking.put(&chunk).unwrap());
        for (shard, names) in new.shards.iter().zip(channels) {
            shard.keep(names.iter().copied().map(channel).collect());
        }
        taking.finish().unwrap();
        new
    }
}

/// A client that was on the shard `before` goes on on the shard `after`: on `name` it gets all of
/// the first `count` messages, once and in order.
fn assert_whole(before: &Heard, after: &Heard, name: &str, count: u64) {
    let got = |heard: &Heard| heard.get(name).cloned().unwrap_or_default();
    let (before, after) = (got(before), got(after));
    let all: Vec<u64> = before.iter().chain(&after).copied().collect();
    assert_eq!(all, (1..=count).collect::<Vec<_>>(), "{name}: {before:?}, then {after:?}");
}

/// All that others publish meanwhile arrives once, in order, on every shard; also if the new
/// process has more shards or fewer, and if it knows of a channel only in the last moment.
#[test]
fn messages_go_on_where_another_process_stops() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        for (history, shards) in [(HISTORY, 2), (NO_HISTORY, 2), (NO_HISTORY, 3), (NO_HISTORY, 1)] {
            run(async {
                let server = RedisServer::start();
                let settings = settings(&server, subscribers, history);
                let publisher = Rc::new(Process::start(settings.clone(), 1).await);
                let old = Process::start(settings.clone(), 2).await;
                old.subscribe("a").await;
                let stop = Rc::new(Cell::new(false));
                let loading = load(publisher.clone(), 3, PATIENCE, stop.clone());
                let handing = async {
                    let is_heard = |process: &Process, many: usize| {
                        let heard = heard(process);
                        heard.iter().all(|it| it.get("a").is_some_and(|it| it.len() > many))
                    };
                    until("some are heard", || is_heard(&old, 20)).await;
                    let mut begun = HandOver::begin(&old, settings, shards).await;
                    old.shards[1].subscribe(channel("late")).await;
                    offset(publisher.publish("late", "1").await);
                    let (halted, before) = begun.stop(&old).await;
                    offset(publisher.publish("late", "2").await);
                    pace().await;
                    assert_eq!(heard(&old), before, "it has stopped");
                    let mut kept = vec![&["a", "late"][..]; shards];
                    if shards == 2 {
                        kept[0] = &["a"];
                    }
                    let new = begun.go_on(&kept);
                    drop(halted);
                    until("some more are heard", || is_heard(&new, 20)).await;
                    stop.set(true);
                    (before, new, kept)
                };
                let (answers, (before, new, kept)) = tokio::join!(loading, handing);
                let count = answers.len() as u64;
                for (shard, sink) in new.sinks.iter().enumerate() {
                    let last = || heard(&new)[shard]["a"].last().copied();
                    until("the last is heard", || last() == Some(count)).await;
                    assert_eq!(sink.gaps(), 0);
                    let after = &heard(&new)[shard];
                    before.iter().for_each(|before| assert_whole(before, after, "a", count));
                    if kept[shard].contains(&"late") {
                        assert_whole(&before[1], after, "late", 2);
                    }
                }
                assert!(old.sinks.iter().all(|sink| sink.gaps() == 0));
            });
        }
    }
}

/// In a cluster each channel goes on by itself, on the server that it lives on.
#[test]
fn channels_of_a_cluster_go_on() {
    run(async {
        let cluster = RedisCluster::start_as(2, false, &Recipe::new(Program::Redis, &[]));
        let settings = BrokerSettings { history: NO_HISTORY, ..sharded::settings(&cluster) };
        let publisher = Process::start(settings.clone(), 1).await;
        let old = Process::start(settings.clone(), 2).await;
        let names = ["a", "b", "c", "d"];
        assert!(names.map(|name| cluster.owner(name)).contains(&0));
        assert!(names.map(|name| cluster.owner(name)).contains(&1));
        for name in names {
            old.subscribe(name).await;
        }
        let publish = async || {
            for name in names {
                offset(publisher.publish(name, "text").await);
            }
        };
        publish().await;
        let mut begun = HandOver::begin(&old, settings, 2).await;
        publish().await;
        let (halted, before) = begun.stop(&old).await;
        publish().await;
        let new = begun.go_on(&[&names, &names]);
        drop(halted);
        publish().await;
        for (shard, sink) in new.sinks.iter().enumerate() {
            for name in names {
                let last = || heard(&new)[shard].get(name).and_then(|it| it.last().copied());
                until("the last is heard", || last() == Some(4)).await;
                assert_whole(&before[shard], &heard(&new)[shard], name, 4);
            }
            assert_eq!(sink.gaps(), 0);
        }
    });
}

/// Channels that no client has in the new process are given up, and a channel that another shard
/// has is heard by that one alone.
#[test]
fn channels_without_clients_are_given_up() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        run(async {
            let server = RedisServer::start();
            let settings = settings(&server, subscribers, HISTORY);
            let old = Process::start(settings.clone(), 2).await;
            old.subscribe("a").await;
            old.shards[0].subscribe(channel("b")).await;
            let numbers = |name: &str| {
                let name = format!("test:{{{name}}}");
                let told = server.cli(&["PUBSUB", "NUMSUB", &name]);
                told.lines().nth(1).unwrap().parse::<usize>().unwrap()
            };
            let each = if subscribers == Subscribers::PerShard { 2 } else { 1 };
            let mut begun = HandOver::begin(&old, settings, 2).await;
            assert_eq!((numbers("a"), numbers("b")), (2 * each, 2));
            let (halted, _) = begun.stop(&old).await;
            let new = begun.go_on(&[&["a"], &[]]);
            drop(halted);
            old.close().await;
            until("one hears", || (numbers("a"), numbers("b")) == (1, 0)).await;
            for name in ["a", "b"] {
                offset(new.publish(name, "1").await);
            }
            until("it arrives", || new.sinks[0].texts() == ["1"]).await;
            assert!(new.sinks[1].texts().is_empty());
        });
    }
}

/// A hand-over that fails changes nothing: what has waited arrives in the old process.
#[test]
fn a_process_goes_on_after_a_hand_over_that_failed() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        run(async {
            let server = RedisServer::start();
            let settings = settings(&server, subscribers, NO_HISTORY);
            let publisher = Process::start(settings.clone(), 1).await;
            let old = Process::start(settings.clone(), 2).await;
            old.subscribe("a").await;
            for round in 0..2 {
                let mut begun = HandOver::begin(&old, settings.clone(), 2).await;
                let (halted, before) = begun.stop(&old).await;
                for _ in 0..5 {
                    offset(publisher.publish("a", "text").await);
                }
                drop(begun);
                assert_eq!(heard(&old), before);
                drop(halted);
                let all: Vec<u64> = (1..=5 * (round + 1)).collect();
                for sink in &old.sinks {
                    until("they arrive", || sink.offsets() == all).await;
                    assert_eq!(sink.gaps(), 0);
                }
            }
        });
    }
}

/// Messages that the new process has missed since it was ready, since its connections were lost,
/// are fetched; or told as missing, if nobody remembers them.
#[test]
fn lost_connections_of_a_new_process_are_mended() {
    for subscribers in [Subscribers::PerShard, Subscribers::PerProcess] {
        for history in [HISTORY, NO_HISTORY] {
            run(async {
                let server = RedisServer::start();
                let settings = settings(&server, subscribers, history);
                let publisher = Process::start(settings.clone(), 1).await;
                let old = Process::start(settings.clone(), 2).await;
                old.subscribe("a").await;
                let proxy = Proxy::start(&server.address(), NONE);
                let mut through = settings.clone();
                through.redis.as_mut().unwrap().url = format!("redis://{}", proxy.address());
                offset(publisher.publish("a", "1").await);
                let mut begun = HandOver::begin(&old, through, 2).await;
                let (halted, before) = begun.stop(&old).await;
                for text in ["2", "3"] {
                    offset(publisher.publish("a", text).await);
                }
                proxy.cut();
                begun.new.lost().await;
                offset(publisher.publish("a", "4").await);
                begun.new.up().await;
                let new = begun.go_on(&[&["a"], &["a"]]);
                drop(halted);
                let known = |sink: &TestSink| {
                    let mut known = sink.offsets();
                    let told = sink.missed().into_iter();
                    known.extend(told.flat_map(|(_, from, to)| from..=to.unwrap()));
                    known.sort_unstable();
                    known
                };
                for sink in &new.sinks {
                    until("each has arrived or is told", || known(sink) == [2, 3, 4]).await;
                }
                offset(publisher.publish("a", "5").await);
                for (shard, sink) in new.sinks.iter().enumerate() {
                    until("the last arrives", || sink.offsets().last() == Some(&5)).await;
                    assert_eq!(before[shard]["a"], [1]);
                    assert_eq!(known(sink), [2, 3, 4, 5]);
                    let is_kept = history.messages_max > 0;
                    assert!(!is_kept || sink.gaps() == 0, "{:?}", sink.seen());
                }
            });
        }
    }
}

/// Without Redis a process can be replaced, and its clients miss nothing once Redis is back; but
/// not by one that is further from Redis.
#[test]
fn a_new_process_reaches_redis_as_far_as_the_old_one() {
    run(async {
        let server = RedisServer::start();
        let settings = settings(&server, Subscribers::PerShard, HISTORY);
        let publisher = Process::start(settings.clone(), 1).await;
        let proxy = Proxy::start(&server.address(), NONE);
        let mut through = settings.clone();
        through.redis.as_mut().unwrap().url = format!("redis://{}", proxy.address());
        let old = Process::start(through.clone(), 2).await;
        old.subscribe("a").await;
        offset(publisher.publish("a", "1").await);
        until("it arrives", || old.sinks.iter().all(|sink| sink.texts() == ["1"])).await;
        let mut nowhere = through.clone();
        nowhere.redis.as_mut().unwrap().url = "redis://127.0.0.1:1".to_owned();
        let mut far = HandOver::prepare(&old, nowhere, 2).await;
        let refused = far.taking.subscribed(Duration::from_millis(200)).await;
        assert_eq!(refused, Err(NotSubscribed::NotReached));
        drop(far);
        proxy.lead_to("127.0.0.1:1");
        proxy.cut();
        old.lost().await;
        offset(publisher.publish("a", "2").await);
        let mut begun = HandOver::begin(&old, through, 2).await;
        assert_eq!(begun.new.shared.health().reach(), Reach::NeverReached);
        let (halted, before) = begun.stop(&old).await;
        let new = begun.go_on(&[&["a"], &["a"]]);
        drop(halted);
        proxy.lead_to(&server.address());
        new.up().await;
        offset(publisher.publish("a", "3").await);
        for (shard, sink) in new.sinks.iter().enumerate() {
            until("the last arrives", || sink.offsets().last() == Some(&3)).await;
            assert_whole(&before[shard], &heard(&new)[shard], "a", 3);
            assert_eq!(sink.gaps(), 0);
        }
    });
}

/// The raw channel's messages are bridged once each, by the old process or by the new one.
#[test]
fn the_raw_channel_keeps_its_bridge() {
    run(async {
        let server = RedisServer::start();
        let settings = settings(&server, Subscribers::PerShard, NO_HISTORY);
        let old = Process::start(settings.clone(), 2).await;
        old.subscribe("notifications").await;
        let raw = |from: usize| {
            (from..from + 10).for_each(|number| {
                server.cli(&["PUBLISH", "raw", &number.to_string()]);
            });
        };
        raw(0);
        let mut begun = HandOver::begin(&old, settings, 2).await;
        raw(10);
        let (halted, before) = begun.stop(&old).await;
        raw(20);
        let new = begun.go_on(&[&["notifications"], &["notifications"]]);
        drop(halted);
        let publishing = async {
            raw(30);
            old.close().await;
            raw(40);
        };
        publishing.await;
        for (shard, sink) in new.sinks.iter().enumerate() {
            until("the last arrives", || sink.offsets().last() == Some(&50)).await;
            assert_whole(&before[shard], &heard(&new)[shard], "notifications", 50);
        }
        assert_eq!(new.shared.health().raw_handovers(), 0, "nobody was without a bridge");
    });
}
