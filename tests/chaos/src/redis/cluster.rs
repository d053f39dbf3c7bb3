//! Three masters, and a replica of the first.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use testkit::{
    resp,
    slots::{self, SLOTS},
    wait::wait_for,
};

use super::nodes::{AGREE_DEADLINE, Redis, info};
use crate::shared::channel_name;

const MASTERS: usize = 3;
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(30);
/// Keys that move at a time.
const KEYS_AT_A_TIME: usize = 100;

impl Redis {
    pub(super) fn set_up_cluster(&mut self) -> Result<()> {
        let addresses: Vec<SocketAddr> = self.nodes.iter().map(|node| node.address).collect();
        slots::share(&addresses[..MASTERS])?;
        let port = addresses[0].port().to_string();
        let bus = resp::ask(addresses[0], &["CONFIG", "GET", "cluster-port"])?.texts();
        let bus = bus.get(1).context("the port of the cluster's bus")?;
        for address in &addresses[1..] {
            resp::ask(*address, &["CLUSTER", "MEET", "127.0.0.1", &port, bus])?;
        }
        let first = slots::id(addresses[0])?;
        wait_for("the replica to know its master", AGREE_DEADLINE, || {
            let words = ["CLUSTER", "REPLICATE", &first];
            Ok(resp::ask(addresses[MASTERS], &words).is_ok())
        })
    }

    /// All nodes know all, all slots are served, and the replica follows.
    pub(super) fn settle_cluster(&mut self) -> Result<()> {
        let known = self.nodes.len().to_string();
        wait_for("the cluster to agree", AGREE_DEADLINE, || {
            Ok(self.nodes.iter().all(|node| {
                let cluster =
                    |name: &str| info(node.address, &["CLUSTER", "INFO"], name).unwrap_or_default();
                let replication = |name: &str| {
                    info(node.address, &["INFO", "replication"], name).unwrap_or_default()
                };
                cluster("cluster_state") == "ok"
                    && cluster("cluster_slots_ok") == SLOTS.to_string()
                    && cluster("cluster_known_nodes") == known
                    && cluster("cluster_size") == MASTERS.to_string()
                    && (replication("role") == "master"
                        || replication("master_link_status") == "up")
            }))
        })
    }

    /// Of the two that replicate each other: (master, replica).
    fn pair(&self) -> Result<(usize, usize)> {
        for (master, replica) in [(0, MASTERS), (MASTERS, 0)] {
            let address = self.nodes[replica].address;
            if info(address, &["INFO", "replication"], "role")? == "slave" {
                return Ok((master, replica));
            }
        }
        bail!("the cluster has no replica")
    }

    pub(super) fn fail_over_in_cluster(&mut self) -> Result<()> {
        let (_, replica) = self.pair()?;
        resp::ask(self.nodes[replica].address, &["CLUSTER", "FAILOVER"])?;
        self.wait_for_cluster_takeover(replica)
    }

    pub(super) fn kill_master_of_cluster(&mut self) -> Result<()> {
        let (master, replica) = self.pair()?;
        self.nodes[master].kill();
        self.wait_for_cluster_takeover(replica)?;
        self.nodes[master].start()
    }

    fn wait_for_cluster_takeover(&self, replica: usize) -> Result<()> {
        let address = self.nodes[replica].address;
        wait_for("the replica to take over", TAKEOVER_DEADLINE, || {
            let role = info(address, &["INFO", "replication"], "role")?;
            let state = info(address, &["CLUSTER", "INFO"], "cluster_state")?;
            Ok(role == "master" && state == "ok")
        })
    }

    /// Moves the slot of a channel, with all its keys, to the master after its own.
    pub(crate) fn move_slot(&mut self, channel: usize) -> Result<()> {
        let any = self.nodes[1].address;
        let key = channel_name(channel);
        let slot = resp::ask(any, &["CLUSTER", "KEYSLOT", &key])?.text().to_owned();
        let masters = self.masters(&slot)?;
        let from = masters.iter().find(|master| master.has_slot).context("the slot is served")?;
        let to = masters.iter().find(|master| !master.has_slot).context("another master")?;
        let ways = [from.address, to.address];
        let addresses = masters.iter().map(|master| master.address);
        let others: Vec<_> = addresses.filter(|address| !ways.contains(address)).collect();
        slots::move_slot(&slot, ways, &others, KEYS_AT_A_TIME)
    }

    fn masters(&self, slot: &str) -> Result<Vec<Master>> {
        let slot: u32 = slot.parse().context("a slot's number")?;
        let mut masters = Vec::new();
        for node in &self.nodes {
            let nodes = resp::ask(node.address, &["CLUSTER", "NODES"])?;
            let line = nodes.text().lines().find(|line| line.contains("myself"));
            let words: Vec<&str> = line.context("a node knows itself")?.split(' ').collect();
            if words.get(2).is_some_and(|flags| flags.contains("master")) {
                let ranges = words.iter().skip(8);
                let has_slot = ranges
                    .filter_map(|range| first_and_last(range))
                    .any(|(first, last)| (first..=last).contains(&slot));
                masters.push(Master { address: node.address, has_slot });
            }
        }
        Ok(masters)
    }
}

struct Master {
    address: SocketAddr,
    has_slot: bool,
}

/// `7` or `0-5460`; none for a slot on its way.
fn first_and_last(range: &str) -> Option<(u32, u32)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok()?, last.parse().ok()?))
}
