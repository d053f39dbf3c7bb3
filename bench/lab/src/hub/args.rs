//! The command line of `lab hub`.
//!
//! The defaults are the project's figures: a million subscribers, messages of 128 bytes. A part
//! is asked for by name only when lab starts itself again.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use testkit::{cli::count, output::ReportArgs};

/// The hub without a network.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct HubArgs {
    /// Subscribers of the one channel; the other parts scale with it
    #[arg(long, default_value_t = 1_000_000, value_parser = count(300, 4_000_000))]
    pub(crate) clients: usize,
    /// Passes of which the median is taken
    #[arg(long, default_value_t = 9, value_parser = count(1, 1000))]
    pub(crate) passes: usize,
    /// Messages that a pass finds when it finds many
    #[arg(long, default_value_t = 16, value_parser = count(2, 10_000))]
    pub(crate) batch: usize,
    /// Bytes of a message
    #[arg(long, default_value_t = 128, value_parser = count(1, 65_536))]
    pub(crate) size: usize,
    /// How far a client may fall behind where some are stalled, bytes
    #[arg(long, default_value_t = 1024 * 1024, value_parser = count(262_144, 67_108_864))]
    pub(crate) backlog: usize,
    #[command(flatten)]
    #[serde(skip)]
    pub(crate) report: ReportArgs,
    /// One part only, in this process, as JSON: lab starts itself so
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) part: Option<Part>,
}

/// One process's work, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    OneChannel,
    ThirdStalledClose,
    ThirdStalledSkip,
    ManyChannels,
    ManyChannelsEach,
    ManyPerClient,
    BudgetOver,
}
