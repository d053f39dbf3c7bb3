//! The formats, read back by a strict reader, and the promised names.
//!
//! The reader knows the text format from its specification and nothing of the writer; it refuses
//! everything that a scraper might stumble over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{facts::*, family::*, upgrade_counts::UpgradeRecord, *};
use crate::drain::Phase;

const PROCESS: ProcessFacts = ProcessFacts {
    broker_connected: true,
    broker_reconnects: 2,
    broker_gaps_repaired: 3,
    broker_gaps_unrepaired: 4,
    broker_dropped: [8, 9],
    broker_refusals: [0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    broker_lag_seconds: 0.25,
    raw_handovers: 5,
    history_evicted: [8, 9],
    tokens_verified: [1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    log_lines_dropped: 6,
    certificates: CertificateFacts { not_after: Vec::new(), reloads: [3, 4] },
    upgrades: UpgradeRecord {
        done: 2,
        rolled_back: 1,
        refused: 3,
        pause_us: 20_000,
        clients_taken_over: 11,
    },
    drain_phase: Phase::Waiting,
    drain_remaining_connections: 7,
    version: "1.2.3",
    commit: "abc\"\\\n",
};

/// Names and labels, apart from `shard`, that dashboards rely on.
const PROMISED: [(&str, &[&str]); 38] = [
    ("upgrades_total", &["result"]),
    ("upgrade_pause_seconds", &[]),
    ("clients_taken_over_total", &[]),
    ("connections", &[]),
    ("connections_opened_total", &[]),
    ("connections_closed_total", &["code", "reason"]),
    ("handshakes_rejected_total", &["reason"]),
    ("tls_handshakes_total", &["result"]),
    ("certificate_reloads_total", &["result"]),
    ("published_total", &["source", "scope"]),
    ("publish_failures_total", &["reason"]),
    ("frames_encoded_total", &["encoding"]),
    ("resumes_total", &["result"]),
    ("replayed_messages_total", &[]),
    ("deliveries_total", &[]),
    ("delivered_bytes_total", &[]),
    ("fanout_seconds_bucket", &["le"]),
    ("fanout_seconds_sum", &[]),
    ("fanout_seconds_count", &[]),
    ("slow_consumers_total", &["action"]),
    ("skipped_messages_total", &[]),
    ("unheld_messages_total", &[]),
    ("backlog_bytes", &[]),
    ("broker_connected", &[]),
    ("broker_reconnects_total", &[]),
    ("broker_gaps_total", &["repaired"]),
    ("broker_dropped_messages_total", &["reason"]),
    ("broker_refusals_total", &["reason"]),
    ("broker_lag_seconds", &[]),
    ("raw_handovers_total", &[]),
    ("history_evicted_messages_total", &[]),
    ("history_evicted_channels_total", &[]),
    ("tokens_verified_total", &["result"]),
    ("log_lines_dropped_total", &[]),
    ("drain_phase", &[]),
    ("drain_remaining_connections", &[]),
    ("shard_loop_lag_seconds", &[]),
    ("build_info", &["version", "commit"]),
];

fn shards() -> Vec<Arc<ShardMetrics>> {
    let shards: Vec<Arc<ShardMetrics>> = (0..3).map(|_| Arc::default()).collect();
    for (index, cells) in (1..).zip(&shards) {
        cells.connections.set(10 * index);
        cells.connections_closed.add(CloseReason::Restart as usize, index);
        cells.connections_closed.add(CloseReason::Client as usize, 2 * index);
        cells.published.add(Source::Http, Scope::Cluster, index);
        cells.published.add(Source::Client, Scope::Cluster, 1);
        cells.published.add(Source::Client, Scope::Local, 1);
        cells.loop_lag_us.set(1000 * index);
        for us in [0, 50, 51, 999, 1_000, 2_500_000, 2_500_001, 60_000_000] {
            cells.fanout.observe_us(us);
        }
    }
    shards
}

/// One line of the text format.
#[derive(Debug, PartialEq)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Debug, Default)]
struct Scrape {
    types: HashMap<String, String>,
    lines: Vec<Line>,
}

impl Scrape {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found: Vec<_> =
            self.lines.iter().filter(|line| line.name == name && line.labels == labels).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}");
        found[0].value
    }
}

