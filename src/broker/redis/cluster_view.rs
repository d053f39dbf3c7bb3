//! A handle's view of a Redis Cluster: who owns which slots, and command connections to all who do.
//!
//! The map is the process's, read in `slot_map_refresh`; here a handle follows it, reading after
//! reading: what was refused or is not needed any more shows at each, also if nothing has moved.
//! Nothing is decided elsewhere about where a channel lives.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use fred::prelude::Server;

use super::{
    commands::{
        command_connection::CommandConnection,
        command_order::CommandOrder,
        connectivity::{Link, Part},
        router::Routes,
    },
    discovery::slot_map::SlotMap,
    pubsub::sharded::ShardedSubscribers,
    task::Task,
};

/// Keeps the view.
pub(crate) struct ClusterView {
    link: Rc<Link>,
    /// The subscribers, if this handle has any.
    sharded: Option<Rc<ShardedSubscribers>>,
    /// The tasks of the connections to each master; those for questions are no part of the way.
    tasks: HashMap<Server, Vec<(Option<Part>, Task)>>,
}

impl ClusterView {
    pub(crate) fn new(link: Rc<Link>, sharded: Option<Rc<ShardedSubscribers>>) -> Self {
        Self { link, sharded, tasks: HashMap::new() }
    }

    /// Follows the map; never returns.
    pub(crate) async fn run(mut self) {
        let link = self.link.clone();
        let Some(routes) = &link.routes else { return };
        let mut maps = routes.hints.maps();
        loop {
            let map = maps.borrow_and_update().clone();
            if let Some(map) = map {
                self.settle(routes, map);
            }
            // Its sender is the process.
            if maps.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes the map of a reading, and brings connections and subscribers to where it leads.
    fn settle(&mut self, routes: &Routes, map: Arc<SlotMap>) {
        let mut masters: Vec<Server> = map.masters().cloned().collect();
        if *routes.map.borrow() != map {
            *routes.map.borrow_mut() = map;
            self.link.orders.iter().for_each(CommandOrder::way_changed);
        }
        masters.sort_unstable();
        masters.dedup();
        self.open_connections(routes, &masters);
        if let Some(sharded) = &self.sharded {
            sharded.settle();
        }
    }

    /// Command connections to all masters, and to nobody else.
    fn open_connections(&mut self, routes: &Routes, masters: &[Server]) {
        let mut connections = routes.connections.borrow_mut();
        let is_first = connections.is_empty();
        let mut questions = routes.questions.borrow_mut();
        connections.retain(|server, _| masters.contains(server));
        questions.retain(|server, _| masters.contains(server));
        self.tasks.retain(|server, tasks| {
            let stays = masters.contains(server);
            for part in tasks.iter().filter(|_| !stays).filter_map(|(part, _)| *part) {
                self.link.subscribed(part);
            }
            stays
        });
        for server in masters {
            connections.entry(server.clone()).or_insert_with(|| {
                let pool = 0..self.link.process().settings.pool;
                let (connections, mut tasks): (Vec<_>, Vec<_>) =
                    pool.map(|_| self.open_connection(server, is_first)).unzip();
                if self.link.has_clients() {
                    let connection =
                        Rc::new(CommandConnection::for_questions(connections[0].clone()));
                    tasks.push((None, Task::spawn(connection.clone().run(self.link.clone()))));
                    questions.insert(server.clone(), connection);
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
    ) -> (Rc<CommandConnection>, (Option<Part>, Task)) {
        let part = self.link.new_part();
        if first {
            self.link.expect(part);
        }
        let connection =
            Rc::new(CommandConnection::to_node(server.clone(), part, self.link.shared.clone()));
        let task = Task::spawn(connection.clone().run(self.link.clone()));
        (connection, (Some(part), task))
    }
}
