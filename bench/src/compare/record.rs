//! A comparison as a committed experiment: what was run, of which commit, where, with what result.
//!
//! Layout: `SCENARIO.setup.json`, `SCENARIO.NAME.ROUND.json` (a whole report each) and
//! `SCENARIO.summary.md`; a sweep is one `sweep-NAME.json` beside its charts. Files of an earlier
//! comparison are never overwritten.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{args::FieldArgs, server::ServerSpec, summary::Summary, trial::Network};
use crate::process::Machine;

/// Where results go; nowhere without `--out`.
#[derive(Debug)]
pub(crate) struct Record {
    directory: Option<PathBuf>,
    name: String,
}

/// What was asked for, and where it ran.
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
    wsload: String,
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

impl Record {
    /// For files that start with `name`; makes the directory.
    pub(crate) fn create(directory: Option<&Path>, name: &str) -> Result<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        ensure!(
            name.bytes().all(is_word) && !name.is_empty(),
            "{name:?} is for file names: letters, digits, _ and -"
        );
        if let Some(directory) = directory {
            fs::create_dir_all(directory)
                .with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(Self { directory: directory.map(Path::to_owned), name: name.to_owned() })
    }

    /// Writes one file, which must be new.
    pub(crate) fn save(&self, ending: &str, text: &str) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let path = directory.join(format!("{}.{ending}", self.name));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// One run's report, a line for each of its parts. Without its timeline: hundreds of runs are
    /// committed, and what a table needs is in the rest.
    pub(crate) fn save_report(&self, ending: &str, report: &Value) -> Result<()> {
        let parts = report.as_object().context("a report is an object")?;
        let lines: Vec<String> = parts
            .iter()
            .filter(|(name, _)| *name != "timeline")
            .map(|(name, part)| format!("  {name:?}: {part}"))
            .collect();
        self.save(ending, &format!("{{\n{}\n}}\n", lines.join(",\n")))
    }

    /// Anything else, as JSON.
    pub(crate) fn save_json(&self, ending: &str, value: &impl Serialize) -> Result<()> {
        self.save(ending, &(serde_json::to_string_pretty(value)? + "\n"))
    }
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
            wsload: env!("CARGO_PKG_VERSION").to_owned(),
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
pub(crate) type Records = BTreeMap<String, (Setup, Summary)>;

/// All comparisons of a directory.
pub(crate) fn read(directory: &Path) -> Result<Records> {
    let mut found = BTreeMap::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let path = entry.context("reading the directory")?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(scenario) = name.strip_suffix(".setup.json") else { continue };
        let setup: Setup = read_json(&path)?;
        let names = setup.servers.iter().map(|server| server.name.clone());
        let mut summary = Summary::new(names);
        for (at, server) in setup.servers.iter().enumerate() {
            for round in 1..=setup.rounds {
                let file = format!("{scenario}.{}.{round}.json", server.name);
                summary.add(at, read_json::<Value>(&directory.join(file))?);
            }
        }
        found.insert(scenario.to_owned(), (setup, summary));
    }
    Ok(found)
}

/// A JSON file.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

/// What a program says; an empty text if it is missing or fails: the record has a gap then.
pub(crate) fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_kept_a_line_a_part_without_its_timeline() {
        let directory = std::env::temp_dir().join(format!("wsload-test-{}", std::process::id()));
        let record = Record::create(Some(&directory), "live").unwrap();
        let report = json!({"problems": ["a \"b\""], "server": {"x": 1.5}, "timeline": [1, 2, 3]});
        record.save_report("ours.1.json", &report).unwrap();
        let again = record.save_report("ours.1.json", &report);
        let path = directory.join("live.ours.1.json");
        let (text, read) = (fs::read_to_string(&path).unwrap(), read_json::<Value>(&path).unwrap());
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert_eq!(read, json!({"problems": ["a \"b\""], "server": {"x": 1.5}}));
        assert!(again.is_err(), "a record is never overwritten");
    }

    #[test]
    fn names_are_for_files() {
        assert!(Record::create(None, "a/b").is_err() && Record::create(None, "").is_err());
    }
}
