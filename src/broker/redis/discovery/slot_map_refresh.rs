//! The slot map of a Redis Cluster: read once for all handles of the process.
//!
//! It is read again whenever a command connection or a subscriber of any handle finds the map to be
//! wrong, and from time to time without a reason: a primary that was cut off from the cluster, and
//! replaced, still answers us. The control thread's handle reads: it is the first to start and the
//! last to be closed, and no busy shard holds it up; a process whose control thread is stuck can be
//! neither drained nor probed, and continues with the map that it has. `commands/cluster_view`
//! makes the handles follow the map.

use std::sync::Arc;

use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::time::{sleep, timeout};

use super::{destination::Destination, hints::TopologyHints, slot_map::SlotMap};
use crate::{
    broker::redis::net::{
        connection::{Connection, ConnectionError, refusal},
        connection_error::{address, told},
    },
    limits::{SLOT_MAP_INTERVAL, SLOT_MAP_PAUSE},
};

/// Keeps the process's slot map up to date.
pub(crate) struct SlotMapRefresher<F> {
    destination: Arc<Destination>,
    hints: Arc<TopologyHints>,
    /// Whether no command that is sent to a server would be answered.
    is_lost: F,
}

impl<F: Fn(&Server) -> bool> SlotMapRefresher<F> {
    pub(crate) fn new(
        destination: Arc<Destination>,
        hints: Arc<TopologyHints>,
        is_lost: F,
    ) -> Self {
        Self { destination, hints, is_lost }
    }

    /// Reads the map again and again; never returns.
    pub(crate) async fn run(self) {
        loop {
            let map = self.read_map().await;
            let is_read = map.is_some();
            self.hints.read(map);
            let jitter = fastrand::u32(0..=50);
            sleep(SLOT_MAP_PAUSE * (100 + jitter) / 100).await;
            if is_read {
                // A hint, or time.
                let _ = timeout(SLOT_MAP_INTERVAL, self.hints.refresh_requested()).await;
            }
        }
    }

    /// Asks one server after the other until one tells.
    async fn read_map(&self) -> Option<SlotMap> {
        let (mut doubtful, mut reason) = (None, None);
        for server in self.servers() {
            match self.ask(&server).await {
                Ok(Some((map, true))) => return Some(self.named(&server, map)),
                // It may be cut off from the others. If they all say so, the cluster is.
                Ok(Some((map, false))) => {
                    doubtful = doubtful.or_else(|| Some(self.named(&server, map)));
                }
                Ok(None) => tracing::debug!(%server, "this server tells no slots"),
                Err(error) => {
                    tracing::debug!(%server, %error, "the slots were not read");
                    reason = Some(told(&server, &error));
                }
            }
        }
        if let (None, Some(reason)) = (&doubtful, &reason) {
            self.destination.health.out_of_reach(reason);
        }
        doubtful
    }

    /// The map reported by `server`; if it names no server that could be connected to, that is
    /// logged.
    fn named(&self, server: &Server, map: SlotMap) -> SlotMap {
        if map.primaries().next().is_none() {
            self.destination.health.out_of_reach(&format!(
                "{}: the slot map names no server that could be connected to: assign slots, and \
                 see cluster-announce-ip, cluster-announce-hostname and \
                 cluster-preferred-endpoint-type in Redis",
                address(server)
            ));
        }
        map
    }

    /// The servers to ask: first one that knows of a change, then those that are there, then those
    /// that may be there again.
    fn servers(&self) -> Vec<Server> {
        let mut servers: Vec<Server> = self.hints.map().primaries().cloned().collect();
        servers.extend(self.destination.settings.config.server.hosts());
        servers.sort_unstable();
        servers.dedup();
        fastrand::shuffle(&mut servers);
        let witness = self.hints.take_witness();
        servers.sort_by_key(|server| (witness.as_ref() != Some(server), (self.is_lost)(server)));
        servers
    }

    /// The map as `server` sees it, and whether it sees the cluster.
    async fn ask(&self, server: &Server) -> Result<Option<(SlotMap, bool)>, ConnectionError> {
        let config = &self.destination.settings.config;
        let mut connection = Connection::open(config, server).await?;
        let info = connection.ask(&["CLUSTER", "INFO"]).await?;
        let slots = connection.ask(&["CLUSTER", "SLOTS"]).await?;
        if let Some(error) = refusal(&slots) {
            return Err(ConnectionError::Refused(error));
        }
        let is_cut_off = match &info {
            BytesFrame::VerbatimString { data, .. } | BytesFrame::BlobString { data, .. } => {
                String::from_utf8_lossy(data).contains("cluster_state:fail")
            }
            // It is not allowed to say.
            _ => false,
        };
        Ok(SlotMap::read(&slots, server).map(|map| (map, !is_cut_off)))
    }
}
