//! Starting: what it listens on, what it says, and what keeps it from starting.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, get},
    metrics::Metrics,
    publish::Publisher,
    server::{Launch, Server},
};

/// Without options it serves port 8000 of loopback or says that the port is taken.
#[test]
fn without_options_it_serves_port_8000_of_loopback() {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000));
    let free = TcpListener::bind(default).is_ok();
    let mut server = Launch::new(&[]).spawn();
    if free {
        server.wait_for_log(&["listening on", "127.0.0.1:8000"]);
        eventually(PATIENCE, "it serves", || Http::try_connect(default).is_some());
        Client::connect(default).leave();
        assert_eq!(get(default, "/readyz").json()["status"], "ready");
    } else {
        assert_eq!(server.wait().code, Some(1));
        server.wait_for_log(&["127.0.0.1:8000"]);
    }
}

/// The log says what it listens on how many shards which broker and what to try.
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

/// The command to try works also when it listens on every address.
/// `Host: 0.0.0.0` names no machine, so a publish that says it is refused.
#[test]
fn the_command_to_try_works_on_every_address() {
    for (listen, host) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
        let server = Launch::new(&["--listen", listen]).start();
        let port = server.addr().port();
        server.wait_for_log(&["curl", &format!("http://{host}:{port}/broadcast")]);
    }
}

#[test]
fn it_listens_on_several_addresses_each_on_every_shard() {
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

/// Addresses may also be given with commas in the environment.
#[test]
fn addresses_may_be_given_with_commas() {
    let server = Launch::new(&["--threads", "1"])
        .env("WSBCAST_LISTEN", "127.0.0.1:0,127.0.0.3:0")
        .env("WSBCAST_NOTIFY_INTERVAL", "0")
        .start();
    assert_eq!(server.public().len(), 2, "{:?}", server.public());
}

#[test]
fn the_ipv6_loopback_is_served_where_the_machine_has_one() {
    if TcpListener::bind("[::1]:0").is_err() {
        // Then a given address is an error, and only the default one is skipped.
        let ended = Launch::on_a_free_port(&["--listen", "[::1]:0"]).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        return;
    }
    let server = Server::start(&["--listen", "[::1]:0"]);
    let mut client = Client::connect(server.addr());
    Publisher::new(server.addr()).publish_to_all("over IPv6");
    client.assert_text("over IPv6");
}

/// There are as many shards as asked for and else as many as cores.
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
    let ended = Launch::on_a_free_port(args).run();
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
