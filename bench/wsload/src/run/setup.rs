//! The preparations before the first connect of a run: descriptors, cores, timers, threads.
//!
//! Each step says in words what is missing. Nothing here is undone at the end: the process ends
//! with the run.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, ensure};
use testkit::{clock, output};

use super::timeline;
use crate::{
    args::RunArgs,
    clients::{self, Counters, Outcome, Share, Stage},
    stamp,
    target::Target,
};

/// Descriptors besides those of the load: epoll sets, /proc, standard streams.
const DESCRIPTORS_RESERVED: u64 = 64;

/// The state that all threads share.
pub(super) fn stage(args: &RunArgs, target: Target) -> Stage {
    Stage {
        target,
        // The process id tells runs on one server apart, the clock runs of one id.
        run: stamp::run_in(args.size, std::process::id() << 8 ^ clock::now_ns() as u32),
        publishers: args.publishers,
        message_bytes: args.size as u64,
        started_ns: clock::now_ns(),
        slice_ns: timeline::slice_ns(args),
        timed_ns: OnceLock::new(),
        sent: OnceLock::new(),
        stop: AtomicBool::new(false),
        counters: (0..args.threads).map(|_| Counters::default()).collect(),
        storm_upgraded: AtomicU64::new(0),
    }
}

/// The receiving threads, which begin to connect at once.
pub(super) fn start_clients(
    args: &RunArgs,
    stage: &Arc<Stage>,
) -> Result<Vec<JoinHandle<Result<Outcome>>>> {
    (0..args.threads)
        .map(|thread| {
            let share = Share {
                thread,
                threads: args.threads,
                clients: args.clients,
                stalled: args.stalled,
            };
            clients::start(Arc::clone(stage), share)
        })
        .collect()
}

/// The soft limit up to the hard one; fails if that is not enough.
pub(super) fn raise_descriptor_limit(args: &RunArgs) -> Result<()> {
    let (soft_before, hard) = rlimit::Resource::NOFILE.get().context("the descriptor limit")?;
    let soft = rlimit::increase_nofile_limit(hard).context("raising the descriptor limit")?;
    let wanted = args.descriptors() + DESCRIPTORS_RESERVED;
    if !args.report.json {
        output::remark(&format!("descriptor limit {soft} (was {soft_before}), {wanted} wanted"));
    }
    ensure!(
        wanted <= soft,
        "so many clients want {wanted} descriptors, the limit is {soft}: raise it (ulimit -Hn)"
    );
    Ok(())
}

/// Before any thread exists, so that all inherit it.
pub(super) fn pin(cpus: &str) -> Result<()> {
    let id = std::process::id().to_string();
    let output = std::process::Command::new("taskset")
        .args(["-p", "-c", cpus, &id])
        .output()
        .context("--pin needs taskset")?;
    ensure!(
        output.status.success(),
        "--pin {cpus}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Sleeping publishers wake 50 µs late unless told otherwise; threads started later inherit this.
/// Where it is not allowed the report's lateness shows it.
pub(super) fn sharpen_timers() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}
