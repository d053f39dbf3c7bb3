//! `lab instructions`: how many instructions a delivery, an append, a client's frame take.
//!
//! Counted by callgrind, so the figures are the same on a busy machine and from run to run: a
//! change that costs a few per cent shows in a check, where time would not tell. They depend on
//! compiler and C library, so the expectation names both and binds only where they are the same.
//! Time is measured elsewhere; an instruction that misses the cache counts as one here.

mod callgrind;
mod expectation;
mod workloads;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum as _;
use testkit::{cli::name_of, output};

use self::{expectation::Expectation, workloads::Workload};

/// Instruction counts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct InstructionArgs {
    /// The expected counts: a JSON file
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
    expected: PathBuf,
    /// Toolchain and machine of this program: the expectation binds only if they are the same
    #[arg(long, value_name = "TEXT", default_value = "")]
    toolchain: String,
    /// Write down what is counted now as what is expected
    #[arg(long)]
    accept: bool,
    /// Do one piece of work, to be watched from outside
    #[arg(long, hide = true)]
    workload: Option<Workload>,
}

/// Counts and compares; true if nothing became dearer than the tolerance allows.
pub(crate) fn run(args: &InstructionArgs) -> Result<bool> {
    if let Some(workload) = args.workload {
        workload.run();
        return Ok(true);
    }
    let mut counted = Expectation::new(&args.toolchain);
    for workload in Workload::value_variants() {
        let instructions = callgrind::count(*workload)?;
        counted.set(&name_of(workload), instructions as f64 / workload.repetitions() as f64);
    }
    if args.accept {
        output::save(&args.expected, &counted)?;
        output::line(&format!("{counted}\nwritten to {}", args.expected.display()));
        return Ok(true);
    }
    let comparison = Expectation::load(&args.expected)?.compare(&counted);
    output::line(&comparison.text);
    Ok(!comparison.is_failure)
}
