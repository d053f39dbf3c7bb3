//! A handle's view of a Redis Cluster: who owns which slots, and lanes to all who do.
//!
//! The slot map is read again whenever a lane or a subscriber finds that something is not as the
//! map says, and now and then without a reason: a master that was cut off from the cluster, and
//! replaced, still answers us. Nothing is decided elsewhere about where a channel lives.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{sleep, timeout},
};

use super::{
    Task,
    cluster::Cluster,
    connection::{Connection, ConnectionError, refusal},
    lane::Lane,
    link::{Link, Part},
    routes::Routes,
    slots::{self, SlotMap},
    turnstile::Turnstile,
};
use crate::limits::{SLOT_MAP_INTERVAL, SLOT_MAP_PAUSE};

/// What a handle finds out about the cluster.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Slots that were looked for in vain, and where they are said to be.
    moved: RefCell<HashMap<u16, Server>>,
    /// Who knows that something has moved.
    witness: RefCell<Option<Server>>,
    came: Notify,
}

impl News {
    /// The slot map is to be read again.
    pub(super) fn stir(&self) {
        self.came.notify_one();
    }

    /// What `asked` said when it was asked in vain; whether it said where to ask.
    pub(super) fn hear(&self, error: &str, asked: &Server) -> bool {
        self.stir();
        let moved = slots::moved(error, asked);
        let is_moved = moved.is_some();
        self.moved.borrow_mut().extend(moved);
        is_moved
    }

    /// `server` knows where something is now.
    pub(super) fn witnessed(&self, server: Server) {
        *self.witness.borrow_mut() = Some(server);
        self.stir();
    }
}

/// Keeps the view.
pub(super) struct Topology {
    link: Rc<Link>,
    /// The subscribers, if this handle has any.
    cluster: Option<Rc<Cluster>>,
    /// The tasks of the lanes to each master.
    tasks: HashMap<Server, Vec<(Part, Task)>>,
}

impl Topology {
    pub(super) fn new(link: Rc<Link>, cluster: Option<Rc<Cluster>>) -> Self {
        Self { link, cluster, tasks: HashMap::new() }
    }

    /// Keeps the map up to date; never returns.
    pub(super) async fn run(mut self) {
        let link = self.link.clone();
        let Some(routes) = &link.routes else { return };
        loop {
            let map = self.read_map(routes).await;
            let is_read = map.is_some();
            self.settle(routes, map);
            let jitter = fastrand::u32(0..=50);
            sleep(SLOT_MAP_PAUSE * (100 + jitter) / 100).await;
            if is_read {
                // News, or time.
                let _ = timeout(SLOT_MAP_INTERVAL, routes.news.came.notified()).await;
            }
        }
    }

    /// Asks one server after the other until one tells.
    async fn read_map(&self, routes: &Routes) -> Option<SlotMap> {
        let (mut doubtful, mut reason) = (None, None);
        for server in self.servers(routes) {
            match self.ask(&server).await {
                Ok(Some((map, true))) => return Some(map),
                // It may be cut off from the others. If they all say so, the cluster is.
                Ok(Some((map, false))) => doubtful = doubtful.or(Some(map)),
                Ok(None) => tracing::debug!(%server, "this server tells no slots"),
                Err(error) => {
                    tracing::debug!(%server, %error, "the slots were not read");
                    reason = Some(error);
                }
            }
        }
        if let (None, Some(reason)) = (&doubtful, &reason) {
            self.link.shared.health_ref().out_of_reach(reason);
        }
        doubtful
    }

    /// Whom to ask: who knows of a change, who is there, who may be there again.
    fn servers(&self, routes: &Routes) -> Vec<Server> {
        let mut servers: Vec<Server> = routes.map.borrow().masters().cloned().collect();
        servers.extend(self.link.process().config.server.hosts());
        servers.sort_unstable();
        servers.dedup();
        fastrand::shuffle(&mut servers);
        let witness = routes.news.witness.take();
        let lanes = routes.lanes.borrow();
        let is_lost = |server: &Server| {
            let lanes = lanes.get(server);
            lanes.is_some_and(|lanes| lanes.iter().all(|lane| !lane.is_there()))
        };
        servers.sort_by_key(|server| (witness.as_ref() != Some(server), is_lost(server)));
        servers
    }

    /// The map as `server` sees it, and whether it sees the cluster.
    async fn ask(&self, server: &Server) -> Result<Option<(SlotMap, bool)>, ConnectionError> {
        let mut connection = Connection::open(&self.link.process().config, server).await?;
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

    /// Takes a new map, and brings lanes and subscribers to where it leads.
    fn settle(&mut self, routes: &Routes, map: Option<SlotMap>) {
        let has_moved = routes.news.moved.take();
        let mut masters: Vec<Server> = {
            let mut known = routes.map.borrow_mut();
            let mut map = map.unwrap_or_else(|| known.clone());
            // Said by those who owned them: newer than what others say.
            for (slot, server) in has_moved {
                map.set(slot, server);
            }
            if *known != map {
                *known = map;
                self.link.turnstiles.iter().for_each(Turnstile::way_changed);
            }
            known.masters().cloned().collect()
        };
        masters.sort_unstable();
        masters.dedup();
        self.open_lanes(routes, &masters);
        if let Some(cluster) = &self.cluster {
            cluster.settle();
        }
    }

    /// Lanes to all masters, and to nobody else.
    fn open_lanes(&mut self, routes: &Routes, masters: &[Server]) {
        let mut lanes = routes.lanes.borrow_mut();
        let is_first = lanes.is_empty();
        lanes.retain(|server, _| masters.contains(server));
        self.tasks.retain(|server, tasks| {
            let stays = masters.contains(server);
            for (part, _) in tasks.iter().filter(|_| !stays) {
                self.link.subscribed(*part);
            }
            stays
        });
        for server in masters {
            lanes.entry(server.clone()).or_insert_with(|| {
                let (lanes, tasks) =
                    (0..self.link.process().pool).map(|_| self.open_lane(server, is_first)).unzip();
                self.tasks.insert(server.clone(), tasks);
                lanes
            });
        }
    }

    /// Nothing is whole before the `first` lanes are open. Later ones show when they fail.
    fn open_lane(&self, server: &Server, first: bool) -> (Rc<Lane>, (Part, Task)) {
        let part = self.link.new_part();
        if first {
            self.link.expect(part);
        }
        let lane = Rc::new(Lane::to_node(server.clone(), part));
        let task = Task(spawn_local(lane.clone().run(self.link.clone())));
        (lane, (part, task))
    }
}
