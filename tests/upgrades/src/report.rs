//! The results: a table for people, JSON for the record.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use testkit::{
    cli::name_of,
    machine::{Machine, date_utc, said_by},
};

use super::{
    args::{Broker, RunArgs, Way},
    crowd::{NewcomersVerdict, Verdict, Window},
    memory::Peak,
    pending::Pending,
    publishers::Published,
    requests::Answered,
};

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    date_utc: String,
    commit: String,
    machine: Machine,
    scenario: RunArgs,
    pub(crate) seconds: f64,
    pub(crate) parts: Vec<Part>,
    /// Connections that were under way in the kernel.
    pub(crate) pending: Option<Pending>,
    pub(crate) problems: Vec<String>,
}

/// All with one broker.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) broker: Broker,
    /// The same time without an upgrade.
    pub(crate) quiet: Window,
    pub(crate) upgrades: Vec<Upgrade>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) totals: Totals,
}

/// One upgrade.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Upgrade {
    pub(crate) way: Way,
    /// Shards of the new process, where it was told.
    pub(crate) threads: Option<usize>,
    /// From the first step until the old process had ended and the new one was ready.
    pub(crate) seconds: f64,
    /// As the server tells it.
    pub(crate) pause_ms: Option<f64>,
    #[serde(flatten)]
    pub(crate) window: Window,
    pub(crate) memory_mib: Peak,
    /// By `wsbcast upgrade`.
    pub(crate) said: String,
}

/// A hand-over that failed, or should have.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) outcome: String,
    #[serde(flatten)]
    pub(crate) window: Window,
}

/// Everything that came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) clients: Verdict,
    pub(crate) newcomers: NewcomersVerdict,
    pub(crate) published: Published,
    pub(crate) requests: Answered,
}

impl Totals {
    /// Findings that break a promise, in words.
    fn problems(&self) -> Vec<String> {
        let Self { clients, newcomers, published, requests } = self;
        let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
        let words = |counts: &BTreeMap<String, u64>| match counts.is_empty() {
            true => String::new(),
            false => format!(" {counts:?}"),
        };
        let counted = [
            ("clients closed", sum(&clients.closed), words(&clients.closed)),
            ("clients refused", sum(&clients.refused), words(&clients.refused)),
            ("messages lost", clients.lost, String::new()),
            ("messages repeated", clients.repeated, String::new()),
            ("messages out of order", clients.reordered, String::new()),
            ("messages of clients unanswered", clients.unanswered, String::new()),
            ("messages that nobody sent", clients.strange, String::new()),
            ("newcomers refused", sum(&newcomers.refused), words(&newcomers.refused)),
            ("newcomers closed", sum(&newcomers.closed), words(&newcomers.closed)),
            ("newcomers without a message", newcomers.unserved, String::new()),
            ("newcomers' messages lost", newcomers.lost, String::new()),
            ("newcomers' messages repeated", newcomers.repeated, String::new()),
            ("newcomers' messages out of order", newcomers.reordered, String::new()),
            ("publishes failed", sum(&published.failed), words(&published.failed)),
            ("publishers' connections ended", published.ended, String::new()),
            ("requests unanswered", sum(&requests.failed), words(&requests.failed)),
        ];
        let wrong = counted.into_iter().filter(|(_, count, _)| *count > 0);
        wrong.map(|(what, count, words)| format!("{count} {what}{words}")).collect()
    }
}

impl Part {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            quiet: Window::default(),
            upgrades: Vec::new(),
            faults: Vec::new(),
            totals: Totals::default(),
        }
    }
}

