//! Redis in its three deployments: how each is set up, and what may be done to it.
//!
//! Every write is on disk before its answer (`appendfsync always`), so a node that is killed and
//! comes back has all that it acknowledged. Replication is asynchronous, as Redis is: what a
//! failover forgets has to be told.

mod cluster;
mod sentinel;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;

use super::{
    args::Deployment,
    node::{Node, free_address, wait_for},
    resp,
};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// For replicas, sentinels or a cluster to agree.
const AGREE_DEADLINE: Duration = Duration::from_secs(30);

/// All nodes of a deployment.
#[derive(Debug)]
pub(super) struct Redis {
    pub(super) deployment: Deployment,
    /// Those with data.
    pub(super) nodes: Vec<Node>,
    sentinels: Vec<Node>,
}

impl Redis {
    /// Starts all nodes, and waits until they agree.
    pub(super) fn start(deployment: Deployment, folder: &Path, random: &mut Rng) -> Result<Self> {
        let version = std::process::Command::new("redis-server").arg("--version").output();
        ensure!(
            version.is_ok(),
            "redis-server is not on the PATH (Debian: apt-get install redis-server)"
        );
        let count = match deployment {
            Deployment::Standalone => 1,
            Deployment::Sentinel => 3,
            Deployment::Cluster => 4,
        };
        let nodes =
            (0..count).map(|at| node(deployment, folder, at, random)).collect::<Result<_>>();
        let mut redis = Self { deployment, nodes: nodes?, sentinels: Vec::new() };
        redis.nodes.iter_mut().try_for_each(Node::start)?;
        redis.nodes.iter_mut().try_for_each(wait_until_it_answers)?;
        match deployment {
            Deployment::Standalone => {}
            Deployment::Sentinel => redis.set_up_sentinels(folder, random)?,
            Deployment::Cluster => redis.set_up_cluster()?,
        }
        redis.settle()?;
        Ok(redis)
    }

    /// What servers are told; `proxy` stands before the only node of a standalone Redis.
    pub(super) fn url(&self, proxy: SocketAddr) -> String {
        let others = |nodes: &[Node]| -> String {
            let node = |node: &Node| format!("&node={}", node.address);
            nodes[1..].iter().map(node).collect()
        };
        match self.deployment {
            Deployment::Standalone => format!("redis://{proxy}"),
            Deployment::Sentinel => format!(
                "redis-sentinel://{}?sentinelServiceName={}{}",
                self.sentinels[0].address,
                sentinel::SERVICE,
                others(&self.sentinels)
            ),
            Deployment::Cluster => format!(
                "redis-cluster://{}?{}",
                self.nodes[0].address,
                others(&self.nodes).trim_start_matches('&')
            ),
        }
    }

    /// Waits until it is as whole as at the start.
    pub(super) fn settle(&mut self) -> Result<()> {
        match self.deployment {
            Deployment::Standalone => Ok(()),
            Deployment::Sentinel => self.settle_sentinels(),
            Deployment::Cluster => self.settle_cluster(),
        }
    }

    /// A node that has channels.
    pub(super) fn node_under_load(&mut self) -> Result<&mut Node> {
        match self.deployment {
            Deployment::Standalone => Ok(&mut self.nodes[0]),
            Deployment::Sentinel => self.sentinels_master(),
            Deployment::Cluster => Ok(&mut self.nodes[1]),
        }
    }

    /// A node that nobody takes over for.
    pub(super) fn node_alone(&mut self) -> Result<&mut Node> {
        match self.deployment {
            Deployment::Standalone => Ok(&mut self.nodes[0]),
            Deployment::Sentinel => bail!("every node has another that takes over"),
            Deployment::Cluster => Ok(&mut self.nodes[1]),
        }
    }

    /// The master and its replica change places, in good order.
    pub(super) fn fail_over(&mut self) -> Result<()> {
        match self.deployment {
            Deployment::Standalone => bail!("there is nobody to take over"),
            Deployment::Sentinel => self.fail_over_by_sentinel(),
            Deployment::Cluster => self.fail_over_in_cluster(),
        }
    }

    /// A master dies, its replica takes over, and it comes back as a replica.
    pub(super) fn kill_master(&mut self) -> Result<()> {
        match self.deployment {
            Deployment::Standalone => bail!("there is nobody to take over"),
            Deployment::Sentinel => self.kill_sentinels_master(),
            Deployment::Cluster => self.kill_master_of_cluster(),
        }
    }
}

/// Waits until it has loaded its data and answers.
pub(super) fn wait_until_it_answers(node: &mut Node) -> Result<()> {
    node.wait_until("answer PING", START_DEADLINE, |address| {
        resp::ask(address, &["PING"]).is_ok_and(|reply| reply.text() == "PONG")
    })
}

/// A line of `INFO`, or of `CLUSTER INFO`.
fn info(address: SocketAddr, command: &[&str], name: &str) -> Result<String> {
    let text = resp::ask(address, command)?;
    let line = text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().trim().to_owned())
}

fn node(deployment: Deployment, folder: &Path, at: usize, random: &mut Rng) -> Result<Node> {
    let address = free_address(random)?;
    let mut lines = vec![
        format!("port {}", address.port()),
        "bind 127.0.0.1".to_owned(),
        "save \"\"".to_owned(),
        "appendonly yes".to_owned(),
        "appendfsync always".to_owned(),
        "enable-debug-command yes".to_owned(),
        "repl-diskless-sync-delay 0".to_owned(),
        "repl-timeout 5".to_owned(),
    ];
    if deployment == Deployment::Cluster {
        lines.extend(cluster::options(free_address(random)?.port()));
    }
    configured(folder, &format!("redis-{at}"), address, &lines, &[])
}

/// A node with a file of options, which Redis may change.
fn configured(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    lines: &[String],
    arguments: &[&str],
) -> Result<Node> {
    let mut words = vec!["node.conf".to_owned()];
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    let node = Node::new(folder, name, address, Path::new("redis-server"), words)?;
    let path = node.folder.join("node.conf");
    let text = lines.join("\n") + "\n";
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(node)
}
