//! Medians, spreads and ratios: one table per scenario.
//!
//! A figure is the median over the rounds with its range; a ratio compares medians with the
//! first server's. Problems are counted in the table, so that a fast server that loses messages
//! does not look good.

use std::fmt::Write as _;

use super::server::ServerSpec;
use crate::report::Report;

/// One line of the table.
struct Figure {
    label: &'static str,
    decimals: usize,
    of: fn(&Report) -> Option<f64>,
}

const FIGURES: &[Figure] = &[
    Figure {
        label: "server CPU µs per delivery",
        decimals: 3,
        of: |report| {
            let server = report.server.as_ref()?;
            (report.deliveries.in_window > 0).then_some(server.cpu_us_per_delivery)
        },
    },
    Figure {
        label: "deliveries/s",
        decimals: 0,
        of: |report| Some(report.deliveries.per_second).filter(|rate| *rate > 0.0),
    },
    Figure { label: "p50 µs", decimals: 0, of: |report| latency(report, report.latency.p50_us) },
    Figure { label: "p99 µs", decimals: 0, of: |report| latency(report, report.latency.p99_us) },
    Figure {
        label: "p99.9 µs", decimals: 0, of: |report| latency(report, report.latency.p999_us)
    },
    Figure {
        label: "RSS B per idle client",
        decimals: 0,
        of: |report| Some(report.server.as_ref()?.rss_bytes_per_idle_client),
    },
    Figure {
        label: "anonymous B per idle client",
        decimals: 0,
        of: |report| Some(report.server.as_ref()?.anonymous_bytes_per_idle_client),
    },
    Figure {
        label: "most RSS MiB",
        decimals: 1,
        of: |report| Some(report.server.as_ref()?.rss_max_bytes as f64 / (1024.0 * 1024.0)),
    },
    Figure {
        label: "server CPU µs per connect",
        decimals: 1,
        of: |report| Some(report.server.as_ref()?.cpu_us_per_connect),
    },
    Figure {
        label: "server % of a core",
        decimals: 0,
        of: |report| Some(report.server.as_ref()?.cpu.share_of_one_core * 100.0),
    },
    Figure {
        label: "load % of a core",
        decimals: 0,
        of: |report| Some(report.load.cpu.share_of_one_core * 100.0),
    },
    Figure {
        label: "load CPU µs per delivery",
        decimals: 3,
        of: |report| {
            (report.deliveries.in_window > 0).then_some(report.load.receive_cpu_us_per_delivery)
        },
    },
];

fn latency(report: &Report, micros: f64) -> Option<f64> {
    (report.latency.count > 0).then_some(micros)
}

/// All reports so far, by server.
#[derive(Debug)]
pub(super) struct Summary {
    servers: Vec<(String, Vec<Report>)>,
}

impl Summary {
    /// For these servers.
    pub(super) fn new(specs: &[ServerSpec]) -> Self {
        Self { servers: specs.iter().map(|spec| (spec.name.clone(), Vec::new())).collect() }
    }

    /// One more run of server number `at`.
    pub(super) fn add(&mut self, at: usize, report: Report) {
        self.servers[at].1.push(report);
    }

    /// Any run of any server.
    pub(super) fn has_problems(&self) -> bool {
        self.servers.iter().any(|(_, reports)| reports_with_problems(reports) > 0)
    }

    /// The table, in Markdown.
    pub(super) fn text(&self, scenario: &str, provenance: &str) -> String {
        let rounds = self.servers.first().map_or(0, |(_, reports)| reports.len());
        let mut text = format!("## {scenario}: median (min–max) of {rounds}, × first server\n\n");
        let _ = write!(text, "{provenance}\n\n|");
        for (name, _) in &self.servers {
            let _ = write!(text, " | {name}");
        }
        text.push_str(" |\n|---");
        text.push_str(&"|---".repeat(self.servers.len()));
        text.push_str("|\n");
        for figure in FIGURES {
            self.write_figure(&mut text, figure);
        }
        self.write_words(&mut text);
        text
    }

    fn write_figure(&self, text: &mut String, figure: &Figure) {
        let columns: Vec<Option<Spread>> = self
            .servers
            .iter()
            .map(|(_, reports)| Spread::of(reports.iter().filter_map(figure.of).collect()))
            .collect();
        if columns.iter().all(Option::is_none) {
            return;
        }
        let _ = write!(text, "| {}", figure.label);
        let reference = columns.first().copied().flatten();
        for (at, column) in columns.iter().enumerate() {
            let Some(Spread { median, min, max }) = column else {
                text.push_str(" | –");
                continue;
            };
            let decimals = figure.decimals;
            let _ = write!(text, " | {median:.decimals$} ({min:.decimals$}–{max:.decimals$})");
            if let Some(reference) = reference.filter(|first| at > 0 && first.median > 0.0) {
                let _ = write!(text, " × {:.2}", median / reference.median);
            }
        }
        text.push_str(" |\n");
    }

    /// Who was saturated how often, and how many runs had problems.
    fn write_words(&self, text: &mut String) {
        text.push_str("| saturated");
        for (_, reports) in &self.servers {
            let mut words: Vec<&str> = reports.iter().map(|r| r.saturated.as_str()).collect();
            words.sort_unstable();
            words.dedup();
            let _ = write!(text, " | {}", words.join(", "));
        }
        text.push_str(" |\n| runs with problems");
        for (_, reports) in &self.servers {
            let _ = write!(text, " | {}", reports_with_problems(reports));
        }
        text.push_str(" |\n");
    }
}

fn reports_with_problems(reports: &[Report]) -> usize {
    reports.iter().filter(|report| !report.problems.is_empty()).count()
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_of_all_rounds() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![9.0, 1.0, 2.0]);
        assert_eq!(odd, Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 9.0]);
        assert_eq!(even, Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
    }
}