/// Refuses everything that the format forbids, or good practice.
fn read(text: &str) -> Scrape {
    assert!(text.ends_with('\n') && !text.contains("\n\n"));
    let mut scrape = Scrape::default();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "{name} is described twice");
            assert!(help.ends_with('.') && help.len() > 5, "{line}");
            name.clone_into(&mut current);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current, "the type follows the help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            scrape.types.insert(name.to_owned(), kind.to_owned());
        } else {
            let sample = read_sample(line);
            let family = match scrape.types[&current].as_str() {
                "histogram" => sample.name.rsplit_once('_').unwrap().0,
                _ => &sample.name,
            };
            assert_eq!(family, current, "a sample outside of its family: {line}");
            assert!(
                scrape.lines.iter().all(|other| {
                    (&other.name, &other.labels) != (&sample.name, &sample.labels)
                })
            );
            scrape.lines.push(sample);
        }
    }
    scrape
}

fn read_sample(line: &str) -> Line {
    let is_name = |text: &str| {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
    };
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let (value, after) = read_quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = &after[1..];
            match &after[..1] {
                "," => {}
                "}" => break,
                other => panic!("{other:?} in {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap();
    assert!(!value.contains(' '), "{line}");
    let value = value.parse().unwrap();
    Line { name: name.to_owned(), labels, value }
}

fn read_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return (value, &text[place + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('\\' | '"'))) => c,
                other => panic!("bad escape {other:?}"),
            }),
            c => value.push(c),
        }
    }
    panic!("no end quote in {text:?}")
}

/// A strict reader finds every promised name with its labels.
#[test]
fn a_strict_reader_finds_every_promised_metric() {
    let scrape = read(&text::render(&gather(&shards(), &PROCESS)));
    for (name, labels) in PROMISED {
        let name = format!("{PREFIX}{name}");
        let lines: Vec<_> = scrape.lines.iter().filter(|line| line.name == name).collect();
        assert!(!lines.is_empty(), "{name} is missing");
        let expected: BTreeSet<_> = labels.iter().copied().collect();
        for line in lines {
            let mut found: BTreeSet<_> = line.labels.keys().map(String::as_str).collect();
            found.remove("shard");
            assert_eq!(found, expected, "{name}");
        }
    }
    let is_ours = |name: &String| name.starts_with(PREFIX) || name.starts_with("process_");
    assert!(scrape.types.keys().all(is_ours));
}

#[test]
fn values_stand_with_their_shard_and_their_words() {
    let scrape = read(&text::render(&gather(&shards(), &PROCESS)));
    assert_eq!(scrape.value("wsbcast_connections", &[("shard", "2")]), 30.0);
    let closed = |code, reason| {
        let labels = [("shard", "1"), ("code", code), ("reason", reason)];
        scrape.value("wsbcast_connections_closed_total", &labels)
    };
    assert_eq!(closed("1012", "restart"), 2.0);
    assert_eq!(closed("none", "client"), 4.0);
    assert_eq!(closed("4408", "ping_timeout"), 0.0);
    assert_eq!(scrape.value("wsbcast_shard_loop_lag_seconds", &[("shard", "0")]), 0.001);
    assert_eq!(scrape.value("wsbcast_broker_gaps_total", &[("repaired", "true")]), 3.0);
    assert_eq!(scrape.value("wsbcast_broker_gaps_total", &[("repaired", "false")]), 4.0);
    let build = [("version", PROCESS.version), ("commit", PROCESS.commit)];
    assert_eq!(scrape.value("wsbcast_build_info", &build), 1.0);
    assert_eq!(scrape.value("wsbcast_drain_phase", &[]), 2.0);
}

#[test]
fn reasons_and_all_other_words_are_in_snake_case() {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = gather(&shards(), &PROCESS)
        .into_iter()
        .filter(|family| family.name != "wsbcast_build_info")
        .flat_map(|family| family.samples)
        .flat_map(|sample| sample.labels)
        .map(|(_, word)| word)
        .inspect(|word| assert!(word.chars().all(is_part), "{word}"));
    assert!(words.count() > 50);
}