impl Report {
    /// The place and the plan, no results yet.
    pub(crate) fn new(args: &RunArgs) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            date_utc: date_utc(),
            commit: said_by("git", &["rev-parse", "HEAD"]),
            machine: Machine::describe(),
            scenario: args.clone(),
            seconds: 0.0,
            parts: Vec::new(),
            pending: None,
            problems: Vec::new(),
        }
    }

    /// Looks through the part for what breaks a promise.
    pub(crate) fn judge(&mut self, part: &Part) {
        let broker = name_of(&part.broker);
        let longest_ms = self.scenario.silence_max.0 * 1000.0;
        let upgrades = part.upgrades.iter().map(|row| (name_of(&row.way), row.window));
        let faults = part.faults.iter().map(|row| (row.name.clone(), row.window));
        for (name, window) in upgrades.chain(faults) {
            let silence_ms = window.silence_ms.max(window.silence_of_all_ms);
            if silence_ms > longest_ms {
                self.problems.push(format!("{broker}: {name}: nothing came for {silence_ms} ms"));
            }
        }
        let found = part.totals.problems();
        self.problems.extend(found.iter().map(|problem| format!("{broker}: {problem}")));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunArgs { clients, rate, fast, fast_rate, connect_rate, .. } = &self.scenario;
        writeln!(
            f,
            "upgrades    {clients} clients, {rate} messages/s to all, {fast_rate}/s to {fast}, \
             {connect_rate} new clients/s, {:.0} s",
            self.seconds
        )?;
        for part in &self.parts {
            write!(f, "{part}")?;
        }
        if let Some(Pending { asked, failed, .. }) = &self.pending {
            writeln!(f, "under way in the kernel: {asked} connections, failed {failed:?}")?;
        }
        match self.problems.as_slice() {
            [] => write!(f, "all is well"),
            problems => write!(f, "PROBLEMS    {}", problems.join("\n            ")),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["seconds", "pause", "silence", "of all", "delay", "old", "new", "both"];
        writeln!(
            f,
            "\n{:<24}{}",
            name_of(&self.broker),
            head.map(|word| format!("{word:>9}")).concat()
        )?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, figures: &[Option<f64>]| {
            let figure = |figure: &Option<f64>| match figure {
                Some(figure) if !figure.is_nan() => format!("{figure:>9.1}"),
                _ => format!("{:>9}", "-"),
            };
            writeln!(f, "{name:<24}{}", figures.iter().map(figure).collect::<String>())
        };
        let window = |window: &Window| {
            [window.silence_ms, window.silence_of_all_ms, window.delay_ms].map(Some)
        };
        row(f, "quiet", &[&[None, None], &window(&self.quiet)[..]].concat())?;
        for one in &self.upgrades {
            let threads = one.threads.map(|threads| format!(" ({threads})")).unwrap_or_default();
            let name = format!("{}{threads}", name_of(&one.way));
            let Peak { old, new, both, .. } = one.memory_mib;
            let figures = [
                &[Some(one.seconds), one.pause_ms][..],
                &window(&one.window),
                &[old, new, both].map(Some),
            ];
            row(f, &name, &figures.concat())?;
        }
        for what in ["median", "worst"] {
            let of = |figure: fn(&Upgrade) -> f64| {
                let mut all: Vec<f64> = self.upgrades.iter().map(figure).collect();
                all.sort_by(f64::total_cmp);
                if what == "worst" { all.last().copied() } else { all.get(all.len() / 2).copied() }
            };
            let figures = [
                of(|one| one.seconds),
                of(|one| one.pause_ms.unwrap_or(f64::NAN)),
                of(|one| one.window.silence_ms),
                of(|one| one.window.silence_of_all_ms),
                of(|one| one.window.delay_ms),
                of(|one| one.memory_mib.old),
                of(|one| one.memory_mib.new),
                of(|one| one.memory_mib.both),
            ];
            row(f, what, &figures)?;
        }
        for Fault { name, outcome, window: seen } in &self.faults {
            let figures = [&[None, None][..], &window(seen)].concat();
            let figures = figures.iter().map(|figure| match figure {
                Some(figure) => format!("{figure:>9.1}"),
                None => format!("{:>9}", ""),
            });
            writeln!(f, "{name:<24}{}  {outcome}", figures.collect::<String>())?;
        }
        let Totals { clients, newcomers, published, requests } = &self.totals;
        writeln!(
            f,
            "{} clients got {} messages; {} came and went, their longest handshake {} ms; {} \
             messages published, the slowest answered after {} ms; {} requests answered",
            clients.connected,
            clients.deliveries,
            newcomers.connected,
            newcomers.handshake_ms_max,
            published.accepted,
            published.slowest_ms,
            requests.answered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_that_should_be_zero_is_a_problem() {
        assert!(Totals::default().problems().is_empty());
        let one = BTreeMap::from([("1012".to_owned(), 2)]);
        let clients = Verdict { closed: one.clone(), lost: 3, ..Verdict::default() };
        let published = Published { failed: one, ..Published::default() };
        let totals = Totals { clients, published, ..Totals::default() };
        let problems = totals.problems().join("; ");
        assert_eq!(
            problems,
            "2 clients closed {\"1012\": 2}; 3 messages lost; 2 publishes failed {\"1012\": 2}"
        );
    }
}
