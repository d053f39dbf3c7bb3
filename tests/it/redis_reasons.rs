//! Why Redis cannot be used stands in the log: in words, with the address, and nothing in it is
//! what a stranger would like to see there.

use std::{net::TcpListener, thread};

use crate::support::{
    PATIENCE,
    certificates::Authority,
    eventually,
    fake_redis::{accepts, answers, error},
    http::get,
    redis::RedisServer,
    server::{Launch, Server},
};

/// The lines that say it, without their time.
fn reasons(server: &Server) -> Vec<String> {
    let log = server.log();
    log.lines().filter(|line| line.contains("Redis is out of reach")).map(str::to_owned).collect()
}

/// A URL by which nothing can be used says so: each of `words`, and no dump of an error.
#[track_caller]
fn tells(url: &str, words: &[&str]) -> Server {
    let server = Server::start(&["--threads", "1", "--redis-url", url]);
    let wanted = [&["WARN", "Redis is out of reach"], words].concat();
    server.wait_for_log(&wanted);
    for line in reasons(&server) {
        assert!(!line.contains("os error") && !line.contains("Os {"), "{line}");
    }
    assert_eq!(get(server.addr(), "/readyz").status, 503);
    server
}

fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Accepts, sends, reads a little, and closes; or keeps it open for ever.
fn says(text: &'static [u8], closes: bool) -> String {
    accepts(move |mut stream| {
        let _ = std::io::Write::write_all(&mut stream, text);
        let mut bytes = [0; 4096];
        while !closes && std::io::Read::read(&mut stream, &mut bytes).is_ok_and(|count| count > 0) {
        }
    })
}

/// A server of any kind there, however it is addressed.
fn tells_of(address: &str, word: &str) {
    for scheme in ["redis", "redis-cluster", "redis-sentinel"] {
        let query = if scheme == "redis-sentinel" { "?sentinelServiceName=main" } else { "" };
        tells(&format!("{scheme}://{address}{query}"), &[&format!("{address}: {word}")]);
    }
}

#[test]
fn unreachable_servers_are_named() {
    tells_of(&nobody(), "Connection refused");
    tells_of("nowhere.invalid:6379", "");
    tells_of(&says(b"", false), "the connection was made, and nothing was answered in time");
}

#[test]
fn servers_that_are_no_redis_are_named() {
    tells_of(&says(b"HTTP/1.1 400 Bad Request\r\n\r\n", false), "what answers there is no Redis");
    tells_of(&says(b"SSH-2.0-\x1b[31m\r\n", false), "what answers there is no Redis");
    tells_of(&says(b"\x15\x03\x01\x00\x02\x02\x46", false), "TLS is spoken there");
}

/// Closing with something unread is a reset, closing before anything is read may be either.
#[test]
fn servers_that_close_at_once_are_named() {
    tells_of(&says(b"", true), "the connection was closed before anything was answered");
}

/// The reason why Redis refuses a connection is logged together with what the operator can do.
#[test]
fn a_refusing_redis_is_told_with_the_cure() {
    let redis = RedisServer::start();
    let address = redis.address();
    tells(&format!("redis://user@{address}"), &[&address, "is not right", "WRONGPASS"]);
    tells(&format!("redis://:wrong@{address}/99"), &[&address, "ERR"]);
    tells(&format!("redis://{address}/99"), &[&address, "fewer databases"]);
    tells(&format!("redis-cluster://{address}"), &[&address, "use redis://"]);
    let sentinel = format!("redis-sentinel://{address}?sentinelServiceName=main");
    tells(&sentinel, &[&address, "this is no sentinel"]);
    assert_eq!(redis.cli(&["CONFIG", "SET", "requirepass", "right"]), "OK");
    tells(&format!("redis://{address}"), &[&address, "needs a user name and a password", "NOAUTH"]);
    tells(&format!("redis://:wrong@{address}"), &[&address, "is not right", "WRONGPASS"]);
    let server = tells(&format!("redis-cluster://u:wrong@{address}"), &[&address, "WRONGPASS"]);
    assert!(!server.log().contains("u:wrong"));
}

