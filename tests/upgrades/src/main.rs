//! `upgrades`: a wsbcast in use is replaced by another process, again and again, and every client
//! is judged: closed, lost, repeated, out of order, refused.
//!
//! The conductor's thread is this one; it starts all processes and reaps them, also those that a
//! server has started. Clients, newcomers and each publisher have a thread. New processes that fail
//! are this same program. Every wait has an end. Linux.

mod args;
mod crowd;
mod faults;
mod memory;
mod pending;
mod publishers;
mod report;
mod requests;
mod server;
mod stage;
mod taker;
mod upgrade;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tempfile::TempDir;
use testkit::{
    cli::{self, name_of},
    clock, output,
};

use self::{
    args::{Args, Broker, Command, RunArgs, Way},
    report::{Part, Report},
    stage::Stage,
};

/// Of a hand-over that nobody has measured.
const UPGRADE_SECONDS_GUESSED: f64 = 0.3;
/// Where nothing is done, to compare with.
const QUIET: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run(args) => cli::exit_code(run(&args)),
        Command::Taker(args) => taker::run(&args).unwrap_or_else(|error| {
            output::error(&error);
            ExitCode::FAILURE
        }),
    }
}

/// Runs it all; true if nothing is amiss.
fn run(args: &RunArgs) -> Result<bool> {
    args.check()?;
    // All there are: servers inherit the limit, and hold as many as the clients.
    rlimit::increase_nofile_limit(u64::MAX).context("the limit of descriptors")?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("reaping")?;
    let mut folder = TempDir::with_prefix("wsbcast-upgrades-").context("a folder")?;
    let began_ns = clock::now_ns();
    let mut report = Report::new(args);
    for broker in &args.brokers {
        let folder = folder.path().join(name_of(broker));
        std::fs::create_dir(&folder).context("a folder")?;
        if let Err(error) = play(args, *broker, &folder, &mut report) {
            report.problems.push(format!("{}: {error:#}", name_of(broker)));
        }
    }
    if args.brokers.contains(&Broker::Embedded) {
        match pending::upgrade(args, folder.path()) {
            Ok(pending) if pending.failed.is_empty() => report.pending = Some(pending),
            Ok(pending) => {
                report.problems.push(format!("connections under way: {:?}", pending.failed));
                report.pending = Some(pending);
            }
            Err(error) => report.problems.push(format!("connections under way: {error:#}")),
        }
    }
    report.seconds = clock::as_secs(clock::now_ns() - began_ns);
    let is_well = report.problems.is_empty();
    if args.keep || !is_well {
        folder.disable_cleanup(true);
        output::remark(&format!("logs: {}", folder.path().display()));
    }
    args.report.deliver(&report)?;
    Ok(is_well)
}

/// Everything with one broker. All that was found until an error is in the report.
fn play(args: &RunArgs, broker: Broker, folder: &Path, report: &mut Report) -> Result<()> {
    let mut stage = Stage::start(args, broker, folder)?;
    let mut part = Part::new(broker);
    let played = acts(args, &mut stage, &mut part);
    let judged = stage.judge(args).map(|totals| part.totals = totals);
    if played.is_ok() && judged.is_ok() && args.faults && !is_restart(args) {
        let seconds = seconds_of_an_upgrade(&part);
        match faults::kill_the_old_one(&mut stage, args, seconds) {
            Ok(fault) => part.faults.push(fault),
            Err(error) => report.problems.push(format!("the old process killed: {error:#}")),
        }
    }
    report.judge(&part);
    report.parts.push(part);
    played.and(judged)?;
    let code = stage.end()?;
    anyhow::ensure!(code == Some(0), "the server ended with {code:?}");
    Ok(())
}

fn acts(args: &RunArgs, stage: &mut Stage, part: &mut Part) -> Result<()> {
    let broker = name_of(&part.broker);
    output::remark(&format!("{broker}: all are connected"));
    stage.crowd.window()?;
    clock::pause(QUIET);
    part.quiet = stage.crowd.window()?;
    let mut threads = args.threads.iter().cycle().skip(1);
    let mut now = args.threads[0];
    for number in 0..args.upgrades {
        let way = args.ways[number % args.ways.len()];
        if matches!(way, Way::TakeOver | Way::Restart) {
            now = *threads.next().unwrap_or(&now);
        }
        let upgrade = upgrade::upgrade(stage, args, way, now);
        part.upgrades.push(upgrade.with_context(|| format!("upgrade {number}"))?);
    }
    if args.faults && !is_restart(args) {
        let seconds = seconds_of_an_upgrade(part);
        faults::inflict(stage, args, seconds, &mut part.faults)?;
    }
    Ok(())
}

fn is_restart(args: &RunArgs) -> bool {
    args.ways.contains(&Way::Restart)
}

fn seconds_of_an_upgrade(part: &Part) -> f64 {
    part.upgrades.last().map_or(UPGRADE_SECONDS_GUESSED, |upgrade| upgrade.seconds)
}
