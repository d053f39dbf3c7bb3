//! `wsload`: opens WebSocket clients, publishes to them, and checks and times every delivery.
//!
//! `run` loads one server that already runs; `compare` starts several in turn and puts the
//! figures side by side. Every message carries publisher, sequence number and intended time, so
//! holes, repeats, reordering and latency are facts about each client, not estimates. This file
//! tells the order of events only.

mod args;
mod clients;
mod clock;
mod compare;
mod frame;
mod http;
mod inflate;
mod output;
mod payload;
mod process;
mod publish;
mod report;
mod run;
mod schedule;
mod sequence;
mod stamp;
mod target;

use std::process::ExitCode;

use clap::Parser as _;

/// Something was lost, refused or left unanswered: the report says what.
const EXIT_PROBLEMS: u8 = 3;

fn main() -> ExitCode {
    let outcome = match args::Args::parse().command {
        args::Command::Run(run_args) => run_once(&run_args),
        args::Command::Compare(compare_args) => compare::compare(&compare_args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_PROBLEMS),
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// One scenario against a running server; true if nothing is amiss.
fn run_once(run_args: &args::RunArgs) -> anyhow::Result<bool> {
    let report = run::run(run_args)?;
    if let Some(path) = &run_args.out {
        report.save(path)?;
    }
    if run_args.json {
        output::line(&serde_json::to_string_pretty(&report)?);
    } else {
        output::line(&report.to_string());
    }
    Ok(report.problems.is_empty())
}
