//! The promises for a Redis whose sentinels make another server the master.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{net::TcpListener, time::timeout};
use wsbcast::{
    broker::{BrokerSettings, OnLoss, Receipt},
    limits::TAKEOVER_WAIT,
};

use crate::{
    fake_sentinel::FakeSentinel,
    process::{PATIENCE, Process, load, now, offset, redis_settings, run, until},
    redis_server::{Program, Recipe, RedisServer},
};

/// Of the sentinel, where it has one: not the servers'.
const PASSWORD: &str = "theirs";

/// A master, its replica and their sentinel.
struct Pair {
    master: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
    sentinel_password: Option<&'static str>,
}

impl Pair {
    /// With a master that cannot be made a replica: it stays alive and goes on taking messages,
    /// so nothing that it does shows that it is the master no more.
    async fn start_stubborn() -> Self {
        Self::start(master(&["--rename-command", "SLAVEOF", ""])).await
    }

    async fn start(master: RedisServer) -> Self {
        let replica = replica_of(&master).await;
        let sentinel =
            RedisServer::start_sentinel_as(&Recipe::new(Program::Redis, &[]), &master.address());
        let pair = Self { master, replica, sentinel, sentinel_password: None };
        let facts = || pair.ask_sentinel(&["SENTINEL", "MASTER", "main"]);
        until("the sentinel knows the replica", || facts().contains("num-slaves\n1")).await;
        pair
    }

    /// From now on the sentinel wants a password, and tells nothing by itself.
    fn silence_sentinel(&mut self) {
        let password = format!(">{PASSWORD}");
        let words = ["ACL", "SETUSER", "default", "resetpass", &password, "-subscribe"];
        assert_eq!(self.ask_sentinel(&words), "OK");
        self.sentinel_password = Some(PASSWORD);
    }

    fn ask_sentinel(&self, words: &[&str]) -> String {
        match self.sentinel_password {
            Some(password) => {
                self.sentinel.cli(&[&["-a", password, "--no-auth-warning"], words].concat())
            }
            None => self.sentinel.cli(words),
        }
    }

    fn settings(&self) -> BrokerSettings {
        let password =
            self.sentinel_password.map(|password| format!("sentinelPassword={password}"));
        settings(&self.master, &self.sentinel.address(), &password.unwrap_or_default())
    }

    async fn fail_over(&self) {
        // Refused until the sentinel has heard from the replica.
        let begun = || self.ask_sentinel(&["SENTINEL", "FAILOVER", "main"]) == "OK";
        until("the sentinel begins a failover", begun).await;
    }
}

fn settings(master: &RedisServer, sentinel: &str, query: &str) -> BrokerSettings {
    let mut redis = redis_settings(master);
    redis.url = format!("redis-sentinel://{sentinel}?sentinelServiceName=main&{query}");
    BrokerSettings { redis: Some(redis), on_loss: OnLoss::Local, history: crate::process::HISTORY }
}

/// A server that replicates to a new replica at once.
fn master(options: &[&str]) -> RedisServer {
    let prompt = ["--save", "", "--repl-diskless-sync-delay", "0"];
    RedisServer::start_with(&[&prompt, options].concat())
}

async fn replica_of(master: &RedisServer) -> RedisServer {
    let replica = RedisServer::start();
    let address = master.address();
    let (host, port) = address.split_once(':').unwrap();
    assert_eq!(replica.cli(&["REPLICAOF", host, port]), "OK");
    let link = || replica.cli(&["INFO", "replication"]);
    until("the replica follows", || link().contains("master_link_status:up")).await;
    replica
}

/// Whether the history that `server` has of the channel has `text`.
fn has(server: &RedisServer, text: &str) -> bool {
    server.cli(&["XRANGE", "test:{a}:stream", "-", "+"]).contains(text)
}

