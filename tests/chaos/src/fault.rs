//! The faults, and the ways in which Redis is run: their names, and which fault fits where.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use testkit::cli::name_of;

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

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fault {
    /// CLIENT KILL TYPE pubsub, on all nodes
    PubsubKill,
    /// CLIENT KILL TYPE normal, on all nodes
    NormalKill,
    /// Both at once
    AllKill,
    /// DEBUG SLEEP 2
    DebugSleep,
    /// SIGSTOP for 3 s (of a master with sentinels for 5 s, which is a failover), then SIGCONT
    Pause,
    /// The way to Redis takes everything and passes nothing on for 3 s
    BlackHole,
    /// All connections to Redis are reset
    Cut,
    /// SIGKILL, started again after 1 s; every write was on disk
    Restart,
    /// SIGKILL, started again after 1 s without data
    RestartEmpty,
    /// SENTINEL FAILOVER, or CLUSTER FAILOVER by the replica
    Failover,
    /// SIGKILL of a master that has a replica; started again once that has taken over
    MasterKill,
    /// A busy channel's slot moves to another master
    SlotMove,
    /// SIGKILL of a server, started again after 1 s
    ServerKill,
    /// SIGTERM to one server after the other, each started again once it has drained
    Roll,
}

impl Fault {
    /// As typed.
    pub(super) fn name(self) -> String {
        name_of(&self)
    }

    /// Whether a deployment can have it.
    pub(super) fn fits(self, deployment: Deployment) -> bool {
        use Deployment::{Cluster, Sentinel, Standalone};
        match self {
            Self::BlackHole | Self::Cut | Self::RestartEmpty => deployment == Standalone,
            // With sentinels both are a failover: see `Pause` and `MasterKill`.
            Self::DebugSleep | Self::Restart => deployment != Sentinel,
            Self::Failover | Self::MasterKill => deployment != Standalone,
            Self::SlotMove => deployment == Cluster,
            Self::PubsubKill
            | Self::NormalKill
            | Self::AllKill
            | Self::Pause
            | Self::ServerKill
            | Self::Roll => true,
        }
    }
}
