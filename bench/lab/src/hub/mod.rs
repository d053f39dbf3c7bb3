//! `lab hub`: the server's hub by itself, with up to a million subscribers and no network.
//!
//! What a client costs in a channel's log, in a pass, when it comes and when it goes; what a
//! crowd of stalled clients costs; what many channels cost. Each part runs in a process of its
//! own, so that its memory is its own. Figures are facts about the code on this machine: they
//! hold no socket, so they are the part of a server's cost that is not the kernel's.

mod args;
mod channels;
mod figures;
mod one_channel;
mod stage;
mod stalled;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use testkit::{machine::Machine, output};

pub(crate) use self::args::HubArgs;
use self::{args::Part, figures::Report};

/// Runs all parts, each in a process of its own, or the one that was asked for in this one.
pub(crate) fn run(args: &HubArgs) -> Result<()> {
    if let Some(part) = args.part {
        output::line(&serde_json::to_string(&measure(part, args))?);
        return Ok(());
    }
    let bar = ProgressBar::new(Part::ALL.len() as u64);
    let style = ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {pos}/{len} {msg}");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut report = Report::new(args, Machine::describe());
    for part in Part::ALL {
        bar.set_message(part.to_string());
        let output = Command::new(std::env::current_exe().context("the path of lab")?)
            .args(args.for_part(part))
            .stderr(Stdio::inherit())
            .output()
            .context("starting lab again")?;
        ensure!(output.status.success(), "{part} ended with {}", output.status);
        report.parts.push(serde_json::from_slice(&output.stdout).context("a part's figures")?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(path) = &args.out {
        report.save(path)?;
    }
    let text = if args.json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    output::line(&text);
    Ok(())
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
