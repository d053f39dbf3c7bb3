//! `upgrades` at a small size: it finds nothing where nothing is wrong, and a plain restart, which
//! is no upgrade, is seen in every count.
//!
//! Needs redis-server, as the server's own tests do. The server is the one of this workspace.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;
use testkit::node::server_beside;

const SMALL: [&str; 24] = [
    "--clients",
    "40",
    "--fast",
    "6",
    "--laggards",
    "2",
    "--half",
    "4",
    "--non-readers",
    "4",
    "--requests",
    "4",
    "--connect-rate",
    "20",
    "--history-mib",
    "2",
    "--pause",
    "1",
    "--faults",
    "no",
    "--ways",
    "restart",
    "--settle",
    "5",
];

/// The exit code, the first broker's part, and all that was said.
fn run(words: &[&str]) -> (Option<i32>, Value, String) {
    let folder = TempDir::new().unwrap();
    let report = folder.path().join("report.json");
    let upgrades = env!("CARGO_BIN_EXE_upgrades");
    let output = Command::new(upgrades)
        .args(["run", "--server-binary"])
        .arg(server_beside(upgrades))
        .args(SMALL)
        .args(words)
        .arg("--out")
        .arg(&report)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let text = fs::read(&report).unwrap_or_else(|_| panic!("{said}"));
    let json: Value = serde_json::from_slice(&text).unwrap();
    (output.status.code(), json["parts"][0].clone(), said)
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum()
}

/// Everybody is served by a server that is left alone, and nothing is counted.
#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let (code, part, said) = run(&["--upgrades", "0", "--brokers", "redis"]);
    let totals = &part["totals"];
    for what in ["lost", "repeated", "reordered", "unanswered", "strange"] {
        assert_eq!(totals["clients"][what], 0, "{what}: {said}");
    }
    assert_eq!(totals["clients"]["connected"], 40, "{said}");
    assert!(totals["clients"]["deliveries"].as_u64().unwrap() > 1000, "{said}");
    assert!(totals["newcomers"]["connected"].as_u64().unwrap() > 10, "{said}");
    assert!(part["quiet"]["silence_of_all_ms"].as_f64().unwrap() >= 40.0, "{said}");
    // Connections that the kernel holds are tried with four restarts, and only without Redis.
    assert_eq!(code, Some(0), "{said}");
}

/// A restart is seen in all counts.
#[test]
fn a_plain_restart_is_found_by_every_check() {
    let (code, part, said) = run(&["--upgrades", "1", "--brokers", "embedded"]);
    assert_eq!(code, Some(3), "{said}");
    let totals = &part["totals"];
    assert_eq!(sum(&totals["clients"]["closed"]), 40, "{said}");
    assert!(sum(&totals["newcomers"]["refused"]) > 0, "{said}");
    assert!(sum(&totals["published"]["failed"]) > 0, "{said}");
    assert_eq!(sum(&totals["requests"]["failed"]), 4, "{said}");
    assert!(said.contains("connections under way"), "{said}");
    assert!(part["upgrades"][0]["memory_mib"]["new"].as_f64().unwrap() > 1.0, "{said}");
}
