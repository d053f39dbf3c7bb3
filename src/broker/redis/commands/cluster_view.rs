//! A handle's view of a Redis Cluster: which node owns which slots, and command connections to all
//! nodes that own some.
//!
//! The map is the process's, read in `slot_map_refresh`; here a handle follows it, reading after
//! reading: what was refused or is not needed any more shows at each, also if nothing has moved.
//! The subscriptions, which stand above, are told after each reading and follow the same map.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use fred::prelude::Server;

use super::{
    cluster_routes::ClusterRoutes, command_connection::CommandConnection, connectivity::Component,
    router::CommandRouter,
};
use crate::broker::redis::{discovery::slot_map::SlotMap, task::Task};

/// Keeps the view, and calls `followed` after each reading.
pub(in crate::broker::redis) struct ClusterView<F> {
    router: Rc<CommandRouter>,
    followed: F,
    /// The tasks of the connections to each primary; those for queries do not count for
    /// connectivity.
    tasks: HashMap<Server, Vec<(Option<Component>, Task)>>,
}

impl<F: Fn()> ClusterView<F> {
    pub(crate) fn new(router: Rc<CommandRouter>, followed: F) -> Self {
        Self { router, followed, tasks: HashMap::new() }
    }

    /// Follows the map; never returns.
    pub(crate) async fn run(mut self) {
        let router = self.router.clone();
        let Some(cluster) = &router.cluster else { return };
        let mut maps = cluster.hints.maps();
        loop {
            let map = maps.borrow_and_update().clone();
            if let Some(map) = map {
                self.settle(cluster, map);
            }
            // Its sender is the process.
            if maps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes the map of a reading, and brings the connections to where it leads.
    fn settle(&mut self, cluster: &ClusterRoutes, map: Arc<SlotMap>) {
        let mut primaries: Vec<Server> = map.primaries().cloned().collect();
        if *cluster.map.borrow() != map {
            *cluster.map.borrow_mut() = map;
            self.router.route_changed();
        }
        primaries.sort_unstable();
        primaries.dedup();
        self.open_connections(cluster, &primaries);
        (self.followed)();
    }

    /// Command connections to all primaries, and to no other server.
    fn open_connections(&mut self, cluster: &ClusterRoutes, primaries: &[Server]) {
        let mut connections = cluster.connections.borrow_mut();
        let is_first = connections.is_empty();
        let mut queries = cluster.queries.borrow_mut();
        connections.retain(|server, _| primaries.contains(server));
        queries.retain(|server, _| primaries.contains(server));
        self.tasks.retain(|server, tasks| {
            let stays = primaries.contains(server);
            for component in tasks.iter().filter(|_| !stays).filter_map(|(component, _)| *component)
            {
                self.router.connectivity.forget(component);
            }
            stays
        });
        for server in primaries {
            connections.entry(server.clone()).or_insert_with(|| {
                let pool = 0..self.router.settings.pool;
                let (connections, mut tasks): (Vec<_>, Vec<_>) =
                    pool.map(|_| self.open_connection(server, is_first)).unzip();
                if self.router.has_clients() {
                    let connection =
                        Rc::new(CommandConnection::for_queries(connections[0].clone()));
                    tasks.push((None, Task::spawn(connection.clone().run())));
                    queries.insert(server.clone(), connection);
                }
                self.tasks.insert(server.clone(), tasks);
                connections
            });
        }
    }

    /// Nothing is whole before the `first` connections are open. Later ones show when they fail.
    fn open_connection(
        &self,
        server: &Server,
        first: bool,
    ) -> (Rc<CommandConnection>, (Option<Component>, Task)) {
        let component = self.router.connectivity.new_component();
        if first {
            self.router.connectivity.expect(component);
        }
        let connection = Rc::new(CommandConnection::to_node(
            server.clone(),
            component,
            self.router.destination.clone(),
            self.router.connectivity.clone(),
        ));
        let task = Task::spawn(connection.clone().run());
        (connection, (Some(component), task))
    }
}
