//! Redis is elsewhere all of a sudden: processes that publish there listen there.
//!
//! A name that moves and a proxy that is switched look the same from here: new connections lead
//! elsewhere, those that stand stay where they are.

use std::{cell::Cell, time::Duration};

use wsbcast::broker::{BrokerSettings, OnLoss, Reach, Receipt, RefusalExtent, Subscribers};

use crate::{
    Program, Recipe,
    process::{HISTORY, PATIENCE, Process, now, offset, pace, publish, redis_settings, run, until},
    proxy::Proxy,
    redis_cluster::RedisCluster,
    redis_server::RedisServer,
};

/// The two seconds that are promised, and some more for the servers, the proxy and the programs
/// that look at them: they share a busy machine with other tests, and nobody measures how long
/// they have to wait for it.
const MOVE_MAX: Duration = Duration::from_millis(2500);
/// Of a sleep, what is too late by more than this was no matter of the timer.
const LATE_MIN: Duration = Duration::from_millis(10);

fn settings(url: String, subscribers: Subscribers) -> BrokerSettings {
    let mut redis = redis_settings(&RedisServer::not_started());
    redis.url = url;
    redis.subscribers = subscribers;
    redis.pool = 2;
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: HISTORY }
}

/// How many messages of ours have arrived at a server, by the offset of a channel.
fn taken(server: &RedisServer, name: &str) -> u64 {
    server.cli(&["HGET", &format!("test:{{{name}}}:meta"), "offset"]).parse().unwrap_or(0)
}

/// How long it takes, less what this thread, and all of the process that runs on it, was held up:
/// by the machine, and by the programs that are waited for here.
async fn own_time(doing: impl Future<Output = ()>) -> Duration {
    let (begun, held_up) = (now(), Cell::new(Duration::ZERO));
    let measuring = async {
        loop {
            let asked = now();
            pace().await;
            let took = now() - asked;
            if took > LATE_MIN {
                held_up.set(held_up.get() + took);
            }
        }
    };
    tokio::select! {
        () = doing => {}
        () = measuring => {}
    }
    (now() - begun).saturating_sub(held_up.get())
}

/// All that is published to `name` by anybody of `process` goes to `server` and is heard there.
async fn moved_to(process: &Process, server: &RedisServer, name: &str) {
    let all_arrive = async {
        loop {
            let mut handles = process.shards.iter().chain([&process.control]);
            let is_there = loop {
                let Some(handle) = handles.next() else { break true };
                let before = taken(server, name);
                let receipt = publish(&**handle, name, "x").await;
                if !matches!(receipt, Ok(Receipt::Cluster(_))) || taken(server, name) == before {
                    break false;
                }
            };
            let channel = format!("test:{{{name}}}");
            let hearers = ["CHANNELS", "SHARDCHANNELS"];
            if is_there
                && hearers.iter().any(|kind| server.cli(&["PUBSUB", kind]).contains(&channel))
            {
                return;
            }
            pace().await;
        }
    };
    let in_time = async {
        tokio::time::timeout(PATIENCE, all_arrive).await.expect("everything goes there");
    };
    let took = own_time(in_time).await;
    assert!(took < MOVE_MAX, "{took:?}");
    // The subscribers are there as well.
    for sink in &process.sinks {
        let before = sink.messages().len();
        let heard = publish(&*process.shards[0], name, "heard").await;
        offset(heard);
        until("it is heard", || sink.messages().len() > before).await;
    }
}

/// `replica` is one of `master`'s from now on.
fn follow(replica: &RedisServer, master: &RedisServer) {
    let address = master.address();
    let (host, port) = address.split_once(':').unwrap();
    assert_eq!(replica.cli(&["REPLICAOF", host, port]), "OK");
}

/// A process that went to one server by a name that leads to another one now.
struct Moved {
    old: RedisServer,
    new: RedisServer,
    process: Process,
    _proxy: Proxy,
}

impl Moved {
    async fn start(subscribers: Subscribers) -> Self {
        let (old, new) = (RedisServer::start(), RedisServer::start());
        let proxy = Proxy::start(&old.address(), Duration::ZERO);
        let url = format!("redis://{}", proxy.address());
        let process = Process::start(settings(url, subscribers), 2).await;
        process.subscribe("a").await;
        offset(process.publish("a", "before").await);
        proxy.lead_to(&new.address());
        Self { old, new, process, _proxy: proxy }
    }

