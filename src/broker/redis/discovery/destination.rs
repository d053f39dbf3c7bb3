//! Where the connections of this process are to lead, and a new one that leads there: one truth for
//! all its threads.

use std::sync::Arc;

use fred::prelude::Server;

use super::{
    generation::{Generation, Generations},
    hints::TopologyHints,
    node_ids::{self, NodeId, NodeIds, Reached},
    primary::CurrentPrimary,
};
use crate::{
    broker::{
        Health,
        redis::{
            net::connection::{Connection, ConnectionError, refusal},
            settings::ProcessSettings,
        },
    },
    clock::Clock,
    telemetry::seldom,
};

/// The process's destination: one server, a primary that sentinels name, or the primaries of a
/// cluster.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<ProcessSettings>,
    pub(crate) health: Arc<Health>,
    /// Where sentinels lead.
    pub(crate) primary: CurrentPrimary,
    /// Whether all connections lead to one place.
    pub(crate) generations: Generations,
    /// In a cluster, where those to each node lead.
    pub(crate) node_ids: NodeIds,
    /// The cluster's hints, if Redis is one.
    pub(crate) hints: Option<Arc<TopologyHints>>,
}

impl Destination {
    pub(crate) fn new(settings: Arc<ProcessSettings>, health: Arc<Health>) -> Self {
        Self {
            clock: health.clock,
            primary: CurrentPrimary::new(),
            generations: Generations::new(),
            node_ids: NodeIds::default(),
            hints: settings.is_cluster().then(Arc::default),
            settings,
            health,
        }
    }

    /// The connections of `generation` are not all where Redis is: all are to be made anew, by
    /// name. Publishing waits for that.
    pub(crate) fn reconnect_all(&self, generation: Generation, why: &str) {
        let now = self.clock.now();
        if self.generations.end(generation, now) {
            seldom!(warn, "Redis is looked for anew, by its name", why);
            self.primary.reconnecting(now);
        }
    }

    /// A new connection to `server`; in a cluster, and if the user may ask, the node that it has
    /// reached. From now on there are none by this name to another one.
    pub(crate) async fn connect(
        &self,
        server: &Server,
    ) -> Result<(Connection, Option<NodeId>), ConnectionError> {
        let mut connection = Connection::open(&self.settings.config, server).await?;
        if self.hints.is_none() {
            return Ok((connection, None));
        }
        let answer = connection.ask(&["CLUSTER", "MYID"]).await?;
        let Some(node) = node_ids::node_id(&answer) else {
            if let Some(error) = refusal(&answer)
                && self.node_ids.is_first_refusal()
            {
                seldom!(
                    warn,
                    "Redis does not tell which node it is: nor is it noticed if that changes",
                    %server,
                    %error
                );
            }
            return Ok((connection, None));
        };
        match self.node_ids.arrived(server, &node, self.clock.now()) {
            Reached::Same => {}
            Reached::Moved => {
                seldom!(warn, "a node of the cluster is another server now", %server);
            }
            Reached::TooSoon => return Err(ConnectionError::Astray),
        }
        Ok((connection, Some(node)))
    }
}
