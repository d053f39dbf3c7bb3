//! Input from strangers: offsets that nobody can count on from, answers of a Redis that never end,
//! and a Redis that is not there.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::support::{
    PATIENCE,
    events::Events,
    eventually,
    http::{get, once},
    redis::RedisServer,
    server::Server,
    v1::V1,
};

/// An address without a server.
const UNREACHABLE: &str = "redis://127.0.0.1:1";

/// An offset beyond the largest that every client can count on from is refused on every way in.
#[test]
fn an_offset_that_cannot_grow_is_refused() {
    for args in [&["--redis-url", UNREACHABLE][..], &[]] {
        let server = Server::start(args);
        let addr = server.addr();
        let mut v1 = V1::open(addr, "/ws?channel=b");
        for offset in ["9007199254740992", "18446744073709551615", "18446744073709551616", "-1"] {
            let asked =
                format!("GET /sse?channel=a&since=a:{offset} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
            let resumed =
                format!("GET /sse HTTP/1.1\r\nHost: {addr}\r\nLast-Event-ID: a:{offset}\r\n\r\n");
            for request in [asked, resumed] {
                once(addr, &request).assert_status(400);
            }
            let since = format!("a:{offset}");
            let refused = v1.ask(&json!({"type": "subscribe", "channel": "a", "since": since}));
            assert_eq!(refused["code"], "bad_position", "{refused}");
        }
        let refused = V1::try_open(addr, "/ws?channel=a&since=a:18446744073709551615");
        refused.unwrap_err().assert_status(400);
        // The largest that is one, and what follows it.
        let mut stream = Events::open(addr, "/sse?channel=a&since=a:9007199254740991");
        let gap = stream.event();
        assert_eq!(gap.event, "gap", "{gap:?}");
        let is_away = !args.is_empty();
        let from = if is_away { "\"from\":9007199254740992" } else { "\"from\":1" };
        assert!(gap.data.as_deref().is_some_and(|data| data.contains(from)), "{gap:?}");
    }
}

/// A server that greets as Redis does, and answers everything after `greetings` commands with
/// `lie` again and again; how many connections it has had.
fn lying_redis(greetings: usize, lie: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let had = Arc::new(AtomicUsize::new(0));
    let count = had.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, lie) = (stream.unwrap(), lie.clone());
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                for _ in 0..greetings {
                    if stream.read(&mut buffer).is_err() || stream.write_all(b"+OK\r\n").is_err() {
                        return;
                    }
                }
                let _ = stream.read(&mut buffer);
                // As long as it is taken, or would be for ever.
                for _ in 0..64 {
                    if stream.write_all(lie.as_bytes()).is_err() {
                        return;
                    }
                }
                let _ = stream.read(&mut buffer);
            });
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, had)
}

/// A server in Redis' place that sends answers without an end or a depth harms no process.
#[test]
fn an_endless_answer_of_redis_harms_nobody() {
    let nested = "*1\r\n".repeat(20_000);
    let endless = format!("$99999999999\r\n{}", "x".repeat(1 << 20));
    let line = "+".to_owned() + &"x".repeat(1 << 20);
    for greetings in [0, 1, 2] {
        for lie in [nested.clone(), endless.clone(), line.clone(), "*1\r\n:1\r\n".repeat(9)] {
            let (address, had) = lying_redis(greetings, lie);
            let sentinel = format!("redis-sentinel://{address}?sentinelServiceName=main");
            for url in
                [format!("redis://{address}"), format!("redis-cluster://{address}"), sentinel]
            {
                let before = had.load(Ordering::Relaxed);
                let mut server = Server::start(&["--redis-url", &url]);
                eventually(PATIENCE, "it has come several times", || {
                    assert!(server.is_running(), "{greetings} {url}");
                    had.load(Ordering::Relaxed) >= before + 4
                });
                assert_eq!(get(server.addr(), "/livez").status, 200, "{greetings} {url}");
                assert!(server.is_running());
            }
        }
    }
}

/// The log names the Redis that the process waits for, in words, and says "ready" only when it is.
#[test]
fn waiting_for_redis_is_told_with_its_address() {
    let server = Server::start(&["--redis-url", UNREACHABLE]);
    server.wait_for_log(&["waiting for redis redis://127.0.0.1:1"]);
    server.wait_for_log(&["WARN", "Redis is out of reach", "127.0.0.1:1: Connection refused"]);
    let log = server.log();
    assert!(!log.contains("Os {") && !log.contains("os error"), "{log}");
    assert!(!log.lines().any(|line| line.contains("connections_max")), "not ready: {log}");
    // A cluster whose slot map has no server in it.
    let options = ["--save", "", "--cluster-enabled", "yes"];
    let redis = RedisServer::start_with(&options);
    let url = format!("redis-cluster://{}", redis.address());
    let server = Server::start(&["--redis-url", &url]);
    server.wait_for_log(&["WARN", &redis.address(), "slot map names no server"]);
    let redis = RedisServer::start();
    let server = Server::start(&["--redis-url", &redis.url()]);
    server.wait_for_log(&["INFO", "ready", "connections_max"]);
    assert_eq!(get(server.addr(), "/readyz").json()["status"], "ready");
}
