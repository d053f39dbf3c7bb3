//! The findings of a process's handles about a Redis Cluster, and the newest slot map: their shared
//! state. Nothing here does IO.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fred::prelude::Server;
use tokio::sync::{Notify, watch};

use super::slot_map::{SlotMap, moved};

/// The findings of a process's handles about the cluster, and the known map.
#[derive(Debug, Default)]
pub(crate) struct TopologyHints {
    found: Mutex<Found>,
    came: Notify,
    /// The newest map; none before the first reading has ended. Sent after each, changed or not.
    map: watch::Sender<Option<Arc<SlotMap>>>,
}

/// Hints for the next reading.
#[derive(Debug, Default)]
struct Found {
    /// Slots that were looked for in vain, and where they are said to be.
    moved: HashMap<u16, Server>,
    /// A server that knows that something has moved.
    witness: Option<Server>,
}

impl TopologyHints {
    /// The slot map is to be read again.
    pub(crate) fn request_refresh(&self) {
        self.came.notify_one();
    }

    /// The answer of `asked` to a command in vain; returns whether it said where to ask.
    pub(crate) fn note_redirection(&self, error: &str, asked: &Server) -> bool {
        let moved = moved(error, asked);
        let is_moved = moved.is_some();
        self.found().moved.extend(moved);
        self.request_refresh();
        is_moved
    }

    /// `server` knows where something is now.
    pub(crate) fn note_change_at(&self, server: Server) {
        self.found().witness = Some(server);
        self.request_refresh();
    }

    /// The map, and each reading of it from now on.
    pub(crate) fn maps(&self) -> watch::Receiver<Option<Arc<SlotMap>>> {
        self.map.subscribe()
    }

    /// Resolves when the slot map is to be read again.
    ///
    /// # Cancel safety
    /// May be dropped: a request that came is found by the next call.
    pub(super) async fn refresh_requested(&self) {
        self.came.notified().await;
    }

    /// A server that knows that something has moved, if that was not asked for before.
    pub(super) fn take_witness(&self) -> Option<Server> {
        self.found().witness.take()
    }

    /// Never held over an await. A panic elsewhere leaves whole entries: go on.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest map.
    pub(super) fn map(&self) -> Arc<SlotMap> {
        self.map.borrow().clone().unwrap_or_default()
    }

    /// A reading has ended; None: no server answered.
    pub(super) fn read(&self, map: Option<SlotMap>) {
        let mut map = map.unwrap_or_else(|| (*self.map()).clone());
        // Reported by the slots' owners: newer than the reports of others.
        for (slot, server) in std::mem::take(&mut self.found().moved) {
            map.set(slot, server);
        }
        self.map.send_replace(Some(Arc::new(map)));
    }
}
