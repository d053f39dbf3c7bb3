//! Several servers under the same load, in turn, so that what changes on the machine during the
//! comparison hits all of them alike.
//!
//! Each run starts its server fresh on a free port, pinned to its cores, and loads it from a
//! fresh process on other cores. Raw results, command, commit and machine go to a directory: a
//! comparison is an experiment that can be committed and repeated.

mod record;
mod server;
mod summary;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

pub(crate) use self::record::said_by;
use self::{
    record::Record,
    server::{Running, ServerSpec},
    summary::Summary,
};
use crate::{EXIT_PROBLEMS, args::CompareArgs, output, report::Report};

/// Runs all rounds; true if no run had problems.
pub(crate) fn compare(args: &CompareArgs) -> Result<bool> {
    let specs: Vec<ServerSpec> = args
        .servers
        .iter()
        .map(|text| ServerSpec::parse(text, &args.server_cpus))
        .collect::<Result<_>>()?;
    for (at, spec) in specs.iter().enumerate() {
        ensure!(
            specs[..at].iter().all(|other| other.name != spec.name),
            "two servers are named {}",
            spec.name
        );
    }
    let record = Record::create(args, &specs)?;
    let mut summary = Summary::new(&specs);
    let bar = ProgressBar::new((args.rounds * specs.len()) as u64);
    let style = ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {pos}/{len} {msg}");
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for round in 1..=args.rounds {
        for (at, spec) in specs.iter().enumerate() {
            bar.set_message(format!("round {round}, {}", spec.name));
            let report = run_one(args, spec)
                .with_context(|| format!("round {round}, server {}", spec.name))?;
            record.save(&report, round, &spec.name)?;
            for problem in &report.problems {
                let remark = format!("round {round}, {}: {problem}", spec.name);
                bar.suspend(|| output::remark(&remark));
            }
            summary.add(at, report);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let text = summary.text(&args.scenario, record.provenance());
    record.save_summary(&text)?;
    output::line(&text);
    Ok(!summary.has_problems())
}

/// A fresh server, loaded once by a fresh `wsload run`.
fn run_one(args: &CompareArgs, spec: &ServerSpec) -> Result<Report> {
    let server = Running::start(spec)?;
    let own_program = std::env::current_exe().context("the path of this program")?;
    let load = Command::new(own_program)
        .args(["run", "--json", "--url", &format!("ws://127.0.0.1:{}", server.port)])
        .args(["--server-pid", &server.pid().to_string(), "--pin", &args.load_cpus])
        .args(&args.run)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the load")?;
    let code = load.status.code();
    ensure!(
        code == Some(0) || code == Some(i32::from(EXIT_PROBLEMS)),
        "the load ended with {}",
        load.status
    );
    serde_json::from_slice(&load.stdout).context("the load's report")
}
