//! Redis in its three deployments: how each is set up, and what may be done to it.
//!
//! Every write is on disk before its answer (`appendfsync always`), so a node that is killed and
//! comes back has all that it acknowledged. Replication is asynchronous, as Redis is: what a
//! failover forgets has to be told.

mod cluster;
mod nodes;
mod sentinel;

use std::{net::SocketAddr, path::Path};

use anyhow::{Result, bail};
use testkit::node::{Node, check_redis_server};

pub(crate) use self::nodes::Redis;
use crate::fault::Deployment;

impl Redis {
    /// Starts all nodes, and waits until they agree.
    pub(super) fn start(deployment: Deployment, folder: &Path) -> Result<Self> {
        check_redis_server()?;
        let count = match deployment {
            Deployment::Standalone => 1,
            Deployment::Sentinel => 3,
            Deployment::Cluster => 4,
        };
        let nodes = (0..count).map(|at| nodes::node(deployment, folder, at)).collect::<Result<_>>();
        let mut redis = Self { deployment, nodes: nodes?, sentinels: Vec::new() };
        redis.nodes.iter_mut().try_for_each(Node::start)?;
        let answers = |node: &mut Node| node.wait_until_it_answers(nodes::START_DEADLINE);
        redis.nodes.iter_mut().try_for_each(answers)?;
        match deployment {
            Deployment::Standalone => {}
            Deployment::Sentinel => redis.set_up_sentinels(folder)?,
            Deployment::Cluster => redis.set_up_cluster()?,
        }
        redis.settle()?;
        Ok(redis)
    }

    /// The URL for servers; `proxy` stands before the only node of a standalone Redis.
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
