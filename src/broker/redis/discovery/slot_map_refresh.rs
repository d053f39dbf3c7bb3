//! The slot map of a Redis Cluster: read once for all handles of the process.
//!
//! It is read again whenever a command connection or a subscriber of any handle finds that
//! something is not as the map says, and now and then without a reason: a master that was cut off
//! from the cluster, and replaced, still answers us. The control thread's handle reads: it is the
//! first to start and the last to be closed, and no busy shard holds it up; a process whose control
//! thread stands still can be neither drained nor probed, and goes on with the map that it has.
//! What the others do with the map is `cluster_view`.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::slot_map::{self, SlotMap};
use crate::{
    broker::redis::{
        commands::{connectivity::Link, router::Routes},
        net::{
            connection::{Connection, ConnectionError, refusal},
            connection_error::{address, told},
        },
    },
    limits::{SLOT_MAP_INTERVAL, SLOT_MAP_PAUSE},
};

/// What the handles of a process find out about the cluster, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct TopologyHints {
    found: Mutex<Found>,
    came: Notify,
    /// The newest map; none before the first reading has ended. Sent after each, changed or not.
    map: watch::Sender<Option<Arc<SlotMap>>>,
}

/// What the next reading is to take into account.
#[derive(Debug, Default)]
struct Found {
    /// Slots that were looked for in vain, and where they are said to be.
    moved: HashMap<u16, Server>,
    /// Who knows that something has moved.
    witness: Option<Server>,
}

impl TopologyHints {
    /// The slot map is to be read again.
    pub(crate) fn stir(&self) {
        self.came.notify_one();
    }

    /// What `asked` said when it was asked in vain; whether it said where to ask.
    pub(crate) fn hear(&self, error: &str, asked: &Server) -> bool {
        let moved = slot_map::moved(error, asked);
        let is_moved = moved.is_some();
        self.found().moved.extend(moved);
        self.stir();
        is_moved
    }

    /// `server` knows where something is now.
    pub(crate) fn witnessed(&self, server: Server) {
        self.found().witness = Some(server);
        self.stir();
    }

    /// The map, and each reading of it from now on.
    pub(crate) fn maps(&self) -> watch::Receiver<Option<Arc<SlotMap>>> {
        self.map.subscribe()
    }

    /// Never held over an await. A panic elsewhere leaves whole entries: go on.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self) -> Arc<SlotMap> {
        self.map.borrow().clone().unwrap_or_default()
    }

    /// A reading has ended; None: nobody told.
    fn read(&self, map: Option<SlotMap>) {
        let mut map = map.unwrap_or_else(|| (*self.map()).clone());
        // Said by those who owned them: newer than what others say.
        for (slot, server) in std::mem::take(&mut self.found().moved) {
            map.set(slot, server);
        }
        self.map.send_replace(Some(Arc::new(map)));
    }
}

/// Keeps the process's map up to date; never returns.
pub(crate) async fn run(link: Rc<Link>) {
    let Some(routes) = &link.routes else { return };
    loop {
        let map = read_map(&link, routes).await;
        let is_read = map.is_some();
        routes.hints.read(map);
        let jitter = fastrand::u32(0..=50);
        sleep(SLOT_MAP_PAUSE * (100 + jitter) / 100).await;
        if is_read {
            // News, or time.
            let _ = timeout(SLOT_MAP_INTERVAL, routes.hints.came.notified()).await;
        }
    }
}

/// Asks one server after the other until one tells.
async fn read_map(link: &Link, routes: &Routes) -> Option<SlotMap> {
    let (mut doubtful, mut reason) = (None, None);
    for server in servers(link, routes) {
        match ask(link, &server).await {
            Ok(Some((map, true))) => return Some(named(link, &server, map)),
            // It may be cut off from the others. If they all say so, the cluster is.
            Ok(Some((map, false))) => {
                doubtful = doubtful.or_else(|| Some(named(link, &server, map)));
            }
            Ok(None) => tracing::debug!(%server, "this server tells no slots"),
            Err(error) => {
                tracing::debug!(%server, %error, "the slots were not read");
                reason = Some(told(&server, &error));
            }
        }
    }
    if let (None, Some(reason)) = (&doubtful, &reason) {
        link.shared.health_ref().out_of_reach(reason);
    }
    doubtful
}

/// The map that `server` told; that it names nobody who could be connected to goes into the log.
fn named(link: &Link, server: &Server, map: SlotMap) -> SlotMap {
    if map.masters().next().is_none() {
        link.shared.health_ref().out_of_reach(&format!(
            "{}: the slot map names no server that could be connected to: assign slots, and see \
             cluster-announce-ip, cluster-announce-hostname and cluster-preferred-endpoint-type in \
             Redis",
            address(server)
        ));
    }
    map
}

/// Whom to ask: who knows of a change, who is there, who may be there again.
fn servers(link: &Link, routes: &Routes) -> Vec<Server> {
    let mut servers: Vec<Server> = routes.hints.map().masters().cloned().collect();
    servers.extend(link.process().settings.config.server.hosts());
    servers.sort_unstable();
    servers.dedup();
    fastrand::shuffle(&mut servers);
    let witness = routes.hints.found().witness.take();
    let connections = routes.connections.borrow();
    let is_lost = |server: &Server| {
        let connections = connections.get(server);
        connections
            .is_some_and(|connections| connections.iter().all(|connection| !connection.is_there()))
    };
    servers.sort_by_key(|server| (witness.as_ref() != Some(server), is_lost(server)));
    servers
}

/// The map as `server` sees it, and whether it sees the cluster.
async fn ask(link: &Link, server: &Server) -> Result<Option<(SlotMap, bool)>, ConnectionError> {
    let mut connection = Connection::open(&link.process().settings.config, server).await?;
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
