//! Redis out of reach: absent at start, killed, restarted, paused; what is said and delivered.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards, eventually,
    frames::{CLOSE, PING},
    http::get,
    let_pass,
    metrics::metric,
    now,
    publish::{Answer, Publisher},
    redis::RedisServer,
    server::Server,
};

/// "Within 2 s", as asserted on a machine that may be busy with other tests.
const WHOLE_AGAIN: Duration = Duration::from_secs(6);

fn start(redis: &RedisServer, args: &[&str]) -> Server {
    Server::start(&[&["--redis-url", &redis.url()], args].concat())
}

fn status(server: &Server) -> String {
    get(server.addr(), "/readyz").json()["status"].as_str().unwrap_or_default().to_owned()
}

/// A process starts without Redis, says so, and heals by itself.
#[test]
fn it_starts_without_redis_and_heals_by_itself() {
    let mut redis = RedisServer::not_started();
    let server = start(&redis, &["--threads", "2"]);
    let mut clients = clients_on_all_shards(server.addr(), "/ws", 2);
    let ready = get(server.addr(), "/readyz");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert!(ready.json()["reasons"].as_array().is_some_and(|r| r.contains(&json!("broker"))));
    server.wait_for_log(&["Redis"]);
    assert_eq!(get(server.addr(), "/livez").status, 200);

    let mut publisher = Publisher::new(server.addr());
    let answer = publisher.publish("local");
    assert!(answer.is_local(), "{answer:?}");
    assert_eq!((answer.epoch, answer.offset), (None, None));
    assert_eq!(metric(server.addr(), "wsbcast_broker_connected", &[]), 0.0);

    redis.restart();
    server.wait_until_ready();
    let answer = publisher.publish("clustered");
    assert!(answer.is_clustered(), "{answer:?}");
    redis.publish("notifications", b"raw");
    for client in &mut clients {
        for text in ["local", "clustered", "raw"] {
            client.assert_text(text);
        }
    }
}

/// A process that loses Redis is degraded, and its messages stay local.
#[test]
fn losing_redis_degrades_to_local_messages() {
    let mut redis = RedisServer::start();
    let servers = [start(&redis, &["--threads", "3"]), start(&redis, &[])];
    servers.iter().for_each(Server::wait_until_ready);
    let mut near = clients_on_all_shards(servers[0].addr(), "/ws", 3);
    let mut far = Client::connect(servers[1].addr());
    let mut publisher = Publisher::new(servers[0].addr());
    publisher.publish_to_all("before");
    // Messages on their way to a shard are in no order with those that never go through Redis.
    near.iter_mut().chain([&mut far]).for_each(|client| client.assert_text("before"));

    redis.kill();
    eventually(PATIENCE, "readiness says degraded", || status(&servers[0]) == "degraded");
    let ready = get(servers[0].addr(), "/readyz");
    assert_eq!((ready.status, &ready.json()["reasons"]), (200, &json!(["broker"])));
    let answer = publisher.publish("during");
    assert!(answer.is_local() && answer.offset.is_none(), "{answer:?}");

    redis.restart();
    servers.iter().for_each(Server::wait_until_ready);
    let answer = publisher.publish("after");
    assert!(answer.is_clustered(), "{answer:?}");
    for client in &mut near {
        for text in ["during", "after"] {
            client.assert_text(text);
        }
    }
    far.assert_text("after");
    assert!(metric(servers[0].addr(), "wsbcast_broker_reconnects_total", &[]) >= 1.0);
}

#[test]
fn under_reject_nothing_is_delivered_without_redis() {
    let mut redis = RedisServer::start();
    let server = start(&redis, &["--on-broker-loss", "reject"]);
    server.wait_until_ready();
    let mut client = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    publisher.publish_to_all("before");
    client.assert_text("before");
    redis.kill();
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    assert_eq!(publisher.publish("during").status, 503);
    let labels = ["reason=\"broker_lost\""];
    assert!(metric(server.addr(), "wsbcast_publish_failures_total", &labels) >= 1.0);
    redis.restart();
    server.wait_until_ready();
    publisher.publish_to_all("after");
    client.assert_text("after");
}

/// A message that Redis does not answer is unconfirmed, and this process does not deliver it.
#[test]
fn an_unanswered_message_is_unconfirmed() {
    let redis = RedisServer::start();
    let server = start(&redis, &[]);
    server.wait_until_ready();
    let mut client = Client::connect(server.addr());
    let mut publisher = Publisher::new(server.addr());
    publisher.publish_to_all("before");
    // Messages on their way to a shard are in no order with those that never go through Redis.
    client.assert_text("before");
    redis.pause();
    let answer = publisher.publish("into the silence");
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!((900..5000).contains(&answer.took_ms), "after a second: {answer:?}");
    eventually(PATIENCE, "the silence is noticed", || status(&server) == "degraded");
    let answer = publisher.publish("local");
    assert!(answer.is_local(), "surely not sent: {answer:?}");
    assert!(answer.took_ms < 5000, "{answer:?}");
    redis.resume();
    server.wait_until_ready();
    publisher.publish_to_all("after");
    // The one without an answer may have been taken by Redis or not: once or never.
    let mut texts = client.texts_until("after");
    texts.retain(|text| text != "into the silence");
    assert_eq!(texts, ["local"]);
}

