//! The only place of the tools that prints: results to standard output, remarks to standard error.
//!
//! Results may be piped into another program, so nothing else may write to standard output.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is this module's job")]

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The destination of a tool's report.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ReportArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the report as JSON to this file too
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl ReportArgs {
    /// Writes and prints a report as it was asked for.
    pub fn deliver(&self, report: &(impl Serialize + Display)) -> Result<()> {
        if let Some(path) = &self.out {
            save(path, report)?;
        }
        let text =
            if self.json { serde_json::to_string_pretty(report)? } else { report.to_string() };
        line(&text);
        Ok(())
    }
}

/// Writes a file of JSON that people can read, too.
pub fn save(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// A result.
pub fn line(text: &str) {
    println!("{text}");
}

/// A remark for the person who watches.
pub fn remark(text: &str) {
    eprintln!("{}: {text}", program());
}

/// Why the command could not be carried out, with all causes.
pub fn error(error: &anyhow::Error) {
    remark(&format!("{error:#}"));
}

fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
