//! Starting: what it listens on, what it says, and what keeps it from starting.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, get},
    metrics::Metrics,
    publish::Publisher,
    server::{Ended, Launch, Server},
};

/// The default port, as soon as no other program on this machine holds it.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);

/// Without options the server serves port 8000 of the loopback address.
#[test]
fn without_options_it_serves_port_8000() {
    let mut server = None;
    eventually(PATIENCE, "port 8000 is free for it", || {
        let mut launched = Launch::new(&[]).spawn();
        eventually(PATIENCE, "it listens or ends", || {
            !launched.is_running() || launched.log().contains("listening on")
        });
        server = launched.is_running().then_some(launched);
        server.is_some()
    });
    let server = server.unwrap();
    server.wait_for_log(&["listening on", "127.0.0.1:8000"]);
    eventually(PATIENCE, "it serves", || Http::try_connect(DEFAULT).is_some());
    Client::connect(DEFAULT).leave();
    assert_eq!(get(DEFAULT, "/readyz").json()["status"], "ready");
}

/// A default port that another program holds is named in one line, and prevents the start.
#[test]
fn a_taken_default_port_is_one_clear_line() {
    let mut taken = None;
    eventually(PATIENCE, "port 8000 is free for the test", || {
        taken = TcpListener::bind(DEFAULT).ok();
        taken.is_some()
    });
    assert_ends_for_a_taken_port(&Launch::new(&[]).run(), DEFAULT);
}

/// The log says at the start which addresses, how many shards and which broker serve, and what
/// command to try.
#[test]
fn the_log_says_what_it_listens_on() {
    let server = Server::start(&["--threads", "3"]);
    let addr = server.addr().to_string();
    server.wait_for_log(&["listening on", &addr]);
    server.wait_for_log(&["3", "shards"]);
    server.wait_for_log(&["embedded"]);
    server.wait_for_log(&["curl", &addr, "/broadcast"]);
    assert!(server.log().lines().count() <= 12, "a few lines:\n{}", server.log());
}

/// The command to try works also when the server listens on every address. `Host: 0.0.0.0` names no
/// machine, so a publish that says it is refused.
#[test]
fn the_command_to_try_works_on_every_address() {
    for (listen, host) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        let server = Launch::new(&["--listen", listen]).start();
        let port = server.addr().port();
        server.wait_for_log(&["curl", &format!("http://{host}:{port}/broadcast")]);
    }
}

/// Every shard listens on each of several addresses.
#[test]
fn every_shard_listens_on_every_address() {
    let server = Server::start(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    let addresses = server.public().to_vec();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let mut clients: Vec<Client> =
        addresses.iter().flat_map(|&addr| [Client::connect(addr), Client::connect(addr)]).collect();
    for &addr in &addresses {
        Publisher::new(addr).publish_to_all(format!("through {addr}"));
        for client in &mut clients {
            client.assert_text(&format!("through {addr}"));
        }
    }
}

/// Several addresses may be given with commas in the environment.
#[test]
fn addresses_may_be_given_with_commas() {
    let server = Launch::new(&["--threads", "1"])
        .env("WSBCAST_LISTEN", "127.0.0.1:0,127.0.0.3:0")
        .env("WSBCAST_NOTIFY_INTERVAL", "0")
        .start();
    assert_eq!(server.public().len(), 2, "{:?}", server.public());
}

/// The loopback address of IPv6 is served like any other. The loopback address of IPv6 is served
/// like any other.
#[test]
fn the_ipv6_loopback_can_be_served() {
    let server = Server::start(&["--listen", "[::1]:0"]);
    let mut client = Client::connect(server.addr());
    Publisher::new(server.addr()).publish_to_all("over IPv6");
    client.assert_text("over IPv6");
}

/// A given address that the machine lacks prevents the start, though another one could be served:
/// only default ones are skipped.
#[test]
fn a_given_address_that_the_machine_lacks_ends_it() {
    // Addresses for documentation: no machine has them.
    for listen in ["192.0.2.1:8000", "[2001:db8::1]:8000"] {
        let ended = Launch::new(&["--listen", "127.0.0.1:0", "--listen", listen]).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(listen), "{ended:?}");
    }
}

/// There are as many shards as asked for, and without a wish as many as cores.
#[test]
fn there_are_as_many_shards_as_asked_for() {
    for threads in [1, 5] {
        let server = Server::start(&["--threads", &threads.to_string()]);
        let shards = Metrics::of(server.addr()).values_by_shard("wsbcast_connections");
        assert_eq!(shards.len(), threads, "{shards:?}");
    }
    let server = Launch::new(&["--listen", "127.0.0.1:0", "--notify-interval", "0"]).start();
    let shards = Metrics::of(server.addr()).values_by_shard("wsbcast_connections");
    assert_eq!(shards.len(), std::thread::available_parallelism().unwrap().get());
}

/// Runs it and asserts one clear line about `addr`, and exit code 1.
#[track_caller]
fn assert_refuses_to_start(args: &[&str], addr: SocketAddr) {
    assert_ends_for_a_taken_port(&Launch::on_a_free_port(args).run(), addr);
}

#[track_caller]
fn assert_ends_for_a_taken_port(ended: &Ended, addr: SocketAddr) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<&str> =
        ended.stderr.lines().filter(|line| line.contains(&addr.to_string())).collect();
    let [line] = lines[..] else { panic!("one clear line: {ended:?}") };
    let line = line.to_lowercase();
    assert!(line.contains("in use") || line.contains("taken"), "{line}");
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("backtrace"), "{ended:?}");
}

#[test]
fn a_taken_port_is_one_clear_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    assert_refuses_to_start(&["--listen", &addr.to_string()], addr);
    assert_refuses_to_start(&["--admin-listen", &addr.to_string()], addr);
}

#[test]
fn a_port_taken_by_another_wsbcast_is_no_exception() {
    let first = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    for addr in [first.addr(), first.admin()] {
        assert_refuses_to_start(&["--listen", &addr.to_string()], addr);
    }
    let mut client = Client::connect(first.addr());
    Publisher::new(first.addr()).publish_to_all("undisturbed");
    client.assert_text("undisturbed");
}

/// A port can be taken again as soon as its process has ended.
#[test]
fn a_port_is_free_as_soon_as_its_process_ends() {
    let mut first = Server::start(&[]);
    let addr = first.addr();
    let client = Client::connect(addr);
    first.kill();
    drop(client);
    let second = Server::start(&["--listen", &addr.to_string()]);
    assert_eq!(second.addr(), addr);
    Client::connect(addr).leave();
}
