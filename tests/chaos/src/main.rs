//! `chaos`: real servers on a real Redis, while both are killed, stopped and cut off.
//!
//! Publishers keep asking until the cluster has acknowledged, clients resume wherever they can,
//! and every message of every client is judged: lost, repeated, reordered, or told as a gap. The
//! conductor's thread is this one; clients and publishers have one each. Every wait has an end,
//! and no child outlives this process.

mod args;
mod client;
mod fault;
mod frame;
mod held;
mod inflict;
mod judge;
mod proxy;
mod publisher;
mod redis;
mod report;
mod shared;
mod world;

use std::{path::Path, process::ExitCode, sync::atomic::Ordering::Relaxed, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tempfile::TempDir;
use testkit::{cli, clock, output, wait::wait_for};

use self::{
    args::Args,
    fault::Fault,
    judge::Counts,
    report::Report,
    shared::{Recovery, channel_name},
    world::World,
};

/// Of each server's first delivery after a fault: longer is a problem.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Descriptors beyond those of the clients: publishers, the proxy, files.
const DESCRIPTORS_BESIDES: u64 = 2_000;

/// The events in the time of one fault, before the verdict.
struct Passed {
    name: String,
    recovery: Recovery,
}

fn main() -> ExitCode {
    cli::exit_code(run(&Args::parse()))
}

/// Runs it all; true if nothing is amiss.
fn run(args: &Args) -> Result<bool> {
    args.check()?;
    rlimit::increase_nofile_limit(args.clients as u64 + DESCRIPTORS_BESIDES)
        .context("the limit of descriptors")?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut folder = TempDir::with_prefix("wsbcast-chaos-").context("a folder")?;
    let outcome = conduct(args, folder.path(), seed);
    if args.keep || !outcome.as_ref().is_ok_and(Report::is_well) {
        folder.disable_cleanup(true);
        output::remark(&format!("logs and files: {}", folder.path().display()));
    }
    let report = outcome?;
    args.report.deliver(&report)?;
    Ok(report.is_well())
}

fn conduct(args: &Args, folder: &Path, seed: u64) -> Result<Report> {
    let began_ns = clock::now_ns();
    let mut report = Report::new(args, seed);
    let mut world = World::start(args, folder, seed)?;
    output::remark(&format!("seed {seed}: all are connected after {:.1} s", seconds(began_ns)));
    clock::pause(args.pause.duration());
    let mut passed = vec![Passed { name: "quiet".to_owned(), recovery: Recovery::default() }];
    for _ in 0..args.rounds {
        for fault in args.faults() {
            let name = fault.name();
            // Still the last one's time: what it left behind may go on being mended.
            world.redis.settle().with_context(|| format!("before {name}"))?;
            world.shared.phase.store(passed.len(), Relaxed);
            match pass_through(fault, &mut world, args) {
                Ok(recovery) => passed.push(Passed { name, recovery }),
                Err(error) => {
                    report.problems.push(format!("{name}: {error:#}"));
                    passed.push(Passed { name, recovery: Recovery::default() });
                }
            }
        }
    }
    finish(&mut world, args, passed, &mut report)?;
    report.seconds = seconds(began_ns);
    Ok(report)
}

/// Does it, waits until all servers deliver again, and a quiet while longer.
fn pass_through(fault: Fault, world: &mut World, args: &Args) -> Result<Recovery> {
    let began_ns = clock::now_ns();
    inflict::inflict(fault, world)?;
    let ended_ns = clock::now_ns();
    world.shared.ask_for_deliveries();
    let servers = world.servers.len();
    let what = format!("all servers to deliver after {}", fault.name());
    let waited = wait_for(&what, RECOVERY_DEADLINE, || {
        world.check_servers()?;
        clock::pause(LOOK_INTERVAL);
        Ok(world.shared.recovery(ended_ns).first_ms.len() == servers)
    });
    clock::pause(args.pause.duration());
    let recovery = world.shared.recovery(ended_ns);
    let answers = world.shared.answers(world.shared.phase());
    output::remark(&format!(
        "{:6.1} s {}: took {:.1} s, first deliveries after {:?} ms, all channels {} ms, {} silent; \
         published {} cluster, {} local, {} unconfirmed, {} refused, {} failed",
        seconds(0),
        fault.name(),
        clock::as_secs(ended_ns - began_ns),
        recovery.first_ms,
        recovery.all_ms,
        recovery.silent,
        answers.cluster,
        answers.local,
        answers.unconfirmed,
        answers.refused,
        answers.failed
    ));
    waited.map(|()| recovery)
}

/// Publishing ends, everyone gets the rest, and all is judged.
fn finish(world: &mut World, args: &Args, passed: Vec<Passed>, report: &mut Report) -> Result<()> {
    world.stop_publishing()?;
    let shared = world.shared.clone();
    let channels = (0..args.clients).map(|index| client::channels_of(index, args.channels).count());
    let wanted: usize = channels.sum();
    let arrived = wait_for("all clients to get the last messages", args.settle.duration(), || {
        world.check_servers()?;
        Ok(shared.finished.load(Relaxed) >= wanted)
    });
    if let Err(error) = arrived {
        let there = shared.finished.load(Relaxed);
        report.problems.push(format!("{error:#}: {there} of {wanted}"));
    }
    let ledgers: Vec<_> = (0..args.channels).map(|channel| shared.ledger(channel)).collect();
    let mut sums = vec![Counts::default(); passed.len()];
    for held in world.stop_clients()? {
        let channel = channel_name(held.channel);
        let verdict = held.track.verdict(&ledgers[held.channel], |message| {
            let (place, fault) = (shared.show(message.place), &passed[message.phase].name);
            let number = message.number;
            shared.remark(|| format!("{channel}: lost: {place} (number {number}), at {fault}"));
        });
        for (phase, counts) in verdict.iter().enumerate() {
            sums[phase].add(counts);
        }
    }
    for (phase, Passed { name, recovery }) in passed.iter().enumerate() {
        let (answers, ended) = (shared.answers(phase), shared.endings(phase));
        report.row(name).add(&sums[phase], &answers, recovery, ended);
        let abandoned = answers.abandoned;
        if abandoned > 0 {
            report.problems.push(format!("{name}: {abandoned} publishes were never answered"));
        }
    }
    report.problems.append(&mut world.bad_exits);
    report.remarks = shared.remarks();
    Ok(())
}

fn seconds(since_ns: u64) -> f64 {
    clock::as_secs(clock::now_ns().saturating_sub(since_ns))
}
