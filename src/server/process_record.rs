//! The state of a process that belongs to no shard and no channel, for a new one: plain data.

use serde::{Deserialize, Serialize};

use crate::{bans::BansRecord, drain::DrainRecord, metrics::upgrade_counts::UpgradeRecord};

/// All of it, as of the pause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessRecord {
    /// Bearers that are kept out.
    #[serde(default)]
    pub(super) bans: BansRecord,
    /// Upgrades so far.
    #[serde(default)]
    pub(super) upgrades: UpgradeRecord,
    /// The drain, and the signals that have come.
    #[serde(default)]
    pub(super) drain: DrainRecord,
    /// The beginning of the pause, by the old process' clock.
    #[serde(default)]
    pub(super) paused_at_ms: u64,
}
