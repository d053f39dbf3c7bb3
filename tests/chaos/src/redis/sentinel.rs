//! A master, two replicas and three sentinels.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use testkit::{
    node::{Node, free_address},
    resp,
    wait::wait_for,
};

use super::nodes::{AGREE_DEADLINE, Redis, START_DEADLINE, configured, info};

/// The name that the sentinels have for it.
pub(super) const SERVICE: &str = "chaos";
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(30);

impl Redis {
    pub(super) fn set_up_sentinels(&mut self, folder: &Path) -> Result<()> {
        let master = self.nodes[0].address;
        let port = master.port().to_string();
        for replica in &self.nodes[1..] {
            resp::ask(replica.address, &["REPLICAOF", "127.0.0.1", &port])?;
        }
        for at in 0..3 {
            let address = free_address()?;
            let lines = [
                format!("port {}", address.port()),
                "bind 127.0.0.1".to_owned(),
                format!("sentinel monitor {SERVICE} 127.0.0.1 {port} 2"),
                format!("sentinel down-after-milliseconds {SERVICE} 1500"),
                format!("sentinel failover-timeout {SERVICE} 3000"),
                format!("sentinel parallel-syncs {SERVICE} 2"),
            ];
            let name = format!("sentinel-{at}");
            let mut node = configured(folder, &name, address, &lines, &["--sentinel"])?;
            node.start()?;
            node.wait_until_it_answers(START_DEADLINE)?;
            self.sentinels.push(node);
        }
        Ok(())
    }

    /// One master with two replicas that follow it, and all sentinels know all.
    pub(super) fn settle_sentinels(&mut self) -> Result<()> {
        wait_for("the sentinels to agree", AGREE_DEADLINE, || {
            let Ok(master) = self.master_index() else { return Ok(false) };
            let port = self.nodes[master].address.port().to_string();
            let replication = |node: &Node, name: &str| {
                info(node.address, &["INFO", "replication"], name).unwrap_or_default()
            };
            let follow = self.nodes.iter().enumerate().all(|(at, node)| match at == master {
                true => replication(node, "role") == "master",
                false => {
                    replication(node, "master_port") == port
                        && replication(node, "master_link_status") == "up"
                }
            });
            let agree = self.sentinels.iter().all(|sentinel| {
                let words = ["SENTINEL", "MASTER", SERVICE];
                let facts = resp::ask(sentinel.address, &words).map(|reply| reply.texts());
                let facts = facts.unwrap_or_default();
                let fact = |name: &str| {
                    let at = facts.iter().position(|fact| fact == name);
                    at.and_then(|at| facts.get(at + 1)).cloned().unwrap_or_default()
                };
                fact("port") == port
                    && fact("flags") == "master"
                    && fact("num-slaves") == "2"
                    && fact("num-other-sentinels") == "2"
            });
            Ok(follow && agree)
        })
    }

    /// The master, by the first sentinel.
    fn master_index(&self) -> Result<usize> {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        let address = resp::ask(self.sentinels[0].address, &words)?.texts();
        let port = address.get(1).context("the sentinels know no master")?;
        let is_it = |node: &Node| node.address.port().to_string() == *port;
        self.nodes.iter().position(is_it).context("the master is a node")
    }

    pub(super) fn sentinels_master(&mut self) -> Result<&mut Node> {
        let master = self.master_index()?;
        Ok(&mut self.nodes[master])
    }

    pub(super) fn fail_over_by_sentinel(&mut self) -> Result<()> {
        let before = self.master_index()?;
        resp::ask(self.sentinels[0].address, &["SENTINEL", "FAILOVER", SERVICE])?;
        self.wait_for_takeover(before)
    }

    pub(super) fn kill_sentinels_master(&mut self) -> Result<()> {
        let before = self.master_index()?;
        self.nodes[before].kill();
        self.wait_for_takeover(before)?;
        self.nodes[before].start()
    }

    fn wait_for_takeover(&self, before: usize) -> Result<()> {
        wait_for("another master", TAKEOVER_DEADLINE, || {
            let master = self.master_index()?;
            let role = || info(self.nodes[master].address, &["INFO", "replication"], "role");
            Ok(master != before && role().is_ok_and(|role| role == "master"))
        })
    }
}
