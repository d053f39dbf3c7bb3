//! The words and figures of the page: verdict, tiles, tables.
//!
//! A figure that was not measured has no tile and no line, so that nobody reads a zero where
//! nothing was looked at.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Named;
use crate::{
    args::Mode,
    chart::{Unit, escape},
    report::Report,
};

/// The scenario, in a line.
pub(super) fn headline(report: &Report) -> String {
    let scenario = &report.scenario;
    let size = Unit::Bytes.words(scenario.size as f64);
    let pace = match scenario.mode {
        Mode::Live => format!("{} messages/s of {size}", scenario.rate),
        Mode::Burst if scenario.publishers == 1 => format!("{size}, one publisher at full speed"),
        Mode::Burst => format!("{size}, {} publishers at full speed", scenario.publishers),
        Mode::Idle => "no messages".to_owned(),
    };
    let clients = Unit::Plain.words(scenario.clients as f64);
    let storm = match scenario.storm_clients {
        0 => String::new(),
        others => format!(", while {} others reconnect", Unit::Plain.words(others as f64)),
    };
    format!("{}: {clients} clients, {pace}{storm}", scenario.title())
}

/// When and where.
pub(super) fn provenance(report: &Report) -> String {
    let machine = &report.machine;
    let parts = [
        report.date_utc.clone(),
        format!("{} ({}, {} cores)", machine.host, machine.cpu, machine.cores),
        format!("Linux {}", machine.kernel),
        format!("wsload {}", report.wsload),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}

/// Is all well?
pub(super) fn verdict(report: &Report) -> String {
    if report.problems.is_empty() {
        let what = match report.scenario.mode {
            Mode::Idle => "Every client connected and stayed.",
            Mode::Live | Mode::Burst => {
                "Every message reached every reading client, once and in order."
            }
        };
        let (class, mark, heading, limits) = match report.limits().as_slice() {
            [] => ("good", "✓", "All is well", String::new()),
            limits => (
                "warn",
                "~",
                "All arrived, but the figures are not the server's alone",
                limits.iter().map(|text| format!("<p>But {}.</p>", escape(text))).collect(),
            ),
        };
        return format!(
            "<div class=\"verdict {class}\"><span class=\"mark\">{mark}</span>\
             <div><strong>{heading}</strong><p>{what}</p>{limits}</div></div>\n"
        );
    }
    let problems: String =
        report.problems.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
    let count = report.problems.len();
    let heading = if count == 1 { "A problem".to_owned() } else { format!("{count} problems") };
    format!(
        "<div class=\"verdict bad\"><span class=\"mark\">!</span>\
         <div><strong>{heading}</strong><ul>{problems}</ul></div></div>\n"
    )
}

/// The same as a line with the report's name.
pub(super) fn verdict_line(named: &Named) -> String {
    let limits = named.report.limits();
    let (class, mark, text) = match (named.report.problems.as_slice(), limits.as_slice()) {
        ([], []) => ("good", "✓", "all is well".to_owned()),
        ([], limits) => ("warn", "~", format!("all arrived, but {}", limits.join("; "))),
        (problems, _) => ("bad", "!", problems.join("; ")),
    };
    format!(
        "<div class=\"verdict line {class}\"><span class=\"mark\">{mark}</span>\
         <div><strong>{}</strong> {}</div></div>\n",
        escape(&named.name),
        escape(&text)
    )
}

/// One figure of a report: its name, its value, and what it means.
struct Figure {
    label: &'static str,
    of: fn(&Report) -> Option<String>,
    note: fn(&Report) -> String,
}

fn no_note(_: &Report) -> String {
    String::new()
}

fn micros(report: &Report, micros: f64) -> Option<String> {
    (report.latency.count > 0).then(|| Unit::Micros.words(micros))
}

const FIGURES: &[Figure] = &[
    Figure {
        label: "Deliveries a second",
        of: |r| (r.deliveries.in_window > 0).then(|| Unit::Plain.words(r.deliveries.per_second)),
        note: |r| format!("{} messages/s published", Unit::Plain.words(r.published.per_second)),
    },
    Figure {
        label: "Latency, median",
        of: |r| micros(r, r.latency.p50_us),
        note: |r| format!("p90 {}", Unit::Micros.words(r.latency.p90_us)),
    },
    Figure {
        label: "Latency, p99",
        of: |r| micros(r, r.latency.p99_us),
        note: |r| {
            let Report { latency, .. } = r;
            let max = Unit::Micros.words(latency.max_us);
            format!("p99.9 {}, longest {max}", Unit::Micros.words(latency.p999_us))
        },
    },
    Figure {
        label: "Server CPU per delivery",
        of: |r| {
            let server = r.server.as_ref().filter(|_| r.deliveries.in_window > 0)?;
            Some(Unit::Micros.words(server.cpu_us_per_delivery))
        },
        note: |r| {
            let storm = if r.storm.is_some() { "the storm's connects included; " } else { "" };
            format!("{storm}load {}", Unit::Micros.words(r.load.receive_cpu_us_per_delivery))
        },
    },
    Figure {
        label: "Server CPU",
        of: |r| Some(Unit::Percent.words(r.server.as_ref()?.cpu.share_of_one_core * 100.0)),
        note: |r| format!("of a core; saturated: {}", r.saturated),
    },
    Figure {
        label: "Memory per idle client",
        // A server that had as many clients before does not grow.
        of: |r| {
            let server = r.server.as_ref()?;
            let growth = server.rss_bytes_per_idle_client;
            (growth > 0.0).then(|| bytes(growth))
        },
        note: |r| {
            let kernel = r.server.as_ref().map_or(0.0, |s| s.kernel_bytes_per_idle_client);
            format!("kernel, both ends: {}", bytes(kernel))
        },
    },
    Figure {
        label: "Server memory, most",
        of: |r| Some(bytes(r.server.as_ref()?.rss_max_bytes as f64)),
        note: |r| {
            let before = r.server.as_ref().map_or(0, |s| s.memory_before.rss_bytes);
            format!("{} before the first client", bytes(before as f64))
        },
    },
    Figure {
        label: "Clients connected",
        of: |r| Some(Unit::Plain.words(r.clients.opened as f64)),
        note: |r| {
            let time = Unit::Micros.words(r.clients.connect_seconds * 1e6);
            match &r.server {
                Some(server) => format!(
                    "in {time}; server CPU {} each",
                    Unit::Micros.words(server.cpu_us_per_connect)
                ),
                None => format!("in {time}"),
            }
        },
    },
    Figure {
        label: "Reconnects a second",
        of: |r| Some(Unit::Plain.words(r.storm.as_ref()?.upgraded_per_second)),
        note: |r| {
            let p99 = r.storm.as_ref().map_or(0.0, |storm| storm.connect.p99_us);
            format!("connect to upgrade: p99 {}", Unit::Micros.words(p99))
        },
    },
    Figure {
        label: "Saturated",
        of: |r| Some(r.saturated.clone()).filter(|word| !word.is_empty()),
        note: no_note,
    },
];

fn bytes(bytes: f64) -> String {
    Unit::Bytes.words(bytes)
}

/// The headline figures.
pub(super) fn tiles(report: &Report) -> String {
    let mut tiles = String::from("<div class=\"tiles\">\n");
    // The last is in the note of another.
    for figure in &FIGURES[..FIGURES.len() - 1] {
        if let Some(value) = (figure.of)(report) {
            let _ = writeln!(
                tiles,
                "<div class=\"tile\"><p class=\"name\">{}</p><p class=\"figure\">{}</p>\
                 <p class=\"under\">{}</p></div>",
                figure.label,
                escape(&value),
                escape(&(figure.note)(report))
            );
        }
    }
    tiles.push_str("</div>\n");
    tiles
}

/// The same figures, a column per report.
pub(super) fn comparison(reports: &[Named]) -> String {
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(reports.iter().map(|named| named.name.clone()))
            .collect::<Vec<_>>(),
    ];
    for figure in FIGURES {
        let values: Vec<Option<String>> =
            reports.iter().map(|named| (figure.of)(&named.report)).collect();
        if values.iter().any(Option::is_some) {
            let values = values.into_iter().map(|value| value.unwrap_or_else(|| "–".to_owned()));
            rows.push(std::iter::once(figure.label.to_owned()).chain(values).collect());
        }
    }
    table(&rows, true)
}

