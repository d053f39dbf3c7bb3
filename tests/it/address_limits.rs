//! Limits by address: one address may have, and ask for, so much; others don't notice.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, Response},
    metrics::metric,
    publish::Publisher,
    server::Server,
    tokens::{KEY, token_for},
    v1::V1,
};

/// The window of ten seconds is longer than the part of a test that counts.
const RATE: &[&str] = &["--handshakes-per-address", "2", "--api-token", "secret"];
const BURST: usize = 20;

/// A connection from an address of this machine, 127.0.0.`last`.
#[track_caller]
fn from(last: u8, addr: SocketAddr) -> Http {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
    socket.bind(&own.into()).unwrap();
    socket.connect(&addr.into()).unwrap();
    Http::over(TcpStream::from(socket))
}

#[track_caller]
fn client(last: u8, addr: SocketAddr) -> Result<Client, Response> {
    Client::try_open(from(last, addr), addr, "/ws", "")
}

fn ask(last: u8, addr: SocketAddr, line: &str, headers: &str) -> Response {
    let mut http = from(last, addr);
    http.send(format!("{line} HTTP/1.1\r\nHost: {addr}\r\n{headers}Connection: close\r\n\r\n"));
    http.response()
}

/// A publication with a token.
fn publish(last: u8, addr: SocketAddr, token: &str) -> Response {
    let headers = format!("Authorization: Bearer {token}\r\nContent-Length: 0\r\n");
    ask(last, addr, "POST /broadcast", &headers)
}

fn limited(addr: SocketAddr, limit: &str) -> f64 {
    metric(addr, "wsbcast_limited_total", &[limit])
}

#[track_caller]
fn assert_refused(refused: &Response, error: &str, seconds: std::ops::RangeInclusive<u32>) {
    refused.assert_status(429);
    assert_eq!(refused.json()["error"], error);
    let retry_after: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds.contains(&retry_after), "{retry_after}");
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
}

/// A client whose address has room for it as soon as another one's end is noticed.
#[track_caller]
fn admitted(last: u8, addr: SocketAddr) -> Client {
    let mut admitted = None;
    eventually(PATIENCE, "the end of a client makes room", || {
        admitted = client(last, addr).ok();
        admitted.is_some()
    });
    admitted.unwrap()
}