#[test]
fn the_help_of_the_phase_says_which_number_is_which() {
    let phases = [Phase::Serving, Phase::PreDelay, Phase::Waiting, Phase::Closing, Phase::Stopped];
    let words = phases.map(|phase| format!("{} {}", phase as u64, phase.word())).join(", ");
    let families = gather(&[], &PROCESS);
    let phase = families.iter().find(|family| family.name == "wsbcast_drain_phase").unwrap();
    assert_eq!(phase.help, format!("{words}."));
}

/// Buckets are cumulated bounded in seconds and end with all.
#[test]
fn buckets_are_cumulated_and_end_with_all() {
    let scrape = read(&text::render(&gather(&shards(), &PROCESS)));
    let buckets: Vec<_> = scrape
        .lines
        .iter()
        .filter(|line| line.name == "wsbcast_fanout_seconds_bucket" && line.labels["shard"] == "0")
        .map(|line| (line.labels["le"].parse::<f64>().unwrap(), line.value))
        .collect();
    assert_eq!(buckets.len(), FANOUT_BUCKETS_US.len() + 1);
    assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
    let at = |bound: f64| buckets.iter().find(|bucket| bucket.0 == bound).unwrap().1;
    // A bound belongs to its bucket.
    assert_eq!((at(0.000_05), at(0.000_1), at(0.001), at(2.5)), (2.0, 3.0, 5.0, 6.0));
    assert_eq!(at(f64::INFINITY), 8.0);
    let shard = [("shard", "0")];
    assert_eq!(scrape.value("wsbcast_fanout_seconds_count", &shard), 8.0);
    assert_eq!(scrape.value("wsbcast_fanout_seconds_sum", &shard), 65.002_101);
}

/// The JSON holds the same facts per shard in total and of the process.
#[test]
fn the_json_holds_the_same_facts() {
    let shards = shards();
    let families = gather(&shards, &PROCESS);
    let json = json::render(&families, shards.len());
    assert_eq!(json["shards"].as_array().unwrap().len(), 3);
    assert_eq!(json["shards"][1]["connections"], 20);
    assert_eq!(json["shards"][1]["connections_closed_total"]["restart"], 2);
    assert_eq!(json["total"]["connections"], 60);
    assert_eq!(json["total"]["connections_closed_total"]["client"], 12);
    let published = &json["total"]["published_total"];
    assert_eq!((&published["http"], &published["client"]), (&6.into(), &6.into()));
    assert_eq!((&published["cluster"], &published["local"]), (&9.into(), &3.into()));
    assert_eq!(json["total"]["frames_encoded_total"]["plain"], 0);
    assert_eq!(json["total"]["shard_loop_lag_seconds"], 0.003);
    assert_eq!(json["total"]["fanout_seconds"]["count"], 24);
    assert_eq!(json["total"]["fanout_seconds"]["at_most_seconds"]["0.001"], 15);
    assert_eq!(json["process"]["broker_gaps_total"]["false"], 4);
    assert_eq!(json["process"]["broker_refusals_total"]["oom"], 6);
    assert_eq!(json["process"]["broker_dropped_messages_total"]["foreign"], 9);
    assert_eq!(json["process"]["build_info"]["version"], "1.2.3");
    assert_eq!(json["process"]["drain_remaining_connections"], 7);

    let names = |part: &serde_json::Value| {
        part.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&json["total"]), names(&json["shards"][0]));
    let all: BTreeSet<_> = names(&json["total"]).union(&names(&json["process"])).cloned().collect();
    let gathered: BTreeSet<_> = families
        .iter()
        .map(|family| family.name.strip_prefix(PREFIX).unwrap_or(&family.name).to_owned())
        .collect();
    assert_eq!(all, gathered);
}

#[test]
fn without_shards_the_formats_are_still_valid() {
    let families = gather(&[], &PROCESS);
    read(&text::render(&families));
    assert_eq!(json::render(&families, 0)["shards"], serde_json::json!([]));
}