/// The counts, and what each of them should be.
pub(super) fn checks(report: &Report) -> String {
    let Report { clients, published, deliveries, .. } = report;
    let mut rows =
        vec![vec!["clients that received everything".to_owned(), count(clients.complete)]];
    let mut row = |label: &str, value: String| rows.push(vec![label.to_owned(), value]);
    row("clients that could not connect", count(clients.failed));
    row("clients closed by the server", words(&clients.closed));
    if !clients.stalled.is_empty() {
        row("clients that never read, at the end", words(&clients.stalled));
    }
    row("messages accepted", count(published.accepted));
    row("publishes refused", words(&published.refused));
    row("publishes without an answer", count(published.unconfirmed));
    row("deliveries", count(deliveries.total));
    row("holes", count(deliveries.tally.holes));
    row("repeats", count(deliveries.tally.repeats));
    row("out of order", count(deliveries.tally.reordered));
    row("missing at the end", count(deliveries.missing_at_end));
    row("of the wrong size", count(deliveries.wrong_size));
    row("messages of others", count(deliveries.foreign));
    let late = Unit::Micros.words(published.lateness.p99_us);
    row("the generator's own lateness, p99", late);
    if let Some(storm) = &report.storm {
        row("storm: connections begun", count(storm.attempted));
        row("storm: upgraded", count(storm.upgraded));
        row("storm: refused", words(&storm.refused));
        row("storm: failed", count(storm.failed));
    }
    format!("<div class=\"columns\">{}</div>", table(&rows, false))
}

/// Every option and the machine.
pub(super) fn settings(report: &Report) -> String {
    let mut rows = Vec::new();
    let as_json = |value| serde_json::to_value(value).unwrap_or_default();
    let scenario = serde_json::to_value(&report.scenario).unwrap_or_default();
    for part in [scenario, as_json(&report.machine)] {
        for (key, value) in part.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            rows.push(vec![key.replace('_', " "), value]);
        }
    }
    format!("<div class=\"columns\">{}</div>", table(&rows, false))
}

fn table(rows: &[Vec<String>], has_head: bool) -> String {
    let mut text = String::from("<table>\n");
    for (at, row) in rows.iter().enumerate() {
        text.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if column == 0 || (has_head && at == 0) { "th" } else { "td" };
            let _ = write!(text, "<{tag}>{}</{tag}>", escape(cell));
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n");
    text
}

/// With all digits: these are checked, not admired.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn words(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    let words: Vec<String> =
        counts.iter().map(|(word, n)| format!("{word}: {}", count(*n))).collect();
    words.join(", ")
}
