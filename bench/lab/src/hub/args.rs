//! The command line of `lab hub`.
//!
//! The defaults are the project's figures: a million subscribers, messages of 128 bytes. A part
//! is asked for by name only when lab starts itself again.

use std::{fmt, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use testkit::cli::count;

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
    /// Print the report as JSON
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,
    /// Write the report as JSON to this file too
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) out: Option<PathBuf>,
    /// One part only, in this process, as JSON
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) part: Option<Part>,
}

/// One process's work.
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

impl Part {
    /// All of them, in the order of the report.
    pub(super) const ALL: [Self; 7] = [
        Self::OneChannel,
        Self::ThirdStalledClose,
        Self::ThirdStalledSkip,
        Self::ManyChannels,
        Self::ManyChannelsEach,
        Self::ManyPerClient,
        Self::BudgetOver,
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl HubArgs {
    /// The arguments with which wsload runs one part.
    pub(super) fn for_part(&self, part: Part) -> Vec<String> {
        let numbers = [
            ("--clients", self.clients),
            ("--passes", self.passes),
            ("--batch", self.batch),
            ("--size", self.size),
            ("--backlog", self.backlog),
        ];
        let numbers = numbers.iter().flat_map(|(name, n)| [(*name).to_owned(), n.to_string()]);
        let part = ["--part".to_owned(), part.to_string()];
        ["hub".to_owned()].into_iter().chain(numbers).chain(part).collect()
    }
}