/// Fails over while messages are published; the old master stays alive all the while.
async fn moves_on(pair: &Pair) {
    let process = Rc::new(Process::start(pair.settings(), 2).await);
    process.subscribe("a").await;
    let stop = Rc::new(Cell::new(false));
    let loading = tokio::task::spawn_local(load(process.clone(), 4, PATIENCE, stop.clone()));
    let sink = &process.sinks[0];
    until("some have arrived", || sink.messages().len() >= 50).await;
    pair.fail_over().await;
    let role = || pair.replica.cli(&["ROLE"]);
    until("the replica is the master", || role().starts_with("master")).await;
    let health = process.shared.health();
    until("the process has gone there", || health.reconnects() == 1).await;
    let before = sink.messages().len();
    until("messages arrive again", || sink.messages().len() >= before + 50).await;
    stop.set(true);
    let answers = loading.await.unwrap();
    let end = offset(process.publish("a", "end").await);
    assert!(has(&pair.replica, "end"), "it went to the new master");
    assert_eq!(pair.master.cli(&["SET", "key", "value"]), "OK", "the old one would take it too");
    for sink in &process.sinks {
        until("the end has arrived", || sink.offsets().last() == Some(&end)).await;
        let texts = sink.texts();
        for (text, answer) in &answers {
            let times = texts.iter().filter(|seen| *seen == text).count();
            assert!(times <= 1, "{text}: {answer:?} came {times} times");
            // Messages that the replica had not got when it was promoted are told.
            assert!(times == 1 || answer.is_err() || sink.gaps() > 0, "{text} is lost");
        }
    }
    assert_eq!(health.reconnects(), 1, "nobody went back");
}

/// An old master that stays alive is left when its sentinel says so.
#[test]
fn a_replaced_master_is_left_when_sentinels_tell() {
    run(async {
        let pair = Pair::start_stubborn().await;
        moves_on(&pair).await;
    });
}

/// An old master that stays alive is left when its sentinel is asked.
#[test]
fn a_replaced_master_is_left_when_sentinels_are_asked() {
    run(async {
        let mut pair = Pair::start_stubborn().await;
        pair.silence_sentinel();
        moves_on(&pair).await;
    });
}

#[test]
fn a_master_that_died_is_replaced_by_its_replica() {
    run(async {
        let mut pair = Pair::start(master(&[])).await;
        // For longer than a message waits for a Redis that was just lost.
        let down_after = ["SENTINEL", "SET", "main", "down-after-milliseconds", "3000"];
        assert_eq!(pair.ask_sentinel(&down_after), "OK");
        let process = Process::start(pair.settings(), 2).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "before").await), 1);
        until("the replica has it", || has(&pair.replica, "before")).await;
        for sink in &process.sinks {
            until("it has arrived", || sink.messages().len() == 1).await;
        }
        pair.master.kill();
        process.lost().await;
        assert_eq!(process.publish("a", "meanwhile").await, Ok(Receipt::Local));
        process.up().await;
        assert_eq!(offset(process.publish("a", "after").await), 2);
        assert!(has(&pair.replica, "after"), "it went to the new master");
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
            assert_eq!(sink.texts(), ["before", "meanwhile", "after"]);
            assert_eq!(sink.gaps(), 0);
        }
    });
}

/// A replica that the sentinels have chosen is used as soon as it is the master.
#[test]
fn a_chosen_replica_is_used_once_it_is_master() {
    run(async {
        let master = master(&[]);
        let replica = replica_of(&master).await;
        let sentinel = FakeSentinel::start(1, &master).await;
        sentinel.knows(&replica.address());
        let process = Process::start(settings(&master, &sentinel.address, ""), 2).await;
        process.subscribe("a").await;
        assert_eq!(offset(process.publish("a", "before").await), 1);
        until("the sentinel was asked", || sentinel.asked() > 0).await;
        until("the replica has it", || has(&replica, "before")).await;
        sentinel.choose(&replica.address());
        assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        let health = process.shared.health();
        until("the process has gone there", || health.reconnects() == 1).await;
        assert_eq!(offset(process.publish("a", "after").await), 2);
        assert!(has(&replica, "after") && !has(&master, "after"));
        // It goes on naming the old one, until it has noticed.
        let asked = sentinel.asked();
        until("it was asked again", || sentinel.asked() >= asked + 2).await;
        sentinel.name(2, &replica);
        until("it was asked again", || sentinel.asked() >= asked + 4).await;
        assert_eq!(offset(process.publish("a", "last").await), 3);
        for sink in &process.sinks {
            until("all have arrived", || sink.messages().len() == 3).await;
            assert_eq!((sink.offsets(), sink.gaps()), (vec![1, 2, 3], 0));
        }
        assert_eq!(health.reconnects(), 1, "nobody went back");
    });
}

