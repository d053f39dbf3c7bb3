//! The failure of a shard itself, and parts that a caller hands in: the server runs inside the
//! test, so that it can be broken from within and be made of the test's own parts.
//!
//! The rest of the interface is tested on the real binary; here the same `Server` runs on a
//! thread of the test, with signals from a channel and code of the test on a shard's thread.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "the log of a process explains a failed test")]

mod broker;
mod listeners;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod watchdog;

use std::{
    net::SocketAddr,
    sync::mpsc::{SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use support::{
    PATIENCE,
    client::{Client, Event},
    clients_on_all_shards, eventually,
    http::{get, post},
    metrics::{Metrics, metric},
    now,
};
use wsbcast::{
    config::{self, Config, Invocation},
    server::{Exit, Parts, Server, StartError, signals},
};

type Call = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send>;

/// A server on a thread of the test.
struct Running {
    addr: SocketAddr,
    addresses: Vec<SocketAddr>,
    signals: tokio::sync::mpsc::Sender<signals::Signal>,
    calls: Vec<Call>,
    thread: JoinHandle<Exit>,
}

fn start(shards: usize) -> Running {
    start_with(shards, &[])
}

fn start_with(shards: usize, more: &[&str]) -> Running {
    start_of(shards, more, Parts::default()).unwrap()
}

fn start_of(shards: usize, more: &[&str], parts: Parts) -> Result<Running, StartError> {
    let server = Server::of(config(shards, more), parts)?;
    let addresses = server.addresses();
    let calls = (0..shards).map(|shard| Box::new(server.caller(shard)) as Call).collect();
    let (sender, receiver) = signals::channel();
    let thread = thread::spawn(move || server.run(receiver).unwrap());
    Ok(Running { addr: addresses[0], addresses, signals: sender, calls, thread })
}

fn config(shards: usize, more: &[&str]) -> Config {
    let threads = shards.to_string();
    let line =
        ["wsbcast", "--listen", "127.0.0.1:0", "--notify-interval", "0", "--threads", &threads];
    let line = line.iter().chain(more).map(Into::into);
    let parsed = config::parse(line, []).unwrap();
    let Invocation::Serve(config) = parsed else { panic!("the line asks to serve") };
    *config
}

impl Running {
    fn terminate(self) -> Exit {
        self.signals.blocking_send(signals::Signal::Terminate("a test")).unwrap();
        self.thread.join().unwrap()
    }
}

/// A panic in a shard closes the other shards' clients with 1012 and ends with code 1.
#[test]
fn a_panicking_shard_ends_with_code_1() {
    let server = start(3);
    let clients = clients_on_all_shards(server.addr, "/ws", 3);
    (server.calls[1])(Box::new(|| panic!("on purpose")));
    let mut told = 0;
    for mut client in clients {
        match client.event() {
            Event::Frame(frame) => {
                let (code, text) = frame.close();
                assert_eq!(code, 1012, "{text}");
                assert!(text.starts_with("service restart; retry in "), "{text}");
                told += 1;
            }
            // A client of the shard that died: nobody is left to write a Close frame.
            other => assert!(matches!(other, Event::Eof | Event::Reset), "{other:?}"),
        }
    }
    assert!(told >= 2, "clients of the other two shards are told");
    let exit = server.thread.join().unwrap();
    assert_eq!((exit, exit.code()), (Exit::ShardDied, 1));
}

/// Nanoseconds that the calling thread has run.
#[cfg(target_os = "linux")]
fn has_run() -> u64 {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    account.split(' ').next().unwrap().parse().unwrap()
}

/// Two dozen shards on two cores that all compute are late, and none of them hangs.
#[cfg(target_os = "linux")]
#[test]
fn shards_that_wait_for_a_cpu_are_not_silent() {
    let server = start(24);
    let (done, is_done) = sync_channel(24);
    for round in 0..5 {
        for call in &server.calls {
            let done = done.clone();
            call(Box::new(move || {
                let begun = has_run();
                // Several in a row, and the time to the next beat, are no silence yet.
                while has_run() - begun < 20_000_000 {}
                done.send(()).unwrap();
            }));
        }
        for _ in &server.calls {
            is_done.recv().unwrap();
        }
        let placed = metric(server.addr, "wsbcast_connections_placed_total", &["why=\"stalled\""]);
        assert_eq!(placed, 0.0, "round {round}");
    }
    assert_eq!(server.terminate(), Exit::Drained);
}

/// Keeps a shard's thread busy until the sender is dropped.
fn block(server: &Running, shard: usize) -> SyncSender<()> {
    let (blocker, blocked) = sync_channel::<()>(0);
    let (reached, is_blocked) = sync_channel(1);
    (server.calls[shard])(Box::new(move || {
        reached.send(()).unwrap();
        let _ = blocked.recv();
    }));
    is_blocked.recv().unwrap();
    blocker
}

/// Asks until a shard that is not blocked has accepted the connection.
fn readiness(addr: SocketAddr) -> String {
    let mut connections = (0..16).map(|_| {
        let mut http = support::http::Http::connect(addr);
        http.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        http
    });
    let mut waiting: Vec<_> = connections.by_ref().collect();
    let mut answer = None;
    eventually(PATIENCE, "some shard answers", || {
        answer = waiting.iter_mut().find_map(|http| match http.arrival(Duration::from_millis(5)) {
            support::http::Arrival::Bytes => http.try_response(),
            _ => None,
        });
        answer.is_some()
    });
    answer.unwrap().text()
}

/// A silent shard turns readiness red and its return turns it green.
#[test]
fn a_silent_shard_turns_readiness_red() {
    let server = start(2);
    let ready = |addr| get(addr, "/readyz").status == 200;
    eventually(PATIENCE, "ready at first", || ready(server.addr));
    let blocker = block(&server, 0);
    eventually(PATIENCE, "readiness says shard_stalled", || {
        readiness(server.addr).contains("shard_stalled")
    });
    drop(blocker);
    eventually(PATIENCE, "ready again", || ready(server.addr));
    assert_eq!(server.terminate(), Exit::Drained);
}

/// A message published while a shard is silent reaches its clients when it returns.
#[test]
fn a_silent_shard_delivers_when_it_returns() {
    let server = start(2);
    let mut clients = clients_on_all_shards(server.addr, "/ws", 2);
    let blocker = block(&server, 1);
    // Posted now, or as soon as the shard that the publisher lands on is back.
    let addr = server.addr;
    let publisher = thread::spawn(move || post(addr, "/broadcast", "late").status);
    drop(blocker);
    assert_eq!(publisher.join().unwrap(), 202);
    for client in &mut clients {
        client.assert_text("late");
    }
    drop(clients);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// A drain does not wait for the clients of a shard that hangs, once all others have left; the exit
/// code says that somebody was cut off.
#[test]
fn a_hanging_shard_ends_a_drain_at_its_own_deadline() {
    let server = start(2);
    let mut clients = clients_on_all_shards(server.addr, "/ws", 2);
    let blocker = block(&server, 1);
    let start = now();
    server.signals.blocking_send(signals::Signal::Terminate("a test")).unwrap();
    // Those of the shard that lives can still be spoken to, and leave.
    let mut others = Vec::new();
    for client in &mut clients {
        client.send(support::frames::masked_close(1000, ""));
    }
    clients.retain_mut(|client| {
        let is_served = client.event_within(Duration::from_secs(3)).is_some();
        others.push(is_served);
        !is_served
    });
    assert!(others.contains(&true) && others.contains(&false), "each shard has a client");
    assert_eq!(server.thread.join().unwrap(), Exit::CutOff);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(29), "its deadline: {took:?}");
    assert!(took < Duration::from_secs(29) + PATIENCE * 2, "not the drain's limit: {took:?}");
    drop(blocker);
}

/// Signals from a channel drain a server as those of the system do.
#[test]
fn signals_from_a_channel_drain_a_server() {
    let server = start(2);
    let mut client = Client::open(server.addr, "/ws");
    server.signals.blocking_send(signals::Signal::Ignored("SIGHUP")).unwrap();
    server.signals.blocking_send(signals::Signal::Terminate("first")).unwrap();
    eventually(PATIENCE, "refuses new clients", || Client::try_connect(server.addr).is_err());
    assert_eq!(post(server.addr, "/broadcast", "still here").status, 202);
    client.assert_text("still here");
    client.leave();
    assert_eq!(server.thread.join().unwrap(), Exit::Drained);
}

/// A console close event closes everyone within its few seconds.
#[test]
fn a_console_close_event_closes_all_clients() {
    let server = start(2);
    let mut clients = clients_on_all_shards(server.addr, "/ws", 2);
    server.signals.blocking_send(signals::Signal::ConsoleClose("a test")).unwrap();
    for client in &mut clients {
        client.assert_closed(1012);
    }
    assert_eq!(server.thread.join().unwrap(), Exit::Drained);
}

/// A server of three shards with several clients on each, amid a drain that closes one client
/// after the other and takes ten minutes for all of them.
fn start_closing() -> (Running, Vec<Client>) {
    let server = start_with(3, &["--drain-timeout", "10m", "--drain-close-over", "10m"]);
    let mut clients = clients_on_all_shards(server.addr, "/ws", 3);
    clients.extend(clients_on_all_shards(server.addr, "/ws", 3));
    server.signals.blocking_send(signals::Signal::Terminate("first")).unwrap();
    eventually(PATIENCE, "closing", || {
        get(server.addr, "/admin/drain").json()["phase"] == "closing"
    });
    (server, clients)
}

/// A console's close event hurries a drain that is closing already: all clients are told.
#[test]
fn a_console_event_hurries_a_closing_drain() {
    let (server, mut clients) = start_closing();
    server.signals.blocking_send(signals::Signal::ConsoleClose("a test")).unwrap();
    for client in &mut clients {
        client.assert_closed(1012);
    }
    assert_eq!(server.thread.join().unwrap(), Exit::Drained);
}

/// The death of a shard hurries a drain that is closing already: clients of the others are told.
#[test]
fn the_death_of_a_shard_hurries_a_closing_drain() {
    let (server, mut clients) = start_closing();
    let held = Metrics::of(server.addr).values_by_shard("wsbcast_connections");
    (server.calls[2])(Box::new(|| panic!("on purpose")));
    let is_told = |client: &mut Client| match client.event() {
        Event::Frame(frame) => {
            assert_eq!(frame.close().0, 1012);
            true
        }
        Event::Eof | Event::Reset => false,
    };
    let untold = clients.iter_mut().map(is_told).filter(|told| !told).count();
    assert!(untold as f64 <= held["2"], "{untold} of {held:?}: only clients of the dead shard");
    assert_eq!(server.thread.join().unwrap(), Exit::ShardDied);
}

/// Opens so many clients at once, from a few threads.
fn open_at_once(addr: SocketAddr, clients: usize) -> Vec<Client> {
    const THREADS: usize = 16;
    let open = move |share: usize| -> Vec<Client> {
        (0..share).map(|_| Client::open(addr, "/ws")).collect()
    };
    let share = clients.div_ceil(THREADS);
    let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(move || open(share))).collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn placed(addr: SocketAddr, why: &str) -> f64 {
    metric(addr, "wsbcast_connections_placed_total", &[&format!("why=\"{why}\"")])
}

/// No connection waits for the return of one blocked shard of eight.
#[test]
fn a_blocked_shard_delays_no_connect() {
    let server = start(8);
    let blocker = block(&server, 3);
    // The kernel gives an eighth of them to the blocked shard's socket.
    let mut clients = open_at_once(server.addr, 240);
    assert!(placed(server.addr, "stalled") > 0.0, "others have accepted for it");
    drop(blocker);
    assert_eq!(post(server.addr, "/broadcast", "all here").status, 202);
    for client in &mut clients {
        client.assert_text("all here");
    }
    drop(clients);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// A drain also refuses connections that came in on a blocked shard's socket.
#[test]
fn a_drain_refuses_connections_of_a_blocked_shard() {
    let server = start(4);
    let client = Client::open(server.addr, "/ws");
    let blocker = block(&server, 1);
    server.signals.blocking_send(signals::Signal::Terminate("first")).unwrap();
    eventually(PATIENCE, "refuses new clients", || Client::try_connect(server.addr).is_err());
    for _ in 0..64 {
        let refused = Client::try_connect(server.addr).unwrap_err();
        assert_eq!(refused.status, 503, "{refused:?}");
    }
    drop(blocker);
    client.leave();
    assert_eq!(server.thread.join().unwrap(), Exit::Drained);
}

/// A shard that holds more than the others passes new connections on.
#[test]
fn a_shard_above_the_mean_passes_connections_on() {
    let server = start(2);
    let blocker = block(&server, 0);
    let mut clients = open_at_once(server.addr, 192);
    drop(blocker);
    eventually(PATIENCE, "a connection is passed on", || {
        Client::open(server.addr, "/ws").leave();
        placed(server.addr, "balance") > 0.0
    });
    clients.extend(open_at_once(server.addr, 304));
    let held = Metrics::of(server.addr).values_by_shard("wsbcast_connections");
    let held: Vec<_> = held.into_values().collect();
    // The kernel alone would leave them 192 apart.
    assert!((held[0] - held[1]).abs() < 104.0, "{held:?}");
    drop(clients);
    assert_eq!(server.terminate(), Exit::Drained);
}
