//! Places for HTTP connections: inactive ones hold up no others, and probes always get through.
//!
//! Few descriptors make few places: with two shards and 200 of them each has 16, and the admin
//! listener as many.

use std::{
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use testkit::proxy::Proxy;

use crate::support::{
    PATIENCE,
    certificates::Authority,
    client::{Client, upgrade_request},
    events::Events,
    eventually,
    http::{Arrival, Http, get, post},
    metrics::metric,
    now,
    publish::Publisher,
    server::{Launch, Server},
};

const DESCRIPTORS: &str = "ulimit -n 200";
/// More than there are places, and descriptors.
const MANY: usize = 250;
/// Half of the time that a connection without a request was waited for: a newcomer that waits so
/// long is too late.
const AT_ONCE: Duration = Duration::from_secs(5);

fn server() -> Server {
    Launch::on_a_free_port(&["--admin-listen", "127.0.0.1:0"]).after(DESCRIPTORS).start()
}

fn livez(addr: SocketAddr) -> String {
    format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n")
}

/// A new client, and probes as people make them, get through in time.
#[track_caller]
fn assert_open(server: &Server) {
    let start = now();
    let mut client = Client::connect(server.addr());
    Publisher::new(server.addr()).publish_to_all("still here");
    client.assert_text("still here");
    for addr in [server.addr(), server.admin()] {
        assert_eq!(get(addr, "/livez").status, 200);
        let health = Command::new(env!("CARGO_BIN_EXE_wsbcast"))
            .args(["health", &format!("http://{addr}")])
            .status();
        assert!(health.expect("the binary runs").success());
    }
    let took = start.elapsed();
    assert!(took < AT_ONCE, "{took:?}");
}

/// Connections that were answered and are idle leave room for new ones.
#[test]
fn idle_connections_hold_nobody_up() {
    let server = server();
    for addr in [server.addr(), server.admin()] {
        let mut idle = Vec::new();
        for _ in 0..MANY {
            let mut http = Http::connect(addr);
            assert_eq!(http.request(livez(addr)).status, 200);
            idle.push(http);
        }
        assert_open(&server);
        drop(idle);
    }
    let dismissed =
        metric(server.addr(), "wsbcast_http_connections_dismissed_total", &["reason=\"idle\""]);
    assert!(dismissed > 0.0);
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}

/// Connections that say nothing, or begin a request and do not end it, leave room for new ones.
#[test]
fn silent_connections_hold_nobody_up() {
    let server = server();
    let addr = server.addr();
    let head = "POST /broadcast HTTP/1.1\r\nHost: localhost\r\n";
    let body = format!("{head}Content-Length: 9\r\n\r\nshort");
    let long = format!("GET /livez HTTP/1.1\r\nX-Long: {}", "x".repeat(50_000));
    for said in ["", "G", head, &body, &long] {
        for at in [addr, server.admin()] {
            let connections: Vec<_> = (0..MANY)
                .map(|_| {
                    let mut http = Http::connect(at);
                    if !said.is_empty() {
                        // A connection that had to leave already may be told so by a reset.
                        let _ = http.try_send(said);
                    }
                    http
                })
                .collect();
            assert_open(&server);
            drop(connections);
        }
    }
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
}

/// Silent connections at one listener, however many come, make no request at another one wait or
/// be refused: two accept loops of a shard found the same room, and the slower one had none.
#[test]
fn a_flood_at_one_listener_is_not_felt_at_another() {
    let folder = tempfile::TempDir::new().unwrap();
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let authority = Authority::new();
    let pair = authority.files(&["wsbcast.test"]);
    let listeners = [
        ["--listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0"],
        ["--listen", &socket],
        ["--tls-listen", "127.0.0.1:0"],
        ["--tls-cert", &pair[0]],
        ["--tls-key", &pair[1]],
        ["--admin-listen", "127.0.0.1:0"],
    ];
    let server = Launch::on_a_free_port(&listeners.concat()).after(DESCRIPTORS).start();
    let [_, other, by_tls] = *server.public() else { panic!("{:?}", server.public()) };
    for (round, flooded) in [other, by_tls].into_iter().cycle().take(20).enumerate() {
        let silent: Vec<_> = (0..MANY).map(|_| Http::connect(flooded)).collect();
        assert_eq!(post(server.addr(), "/broadcast", "still here").status, 202, "{round}");
        drop(silent);
        let silent: Vec<_> = (0..MANY).map(|_| unix(&folder.path().join("socket"))).collect();
        assert_eq!(post(server.addr(), "/broadcast", "still here").status, 202, "{round}");
        drop(silent);
    }
    let silent: Vec<_> = (0..MANY).map(|_| Http::connect(other)).collect();
    assert_open(&server);
    drop(silent);
}

fn unix(path: &Path) -> TcpStream {
    TcpStream::from(OwnedFd::from(UnixStream::connect(path).unwrap()))
}

/// Connections that send one request after the other leave room for new ones.
#[test]
fn busy_connections_hold_nobody_up() {
    let server = server();
    let addr = server.addr();
    let mut askers: Vec<Option<Http>> = (0..MANY).map(|_| None).collect();
    for _ in 0..3 {
        for asker in &mut askers {
            let mut http = asker.take().unwrap_or_else(|| Http::connect(addr));
            let is_answered = http.try_send(livez(addr)) && http.try_response().is_some();
            *asker = is_answered.then_some(http);
        }
        assert_open(&server);
    }
}

#[test]
fn clients_that_have_left_http_are_never_sent_away() {
    let server = server();
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let mut stream = Events::open(addr, "/sse");
    let idle: Vec<_> = (0..MANY).map(|_| Http::connect(addr)).collect();
    assert_open(&server);
    client.assert_text("still here");
    assert_eq!(stream.text(), "still here");
    drop(idle);
}

/// Silent connections of one address, however many come, are no obstacle for a client that is far
/// away: it takes longer to show its request than a connection has for sure.
#[test]
fn distant_clients_feel_no_flood_of_one_address() {
    let server = server();
    let addr = server.addr();
    let line = Proxy::start(&addr.to_string(), Duration::from_millis(150));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let silent = || Http::connect_from([127, 0, 0, 2], addr);
            let mut all: Vec<_> = (0..60).map(|_| silent()).collect();
            let mut again = 0_u32;
            while !is_over.load(Ordering::Relaxed) {
                for one in &mut all {
                    if !matches!(one.arrival(Duration::from_millis(1)), Arrival::Nothing) {
                        *one = silent();
                        again += 1;
                    }
                }
            }
            again
        });
        let far = line.address().parse().unwrap();
        let mut answers = Vec::new();
        for _ in 0..10 {
            let answer = Http::try_connect(far).and_then(|mut http| {
                http.try_send(livez(far));
                http.try_response()
            });
            answers.push(answer.map(|answer| answer.status));
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(answers, [Some(200); 10]);
        assert!(flood.join().unwrap() > 0, "no silent connection was sent away");
    });
}

