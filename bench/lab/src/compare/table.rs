//! A record in one table: servers down, what they were measured in across.
//!
//! Made from the raw reports, so that no table of the pages can say what was not measured. The
//! reference of a ratio is the first server of its scenario, round by round.

use std::fmt::Write as _;

use super::{
    figures::{CPU_PER_CONNECT, CPU_PER_DELIVERY, DELIVERIES, Figure, P50, P99},
    figures::{RSS_MAX, RSS_PER_CLIENT, Spread},
    setup::Comparisons,
    summary::Summary,
};

/// A column of the table of servers.
struct Column {
    heading: &'static str,
    scenario: &'static str,
    figure: Figure,
    /// In multiples of the first server, or in units of so much.
    shown: Shown,
}

#[derive(Clone, Copy)]
enum Shown {
    Ratio,
    /// Divided by this, with so many decimals.
    Scaled(f64, usize),
    /// The same, and in multiples of the first server.
    Both(f64, usize),
}

const COLUMNS: &[Column] = &[
    column("live: CPU ×", "live", CPU_PER_DELIVERY, Shown::Ratio),
    column("live p50 ms", "live", P50, Shown::Both(1e3, 2)),
    column("live p99 ms", "live", P99, Shown::Both(1e3, 1)),
    column("burst: CPU ×", "burst", CPU_PER_DELIVERY, Shown::Ratio),
    column("burst: M deliveries/s", "burst", DELIVERIES, Shown::Scaled(1e6, 2)),
    column("serial: CPU ×", "serial", CPU_PER_DELIVERY, Shown::Ratio),
    column("wide: CPU ×", "wide", CPU_PER_DELIVERY, Shown::Ratio),
    column("wide p99 ms", "wide", P99, Shown::Both(1e3, 0)),
    column("B per idle client", "idle", RSS_PER_CLIENT, Shown::Scaled(1.0, 0)),
    column("whole process MiB", "idle", RSS_MAX, Shown::Scaled(1.0, 1)),
    column("CPU µs per accepted client", "accept", CPU_PER_CONNECT, Shown::Scaled(1.0, 1)),
];

/// Columns of the table that README shows, without ranges.
const BRIEF: [&str; 6] = [
    "live: CPU ×",
    "live p99 ms",
    "burst: CPU ×",
    "burst: M deliveries/s",
    "B per idle client",
    "CPU µs per accepted client",
];

/// The lines of the table of our own variants.
const VARIANT_FIGURES: &[(&str, Figure, Shown)] = &[
    ("CPU µs per delivery", CPU_PER_DELIVERY, Shown::Scaled(1.0, 3)),
    ("p50 ms", P50, Shown::Scaled(1e3, 2)),
    ("p99 ms", P99, Shown::Scaled(1e3, 2)),
    ("most RSS MiB", RSS_MAX, Shown::Scaled(1.0, 1)),
];

const fn column(
    heading: &'static str,
    scenario: &'static str,
    figure: Figure,
    shown: Shown,
) -> Column {
    Column { heading, scenario, figure, shown }
}

/// The servers only: medians of the figures that say most.
pub(crate) fn brief(records: &Comparisons) -> String {
    let mut text = String::new();
    let is_shown =
        |column: &&Column| BRIEF.contains(&column.heading) && records.contains_key(column.scenario);
    let columns: Vec<&Column> = COLUMNS.iter().filter(is_shown).collect();
    write_servers(&mut text, records, &columns, Spread::median_alone);
    text.trim_end().to_owned()
}

/// The tables of a record's comparisons.
pub(crate) fn text(records: &Comparisons) -> String {
    let mut text = String::new();
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|column| records.contains_key(column.scenario)).collect();
    if !columns.is_empty() {
        write_servers(&mut text, records, &columns, Spread::clone);
    }
    let is_compared = |name: &str| COLUMNS.iter().any(|column| column.scenario == name);
    let variants: Vec<(&String, &Summary)> = records
        .iter()
        .filter(|(name, _)| !is_compared(name))
        .map(|(name, (_, summary))| (name, summary))
        .collect();
    if !variants.is_empty() {
        write_variants(&mut text, &variants);
    }
    write_origin(&mut text, records);
    text
}

