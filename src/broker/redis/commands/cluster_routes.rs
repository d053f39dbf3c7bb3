//! A handle's command connections into a Redis Cluster: to each primary, as the slot map has them.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use fred::prelude::Server;

use super::command_connection::CommandConnection;
use crate::broker::redis::discovery::{hints::TopologyHints, slot_map::SlotMap};

/// A handle's routes into a cluster.
#[derive(Debug)]
pub(crate) struct ClusterRoutes {
    /// The slot map, of those of the process, that the command connections are for.
    pub(crate) map: RefCell<Arc<SlotMap>>,
    /// As many to each primary as the pool has.
    pub(crate) connections: RefCell<HashMap<Server, Vec<Rc<CommandConnection>>>>,
    /// The connections for queries, where this handle has many.
    pub(crate) queries: RefCell<HashMap<Server, Rc<CommandConnection>>>,
    pub(crate) hints: Arc<TopologyHints>,
}

impl ClusterRoutes {
    pub(super) fn new(hints: Arc<TopologyHints>) -> Self {
        Self {
            map: RefCell::default(),
            connections: RefCell::default(),
            queries: RefCell::default(),
            hints,
        }
    }

    /// Whether no command to the primary `server` would be answered.
    pub(crate) fn is_lost(&self, server: &Server) -> bool {
        let connections = self.connections.borrow();
        let connections = connections.get(server);
        connections.is_some_and(|all| all.iter().all(|connection| !connection.is_alive()))
    }
}
