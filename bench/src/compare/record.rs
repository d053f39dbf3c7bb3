//! A comparison as a committed experiment: what was run, of which commit, where, with what result.
//!
//! Layout: `SCENARIO.setup.json`, `SCENARIO.NAME.ROUND.json` (a whole report each) and
//! `SCENARIO.summary.md`. Files of an earlier comparison are never overwritten.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::server::ServerSpec;
use crate::{args::CompareArgs, process::Machine, report::Report};

/// Where results go; nowhere without `--out`.
#[derive(Debug)]
pub(super) struct Record {
    directory: Option<PathBuf>,
    scenario: String,
    provenance: String,
}

#[derive(Serialize)]
struct Setup<'a> {
    scenario: &'a str,
    /// As typed, one word each.
    command: Vec<String>,
    servers: Vec<SetupServer<'a>>,
    load_cpus: &'a str,
    /// The scenario.
    run: String,
    rounds: usize,
    notes: &'a [String],
    date_utc: String,
    commit: String,
    /// Files that differ from the commit.
    uncommitted_files: usize,
    rustc: String,
    wsload: &'static str,
    machine: Machine,
}

#[derive(Serialize)]
struct SetupServer<'a> {
    name: &'a str,
    cpus: &'a str,
    command: &'a str,
}

impl Record {
    /// Makes the directory and writes down the setup.
    pub(super) fn create(args: &CompareArgs, specs: &[ServerSpec]) -> Result<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        ensure!(
            args.scenario.bytes().all(is_word) && !args.scenario.is_empty(),
            "--scenario {:?} is for file names: letters, digits, _ and -",
            args.scenario
        );
        let setup = setup(args, specs);
        let record = Self {
            directory: args.out.clone(),
            scenario: args.scenario.clone(),
            provenance: setup.provenance(),
        };
        if let Some(directory) = &record.directory {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
            let setup = serde_json::to_string_pretty(&setup)? + "\n";
            record.write("setup.json", &setup)?;
        }
        Ok(record)
    }

    /// Where the figures come from, in a line.
    pub(super) fn provenance(&self) -> &str {
        &self.provenance
    }

    /// One run's report.
    pub(super) fn save(&self, report: &Report, round: usize, name: &str) -> Result<()> {
        let text = serde_json::to_string_pretty(report)? + "\n";
        self.write(&format!("{name}.{round}.json"), &text)
    }

    /// The table.
    pub(super) fn save_summary(&self, text: &str) -> Result<()> {
        self.write("summary.md", text)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let path = directory.join(format!("{}.{name}", self.scenario));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))
    }
}

impl Setup<'_> {
    fn provenance(&self) -> String {
        let commit = if self.commit.is_empty() { "no commit" } else { &self.commit };
        let changes = match self.uncommitted_files {
            0 => String::new(),
            files => format!(" with {files} files changed"),
        };
        let Machine { host, cpu, cores, kernel, .. } = &self.machine;
        format!(
            "{}, {commit}{changes}; {host}: {cpu}, {cores} cores, Linux {kernel}; `wsload run {}`",
            self.date_utc, self.run
        )
    }
}

fn setup<'a>(args: &'a CompareArgs, specs: &'a [ServerSpec]) -> Setup<'a> {
    let changes = said_by("git", &["status", "--porcelain", "--untracked-files=no"]);
    Setup {
        scenario: &args.scenario,
        command: std::env::args().collect(),
        servers: specs
            .iter()
            .map(|spec| SetupServer { name: &spec.name, cpus: &spec.cpus, command: &spec.command })
            .collect(),
        load_cpus: &args.load_cpus,
        run: args.run.join(" "),
        rounds: args.rounds,
        notes: &args.note,
        date_utc: said_by("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        commit: said_by("git", &["rev-parse", "HEAD"]),
        uncommitted_files: changes.lines().count(),
        rustc: said_by("rustc", &["--version"]),
        wsload: env!("CARGO_PKG_VERSION"),
        machine: Machine::describe(),
    }
}

/// What a program says; an empty text if it is missing or fails: the record has a gap then.
pub(crate) fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
