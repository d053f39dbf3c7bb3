//! The setup of a comparison: servers, their commits, the machine, the load.
//!
//! In a record a comparison has the entries `SCENARIO.setup` and `SCENARIO.SERVER.ROUND`, a whole
//! report each; a sweep, the entry `sweep-NAME`, has its setup inside.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use testkit::machine::{Machine, said_by};

use super::{args::FieldArgs, server::ServerSpec, summary::Summary, trial::Network};
use crate::record::Record;

/// The requested measurement, and the machine that it ran on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) scenario: String,
    /// As typed, one word each.
    command: Vec<String>,
    pub(crate) servers: Vec<SetupServer>,
    load_cpus: String,
    /// The scenario.
    run: String,
    pub(crate) rounds: usize,
    /// Each run had a network namespace of its own.
    #[serde(default)]
    fresh_network: bool,
    notes: Vec<String>,
    pub(crate) date_utc: String,
    pub(crate) commit: String,
    /// Files that differ from the commit.
    uncommitted_files: usize,
    rustc: String,
    /// The version of what measured.
    #[serde(rename = "wsload")]
    version: String,
    pub(crate) machine: Machine,
}

/// A server of a setup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetupServer {
    pub(crate) name: String,
    cpus: String,
    command: String,
    /// Run arguments for this one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    run: String,
}

impl Setup {
    /// Of this command line, here and now.
    pub(crate) fn of(
        field: &FieldArgs,
        scenario: &str,
        specs: &[ServerSpec],
        network: Network,
    ) -> Self {
        let changes = said_by("git", &["status", "--porcelain", "--untracked-files=no"]);
        let servers = specs.iter().map(|spec| SetupServer {
            name: spec.name.clone(),
            cpus: spec.cpus.clone(),
            command: spec.command.clone(),
            run: spec.more_run.join(" "),
        });
        Self {
            scenario: scenario.to_owned(),
            command: std::env::args().collect(),
            servers: servers.collect(),
            load_cpus: field.load_cpus.clone(),
            run: field.run.join(" "),
            rounds: field.rounds,
            fresh_network: network == Network::Fresh,
            notes: field.note.clone(),
            date_utc: said_by("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: said_by("git", &["rev-parse", "HEAD"]),
            uncommitted_files: changes.lines().count(),
            rustc: said_by("rustc", &["--version"]),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: Machine::describe(),
        }
    }

    /// Where the figures come from, in a line.
    pub(crate) fn provenance(&self) -> String {
        format!("{}; `wsload run {}`", self.place(), self.run)
    }

    /// When, of which commit, on which machine.
    fn place(&self) -> String {
        format!("{}, {}", self.date_utc, self.origin())
    }

    /// The same without the time.
    pub(crate) fn origin(&self) -> String {
        let commit = if self.commit.is_empty() { "no commit" } else { &self.commit };
        let changes = match self.uncommitted_files {
            0 => String::new(),
            files => format!(" with {files} files changed"),
        };
        let Machine { host, cpu, cores, kernel, .. } = &self.machine;
        format!("{commit}{changes}; {host}: {cpu}, {cores} cores, Linux {kernel}")
    }
}

/// Comparisons by scenario.
pub(crate) type Comparisons = BTreeMap<String, (Setup, Summary)>;

/// All comparisons of a record.
pub(crate) fn comparisons(record: &Record) -> Result<Comparisons> {
    let mut found = BTreeMap::new();
    for scenario in record.entries().filter_map(|name| name.strip_suffix(".setup")) {
        let setup: Setup = record.get(&format!("{scenario}.setup"))?;
        let names = setup.servers.iter().map(|server| server.name.clone());
        let mut summary = Summary::new(names);
        for (at, server) in setup.servers.iter().enumerate() {
            for round in 1..=setup.rounds {
                summary.add(at, record.get(&format!("{scenario}.{}.{round}", server.name))?);
            }
        }
        found.insert(scenario.to_owned(), (setup, summary));
    }
    Ok(found)
}