/// Publishing waits for a chosen replica and goes on without it.
#[test]
fn publishing_waits_for_a_chosen_replica() {
    run(async {
        let master = master(&[]);
        let replica = replica_of(&master).await;
        let sentinel = FakeSentinel::start(1, &master).await;
        sentinel.knows(&replica.address());
        let process = Process::start(settings(&master, &sentinel.address, ""), 2).await;
        until("the sentinel was asked", || sentinel.asked() > 0).await;
        let patience = now() + PATIENCE;
        // Each may have come too late, or its wait be over.
        for expected in 1.. {
            sentinel.choose(&replica.address());
            let begun = now();
            assert_eq!(offset(process.publish("a", "x").await), expected);
            if now() - begun >= TAKEOVER_WAIT / 2 {
                break;
            }
            assert!(now() < patience, "none has waited");
        }
        assert_eq!(process.shared.health().reconnects(), 0, "it has not taken over");
    });
}

#[test]
fn a_sentinel_that_lags_makes_nobody_go_back() {
    run(async {
        // In whichever order they are asked.
        for late in 0..3 {
            let master = master(&[]);
            let replica = replica_of(&master).await;
            let sentinels = three(&master).await;
            let process = Process::start(behind(&sentinels, &master), 2).await;
            process.subscribe("a").await;
            offset(process.publish("a", "before").await);
            replica.cli(&["REPLICAOF", "NO", "ONE"]);
            let prompt = sentinels.iter().enumerate().filter(|(index, _)| *index != late);
            prompt.for_each(|(_, sentinel)| sentinel.name(2, &replica));
            let health = process.shared.health();
            until("the process has gone there", || health.reconnects() == 1).await;
            let asked = sentinels[late].asked();
            until("the late one was asked", || sentinels[late].asked() >= asked + 4).await;
            assert_eq!(health.reconnects(), 1, "nobody went back");
            offset(process.publish("a", "after").await);
            assert!(has(&replica, "after") && !has(&master, "after"));
        }
    });
}

/// One sentinel that lies leads no process to the server it names.
#[test]
fn one_lying_sentinel_gets_nobody_anywhere() {
    run(async {
        for liar in 0..3 {
            let master = master(&[]);
            let sentinels = three(&master).await;
            let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = trap.local_addr().unwrap().to_string();
            // From the beginning, and under an epoch that nobody will ever reach.
            sentinels[liar].name_any(u64::MAX, &address);
            sentinels[liar].knows(&address);
            let process = Process::start(behind(&sentinels, &master), 2).await;
            process.subscribe("a").await;
            for round in 1..=4 {
                let asked = sentinels[liar].asked();
                sentinels[liar].choose(&address);
                until("it was asked again", || sentinels[liar].asked() > asked).await;
                assert_eq!(offset(process.publish("a", "x").await), round);
            }
            let caught = timeout(Duration::ZERO, trap.accept()).await;
            assert!(caught.is_err(), "somebody went there, with the password: {caught:?}");
            assert_eq!(process.shared.health().reconnects(), 0);
        }
    });
}

async fn three(master: &RedisServer) -> [FakeSentinel; 3] {
    let start = || FakeSentinel::start(1, master);
    [start().await, start().await, start().await]
}

/// A process that is told of these sentinels.
fn behind(sentinels: &[FakeSentinel; 3], master: &RedisServer) -> BrokerSettings {
    let [first, second, third] = sentinels.each_ref().map(|sentinel| &sentinel.address);
    settings(master, first, &format!("node={second}&node={third}"))
}