/// A full server refuses further clients with 503, and still answers probes.
#[test]
fn a_full_server_refuses_and_answers_probes() {
    let server = server();
    let addr = server.addr();
    let mut clients = Vec::new();
    let idle: Vec<_> = (0..MANY).map(|_| Http::connect(addr)).collect();
    let refused = loop {
        match Client::try_connect(addr) {
            Ok(client) => clients.push(client),
            Err(response) => break response,
        }
        assert!(clients.len() < 200, "so many descriptors there are not");
    };
    refused.assert_status(503);
    assert!(clients.len() > 30, "{}", clients.len());
    let more: Vec<_> = (0..MANY).map(|_| Http::connect(addr)).collect();
    for addr in [addr, server.admin()] {
        for _ in 0..20 {
            assert_eq!(get(addr, "/livez").status, 200);
        }
    }
    let mut http = Http::connect(addr);
    http.send(upgrade_request(addr, "/ws", ""));
    assert_eq!(http.response().status, 503);
    Publisher::new(addr).publish_to_all("to all who are in");
    for client in &mut clients {
        client.assert_text("to all who are in");
    }
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
    drop((idle, more));
}

#[test]
fn an_idle_connection_stays_for_as_long_as_it_is_told() {
    let server = Server::start(&["--idle-timeout", "2s"]);
    let mut http = Http::connect(server.addr());
    // The server's time begins before its answer is seen here.
    let asked = now();
    let answer = http.request(livez(server.addr()));
    assert_eq!(answer.header("keep-alive"), Some("timeout=2"));
    assert_eq!(answer.header("connection"), Some("keep-alive"));
    http.assert_end();
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    let default = Server::start(&[]);
    let answer = Http::connect(default.addr()).request(livez(default.addr()));
    assert_eq!(answer.header("keep-alive"), Some("timeout=75"));
}

