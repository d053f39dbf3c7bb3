//! Several servers under the same load, in turn, so that changes of the machine during the
//! comparison affect all of them alike.
//!
//! Each run starts its server fresh on a free port, pinned to its cores, and loads it from a fresh
//! process on other cores. Raw results, command, commit and machine go to a directory: a comparison
//! is an experiment that can be committed and repeated, and tables are made from its files.

mod args;
pub(crate) mod field;
pub(crate) mod figures;
pub(crate) mod server;
pub(crate) mod setup;
mod summary;
pub(crate) mod table;
pub(crate) mod trial;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use testkit::output;

pub(crate) use self::{
    args::{CompareArgs, FieldArgs, TrialArgs},
    trial::trial,
};
use self::{server::ServerSpec, setup::Setup, summary::Summary, trial::Network};
use crate::record::Record;

/// Runs all rounds; true if no run had problems.
pub(crate) fn compare(args: &CompareArgs) -> Result<bool> {
    let field = &args.field;
    let specs = ServerSpec::all(field)?;
    let network = Network::choose(field.fresh_network)?;
    let scenario = &args.scenario;
    let mut record = Record::extend(field.out.as_deref())?;
    let setup = Setup::of(field, scenario, &specs, network);
    record.add(&format!("{scenario}.setup"), &setup)?;
    let mut summary = Summary::new(specs.iter().map(|spec| spec.name.clone()));
    let bar = progress_bar((field.rounds * specs.len()) as u64);
    for round in 1..=field.rounds {
        for (at, spec) in specs.iter().enumerate() {
            bar.set_message(format!("round {round}, {}", spec.name));
            let mut report = trial::start(field, network, spec, &[])
                .with_context(|| format!("round {round}, server {}", spec.name))?;
            // Hundreds of runs are committed, and what a table needs is in the rest.
            report.as_object_mut().context("a report is an object")?.remove("timeline");
            record.add(&format!("{scenario}.{}.{round}", spec.name), &report)?;
            for problem in figures::problems(&report) {
                let remark = format!("round {round}, {}: {problem}", spec.name);
                bar.suspend(|| output::remark(&remark));
            }
            summary.add(at, report);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    output::line(&summary.text(scenario, &setup.provenance()));
    Ok(!summary.has_problems())
}

/// Of so many runs.
pub(crate) fn progress_bar(runs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("[{elapsed_precise}] {bar:30} {pos}/{len} {msg}");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