/// WebSockets and event streams of one address are counted together, until they are gone.
#[test]
fn an_address_has_as_many_clients_as_it_may() {
    let server = Server::start(&["--max-connections-per-address", "3", "--threads", "3", "--echo"]);
    let addr = server.addr();
    let mut stream = from(2, addr);
    stream.send(format!("GET /sse HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    assert_eq!(stream.try_head().unwrap().status, 200);
    let echo = Client::try_open(from(2, addr), addr, "/echo", "").unwrap();
    let third = client(2, addr).unwrap();
    for line in ["GET /ws", "GET /sse", "GET /echo"] {
        let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: upgrade\r\n";
        let mut http = from(2, addr);
        http.send(format!("{line} HTTP/1.1\r\nHost: {addr}\r\n{upgrade}\r\n"));
        assert_refused(&http.response(), "address_full", 5..=30);
    }
    let _other = client(3, addr).unwrap();
    assert_eq!(limited(addr, "clients"), 3.0);
    let rejected = metric(addr, "wsbcast_handshakes_rejected_total", &["address_full"]);
    assert_eq!(rejected, 3.0);
    assert_eq!(ask(2, addr, "GET /livez", "").status, 200, "that is no client");
    for one in [third, echo] {
        one.leave();
        drop(admitted(2, addr));
    }
    drop(stream);
    let _all: Vec<_> = (0..3).map(|_| admitted(2, addr)).collect();
    assert!(client(2, addr).is_err());
}

/// A handshake that is refused, for whatever reason, leaves no client behind.
#[test]
fn a_refused_handshake_is_no_client() {
    let server = Server::start(&["--max-connections-per-address", "1"]);
    let addr = server.addr();
    for target in ["GET /sse?channel=%20", "GET /sse?since=none", "GET /ws"] {
        assert!(ask(2, addr, target, "").status >= 400);
    }
    client(2, addr).unwrap();
}

/// Past its burst an address is refused, and no other one.
#[test]
fn an_address_begins_no_more_handshakes_than_it_may() {
    let server = Server::start(RATE);
    let addr = server.addr();
    let answers: Vec<_> = (0..3 * BURST).map(|_| ask(2, addr, "GET /ws", "").status).collect();
    let granted = answers.iter().filter(|&&status| status == 426).count();
    // Two come back each second.
    assert!((BURST..2 * BURST).contains(&granted), "{granted}");
    assert!(answers.iter().all(|status| [426, 429].contains(status)), "{answers:?}");
    while ask(2, addr, "GET /sse", "").status != 429 {}
    let refused = ask(2, addr, "GET /sse?channel=%20&token=wrong", "");
    assert_refused(&refused, "rate_limited", 1..=11);
    assert_eq!(refused.header("connection"), Some("close"));
    client(3, addr).unwrap();
    // Other requests are no handshakes.
    assert_eq!(ask(2, addr, "GET /livez", "").status, 200);
    assert_eq!(ask(2, addr, "OPTIONS /sse", "").status, 204);
    assert_eq!(publish(2, addr, "secret").status, 202);
    let counted = limited(addr, "handshakes");
    assert!(counted >= (3 * BURST - granted) as f64, "{counted}");
    let rejected = metric(addr, "wsbcast_handshakes_rejected_total", &["rate_limited"]);
    assert_eq!(rejected, counted);
}

/// Handshakes with a bad token count twice.
#[test]
fn a_handshake_with_a_bad_token_counts_twice() {
    let server = Server::start(RATE);
    let addr = server.addr();
    let looked_at = (0..3 * BURST)
        .map(|_| ask(2, addr, "GET /sse?token=wrong", "").status)
        .take_while(|&status| status == 401)
        .count();
    assert!((BURST / 2..BURST).contains(&looked_at), "{looked_at}");
}

/// Bad tokens that are shown to publish are looked at up to a bound, good ones always.
#[test]
fn bad_tokens_of_publishers_are_limited() {
    let server = Server::start(RATE);
    let addr = server.addr();
    let looked_at = (0..3 * BURST)
        .map(|_| publish(2, addr, "wrong").status)
        .take_while(|&status| status == 401)
        .count();
    assert!((BURST / 2..BURST).contains(&looked_at), "{looked_at}");
    assert_refused(&publish(2, addr, "wrong"), "rate_limited", 1..=12);
    assert_eq!(publish(3, addr, "wrong").status, 401);
    assert_eq!(publish(2, addr, "secret").status, 202);
    let failures = metric(addr, "wsbcast_publish_failures_total", &["rate_limited"]);
    assert!(limited(addr, "credentials") >= 2.0 && failures >= 2.0);
}

/// Bad tokens that clients show in place count for their address, like those in handshakes.
#[test]
fn bad_tokens_over_open_connections_are_limited() {
    let server = Server::start(&[RATE, &[KEY, "--public-channels", "*"]].concat());
    let addr = server.addr();
    let open = |last| V1::over(from(last, addr), addr, "/ws?channel=a");
    let guess = json!({"type": "token", "token": "x.y.z"});
    let mut clients: Vec<_> = (0..BURST / 2 + 2).map(|_| open(2)).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&guess)["code"], "bad_token");
    }
    let mut last = clients.pop().unwrap();
    let told = last.client.assert_closed(1008);
    assert!(told.starts_with("rate limited; retry in "), "{told}");
    assert_eq!(clients[0].ask(&json!({"type": "ping"}))["type"], "pong", "it was within the limit");
    assert!(limited(addr, "credentials") >= 1.0);
    let refused = publish(2, addr, "wrong");
    assert_refused(&refused, "rate_limited", 1..=12);
    let mut other = open(3);
    assert_eq!(other.ask(&guess)["code"], "bad_token");
    assert_eq!(other.ask(&json!({"type": "ping"}))["type"], "pong");
}

/// Signatures are verified only as long as not too many from the address were bad.
#[test]
fn past_the_bound_no_signature_is_verified() {
    let server = Server::start(&[RATE, &[KEY]].concat());
    let addr = server.addr();
    let good = token_for("alice", &[], &["notifications"], 3600);
    for number in 0..3 * BURST {
        let (begin, end) = good.split_at(good.len() - 8);
        let forged = format!("{begin}{number:04}{}", &end[4..]);
        let status = publish(2, addr, &forged).status;
        assert!([401, 429].contains(&status), "{status}");
    }
    let verified = metric(addr, "wsbcast_tokens_verified_total", &["signature"]);
    assert!((1.0..2.0 * BURST as f64).contains(&verified), "{verified}");
    assert_refused(&publish(2, addr, &good), "rate_limited", 1..=12);
    assert_eq!(publish(3, addr, &good).status, 202);
    assert_eq!(publish(2, addr, &good).status, 202, "a token that is known costs nothing");
}

/// Networks that are exempt, in a list, have no limits; others have.
#[test]
fn an_exempt_network_has_no_limits() {
    let limits = ["--handshakes-per-address", "1", "--max-connections-per-address", "1"];
    let exempt = ["--limit-exempt", "127.0.0.2", "--limit-exempt", "127.0.0.8/29"];
    let server = Server::start(&[&limits[..], &exempt[..]].concat());
    let addr = server.addr();
    for last in [2, 8, 15] {
        let clients: Vec<_> = (0..30).map(|_| client(last, addr)).collect();
        assert!(clients.iter().all(Result::is_ok), "{last}");
    }
    let clients: Vec<_> = (0..2).map(|_| client(16, addr)).collect();
    assert_eq!(clients.iter().filter(|client| client.is_ok()).count(), 1);
}

