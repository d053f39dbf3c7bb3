//! The nodes of a deployment, and what all deployments do with one.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use testkit::{
    node::{Node, free_address},
    resp,
};

use crate::fault::Deployment;

pub(super) const START_DEADLINE: Duration = Duration::from_secs(20);
/// For replicas, sentinels or a cluster to agree.
pub(super) const AGREE_DEADLINE: Duration = Duration::from_secs(30);

/// All nodes of a deployment.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) deployment: Deployment,
    /// Those with data.
    pub(crate) nodes: Vec<Node>,
    pub(super) sentinels: Vec<Node>,
}

/// A line of `INFO`, or of `CLUSTER INFO`.
pub(super) fn info(address: SocketAddr, command: &[&str], name: &str) -> Result<String> {
    let text = resp::ask(address, command)?;
    let line = text.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.unwrap_or_default().trim().to_owned())
}

pub(super) fn node(deployment: Deployment, folder: &Path, at: usize) -> Result<Node> {
    let address = free_address()?;
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
        lines.extend(cluster_options(free_address()?.port()));
    }
    configured(folder, &format!("redis-{at}"), address, &lines, &[])
}

/// A node with a file of options, which Redis may change.
pub(super) fn configured(
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

/// The options that make a node one of a cluster.
fn cluster_options(bus_port: u16) -> [String; 6] {
    [
        "cluster-enabled yes".to_owned(),
        "cluster-config-file nodes.conf".to_owned(),
        format!("cluster-port {bus_port}"),
        // Longer than a node is stopped or asleep: only a dead one is taken over.
        "cluster-node-timeout 4000".to_owned(),
        "cluster-allow-replica-migration no".to_owned(),
        // Channels that live on others go on while a master is gone.
        "cluster-require-full-coverage no".to_owned(),
    ]
}