fn write_servers(
    text: &mut String,
    records: &Comparisons,
    columns: &[&Column],
    shorten: fn(&Spread) -> Spread,
) {
    let mut names: Vec<&str> = Vec::new();
    for column in columns {
        for name in records[column.scenario].1.names() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    text.push_str("| server");
    for column in columns {
        let _ = write!(text, " | {}", column.heading);
    }
    let _ = writeln!(text, " |\n|---{}|", "|---".repeat(columns.len()));
    for name in names {
        let _ = write!(text, "| {name}");
        for column in columns {
            let (_, summary) = &records[column.scenario];
            let words = cell(summary, name, &column.figure, column.shown, shorten);
            let faulty = match summary.problems(name) {
                0 => String::new(),
                runs => format!(", {runs} of {} runs with problems", summary.rounds()),
            };
            let _ = write!(text, " | {words}{faulty}");
        }
        text.push_str(" |\n");
    }
    text.push('\n');
}

/// Scenarios that compare a server with itself under other circumstances.
fn write_variants(text: &mut String, variants: &[(&String, &Summary)]) {
    text.push_str("| scenario | run");
    for (heading, _, _) in VARIANT_FIGURES {
        let _ = write!(text, " | {heading}");
    }
    let _ = writeln!(text, " |\n|---|---{}|", "|---".repeat(VARIANT_FIGURES.len()));
    for (scenario, summary) in variants {
        for (at, name) in summary.names().enumerate() {
            let _ = write!(text, "| {scenario} | {name}");
            for (_, figure, shown) in VARIANT_FIGURES {
                let _ = write!(text, " | {}", cell(summary, name, figure, *shown, Spread::clone));
                if let Some(ratio) = summary.ratio(name, figure).filter(|_| at > 0) {
                    let _ = write!(text, " × {}", ratio.words(2));
                }
            }
            text.push_str(" |\n");
        }
    }
    text.push('\n');
}

fn cell(
    summary: &Summary,
    name: &str,
    figure: &Figure,
    shown: Shown,
    shorten: fn(&Spread) -> Spread,
) -> String {
    let ratio = || summary.ratio(name, figure).map(|ratio| shorten(&ratio));
    let scaled = |by, decimals| {
        let spread = summary.spread(name, figure)?;
        Some(shorten(&spread).divided(by).words(decimals))
    };
    let words = match shown {
        Shown::Ratio => ratio().map(|ratio| ratio.words(2)),
        Shown::Scaled(by, decimals) => scaled(by, decimals),
        Shown::Both(by, decimals) if summary.names().next() == Some(name) => scaled(by, decimals),
        Shown::Both(by, decimals) => scaled(by, decimals).map(|words| match ratio() {
            Some(ratio) => format!("{words} × {:.2}", ratio.median),
            None => words,
        }),
    };
    words.unwrap_or_else(|| "–".to_owned())
}

/// Which commit and machine, once if it is the same for all.
fn write_origin(text: &mut String, records: &Comparisons) {
    let mut origins: Vec<String> = records
        .values()
        .map(|(setup, summary)| format!("Rounds: {}; {}", summary.rounds(), setup.origin()))
        .collect();
    origins.sort();
    origins.dedup();
    let _ = write!(
        text,
        "Medians with their range in brackets; × compares with the first server of the same \
         rounds. {}.",
        origins.join(". ")
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::compare::{field, setup::Setup};

    fn record(servers: &[(&str, &[Value])]) -> (Setup, Summary) {
        let setup = json!({
            "scenario": "x", "command": [], "load_cpus": "1", "run": "", "rounds": 2, "notes": [],
            "servers": [], "date_utc": "2026-01-02T03:04:05Z", "commit": "abc",
            "uncommitted_files": 0, "rustc": "", "wsload": "",
            "machine": {"host": "h", "cpu": "c", "cores": 2, "memory_bytes": 1, "kernel": "k"},
        });
        let mut summary = Summary::new(servers.iter().map(|(name, _)| (*name).to_owned()));
        for (at, (_, reports)) in servers.iter().enumerate() {
            reports.iter().for_each(|report| summary.add(at, report.clone()));
        }
        (serde_json::from_value(setup).unwrap(), summary)
    }

    fn report(micros: f64, rss: f64) -> Value {
        json!({
            "problems": [],
            "deliveries": {"in_window": 1, "per_second": 2_500_000.0},
            "latency": {"count": 1, "p50_us": 1000.0, "p99_us": 2000.0},
            "server": {"cpu_us_per_delivery": micros, "rss_bytes_per_idle_client": rss},
        })
    }

    #[test]
    fn servers_go_down_and_scenarios_across() {
        let floor = [report(1.0, 80.0), report(2.0, 80.0)];
        let ours = [report(1.1, 200.0), report(2.1, 220.0)];
        let records = Comparisons::from([
            ("live".to_owned(), record(&[("floor", &floor), ("ours", &ours)])),
            ("idle".to_owned(), record(&[("floor", &floor), ("ours", &ours)])),
            ("shards".to_owned(), record(&[("one", &floor), ("two", &ours)])),
        ]);
        let text = text(&records);
        let head = "| server | live: CPU × | live p50 ms | live p99 ms | B per idle client |";
        assert!(text.starts_with(head), "{text}");
        let line = "| ours | 1.08 (1.05–1.10) | 1.00 × 1.00 | 2.0 × 1.00 | 210 (200–220) | – |";
        assert!(text.contains(line), "{text}");
        let line = "| shards | two | 1.600 (1.100–2.100) × 1.08 (1.05–1.10) |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("Rounds: 2; abc; h: c, 2 cores, Linux k."), "{text}");
    }

    #[test]
    fn the_brief_table_has_medians_of_what_says_most() {
        let floor = [report(1.0, 80.0), report(2.0, 80.0)];
        let ours = [report(1.1, 200.0), report(2.1, 220.0)];
        let live = record(&[("floor", &floor), ("ours", &ours)]);
        let records = Comparisons::from([("live".to_owned(), live)]);
        let lines = "| server | live: CPU × | live p99 ms |\n|---|---|---|\n\
                     | floor | 1.00 | 2.0 |\n| ours | 1.08 | 2.0 × 1.00 |";
        assert_eq!(brief(&records), lines);
        let are_columns = |heading: &&str| COLUMNS.iter().any(|column| column.heading == *heading);
        assert!(BRIEF.iter().all(are_columns));
    }

    #[test]
    fn the_field_is_drawn_as_far_as_it_was_measured() {
        let (floor, ours) = ([report(1.0, 80.0)], [report(1.1, 200.0)]);
        let idle = || record(&[("floor", &floor[..]), ("ours", &ours)]);
        let records = Comparisons::from([("idle".to_owned(), idle()), ("wide".to_owned(), idle())]);
        let drawn = field::pictures(&records);
        let endings: Vec<&str> = drawn.iter().map(|(ending, _)| ending.as_str()).collect();
        assert_eq!(endings, ["cpu.svg", "clients.svg"]);
        assert!(drawn[0].1.contains("1.1") && drawn[0].1.contains("ours"), "{}", drawn[0].1);
        assert!(drawn[1].1.contains("200 B"), "{}", drawn[1].1);
        assert!(field::pictures(&Comparisons::new()).is_empty());
    }

    #[test]
    fn a_run_with_problems_is_not_hidden() {
        let mut bad = report(1.0, 1.0);
        bad["problems"] = json!(["7 messages lost"]);
        let runs = [bad, report(1.0, 1.0)];
        let records = Comparisons::from([("live".to_owned(), record(&[("floor", &runs)]))]);
        assert!(text(&records).contains("1 of 2 runs with problems"));
    }
}
