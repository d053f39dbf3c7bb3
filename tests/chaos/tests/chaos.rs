//! `chaos` at a small size: real servers, a real Redis, quick faults, nothing lost.
//!
//! Needs redis-server, as the server's own tests do. The server is the one of this workspace.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, process::Command};

use serde_json::Value;
use testkit::node::server_beside;

/// No client loses a message when Redis and a server are killed.
#[test]
fn killing_redis_and_a_server_loses_nothing() {
    let report = std::env::temp_dir().join(format!("wsbcast-chaos-{}.json", std::process::id()));
    let chaos = env!("CARGO_BIN_EXE_chaos");
    let output = Command::new(chaos)
        .arg("--server-binary")
        .arg(server_beside(chaos))
        .args(["--clients", "60", "--rate", "100", "--channels", "5", "--churn", "3"])
        .args(["--faults", "pubsub-kill,restart,server-kill", "--pause", "1", "--out"])
        .arg(&report)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    let json: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    fs::remove_file(&report).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["fault"].as_str().unwrap()).collect();
    assert_eq!(names, ["quiet", "pubsub-kill", "restart", "server-kill"]);
    for row in rows {
        let [lost, repeated, reordered] = ["lost", "repeated", "reordered"].map(|what| &row[what]);
        assert!([lost, repeated, reordered].iter().all(|count| **count == 0), "{said}");
        // A question that was not asked cannot have been answered well.
        assert!(row["received"].as_u64().unwrap() > 0, "{said}");
    }
    assert!(rows[1..].iter().all(|row| row["recovery_ms"].as_array().unwrap().len() == 3));
}

#[test]
fn a_fault_that_does_not_fit_is_refused_in_words() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_chaos")).args(["--faults", "slot-move"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("slot-move") && error.contains("standalone"), "{error}");
}
