//! How each fault is done.
//!
//! A fault is over when [`inflict`] returns: from then on recovery is measured.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use testkit::{clock, node::Node, resp};

use super::{
    fault::{Deployment, Fault},
    world::World,
};

/// How long Redis or the way to it is silent.
const SILENCE: Duration = Duration::from_secs(3);
/// Longer than sentinels wait until they take a master for dead.
const FAILOVER_SILENCE: Duration = Duration::from_secs(5);
/// For a node to load its data.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long a killed process stays away.
const ABSENCE: Duration = Duration::from_secs(1);

/// Does it, and waits until it is over.
pub(super) fn inflict(fault: Fault, world: &mut World) -> Result<()> {
    match fault {
        Fault::PubsubKill => kill_clients(world, &["pubsub"]),
        Fault::NormalKill => kill_clients(world, &["normal"]),
        Fault::AllKill => kill_clients(world, &["pubsub", "normal"]),
        Fault::DebugSleep => {
            let address = world.redis.node_under_load()?.address;
            resp::ask(address, &["DEBUG", "SLEEP", "2"]).map(drop)
        }
        Fault::Pause => pause(world),
        Fault::BlackHole => {
            world.way.send_modify(|way| way.is_black_hole = true);
            clock::pause(SILENCE);
            world.way.send_modify(|way| way.is_black_hole = false);
            Ok(())
        }
        Fault::Cut => {
            world.way.send_modify(|way| way.cuts += 1);
            Ok(())
        }
        Fault::Restart => restart(world, |_| Ok(())),
        Fault::RestartEmpty => restart(world, |node| {
            fs::remove_dir_all(node.folder.join("appendonlydir")).context("forgetting it all")
        }),
        Fault::Failover => world.redis.fail_over(),
        Fault::MasterKill => world.redis.kill_master(),
        Fault::SlotMove => world.redis.move_slot(world.random.usize(0..world.channels())),
        Fault::ServerKill => {
            let server = world.random.usize(0..world.servers.len());
            world.kill_server(server)?;
            clock::pause(ABSENCE);
            world.start_server(server)
        }
        Fault::Roll => (0..world.servers.len()).try_for_each(|server| {
            world.drain_server(server)?;
            world.start_server(server)
        }),
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
    node.wait_until_it_answers(START_DEADLINE)?;
    // A master of a cluster that comes back serves nobody for two seconds.
    world.redis.settle()
}