    async fn all_are_there(&self) {
        moved_to(&self.process, &self.new, "a").await;
    }
}

const BOTH: [Subscribers; 2] = [Subscribers::PerShard, Subscribers::PerProcess];

/// A name that leads to another server is followed though the old one lives.
/// Regression: connected processes stayed, and later ones were elsewhere.
#[test]
fn a_name_that_leads_elsewhere_is_followed() {
    for subscribers in BOTH {
        run(async { Moved::start(subscribers).await.all_are_there().await });
    }
}

/// Regression: subscribers stayed on the old server for as long as it answered their pings.
#[test]
fn a_connection_made_anew_takes_the_others_along() {
    for kind in ["normal", "pubsub"] {
        for subscribers in BOTH {
            run(async {
                let moved = Moved::start(subscribers).await;
                moved.old.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
                moved.all_are_there().await;
            });
        }
    }
}

/// Regression: only the client that was refused looked again; the subscriber, and other clients,
/// stayed on what was a replica now.
#[test]
fn a_master_that_becomes_a_replica_is_left_by_all() {
    for subscribers in BOTH {
        run(async {
            let moved = Moved::start(subscribers).await;
            follow(&moved.old, &moved.new);
            moved.all_are_there().await;
            until("nobody listens on the replica", || {
                moved.old.cli(&["PUBSUB", "CHANNELS", "test:heartbeat:*"]).is_empty()
            })
            .await;
        });
    }
}

/// Regression: each refused command in flight threw away a client, the new one as well.
#[test]
fn many_refusals_at_once_cost_one_move() {
    run(async {
        let moved = Moved::start(Subscribers::PerShard).await;
        let Moved { old, new, process, .. } = &moved;
        assert_eq!(old.cli(&["REPLICAOF", "127.0.0.1", "1"]), "OK");
        let publishes = (0..300).map(|_| process.publish("a", "x"));
        futures_util::future::join_all(publishes).await;
        process.up().await;
        moved.all_are_there().await;
        let ids = || -> Vec<String> {
            let list = new.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
            let ids = list.lines().filter_map(|line| line.split(' ').next());
            let mut ids: Vec<String> = ids.map(ToOwned::to_owned).collect();
            // Redis lists them in no order.
            ids.sort_unstable();
            ids
        };
        until("both shards listen there", || ids().len() == 2).await;
        let (before, health) = (ids(), process.shared.health());
        let reconnects = health.reconnects();
        let begun = now();
        until("time passes", || now() - begun > Duration::from_secs(2)).await;
        assert_eq!((ids(), health.reconnects()), (before, reconnects), "nothing moves any more");
        assert!(reconnects <= 2, "{reconnects}");
    });
}

/// A name that leads to a replica for good: nothing is torn down, everything is told.
#[test]
fn processes_led_to_a_replica_stay_and_say_so() {
    run(async {
        let (master, replica) = (RedisServer::start(), RedisServer::start());
        follow(&replica, &master);
        let process = Process::start(settings(replica.url(), Subscribers::PerShard), 2).await;
        process.subscribe("a").await;
        let health = process.shared.health();
        until("it is told", || health.refuses() == RefusalExtent::All).await;
        for _ in 0..20 {
            assert_eq!(process.publish("a", "x").await, Ok(Receipt::Local));
        }
        let begun = now();
        until("time passes", || now() - begun > Duration::from_secs(1)).await;
        assert_eq!(health.reconnects(), 0, "its connections stand");
        assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        until("it is used", || health.refuses() == RefusalExtent::Nothing).await;
        moved_to(&process, &replica, "a").await;
    });
}

/// A cluster whose nodes are known by names that lead to them, for now.
struct Named {
    old: RedisCluster,
    new: RedisCluster,
    names: Vec<Proxy>,
    /// A channel that lives on each master.
    channels: Vec<String>,
    process: Process,
}

