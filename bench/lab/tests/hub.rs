//! `lab hub` at a small size: every part runs to its end and its figures make sense.
//!
//! The parts check themselves that everyone got everything; no time is judged here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use serde_json::Value;

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
