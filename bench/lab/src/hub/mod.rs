//! `lab hub`: the server's hub by itself, with up to a million subscribers and no network.
//!
//! It measures the cost of a client in a channel's log, in a pass, when it comes and when it
//! leaves; the cost of a crowd of stalled clients; and the cost of many channels. Each part runs in
//! a process of its own, so that its memory is its own. Figures are facts about the code on this
//! machine: they hold no socket, so they are the part of a server's cost that is not the kernel's.

mod args;
mod channels;
mod figures;
mod one_channel;
mod stage;
mod stalled;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use testkit::{cli::name_of, machine::Machine, output};

pub(crate) use self::args::HubArgs;
use self::{args::Part, figures::Report};
use crate::compare::progress_bar;

/// Runs all parts, each in a process of its own, or the one that was asked for in this one.
pub(crate) fn run(args: &HubArgs) -> Result<()> {
    if let Some(part) = args.part {
        output::line(&serde_json::to_string(&measure(part, args))?);
        return Ok(());
    }
    let parts = Part::value_variants();
    let bar = progress_bar(parts.len() as u64);
    let mut report = Report::new(args, Machine::describe());
    for part in parts.iter().map(name_of) {
        bar.set_message(part.clone());
        let output = Command::new(std::env::current_exe().context("the path of lab")?)
            .args(std::env::args_os().skip(1))
            .args(["--part", &part])
            .stderr(Stdio::inherit())
            .output()
            .context("starting lab again")?;
        ensure!(output.status.success(), "{part} ended with {}", output.status);
        report.parts.push(serde_json::from_slice(&output.stdout).context("a part's figures")?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    args.report.deliver(&report)
}

fn measure(part: Part, args: &HubArgs) -> figures::Part {
    match part {
        Part::OneChannel => one_channel::measure(args),
        Part::ThirdStalledClose => stalled::measure(args, wsbcast::hub::SlowPolicy::Close),
        Part::ThirdStalledSkip => stalled::measure(args, wsbcast::hub::SlowPolicy::Skip),
        Part::ManyChannels => channels::measure_many(args),
        Part::ManyChannelsEach => channels::measure_many_each(args),
        Part::ManyPerClient => channels::measure_many_per_client(args),
        Part::BudgetOver => channels::measure_over_budget(args),
    }
}
