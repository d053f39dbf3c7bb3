//! The faults: their names, where each fits, and how each is done.
//!
//! Each is over when its function returns: from then on recovery is measured.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{args::Deployment, node::Node, resp, world::World};
use crate::clock;

/// How long Redis or the way to it is silent.
const SILENCE: Duration = Duration::from_secs(3);
/// Longer than sentinels wait until they take a master for dead.
const FAILOVER_SILENCE: Duration = Duration::from_secs(5);
/// How long a killed process stays away.
const ABSENCE: Duration = Duration::from_secs(1);

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
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
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

    /// Does it, and waits until it is over.
    pub(super) fn inflict(self, world: &mut World) -> Result<()> {
        match self {
            Self::PubsubKill => kill_clients(world, &["pubsub"]),
            Self::NormalKill => kill_clients(world, &["normal"]),
            Self::AllKill => kill_clients(world, &["pubsub", "normal"]),
            Self::DebugSleep => {
                let address = world.redis.node_under_load()?.address;
                resp::ask(address, &["DEBUG", "SLEEP", "2"]).map(drop)
            }
            Self::Pause => pause(world),
            Self::BlackHole => {
                world.way.send_modify(|way| way.is_black_hole = true);
                clock::pause(SILENCE);
                world.way.send_modify(|way| way.is_black_hole = false);
                Ok(())
            }
            Self::Cut => {
                world.way.send_modify(|way| way.cuts += 1);
                Ok(())
            }
            Self::Restart => restart(world, |_| Ok(())),
            Self::RestartEmpty => restart(world, |node| {
                fs::remove_dir_all(node.folder.join("appendonlydir")).context("forgetting it all")
            }),
            Self::Failover => world.redis.fail_over(),
            Self::MasterKill => world.redis.kill_master(),
            Self::SlotMove => world.redis.move_slot(world.random.usize(0..world.channels())),
            Self::ServerKill => {
                let server = world.random.usize(0..world.servers.len());
                world.kill_server(server)?;
                clock::pause(ABSENCE);
                world.start_server(server)
            }
            Self::Roll => (0..world.servers.len()).try_for_each(|server| {
                world.drain_server(server)?;
                world.start_server(server)
            }),
        }
    }
}

fn kill_clients(world: &World, types: &[&str]) -> Result<()> {
    for node in &world.redis.nodes {
        for kind in types {
            resp::ask(node.address, &["CLIENT", "KILL", "TYPE", kind])?;
        }
    }
    Ok(())
}

fn pause(world: &mut World) -> Result<()> {
    let silence = match world.redis.deployment {
        Deployment::Sentinel => FAILOVER_SILENCE,
        Deployment::Standalone | Deployment::Cluster => SILENCE,
    };
    let node = world.redis.node_under_load()?;
    node.signal(Signal::STOP)?;
    clock::pause(silence);
    node.signal(Signal::CONT)
}

/// The node without a replica, so that nobody takes over.
fn restart(world: &mut World, meanwhile: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let node = world.redis.node_alone()?;
    node.kill();
    clock::pause(ABSENCE);
    meanwhile(node)?;
    node.start()?;
    super::redis::wait_until_it_answers(node)?;
    // A master of a cluster that comes back serves nobody for two seconds.
    world.redis.settle()
}