/// A client that reads in a thread of its own until it hears "end".
fn reader(addr: SocketAddr) -> JoinHandle<Vec<String>> {
    let mut client = Client::connect(addr);
    thread::spawn(move || client.texts_until("end"))
}

/// A publisher that never stops, and what each of its messages was answered.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<(String, Answer)>>>,
    thread: JoinHandle<()>,
}

impl Load {
    fn on(server: &Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (stopped, results, addr) = (stop.clone(), answers.clone(), server.addr());
        let thread = thread::spawn(move || {
            let mut publisher = Publisher::new(addr);
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let text = format!("{number}");
                let answer = publisher.publish(&text);
                results.lock().unwrap().push((text, answer));
                // About 500 a second: an outage must not fill memory with local messages.
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        Self { stop, answers, thread }
    }

    /// Waits for `count` more answers that `wanted` accepts.
    fn wait_for(&self, count: usize, what: &str, wanted: fn(&Answer) -> bool) {
        let from = self.answers.lock().unwrap().len();
        eventually(PATIENCE, what, || {
            let answers = self.answers.lock().unwrap();
            answers[from..].iter().filter(|(_, answer)| wanted(answer)).count() >= count
        });
    }

    fn end(self) -> Vec<(String, Answer)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Arc::into_inner(self.answers).unwrap().into_inner().unwrap()
    }
}

/// Runs `outage` under load on two processes, then checks what every client got.
fn nothing_twice_and_whole_again(outage: impl FnOnce(&mut RedisServer, &Load)) {
    let mut redis = RedisServer::start();
    let servers = [start(&redis, &["--threads", "2"]), start(&redis, &["--threads", "2"])];
    servers.iter().for_each(Server::wait_until_ready);
    let near: Vec<_> = (0..6).map(|_| reader(servers[0].addr())).collect();
    let far: Vec<_> = (0..6).map(|_| reader(servers[1].addr())).collect();
    let load = Load::on(&servers[0]);
    load.wait_for(100, "clustered before", Answer::is_clustered);
    outage(&mut redis, &load);
    let back = now();
    load.wait_for(20, "clustered again", Answer::is_clustered);
    let took = back.elapsed();
    assert!(took < WHOLE_AGAIN, "whole again within 2 s, not {took:?}");
    servers.iter().for_each(Server::wait_until_ready);
    load.wait_for(100, "clustered after", Answer::is_clustered);
    let answers = load.end();
    Publisher::new(servers[1].addr()).publish_to_all("end");
    for (readers, is_near) in [(near, true), (far, false)] {
        for reader in readers {
            check(&reader.join().expect("no client was cut off"), &answers, is_near);
        }
    }
}

/// Nothing twice; clustered messages in order; and nothing answered 202 is missing, but for what
/// Redis took with it when it died: the last confirmed messages before the outage.
fn check(received: &[String], answers: &[(String, Answer)], is_near: bool) {
    const LOST_WITH_REDIS_MAX: usize = 2;
    let numbers: Vec<usize> = received.iter().map(|text| text.parse().unwrap()).collect();
    let clustered = numbers.iter().filter(|&&n| answers[n].1.is_clustered());
    assert!(clustered.is_sorted(), "clustered messages keep their order");
    let count = received.len();
    let received: BTreeSet<&String> = received.iter().collect();
    assert_eq!(received.len(), count, "nothing twice");
    let due = |answer: &Answer| answer.is_clustered() || (is_near && answer.is_local());
    let outage = answers.iter().position(|(_, answer)| !answer.is_clustered());
    let outage = outage.expect("there was an outage");
    let missing: Vec<usize> = (0..answers.len())
        .filter(|&n| due(&answers[n].1) && !received.contains(&answers[n].0))
        .collect();
    let lost_with_redis = |&n: &usize| n + LOST_WITH_REDIS_MAX >= outage && n < outage;
    assert!(missing.iter().all(lost_with_redis), "near {is_near}, from {outage}: {missing:?}");
    let surely_not_due = |(text, answer): &&(String, Answer)| {
        answer.is_local() && !is_near && received.contains(text)
    };
    assert_eq!(answers.iter().find(surely_not_due), None, "local is local");
}

#[test]
fn redis_killed_and_restarted_under_load() {
    nothing_twice_and_whole_again(|redis, load| {
        redis.kill();
        load.wait_for(50, "local meanwhile", Answer::is_local);
        redis.restart();
    });
}

#[test]
fn redis_restarted_at_once_under_load() {
    nothing_twice_and_whole_again(|redis, load| {
        redis.kill();
        load.wait_for(1, "one answer without Redis", |answer| !answer.is_clustered());
        redis.restart();
    });
}

#[test]
fn redis_paused_under_load() {
    nothing_twice_and_whole_again(|redis, load| {
        redis.pause();
        load.wait_for(1, "unconfirmed", |answer| answer.status == 504);
        load.wait_for(50, "local meanwhile", Answer::is_local);
        redis.resume();
    });
}

/// The shards return one after the other; the last ones used to count as stalled meanwhile, which
/// turned readiness red in every replica at once.
#[test]
fn while_redis_comes_back_readiness_is_never_red() {
    let mut redis = RedisServer::start();
    let server = start(&redis, &["--threads", "4"]);
    server.wait_until_ready();
    readiness_is_never_red(&mut redis, &server);
}

/// Kills and pauses Redis: `server` says so, and is never unready while it comes back.
pub(crate) fn readiness_is_never_red(redis: &mut RedisServer, server: &Server) {
    for pause in [false, true] {
        if pause {
            redis.pause()
        } else {
            redis.kill()
        }
        eventually(PATIENCE, "degraded", || status(server) == "degraded");
        // Longer than a heartbeat may be missing.
        let_pass(Duration::from_millis(1500));
        if pause {
            redis.resume()
        } else {
            redis.restart()
        }
        eventually(PATIENCE, "it is ready", || {
            let ready = get(server.addr(), "/readyz");
            assert_eq!(ready.status, 200, "{}", ready.text());
            ready.json()["status"] == "ready"
        });
    }
}

#[test]
fn connections_that_redis_ends_are_made_again() {
    let redis = RedisServer::start();
    let server = start(&redis, &["--threads", "2"]);
    server.wait_until_ready();
    let mut clients = clients_on_all_shards(server.addr(), "/ws", 2);
    let mut publisher = Publisher::new(server.addr());
    for kind in ["normal", "pubsub"] {
        redis.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]);
        eventually(PATIENCE, "clustered again", || publisher.publish(kind).is_clustered());
        server.wait_until_ready();
        redis.publish("notifications", b"raw");
        for client in &mut clients {
            let texts = client.texts_until("raw");
            assert!(texts.iter().any(|text| text == kind), "{texts:?}");
        }
        let end = format!("end of {kind}");
        publisher.publish_to_all(&end);
        for client in &mut clients {
            let texts = client.texts_until(&end);
            assert!(!texts.iter().any(|text| text == "raw"), "twice: {texts:?}");
        }
    }
}

