//! Medians, spreads and ratios: one table per scenario.
//!
//! A figure is the median over the rounds with its range; a ratio is the median of the rounds'
//! ratios to the first server. Problems are counted in the table, so that a fast server that
//! loses messages does not look good.

use std::fmt::Write as _;

use serde_json::Value;

use super::figures::{FIGURES, Figure, Spread, problems, saturated};

/// All reports so far, by server.
#[derive(Debug)]
pub(crate) struct Summary {
    servers: Vec<(String, Vec<Value>)>,
}

impl Summary {
    /// For these servers.
    pub(crate) fn new(names: impl Iterator<Item = String>) -> Self {
        Self { servers: names.map(|name| (name, Vec::new())).collect() }
    }

    /// One more run of server number `at`.
    pub(crate) fn add(&mut self, at: usize, report: Value) {
        self.servers[at].1.push(report);
    }

    /// The servers' names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(|(name, _)| name.as_str())
    }

    /// Rounds so far.
    pub(crate) fn rounds(&self) -> usize {
        self.servers.first().map_or(0, |(_, reports)| reports.len())
    }

    /// A server's figure in each round; none: no such server.
    pub(crate) fn values(&self, name: &str, figure: &Figure) -> Option<Vec<Option<f64>>> {
        let (_, reports) = self.servers.iter().find(|(own, _)| own == name)?;
        Some(reports.iter().map(figure.of).collect())
    }

    /// A server's figure.
    pub(crate) fn spread(&self, name: &str, figure: &Figure) -> Option<Spread> {
        Spread::of(self.values(name, figure)?.into_iter().flatten())
    }

    /// A server's figure in multiples of the first server's.
    pub(crate) fn ratio(&self, name: &str, figure: &Figure) -> Option<Spread> {
        let (first, _) = self.servers.first()?;
        Spread::of_ratios(&self.values(name, figure)?, &self.values(first, figure)?)
    }

    /// Any run of any server.
    pub(crate) fn has_problems(&self) -> bool {
        self.servers.iter().any(|(_, reports)| with_problems(reports) > 0)
    }

    /// How many runs of a server had problems.
    pub(crate) fn problems(&self, name: &str) -> usize {
        let found = self.servers.iter().find(|(own, _)| own == name);
        found.map_or(0, |(_, reports)| with_problems(reports))
    }

    /// The table, in Markdown.
    pub(crate) fn text(&self, scenario: &str, provenance: &str) -> String {
        let rounds = self.rounds();
        let mut text = format!("## {scenario}: median (min–max) of {rounds}, × first server\n\n");
        let _ = write!(text, "{provenance}\n\n|");
        for name in self.names() {
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
        let spreads: Vec<Option<Spread>> =
            self.names().map(|name| self.spread(name, figure)).collect();
        if spreads.iter().all(Option::is_none) {
            return;
        }
        let _ = write!(text, "| {}", figure.label);
        for (at, (name, spread)) in self.names().zip(spreads).enumerate() {
            let Some(spread) = spread else {
                text.push_str(" | –");
                continue;
            };
            let _ = write!(text, " | {}", spread.words(figure.decimals));
            if let Some(ratio) = self.ratio(name, figure).filter(|_| at > 0) {
                let _ = write!(text, " × {:.2}", ratio.median);
            }
        }
        text.push_str(" |\n");
    }

    /// How often each side was saturated, and how many runs had problems.
    fn write_words(&self, text: &mut String) {
        text.push_str("| saturated");
        for (_, reports) in &self.servers {
            let mut words: Vec<&str> = reports.iter().map(saturated).collect();
            words.sort_unstable();
            words.dedup();
            let _ = write!(text, " | {}", words.join(", "));
        }
        text.push_str(" |\n| runs with problems");
        for (_, reports) in &self.servers {
            let _ = write!(text, " | {}", with_problems(reports));
        }
        text.push_str(" |\n");
    }
}

fn with_problems(reports: &[Value]) -> usize {
    reports.iter().filter(|report| !problems(report).is_empty()).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_shows_medians_ratios_and_problems() {
        let report = |micros: f64, problems: &[&str]| {
            json!({
                "problems": problems, "saturated": "server",
                "deliveries": {"in_window": 1, "per_second": 7.0},
                "server": {"cpu_us_per_delivery": micros},
            })
        };
        let mut summary = Summary::new(["floor", "other"].map(str::to_owned).into_iter());
        for (floor, other) in [(1.0, 2.0), (2.0, 6.0), (4.0, 8.0)] {
            summary.add(0, report(floor, &[]));
            summary.add(1, report(other, if other > 7.0 { &["1 messages lost"] } else { &[] }));
        }
        let text = summary.text("live", "today");
        let line =
            "| server CPU µs per delivery | 2.000 (1.000–4.000) | 6.000 (2.000–8.000) × 2.00 |";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("| runs with problems | 0 | 1 |"), "{text}");
        assert!(!text.contains("p99"), "nobody measured it: {text}");
        assert!(summary.has_problems());
    }
}
