//! The ways in which Redis is run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How Redis is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Deployment {
    /// One, reached through a proxy that can be cut
    #[default]
    Standalone,
    /// A master, two replicas, three sentinels
    Sentinel,
    /// Three masters, and a replica of the first
    Cluster,
}

impl Deployment {
    /// As typed.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
