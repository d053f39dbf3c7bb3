//! The results of chaos: one table for people, JSON for the record.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use testkit::{
    cli::name_of,
    machine::{Machine, date_utc, said_by},
};

use super::{
    args::Args,
    judge::Counts,
    shared::{Answers, Recovery},
};

/// The goal for the time from a fault's end to the first delivery.
const RECOVERY_MS_MAX: u64 = 2_000;

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    date_utc: String,
    commit: String,
    machine: Machine,
    scenario: Args,
    seed: u64,
    pub(super) seconds: f64,
    pub(super) rows: Vec<Row>,
    /// Findings that speak against the server, besides the counts.
    pub(super) problems: Vec<String>,
    /// Examples of what went wrong.
    pub(super) remarks: Vec<String>,
}

/// One fault, all its rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) fault: String,
    pub(super) rounds: u64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    pub(super) answers: Answers,
    pub(super) recovery_ms: Vec<u64>,
    /// To the first delivery on the last channel, of each round.
    pub(super) all_channels_ms: Vec<u64>,
    /// Channels of servers that had none until the next fault.
    pub(super) silent: u64,
    pub(super) sessions_ended: BTreeMap<String, u64>,
}

impl Row {
    /// Adds one round.
    pub(super) fn add(
        &mut self,
        counts: &Counts,
        answers: &Answers,
        recovery: &Recovery,
        ended: BTreeMap<String, u64>,
    ) {
        self.rounds += 1;
        self.counts.add(counts);
        self.answers.cluster += answers.cluster;
        self.answers.local += answers.local;
        self.answers.unconfirmed += answers.unconfirmed;
        self.answers.refused += answers.refused;
        self.answers.failed += answers.failed;
        self.answers.abandoned += answers.abandoned;
        self.answers.slowest_ms = self.answers.slowest_ms.max(answers.slowest_ms);
        self.recovery_ms.extend(&recovery.first_ms);
        self.all_channels_ms.push(recovery.all_ms);
        self.silent += recovery.silent as u64;
        for (word, count) in ended {
            *self.sessions_ended.entry(word).or_default() += count;
        }
    }

    fn is_recovered(&self) -> bool {
        median(&self.recovery_ms).is_none_or(|median| median <= RECOVERY_MS_MAX)
    }
}

impl Report {
    /// The place and the plan, no results yet.
    pub(super) fn new(args: &Args, seed: u64) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            date_utc: date_utc(),
            commit: said_by("git", &["rev-parse", "HEAD"]),
            machine: Machine::describe(),
            scenario: args.clone(),
            seed,
            seconds: 0.0,
            rows: Vec::new(),
            problems: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// The row of a fault.
    pub(super) fn row(&mut self, fault: &str) -> &mut Row {
        let at = self.rows.iter().position(|row| row.fault == fault).unwrap_or_else(|| {
            self.rows.push(Row { fault: fault.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Nothing lost, repeated or reordered, and nothing else amiss.
    pub(super) fn is_well(&self) -> bool {
        let is_well = |row: &Row| row.counts.wrong() == 0;
        self.problems.is_empty() && self.rows.iter().all(is_well)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Args { servers, clients, channels, rate, .. } = &self.scenario;
        writeln!(
            f,
            "chaos       {servers} servers, Redis {}, {clients} clients, {channels} channels, \
             {rate} publishes/s, seed {}, {:.0} s",
            name_of(&self.scenario.redis),
            self.seed,
            self.seconds
        )?;
        writeln!(
            f,
            "{:<14}{:>6}{:>6}{:>6}{:>7}{:>9} |{:>7}{:>7}{:>7}{:>7}{:>7} |{:>8}{:>7}{:>7}",
            "", "", "repe", "reor", "gaps", "messages", "", "", "uncon", "", "", "recov", "", "all"
        )?;
        writeln!(
            f,
            "{:<14}{:>6}{:>6}{:>6}{:>7}{:>9} |{:>7}{:>7}{:>7}{:>7}{:>7} |{:>8}{:>7}{:>7}",
            "fault",
            "lost",
            "ated",
            "dered",
            "told",
            "in them",
            "cluster",
            "local",
            "firmed",
            "refused",
            "failed",
            "p50 ms",
            "max",
            "chann."
        )?;
        for row in &self.rows {
            let number =
                |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            let Row { fault, counts, answers, .. } = row;
            let Counts { lost, repeated, reordered, gaps_told, covered, .. } = counts;
            writeln!(
                f,
                "{fault:<14}{lost:>6}{repeated:>6}{reordered:>6}{gaps_told:>7}{covered:>9} \
                 |{:>7}{:>7}{:>7}{:>7}{:>7} |{:>8}{:>7}{:>7}{}",
                answers.cluster,
                answers.local,
                answers.unconfirmed,
                answers.refused,
                answers.failed,
                number(median(&row.recovery_ms)),
                number(row.recovery_ms.iter().max().copied()),
                number(row.all_channels_ms.iter().max().copied()),
                if row.is_recovered() { "" } else { " slow" }
            )?;
        }
        for remark in &self.remarks {
            writeln!(f, "            {remark}")?;
        }
        match (self.problems.as_slice(), self.is_well()) {
            ([], true) => write!(f, "all is well"),
            ([], false) => write!(f, "PROBLEMS    see the table"),
            (problems, _) => write!(f, "PROBLEMS    {}", problems.join("\n            ")),
        }
    }
}

fn median(values: &[u64]) -> Option<u64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// One lost message is a failure and rounds of a fault are one row.
    #[test]
    fn one_lost_message_is_a_failure() {
        let args = Args::try_parse_from(["chaos"]).unwrap();
        let mut report = Report::new(&args, 7);
        let recovery = Recovery { first_ms: vec![5, 9, 700], all_ms: 800, silent: 0 };
        let none = Counts::default();
        report.row("cut").add(&none, &Answers::default(), &recovery, BTreeMap::new());
        report.row("cut").add(&none, &Answers::default(), &recovery, BTreeMap::new());
        assert!(report.is_well() && report.rows.len() == 1 && report.rows[0].rounds == 2);
        assert!(report.to_string().contains("cut"));
        let lost = Counts { lost: 1, ..none };
        report.row("roll").add(&lost, &Answers::default(), &recovery, BTreeMap::new());
        assert!(!report.is_well() && report.to_string().contains("PROBLEMS"));
    }

    #[test]
    fn the_median_is_a_value_of_the_list() {
        assert_eq!((median(&[]), median(&[3]), median(&[9, 1, 5])), (None, Some(3), Some(5)));
    }
}
