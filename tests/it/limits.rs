//! Scarce descriptors: refusals are polite. Dismissals to make room for others are in `places`.

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    http::{Http, get},
    metrics::metric,
    publish::Publisher,
    server::{Launch, Server},
};

/// Enough to start with two shards, with few to spare.
const DESCRIPTORS: &str = "ulimit -n 128";

#[test]
fn past_what_the_descriptors_allow_a_handshake_is_503() {
    fill_up(&Launch::on_a_free_port(&[]).after(DESCRIPTORS).start());
}

/// Descriptors bound the clients also where `--max-connections` asks for more.
#[test]
fn more_clients_than_descriptors_are_refused_too() {
    let launch = Launch::on_a_free_port(&["--max-connections", "1000"]);
    fill_up(&launch.after(DESCRIPTORS).start());
}

/// Descriptors that many shards need for themselves are not promised to clients.
#[test]
fn the_shards_own_descriptors_are_not_promised() {
    let launch = Launch::on_a_free_port(&["--threads", "16"]);
    fill_up(&launch.after("ulimit -n 400").start());
}

fn fill_up(server: &Server) {
    let addr = server.addr();
    let mut clients = Vec::new();
    let refused = loop {
        assert!(clients.len() < 400, "so many descriptors there are not");
        match Client::try_connect(addr) {
            Ok(client) => clients.push(client),
            Err(response) => break response,
        }
    };
    refused.assert_status(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(clients.len() > 20, "{} clients", clients.len());
    assert_eq!(get(addr, "/livez").status, 200, "others are still served");
    Publisher::new(addr).publish_to_all("to all who are in");
    for client in &mut clients {
        client.assert_text("to all who are in");
    }
}

#[test]
fn the_descriptor_limit_is_raised_at_start_and_logged() {
    let server = Launch::on_a_free_port(&[]).after("ulimit -Sn 200; ulimit -Hn 1000").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(soft, ["1000", "1000"], "{line}");
    server.wait_for_log(&["descriptor", "1000"]);
}

#[test]
fn vanished_clients_leave_no_descriptor_behind() {
    let server = Launch::on_a_free_port(&[]).start();
    let addr = server.addr();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    Client::connect(addr).leave();
    let before = open();
    for round in 0..50 {
        let client = Client::connect(addr);
        if round % 2 == 0 {
            client.leave();
        }
        drop(Http::connect(addr));
    }
    eventually(PATIENCE, "all descriptors are closed", || open() <= before);
    eventually(PATIENCE, "no client is counted", || {
        metric(addr, "wsbcast_connections", &[]) == 0.0
    });
}
