//! `wsload`: opens WebSocket clients, publishes to them, and checks and times every delivery.
//!
//! `run` loads one server that already runs; `compare` starts several in turn and puts the
//! figures side by side; `fleet` starts many as one service; `chaos` breaks what it started;
//! `hub` and `instructions` measure the server's own code without a network. Every message
//! carries publisher, sequence number and intended time, so holes, repeats, reordering and
//! latency are facts about each client, not estimates. This file tells the order of events only.

mod args;
mod chaos;
mod chart;
mod clients;
mod clock;
mod compare;
mod dial;
mod fleet;
mod form;
mod frame;
mod html;
mod http;
mod hub;
mod inflate;
mod instructions;
mod keep;
mod output;
mod payload;
mod process;
mod publish;
mod record;
mod report;
mod run;
mod scenario;
mod schedule;
mod sequence;
mod stamp;
mod storm;
mod sweep;
mod target;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

/// Something was lost, refused or left unanswered: the report says what.
const EXIT_PROBLEMS: u8 = 3;

fn main() -> ExitCode {
    let outcome = match args::Args::parse_from(scenario::expand(std::env::args_os())).command {
        args::Command::Run(run_args) => run_once(&run_args),
        args::Command::Report(report_args) => show_reports(&report_args).map(|()| true),
        args::Command::Compare(compare_args) => compare::compare(&compare_args),
        args::Command::Sweep(sweep_args) => sweep::sweep(&sweep_args),
        args::Command::Table(record_args) => compare::table(&record_args),
        args::Command::Summary(record_args) => keep::summary(&record_args),
        args::Command::Draw(record_args) => sweep::draw(&record_args),
        args::Command::Keep(keep_args) => keep::keep(&keep_args),
        args::Command::Trial(trial_args) => compare::trial(&trial_args),
        args::Command::Hub(hub_args) => hub::run(&hub_args).map(|()| true),
        args::Command::Instructions(count_args) => instructions::run(&count_args),
        args::Command::Fleet(fleet_args) => fleet::run(&fleet_args),
        args::Command::Chaos(chaos_args) => chaos::run(&chaos_args),
        args::Command::FleetWorker(worker_args) => fleet::work(&worker_args).map(|()| true),
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
    if let Some(path) = &run_args.html {
        let name = run_args.title();
        save_page(path, &[html::Named { name, report: report.clone() }])?;
    }
    if run_args.json {
        output::line(&serde_json::to_string_pretty(&report)?);
    } else {
        output::line(&report.to_string());
    }
    Ok(report.problems.is_empty())
}

/// Reports that were written earlier, as a page.
fn show_reports(report_args: &args::ReportArgs) -> anyhow::Result<()> {
    let mut reports: Vec<html::Named> = Vec::new();
    for path in &report_args.files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_taken = |name: &str| reports.iter().any(|named| named.name == name);
        let names = (1..).map(|n| if n == 1 { stem.clone() } else { format!("{stem} ({n})") });
        let name = names.into_iter().find(|name| !is_taken(name)).unwrap_or_default();
        reports.push(html::Named { name, report: report::Report::load(path)? });
    }
    save_page(&report_args.html, &reports)
}

fn save_page(path: &std::path::Path, reports: &[html::Named]) -> anyhow::Result<()> {
    std::fs::write(path, html::page(reports)?)
        .with_context(|| format!("writing {}", path.display()))
}
