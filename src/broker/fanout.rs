//! Delivery to all shards of this process, in one order.
//!
//! One mutex spans "is there room everywhere, stamp the message, hand it to each sink": so all
//! sinks see the same order, and a refused message was seen by none. The stamps (offsets, slots)
//! belong to the owner and are under the same mutex. Publishing is not the hot path; the mutex is
//! never held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Publication, PublishError, Sink};

/// All sinks of the process and the state that decides which messages they get.
#[derive(Debug)]
pub(super) struct Fanout<S> {
    sinks: Vec<Arc<dyn Sink>>,
    state: Mutex<S>,
}

/// The mutex, held: what happens through it happens in one order.
#[derive(Debug)]
pub(super) struct FanoutGuard<'a, S> {
    sinks: &'a [Arc<dyn Sink>],
    pub(super) state: MutexGuard<'a, S>,
}

impl<S> Fanout<S> {
    pub(super) fn new(sinks: Vec<Arc<dyn Sink>>, state: S) -> Self {
        Self { sinks, state: Mutex::new(state) }
    }

    /// Waits for the mutex. A panic under it leaves counters, never half a message: go on.
    pub(super) fn lock(&self) -> FanoutGuard<'_, S> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        FanoutGuard { sinks: &self.sinks, state }
    }
}

impl<S> FanoutGuard<'_, S> {
    /// Whether every shard takes `bytes` more.
    ///
    /// # Errors
    /// [`PublishError::ShardStalled`] when one does not.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), PublishError> {
        if self.sinks.iter().all(|sink| sink.has_room(bytes)) {
            Ok(())
        } else {
            Err(PublishError::ShardStalled)
        }
    }

    /// Hands `publication` to every shard.
    pub(super) fn deliver(&self, publication: &Publication) {
        for sink in self.sinks {
            sink.deliver(publication.clone());
        }
    }
}
