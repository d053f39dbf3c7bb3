//! A real Redis Cluster of the test's own: masters with even shares of the slots, and replicas.
//!
//! Nodes find each other over their bus, so every step waits until all of them see its result;
//! the start does so on the calling thread.
#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::time::Duration;

use crate::{
    redis::{Recipe, RedisServer},
    slots::{self, SLOTS},
    wait::eventually,
};

/// For all nodes to agree.
const AGREEMENT_MAX: Duration = Duration::from_secs(30);
/// By so much the port at which nodes find each other is above the one for everyone.
const BUS_PORT_AHEAD: u16 = 10_000;
const OPTIONS: [&str; 12] = [
    "--save",
    "",
    "--cluster-enabled",
    "yes",
    "--cluster-announce-ip",
    "127.0.0.1",
    "--cluster-node-timeout",
    "1000",
    "--cluster-require-full-coverage",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];

/// Masters, in the order of their slots, and the replica of each, if there are replicas.
#[derive(Debug)]
pub struct RedisCluster {
    /// Each has an even share.
    pub masters: Vec<RedisServer>,
    /// In the order of their masters.
    pub replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// A cluster of servers by a recipe that is up; with a replica for each master if wanted. If
    /// they have TLS, they use it among themselves.
    pub fn start_as(masters: usize, replicas: bool, recipe: &Recipe) -> Self {
        let mut recipe = recipe.clone().and(&OPTIONS);
        if recipe.has_tls {
            recipe = recipe.and(&["--tls-cluster", "yes", "--tls-replication", "yes"]);
        }
        let start = |count| (0..count).map(|_| RedisServer::start_as(&recipe)).collect();
        let cluster =
            Self { masters: start(masters), replicas: start(if replicas { masters } else { 0 }) };
        slots::share(&cluster.masters.iter().map(RedisServer::socket).collect::<Vec<_>>()).unwrap();
        for node in cluster.nodes().skip(1) {
            let address = main_address(node).replace(':', " ");
            let meet = ["CLUSTER", "MEET"].into_iter().chain(address.split(' '));
            assert_eq!(cluster.masters[0].cli(&meet.collect::<Vec<_>>()), "OK");
        }
        cluster.formed("cluster_state:ok");
        for (master, replica) in cluster.masters.iter().zip(&cluster.replicas) {
            assert_eq!(
                replica.cli(&["CLUSTER", "REPLICATE", &slots::id(master.socket()).unwrap()]),
                "OK"
            );
        }
        for replica in &cluster.replicas {
            let follows = || replica.cli(&["INFO", "replication"]).contains("link_status:up");
            eventually(AGREEMENT_MAX, "the replica follows", follows);
        }
        cluster.formed(&format!("cluster_size:{masters}"));
        cluster
    }

    /// Everyone knows everyone, and says `what`.
    fn formed(&self, what: &str) {
        let known = format!("cluster_known_nodes:{}", self.nodes().count());
        for node in self.nodes() {
            let formed = || {
                let info = node.cli(&["CLUSTER", "INFO"]);
                info.contains(&known) && info.contains(what)
            };
            eventually(AGREEMENT_MAX, "the cluster is formed", formed);
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &RedisServer> {
        self.masters.iter().chain(&self.replicas)
    }

    /// The URL of the whole.
    pub fn url(&self) -> String {
        let [first, others @ ..] = &self.masters[..] else { panic!("a cluster has masters") };
        let scheme = if first.tls_address().is_some() { "rediss" } else { "redis" };
        let others: Vec<String> =
            others.iter().map(|node| format!("node={}", main_address(node))).collect();
        format!("{scheme}-cluster://{}?{}", main_address(first), others.join("&"))
    }

    /// From now on its masters tell these addresses, on this host, as theirs.
    pub fn announce(&self, addresses: &[String]) {
        for (node, address) in self.masters.iter().zip(addresses) {
            let port = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
            let bus = (port(&node.address()) + BUS_PORT_AHEAD).to_string();
            let port = port(address).to_string();
            let words = ["CONFIG", "SET", "cluster-announce-port", &port];
            assert_eq!(
                node.cli(&[&words[..], &["cluster-announce-bus-port", &bus]].concat()),
                "OK"
            );
        }
        for node in &self.masters {
            eventually(AGREEMENT_MAX, "the addresses are known", || {
                let nodes = node.cli(&["CLUSTER", "NODES"]);
                addresses.iter().all(|address| nodes.contains(&format!(" {address}@")))
            });
        }
    }

    /// The slot of a channel.
    pub fn slot(&self, name: &str) -> usize {
        let name = format!("test:{{{name}}}");
        self.masters[0].cli(&["CLUSTER", "KEYSLOT", &name]).parse().unwrap()
    }

    /// The master that a channel lived on at the start.
    pub fn owner(&self, name: &str) -> usize {
        self.slot(name) * self.masters.len() / SLOTS
    }

    /// The names of some channels, one that lives on each master.
    pub fn channels(&self) -> Vec<String> {
        let mut names = vec![None; self.masters.len()];
        for name in (0..).map(|number| format!("channel-{number}")) {
            let master = self.owner(&name);
            names[master].get_or_insert(name);
            if names.iter().all(Option::is_some) {
                break;
            }
        }
        names.into_iter().flatten().collect()
    }

    /// Moves the slot of a channel, with its keys, from one master to another, step by step.
    pub fn move_slot(&self, name: &str, from: usize, to: usize) {
        let slot = self.slot(name).to_string();
        let [from, to] = [from, to].map(|master| self.masters[master].socket());
        // One after the other: in between, a channel's keys are in two places.
        slots::move_slot(&slot, [from, to], &[], 1).unwrap();
    }

    /// Whether the replica of a master is one itself now.
    pub fn is_promoted(&self, master: usize) -> bool {
        self.replicas[master].cli(&["ROLE"]).starts_with("master")
    }
}

/// The address at which the others, and everyone else, are to reach a node.
fn main_address(node: &RedisServer) -> String {
    node.tls_address().unwrap_or_else(|| node.address())
}
