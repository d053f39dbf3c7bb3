//! A drain as a member of a cluster, under traffic from everywhere, to the last client.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards, eventually,
    frames::masked_close,
    http::{Http, get},
    let_pass, now,
    publish::Publisher,
    redis::RedisServer,
    server::Server,
};

/// For a process that has cut its way to Redis to be gone: less than between two departures.
const ENDING: Duration = Duration::from_millis(500);

/// Publishes `NAME 0`, `NAME 1`, … until told to stop or nobody listens.
struct Traffic {
    stop: Arc<AtomicBool>,
    /// How many have been answered.
    answered: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Traffic {
    fn to(addr: SocketAddr, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = thread::spawn(move || {
            let mut publisher = Publisher::new(addr);
            for number in 0_u64.. {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Some(answer) = publisher.try_publish(format!("{name} {number}")) else {
                    return;
                };
                if !answer.is_clustered() {
                    // The way to Redis is gone in the last moment of a process, and only then.
                    let is_over = || Http::try_connect(addr).is_none();
                    eventually(ENDING, &format!("{answer:?} is its last"), is_over);
                    return;
                }
                count.store(number + 1, Ordering::Release);
                thread::park_timeout(Duration::from_millis(2));
            }
        });
        Self { stop, answered, thread }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
    }
}

/// The numbers of `NAME N` among `texts`.
fn numbers_of(texts: &[String], name: &str) -> Vec<u64> {
    texts.iter().filter_map(|text| text.strip_prefix(name)?.trim().parse().ok()).collect()
}

fn member(redis: &RedisServer) -> Server {
    let server = Server::start(&[
        "--redis-url",
        &redis.url(),
        "--threads",
        "2",
        "--notify-interval",
        "500ms",
        "--notify-text",
        "notice",
    ]);
    eventually(PATIENCE, "it is ready", || {
        get(server.addr(), "/readyz").json()["status"] == "ready"
    });
    server
}

/// Reads until it has heard `NAME last` of both names; everything it heard.
fn hear_until(client: &mut Client, here_last: u64, there_last: u64) -> Vec<String> {
    let mut texts = Vec::new();
    let (mut here, mut there) = (false, false);
    while !(here && there) {
        let text = client.text();
        here |= text == format!("here {here_last}");
        there |= text == format!("there {there_last}");
        texts.push(text);
    }
    texts
}

/// Clients leave one by one, and each hears everything until its own Close frame.
#[test]
fn leaving_clients_hear_all_until_their_close() {
    let redis = RedisServer::start();
    let mut draining = member(&redis);
    let other = member(&redis);
    let addr = draining.addr();
    let mut clients = clients_on_all_shards(addr, "/ws", 2);
    clients.truncate(6);
    let idle = Http::connect(addr);
    let here = Traffic::to(addr, "here");
    let there = Traffic::to(other.addr(), "there");
    draining.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(addr, "/readyz").status == 503);

    let mut heard: Vec<Vec<String>> = vec![Vec::new(); clients.len()];
    let count = clients.len();
    let mut left = None;
    for (leaving, mut client) in clients.into_iter().enumerate() {
        assert!(draining.is_running(), "{} clients are still here", count - leaving);
        redis.publish("notifications", format!("raw {leaving}").as_bytes());
        // Long enough for notices between two departures.
        let_pass(Duration::from_millis(600));
        let own = hear_until(&mut client, here.answered() - 1, there.answered() - 1);
        heard[leaving].extend(own);
        client.send(masked_close(1000, "done"));
        let (texts, (code, _)) = client.texts_until_close();
        heard[leaving].extend(texts);
        assert_eq!(code, 1000);
        client.assert_end();
        left = Some(now());
    }
    draining.assert_exit(0);
    let took = left.expect("there were clients").elapsed();
    assert!(took < Duration::from_secs(2), "promptly after the last: {took:?}");
    drop(idle);
    here.end();
    there.end();
    for (n, texts) in heard.iter().enumerate() {
        for name in ["here", "there", "raw"] {
            let numbers = numbers_of(texts, name);
            let expected: Vec<u64> = (0..numbers.len() as u64).collect();
            assert!(numbers == expected, "client {n} has a hole in {name}: {numbers:?}");
            assert!(numbers.len() > n, "client {n} hears {name}");
        }
        let notices = texts.iter().filter(|text| text.starts_with("notice")).count();
        assert!(notices > n, "client {n} hears the notices: {notices}");
    }
}

/// The rest of the cluster goes on when a member leaves.
#[test]
fn the_cluster_goes_on_when_a_member_leaves() {
    let redis = RedisServer::start();
    let mut leaving = member(&redis);
    let staying = member(&redis);
    let mut client = Client::connect(staying.addr());
    let traffic = Traffic::to(staying.addr(), "there");
    eventually(PATIENCE, "traffic", || traffic.answered() > 20);
    leaving.signal(&["TERM"]);
    leaving.assert_exit(0);
    let so_far = traffic.answered();
    eventually(PATIENCE, "traffic goes on", || traffic.answered() > so_far + 50);
    let last = traffic.answered() - 1;
    traffic.end();
    let mut texts = Vec::new();
    while texts.last() != Some(&format!("there {last}")) {
        texts.push(client.text());
    }
    assert!(numbers_of(&texts, "there").into_iter().eq(0..=last), "without a hole");
}

#[test]
fn a_drain_ends_also_while_redis_is_out_of_reach() {
    let mut redis = RedisServer::start();
    for paused in [true, false] {
        redis.restart();
        let mut server = member(&redis);
        let client = Client::connect(server.addr());
        if paused {
            redis.pause()
        } else {
            redis.kill()
        }
        server.signal(&["TERM"]);
        eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
        client.leave();
        let left = now();
        server.assert_exit(0);
        assert!(left.elapsed() < Duration::from_secs(5), "{paused}: {:?}", left.elapsed());
        if paused {
            redis.resume();
        }
    }
}