/// A process with too few descriptors does not start, and names the number that it needs.
#[test]
fn too_few_descriptors_are_named_with_the_need() {
    let args = ["--threads", "8", "--admin-listen", "127.0.0.1:0"];
    let ended = Launch::on_a_free_port(&args).after("ulimit -n 40").run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(!ended.stderr.contains("listening on"), "{}", ended.stderr);
    let needed = ended.stderr.split("at least ").nth(1).unwrap_or_default();
    let needed: usize = needed.split(' ').next().unwrap_or_default().parse().unwrap_or_else(|_| {
        panic!("a number that is enough: {}", ended.stderr);
    });
    assert!(ended.stderr.contains("8 shards") && ended.stderr.contains("limit is 40"));

    let one_less = format!("ulimit -n {}", needed - 1);
    assert_eq!(Launch::on_a_free_port(&args).after(&one_less).run().code, Some(1));
    let server = Launch::on_a_free_port(&args).after(&format!("ulimit -n {needed}")).start();
    let clients: Vec<_> = (0..16).map(|_| Client::connect(server.addr())).collect();
    assert_open_to_probes(&server);
    drop(clients);
}

/// Descriptors that a parent leaves open are not counted as room, and too many of them prevent the
/// start. They used to be taken for room, until nothing could be accepted any more.
#[test]
fn inherited_descriptors_are_no_room() {
    let args = ["--threads", "1", "--admin-listen", "127.0.0.1:0"];
    let with_60 = |first: u32, limit: usize| {
        let last = first + 59;
        let open = format!("for n in $(seq {first} {last}); do eval \"exec $n</dev/null\"; done");
        // The program that runs the tests may leave some open as well.
        let close = "for n in $(seq 3 254); do eval \"exec $n<&-\"; done";
        let line = format!("{close}; {open}; ulimit -n {limit}; exec \"$0\" \"$@\"");
        Launch::on_a_free_port(&args).after(&format!("exec bash -c '{line}' \"$0\" \"$@\""))
    };
    let ended = with_60(10, 100).run();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let told = ended.stderr.lines().find(|line| line.contains("at least ")).unwrap();
    assert!(told.contains("with 60 that") && told.contains("limit is 100"), "{told}");
    let needed = told.split("at least ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let needed: usize = needed.parse().unwrap();

    assert_eq!(with_60(10, needed - 1).run().code, Some(1));
    // Descriptors past the limit are in nobody's way.
    for server in [with_60(10, needed).start(), with_60(200, needed - 60).start()] {
        let mut clients = Vec::new();
        while let Ok(client) = Client::try_connect(server.addr()) {
            clients.push(client);
        }
        assert!(clients.len() >= 16, "{}", clients.len());
        assert_open_to_probes(&server);
        assert_eq!(Publisher::new(server.addr()).publish("heard").status, 202);
    }
}

fn assert_open_to_probes(server: &Server) {
    let idle: Vec<_> = (0..MANY).map(|_| Http::connect(server.addr())).collect();
    for addr in [server.addr(), server.admin()] {
        assert_eq!(get(addr, "/livez").status, 200);
    }
    assert!(!server.log().contains("cannot accept"), "{}", server.log());
    drop(idle);
}

/// When the limit of descriptors shrinks, accepting waits and idle connections are ended.
#[test]
fn a_shrinking_limit_makes_accepting_wait() {
    let server = server();
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let mut idle: Vec<_> = (0..10).map(|_| Http::connect(addr)).collect();
    for http in &mut idle {
        assert_eq!(http.request(livez(addr)).status, 200);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let limit = format!("--nofile={}", open - 1);
    let pid = server.pid().to_string();
    let changed = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    if !changed.is_ok_and(|status| status.success()) {
        return;
    }
    let start = now();
    eventually(PATIENCE, "idle connections make room", || get(addr, "/livez").status == 200);
    Publisher::new(addr).publish_to_all("meanwhile");
    client.assert_text("meanwhile");
    let lines = server.log().lines().filter(|l| l.contains("cannot accept")).count() as u64;
    // One line a second, of all shards together.
    assert!(lines <= start.elapsed().as_secs() + 3, "{lines} lines");
}
