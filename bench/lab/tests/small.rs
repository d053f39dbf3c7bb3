//! `lab fleet` and `lab hub` at a small size: one service of two servers, from the first connect to
//! exit 0; and every part of the hub's measurement, which checks itself that everyone got
//! everything. No time is judged here.
//!
//! Needs redis-server, as the server's own tests do. The server is the one of this workspace.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use testkit::{node::server_beside, wait::eventually};

const PATIENCE: Duration = Duration::from_secs(30);

/// `lab fleet`, with the server beside it up to date.
fn fleet() -> Command {
    let lab = env!("CARGO_BIN_EXE_lab");
    let mut command = Command::new(lab);
    command.arg("fleet").arg("--server-binary").arg(server_beside(lab));
    command
}

/// A broadcast reaches the clients of all servers and all are closed with 1012.
#[test]
fn a_broadcast_reaches_the_clients_of_all_servers() {
    let output = fleet()
        .args(["--clients", "1000", "--per-server", "500", "--connect-rate", "2000"])
        .args(["--messages", "4", "--drain-over", "2", "--json"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    assert_eq!(report["problems"], json!([]), "{report:#}");
    assert!(output.status.success());
    assert_eq!((&report["servers"], &report["clients_opened"]), (&json!(2), &json!(1000)));
    let broadcasts = report["broadcasts"].as_array().unwrap();
    assert_eq!(broadcasts.len(), 4);
    assert!(broadcasts.iter().all(|broadcast| broadcast["clients"] == 1000), "{report:#}");
    assert_eq!(report["closed"], json!({ "1012": 1000 }));
    assert_eq!(report["drain"]["exits"], json!({ "exit status: 0": 2 }));
}

#[test]
fn no_child_outlives_a_conductor_that_is_killed() {
    let mut conductor = fleet()
        .args(["--clients", "20", "--per-server", "10", "--messages", "1000", "--json"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let id = conductor.id();
    let mut children = Vec::new();
    eventually(PATIENCE, "Redis, two servers and two workers run", || {
        let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children = list.split_whitespace().map(str::to_owned).collect();
        children.len() == 5
    });
    conductor.kill().unwrap();
    conductor.wait().unwrap();
    eventually(PATIENCE, "all of them are gone", || children.iter().all(|child| is_gone(child)));
}

#[test]
fn a_missing_server_is_an_error_in_words() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["fleet", "--clients", "1", "--server-binary", "no-such-server"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no-such-server") && error.contains("--server-binary"), "{error}");
}

/// Tokens of all four kinds are verified once, and known after that (the tool counts).
#[test]
fn tokens_of_every_kind_are_verified() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["tokens", "--tokens", "10", "--passes", "2", "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let rows = report["rows"].as_array().unwrap();
    let algorithms: Vec<_> = rows.iter().map(|row| row["algorithm"].as_str().unwrap()).collect();
    assert_eq!(algorithms, ["HS256", "RS256", "ES256", "EdDSA"]);
    let is_a_rate = |row: &Value| row["new_per_second"].as_f64().is_some_and(|rate| rate > 1.0);
    assert!(rows.iter().all(is_a_rate), "{report:#}");
}

/// Every part of the measurement runs, and is reported as JSON and as a table.
#[test]
fn every_part_is_reported_as_json_and_table() {
    let lab = |more: &[&str]| {
        let arguments = ["hub", "--clients", "3000", "--passes", "2", "--backlog", "262144"];
        let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).args(more).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&lab(&["--json"])).unwrap();
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 7);
    assert!(parts.iter().all(|part| part["figures"].as_array().unwrap().len() >= 5), "{report:#}");
    let figure = |part: usize, what: &str| {
        let figures = parts[part]["figures"].as_array().unwrap();
        let found = figures.iter().find(|figure| figure["what"] == what);
        found.unwrap_or_else(|| panic!("{what} in {figures:#?}"))["value"].as_f64().unwrap()
    };
    assert!((24.0..1000.0).contains(&figure(0, "memory per subscriber")), "{report:#}");
    for part in [1, 2] {
        assert_eq!(figure(part, "stalled"), 1000.0, "every third");
    }
    assert_eq!(figure(1, "events: closed or skipped"), 1000.0, "closed once each");
    assert!(figure(2, "events: closed or skipped") > 1000.0, "skipped again and again");
    assert!(lab(&[]).contains("3000 subscribers of one channel, all take everything"));
}

/// Whether it has ended, even if its new parent has not yet asked how.
fn is_gone(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}
