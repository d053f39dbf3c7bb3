//! `lab`: measures wsbcast, and keeps the results.
//!
//! `compare` starts several servers in turn and puts the figures side by side, `sweep` does so as
//! work grows; `fleet` starts many servers as one service; `hub`, `tokens` and `instructions`
//! measure the server's own code without a network. Results go into records, from which `table`,
//! `summary` and `draw` make texts and pictures. The load comes from `wsload`, beside this program.

mod compare;
mod fleet;
mod hub;
mod instructions;
mod keep;
mod record;
mod sweep;
mod tokens;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use testkit::cli;

/// Measures wsbcast: beside others, as work grows, as a fleet, its hub alone.
#[derive(Debug, Parser)]
#[command(name = "lab", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

/// The command to run.
#[derive(Debug, Subcommand)]
enum Command {
    /// Start several servers in turn, load each alike, put the figures side by side
    Compare(Box<compare::CompareArgs>),
    /// Load servers alike at several points of one quantity: what does work cost as it grows
    Sweep(Box<sweep::SweepArgs>),
    /// The figures of a record in one Markdown table
    Table(keep::TableArgs),
    /// All that a record holds as one Markdown page: its summary.md
    Summary(keep::RecordArgs),
    /// Draw the charts of a record
    Draw(keep::RecordArgs),
    /// Add files to a record: reports of other commands, and texts
    Keep(keep::KeepArgs),
    /// One server, loaded once: what compare and sweep start for each run
    #[command(hide = true)]
    Trial(Box<compare::TrialArgs>),
    /// Measure the server's hub by itself: a million subscribers, no network
    Hub(Box<hub::HubArgs>),
    /// Verify tokens of each kind of key, without a network
    Tokens(tokens::TokensArgs),
    /// Count the instructions of what the server does most, under valgrind
    Instructions(instructions::InstructionArgs),
    /// Start many servers on one Redis, with all the clients they hold: one service
    Fleet(Box<fleet::FleetArgs>),
    #[command(hide = true)]
    FleetWorker(fleet::WorkerArgs),
}

fn main() -> ExitCode {
    cli::exit_code(match Args::parse().command {
        Command::Compare(args) => kept(compare::compare(&args), &args.field),
        Command::Sweep(args) => kept(sweep::sweep(&args), &args.field),
        Command::Table(args) => keep::table(&args),
        Command::Summary(args) => keep::summary(&args),
        Command::Draw(args) => keep::draw(&args),
        Command::Keep(args) => keep::keep(&args),
        Command::Trial(args) => compare::trial(&args),
        Command::Hub(args) => hub::run(&args).map(|()| true),
        Command::Tokens(args) => tokens::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Fleet(args) => fleet::run(&args),
        Command::FleetWorker(args) => fleet::work(&args).map(|()| true),
    })
}

/// The measurements go into the summary, also if some run had problems.
fn kept(outcome: Result<bool>, field: &compare::FieldArgs) -> Result<bool> {
    let is_well = outcome?;
    keep::summarise(field.out.as_deref())?;
    Ok(is_well)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