impl Named {
    /// Two clusters whose nodes call themselves by the same names, and a process of the old one.
    async fn start() -> Self {
        let start = || RedisCluster::start_as(2, false, &Recipe::new(Program::Redis, &[]));
        let (old, new) = (start(), start());
        let proxy = |node: &RedisServer| Proxy::start(&node.address(), Duration::ZERO);
        let names: Vec<Proxy> = old.masters.iter().map(proxy).collect();
        for cluster in [&old, &new] {
            cluster.announce(&names.iter().map(Proxy::address).collect::<Vec<_>>());
        }
        let url = format!("redis-cluster://{}?node={}", names[0].address(), names[1].address());
        let process = Process::start(settings(url, Subscribers::PerShard), 2).await;
        let channels = old.channels();
        for name in &channels {
            process.subscribe(name).await;
            offset(process.publish(name, "before").await);
        }
        Self { old, new, names, channels, process }
    }

    fn lead_to_new(&self, index: usize) {
        self.names[index].lead_to(&self.new.masters[index].address());
    }

    async fn all_are_at_new(&self, index: usize) {
        moved_to(&self.process, &self.new.masters[index], &self.channels[index]).await;
    }
}

/// The names of a cluster's nodes are followed though the old ones live.
/// Regression: lanes and subscribers of a cluster's node stayed where they were as long as that
/// answered, and later ones were elsewhere.
#[test]
fn the_names_of_cluster_nodes_are_followed() {
    run(async {
        let named = Named::start().await;
        named.lead_to_new(0);
        named.lead_to_new(1);
        named.all_are_at_new(0).await;
        named.all_are_at_new(1).await;
    });
}

/// A connection that has to be made to a cluster's node again takes the others along.
/// Regression: the subscriber listened to the one server, and messages went to the other.
#[test]
fn a_lost_cluster_connection_moves_the_others_too() {
    for kind in ["normal", "pubsub"] {
        run(async {
            let named = Named::start().await;
            named.lead_to_new(1);
            named.old.masters[1].cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
            named.all_are_at_new(1).await;
        });
    }
}

/// A name of a cluster's node that moves takes no channels of others along.
#[test]
fn a_moving_node_takes_only_its_own_channels() {
    run(async {
        let named = Named::start().await;
        let (process, stays) = (&named.process, &named.channels[0]);
        let before = taken(&named.old.masters[0], stays);
        named.lead_to_new(1);
        let published = Cell::new(0);
        let going_on = async {
            loop {
                let handle = &process.shards[published.get() as usize % 2];
                offset(publish(&**handle, stays, "x").await);
                published.set(published.get() + 1);
                pace().await;
            }
        };
        tokio::select! {
            () = named.all_are_at_new(1) => {}
            () = going_on => {}
        }
        let after = taken(&named.old.masters[0], stays);
        // One may have been on its way.
        let all = before + published.get()..=before + published.get() + 1;
        assert!(published.get() > 0 && all.contains(&after), "{after} of {all:?}");
    });
}

/// The connections of one type to a cluster's masters, as those list them: master and number.
fn clients(cluster: &RedisCluster, kind: &str, what: &str) -> Vec<(usize, String)> {
    let mut clients = Vec::new();
    for (index, master) in cluster.masters.iter().enumerate() {
        let list = master.cli(&["CLIENT", "LIST", "TYPE", kind]);
        let lines = list.lines().filter(|line| line.contains(what));
        let ids = lines.filter_map(|line| line.split(' ').next()?.strip_prefix("id="));
        clients.extend(ids.map(|id| (index, id.to_owned())));
    }
    clients
}

/// Heartbeats that come by another master of a cluster move nothing. Regression: heartbeats that
/// went to another master than the one that was listened to, since their connection had been lost,
/// were taken for a move, and everything was made anew.
#[test]
fn heartbeats_of_another_master_move_nothing() {
    run(async {
        let cluster = RedisCluster::start_as(2, false, &Recipe::new(Program::Redis, &[]));
        let process = Process::start(settings(cluster.url(), Subscribers::PerShard), 1).await;
        let hearing = || clients(&cluster, "pubsub", "");
        until("it listens", || hearing().len() == 1).await;
        let before = hearing();
        // Which one they go to is chance.
        until("they go to the other master", || {
            let [(master, id)] = &clients(&cluster, "normal", "cmd=publish")[..] else {
                return false;
            };
            let is_other = *master != before[0].0;
            if !is_other {
                cluster.masters[*master].cli(&["CLIENT", "KILL", "ID", id]);
            }
            is_other
        })
        .await;
        process.up().await;
        let begun = now();
        until("time passes", || now() - begun > Duration::from_secs(1)).await;
        assert_eq!(hearing(), before);
        assert_eq!(process.shared.health().reach(), Reach::Up);
    });
}