/// Behind a trusted proxy the clients count by the addresses that it names.
#[test]
fn clients_behind_a_proxy_count_by_their_addresses() {
    let limits = ["--max-connections-per-address", "1", "--trusted-proxies", "127.0.0.2"];
    let server = Server::start(&limits);
    let addr = server.addr();
    let connect = |last, client: &str| {
        let headers = format!("X-Forwarded-For: {client}\r\n");
        Client::try_open(from(last, addr), addr, "/ws", &headers)
    };
    let _first = connect(2, "192.0.2.1").unwrap();
    assert!(connect(2, "192.0.2.1").is_err());
    let _ipv6 = connect(2, "2001:db8::1").unwrap();
    assert!(connect(2, "2001:db8::2").is_err(), "of the same network");
    let _other = connect(2, "2001:db8:0:1::1").unwrap();
    // Names from other peers count for nothing.
    let _third = connect(3, "192.0.2.7").unwrap();
    assert!(connect(3, "192.0.2.8").is_err());
}

/// Clients that an exempt proxy does not name are limited, all as one; the proxy itself is not.
#[test]
fn clients_without_a_name_share_one_allowance() {
    let limits = ["--handshakes-per-address", "1", "--max-connections-per-address", "1"];
    let proxy = ["--trusted-proxies", "127.0.0.2", "--limit-exempt", "127.0.0.2"];
    let server = Server::start(&[&limits[..], &proxy, &["--access-log", "on"]].concat());
    let addr = server.addr();
    let connect = |headers: &str| Client::try_open(from(2, addr), addr, "/ws", headers);
    let unnamed = [
        "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n",
        "X-Forwarded-For: 192.0.2.1, unknown\r\n",
        "Forwarded: proto=https\r\n",
        "X-Forwarded-For: \r\n",
    ];
    assert!(!server.log().contains("does not name its client"));
    let one = connect(unnamed[0]).unwrap();
    server.wait_for_log(&["WARN", "a trusted proxy does not name its client", "proxy=127.0.0.2"]);
    for headers in unnamed {
        assert_refused(&connect(headers).unwrap_err(), "address_full", 5..=30);
    }
    while connect(unnamed[1]).unwrap_err().json()["error"] != "rate_limited" {}
    let own: Vec<_> = (0..30).map(|_| connect("")).collect();
    assert!(own.iter().all(Result::is_ok), "the proxy's own requests");
    drop(connect("X-Forwarded-For: 192.0.2.1\r\n").unwrap());
    drop(one);
    server.wait_for_log(&[" access: client ", "address=unnamed "]);
    server.wait_for_log(&[" access: request ", "address=unnamed ", "status=429 "]);
}

/// A dry run counts, and refuses nobody.
#[test]
fn a_dry_run_counts_and_refuses_nobody() {
    let limits = ["--max-connections-per-address", "2", "--limits-dry-run"];
    let server = Server::start(&[RATE, &limits].concat());
    let addr = server.addr();
    let clients: Vec<_> = (0..2 * BURST).map(|_| client(2, addr).unwrap()).collect();
    assert_eq!(limited(addr, "clients"), (clients.len() - 2) as f64);
    assert!(limited(addr, "handshakes") > 0.0);
    (0..2 * BURST).for_each(|_| assert_eq!(publish(2, addr, "wrong").status, 401));
    assert!(limited(addr, "credentials") > 0.0);
}

/// One hostile address is refused while many good clients come and are all served.
#[test]
fn a_hostile_address_costs_good_clients_nothing() {
    let limits = ["--handshakes-per-address", "5", "--max-connections-per-address", "60"];
    let server = Server::start(&[&limits[..], &["--threads", "2"]].concat());
    let addr = server.addr();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
    let (refused, mut good) = std::thread::scope(|scope| {
        let hostile: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut refused = 0;
                    let mut held = Vec::new();
                    while !is_over() || refused == 0 {
                        match client(2, addr) {
                            Ok(client) => {
                                held.push(client);
                                assert!(held.len() <= 60, "that many it may not have");
                            }
                            Err(answer) => {
                                answer.assert_status(429);
                                refused += 1;
                            }
                        }
                    }
                    refused
                })
            })
            .collect();
        let good: Vec<_> =
            (0..40).flat_map(|_| 10..30).map(|last| client(last, addr).unwrap()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused: usize = hostile.into_iter().map(|one| one.join().unwrap()).sum();
        (refused, good)
    });
    assert!(refused > 0);
    Publisher::new(addr).publish_to_all("to all who are good");
    for client in &mut good {
        client.assert_text("to all who are good");
    }
    assert_eq!(metric(addr, "wsbcast_limited_total", &[]), refused as f64);
}