/// TLS on one side only is named in the log, on whichever side it is missing.
#[test]
fn a_mismatch_of_tls_is_named() {
    let authority = Authority::new();
    let redis = RedisServer::start_as(&authority.redis(&["127.0.0.1"]));
    let (plain, tls) = (redis.address(), redis.tls_address().unwrap());
    tells(&format!("redis://{tls}"), &[&tls, "rediss://"]);
    let url = format!("rediss://{plain}");
    let launch = Launch::on_a_free_port(&["--redis-url", &url]);
    let server = launch.env("SSL_CERT_FILE", authority.path()).start();
    server.wait_for_log(&["WARN", "Redis is out of reach", &plain, "TLS", "redis://"]);
    let http = says(b"HTTP/1.1 400 Bad Request\r\n\r\n", false);
    let launch = Launch::on_a_free_port(&["--redis-url", &format!("rediss://{http}")]);
    let server = launch.env("SSL_CERT_FILE", authority.path()).start();
    server.wait_for_log(&["WARN", "Redis is out of reach", &http, "TLS", "redis://"]);
}

/// A lost Redis is named in the log, and so is each further reason. Each reason by itself: the
/// first does not hide the second.
#[test]
fn a_lost_redis_is_named_with_each_reason() {
    let mut redis = RedisServer::start();
    let address = redis.address();
    let server = Server::start(&["--redis-url", &redis.url()]);
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    assert!(reasons(&server).is_empty());
    redis.kill();
    server.wait_for_log(&["WARN", "Redis is out of reach", &address, "Connection refused"]);
    redis.restart();
    eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
    redis.pause();
    server.wait_for_log(&["WARN", "Redis is out of reach", &address, "nothing was answered"]);
    redis.resume();
    for line in reasons(&server) {
        assert!(line.contains(&address) && !line.contains("os error"), "{line}");
    }
}

/// Nothing is refused and nothing ends: nothing but the heartbeats' absence shows it.
#[test]
fn servers_that_swallow_publications_are_named_too() {
    let address = answers(|words| match words {
        ["SUBSCRIBE", name] => {
            format!(">3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:1\r\n", name.len()).into_bytes()
        }
        ["PUBLISH", ..] => b":1\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    });
    tells(&format!("redis://{address}"), &["does not come back"]);
}

/// Bytes that a terminal obeys, that look like a line of ours, that are no text, that never end.
const EVIL: &[u8] = b"ERR \x1b[2J\x1b]0;owned\x07\r\n2026-01-01T00:00:00Z ERROR forged: line\r\n\
    \x00\x7f\x9b\xff\xfe \xe2\x80\xae\xe2\x80\xa8 end";
/// Such bytes, as far as they are text in a line.
const EVIL_LINE: &str = "-ERR \x1b[2J\x1b]0;owned\x07 \0\x7f \u{9b}\u{202e}\u{2028} end\r\n";

#[track_caller]
fn assert_clean(server: &Server) {
    let log = server.log();
    let odd = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{2028}".contains(c));
    assert!(!log.contains(odd), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    let longest = log.lines().map(str::len).max().unwrap();
    assert!(longest < 2_000, "{longest} bytes in a line");
}

/// A Redis that answers one command by `evil`, an error; how it is addressed.
fn refuses(refused: &'static str, evil: Vec<u8>) -> String {
    let address = answers(move |words| match words {
        [command, ..] if *command == refused => evil.clone(),
        ["SUBSCRIBE", name, ..] => {
            let length = name.len();
            format!(">3\r\n$9\r\nsubscribe\r\n${length}\r\n{name}\r\n:1\r\n").into_bytes()
        }
        ["PUBLISH", ..] => b":1\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    });
    match refused {
        "CLUSTER" => format!("redis-cluster://{address}"),
        "SENTINEL" => format!("redis-sentinel://{address}?sentinelServiceName=main"),
        _ => format!("redis://{address}/1"),
    }
}

/// The text of an error from Redis is escaped in the log, whatever command it answers.
#[test]
fn errors_of_redis_are_escaped_in_the_log() {
    let long = [EVIL, &vec![b'\x1b'; 1 << 20]].concat();
    let errors = [error(EVIL), error(&long), EVIL_LINE.into()];
    let commands =
        ["HELLO", "SELECT", "SCRIPT", "SUBSCRIBE", "PUBLISH", "EVALSHA", "CLUSTER", "SENTINEL"];
    thread::scope(|scope| {
        let all = commands.into_iter().flat_map(|it| errors.iter().map(move |evil| (it, evil)));
        for (refused, evil) in all {
            scope.spawn(move || {
                let url = refuses(refused, evil.clone());
                let args = ["--threads", "1", "--log-level", "debug", "--redis-url", &url];
                let server = Server::start(&args);
                server.wait_for_log(&["Redis is out of reach"]);
                eventually(PATIENCE, "it serves", || get(server.addr(), "/livez").status == 200);
                assert_clean(&server);
            });
        }
    });
}