/// Reads until "end" or a close frame: the texts, and the close code.
fn reader_to_any_end(addr: SocketAddr) -> JoinHandle<(Vec<String>, Option<u16>)> {
    let mut client = Client::connect(addr);
    thread::spawn(move || {
        let mut texts = Vec::new();
        loop {
            let frame = client.frame();
            match frame.opcode {
                PING => client.pong(&frame),
                CLOSE => return (texts, Some(frame.close().0)),
                _ if frame.text() == "end" => return (texts, None),
                _ => texts.push(frame.text()),
            }
        }
    })
}

/// A hole is never silent, even when Redis ends subscriptions while messages are published.
#[test]
fn no_hole_is_silent_when_subscriptions_end() {
    let redis = RedisServer::start();
    let servers = [start(&redis, &[]), start(&redis, &[])];
    servers.iter().for_each(Server::wait_until_ready);
    let readers: Vec<_> = (0..8).map(|n| reader_to_any_end(servers[n % 2].addr())).collect();
    let load = Load::on(&servers[1]);
    for _ in 0..5 {
        load.wait_for(50, "clustered", Answer::is_clustered);
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }
    servers.iter().for_each(Server::wait_until_ready);
    load.wait_for(50, "clustered after", Answer::is_clustered);
    let answers = load.end();
    let mut publisher = Publisher::new(servers[1].addr());
    eventually(PATIENCE, "the last is clustered", || publisher.publish("end").is_clustered());
    let clustered =
        |text: &&String| text.parse::<usize>().is_ok_and(|n| answers[n].1.is_clustered());
    let due: Vec<&String> = answers.iter().map(|(text, _)| text).filter(clustered).collect();
    for reader in readers {
        let (texts, code) = reader.join().unwrap();
        let received: Vec<&String> = texts.iter().filter(clustered).collect();
        assert!(received == due[..received.len()], "a hole within {} texts", received.len());
        match code {
            None => assert_eq!(received.len(), due.len(), "all of them"),
            Some(code) => assert_eq!(code, 1013, "told, since something is missing"),
        }
    }
}
