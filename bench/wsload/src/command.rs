//! The command line: which part does what was asked for, and where its result goes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use testkit::cli;

use crate::{
    args::RunArgs,
    html::{self, Named},
    report::Report,
    run, scenario,
};

/// Load generator for WebSocket broadcast servers: every delivery is checked and timed.
#[derive(Debug, Parser)]
#[command(name = "wsload", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The command to run.
#[derive(Debug, Subcommand)]
enum Command {
    /// Load a server that already runs. Exit 0: all is well; 3: something was lost or refused;
    /// 1: could not run. Of an option given twice the last counts.
    #[command(args_override_self = true)]
    Run(Box<RunArgs>),
    /// Make a page with charts of reports that `run --json` or `--out` wrote; several are compared.
    Report(ReportArgs),
}

/// Reports to look at.
#[derive(Clone, Debug, clap::Args)]
struct ReportArgs {
    /// Reports as JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The page: one file that needs no network
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    cli::exit_code(match Args::parse_from(scenario::expand(std::env::args_os())).command {
        Command::Run(args) => run_once(&args),
        Command::Report(args) => show_reports(&args).map(|()| true),
    })
}

/// One scenario against a running server; true if nothing is amiss.
fn run_once(run_args: &RunArgs) -> Result<bool> {
    let report = run::run(run_args)?;
    if let Some(path) = &run_args.html {
        let name = run_args.title();
        save_page(path, &[Named { name, report: report.clone() }])?;
    }
    run_args.report.deliver(&report)?;
    Ok(report.problems.is_empty())
}

/// Reports that were written earlier, as a page.
fn show_reports(report_args: &ReportArgs) -> Result<()> {
    let mut reports: Vec<Named> = Vec::new();
    for path in &report_args.files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_taken = |name: &str| reports.iter().any(|named| named.name == name);
        let names = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem} ({n})") });
        let name = names.into_iter().find(|name| !is_taken(name)).unwrap_or_default();
        reports.push(Named { name, report: Report::load(path)? });
    }
    save_page(&report_args.html, &reports)
}

fn save_page(path: &Path, reports: &[Named]) -> Result<()> {
    fs::write(path, html::page(reports)?).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
