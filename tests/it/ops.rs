//! Being looked at: liveness, readiness, metrics, statistics, the drain's state, `health`.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{
    PATIENCE,
    client::Client,
    clients_on_all_shards, eventually,
    http::{Http, get},
    metrics::{Metrics, metric},
    publish::Publisher,
    server::{Launch, Server},
};

#[test]
fn liveness_and_readiness_are_green_on_both_listeners() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    for addr in [server.addr(), server.admin()] {
        for target in ["/livez", "/healthz"] {
            assert_eq!(get(addr, target).status, 200, "{target}");
        }
        let ready = get(addr, "/readyz");
        ready.assert_status(200);
        assert_eq!(ready.json()["status"], "ready");
    }
}

/// The root of the admin listener is a short welcome with the version and links.
#[test]
fn a_short_welcome_is_at_the_admin_root() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let welcome = get(server.admin(), "/");
    welcome.assert_status(200);
    let text = welcome.json().to_string();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    assert!(text.contains("/metrics"), "{text}");
}

#[test]
fn metrics_are_well_formed_and_complete() {
    let server = Server::start(&["--threads", "2"]);
    let _client = Client::connect(server.addr());
    Publisher::new(server.addr()).publish_to_all("x");
    let response = get(server.addr(), "/metrics");
    let kind = response.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let metrics = Metrics::of(server.addr());
    for name in [
        "connections",
        "connections_opened_total",
        "connections_closed_total",
        "handshakes_rejected_total",
        "published_total",
        "publish_failures_total",
        "frames_encoded_total",
        "deliveries_total",
        "delivered_bytes_total",
        "fanout_seconds",
        "slow_consumers_total",
        "skipped_messages_total",
        "unheld_messages_total",
        "backlog_bytes",
        "broker_connected",
        "broker_reconnects_total",
        "broker_gaps_total",
        "broker_lag_seconds",
        "log_lines_dropped_total",
        "drain_phase",
        "drain_remaining_connections",
        "shard_loop_lag_seconds",
        "build_info",
    ] {
        let name = format!("wsbcast_{name}");
        assert!(metrics.names().contains(&name.as_str()), "{name} has a TYPE line");
        assert!(metrics.text().contains(&format!("# HELP {name} ")), "{name} has a HELP line");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
    assert!(metrics.names().contains(&"process_cpu_seconds_total"));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(metrics.sum("wsbcast_build_info", &[&version, "commit=\""]), 1.0);
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a series and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn a_series_stands_once_in_a_scrape() {
    let server = Server::start(&["--threads", "3"]);
    let metrics = Metrics::of(server.addr());
    let mut series: Vec<&str> = metrics
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series))
        .collect();
    let count = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), count);
    let mut names = metrics.names();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn closed_connections_are_counted_by_code_and_word() {
    let server = Server::start(&[]);
    Client::connect(server.addr()).leave();
    let mut wrong = Client::connect(server.addr());
    wrong.send([0x83, 0x80, 0, 0, 0, 0]);
    wrong.assert_closed(1002);
    // A client's own code is no label: clients would decide how many series there are.
    for labels in [&["reason=\"client\""][..], &["code=\"1002\"", "reason=\"protocol\""]] {
        eventually(PATIENCE, "it is counted, once", || {
            metric(server.addr(), "wsbcast_connections_closed_total", labels) == 1.0
        });
    }
}

/// Every number below `value`, with the names on the way to it.
fn numbers(value: &Value, path: &str, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => found.push((path.to_owned(), number.as_f64().unwrap())),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, v)| numbers(v, &format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, v)| numbers(v, &format!("{path}/{n}"), found));
        }
        _ => {}
    }
}

/// The statistics state the same facts for each shard and in total.
#[test]
fn statistics_agree_per_shard_and_in_total() {
    let server = Server::start(&["--threads", "2"]);
    let clients = clients_on_all_shards(server.addr(), "/ws", 2);
    let stats = get(server.addr(), "/stats");
    stats.assert_status(200);
    let stats = stats.json();
    assert_eq!(stats["shards"].as_array().map(Vec::len), Some(2), "{stats}");
    let mut found = Vec::new();
    numbers(&stats, "", &mut found);
    let of_shards: f64 = found
        .iter()
        .filter(|(path, _)| path.starts_with("/shards/") && path.ends_with("/connections"))
        .map(|(_, value)| value)
        .sum();
    assert_eq!(of_shards, clients.len() as f64, "{stats}");
    let in_total = |(path, value): &(String, f64)| {
        !path.starts_with("/shards/")
            && path.ends_with("connections")
            && *value == clients.len() as f64
    };
    assert!(found.iter().any(in_total), "{stats}");
}

#[test]
fn the_drains_state_can_be_watched_before_it_begins() {
    let server = Server::start(&[]);
    let drain = get(server.addr(), "/admin/drain");
    drain.assert_status(200);
    assert_eq!(drain.json()["phase"], "serving", "{}", drain.text());
}

/// A drain begins only when its request is there as a whole. A request whose sender was cut off may
/// be no wish at all.
#[test]
fn a_drain_begins_with_its_whole_request() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin();
    let ask = |length: usize| {
        let mut http = Http::connect(admin);
        http.send(format!(
            "POST /admin/drain HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\n\r\n{{"
        ));
        http
    };
    ask(100_000).response().assert_status(413);
    let mut cut_off = ask(2);
    cut_off.finish();
    cut_off.response().assert_status(400);
    let mut slow = ask(2);
    assert_eq!(get(admin, "/admin/drain").json()["phase"], "serving");
    slow.send("}");
    slow.response().assert_status(202);
}

/// `wsbcast health` exits with 0 when the server is alive and with 1 when there is none.
#[test]
fn health_exits_0_only_when_the_server_lives() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.addr());
    for url in [url.clone(), format!("{url}/livez")] {
        let ended = Launch::new(&["health", &url]).run();
        assert_eq!(ended.code, Some(0), "{url}: {ended:?}");
    }
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let ended = Launch::new(&["health", &url]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ended = Launch::new(&["health", &url]).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("timed out"), "it says what is wrong: {ended:?}");
    assert_eq!(Launch::new(&["health", "nonsense://"]).run().code.map(|code| code > 0), Some(true));
}

#[test]
fn logs_are_lines_of_json_when_wanted() {
    let server = Launch::on_a_free_port(&["--log-format", "json", "--log-level", "debug"]).start();
    Client::connect(server.addr()).leave();
    let log = server.log();
    for line in log.lines() {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(json.is_object(), "{line}");
    }
    assert!(log.lines().count() > 1, "{log}");
}

/// The first line that could not be written used to end the process, even with clients connected.
#[test]
fn it_serves_on_when_its_log_cannot_be_written() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let listen = addr.to_string();
    let mut server = Launch::new(&["--listen", &listen]).after("exec 2>/dev/full").spawn();
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    let client = Client::connect(addr);
    server.signal(&["HUP", "TERM"]);
    eventually(PATIENCE, "readiness is red", || get(addr, "/readyz").status == 503);
    client.leave();
    server.assert_exit(0);
}
