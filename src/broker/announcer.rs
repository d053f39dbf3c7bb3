//! The way of an announcement to all shards of the cluster.
//!
//! An announcement is carried out once by each shard. The shards of this process get it directly,
//! whatever the state of the broker; those of others through the broker, at most once. Nothing
//! waits for these: the answer says how many clients of this process are concerned, and whether
//! the others were told.

use std::{rc::Rc, sync::Arc};

use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};

use super::{
    announcement::{AnnounceError, Announced, Announcement},
    handle::{Broker, Sink},
};
use crate::limits::ANNOUNCEMENT_ANSWER_DEADLINE;

/// A thread's way to make announcements.
#[derive(Clone)]
pub struct Announcer {
    broker: Rc<dyn Broker>,
    sinks: Arc<[Arc<dyn Sink>]>,
}

impl Announcer {
    /// `sinks`: those of all shards of the process.
    #[must_use]
    pub fn new(broker: Rc<dyn Broker>, sinks: Arc<[Arc<dyn Sink>]>) -> Self {
        Self { broker, sinks }
    }

    /// Tells all shards of this process, then all other processes. A shard that does not answer
    /// within [`ANNOUNCEMENT_ANSWER_DEADLINE`] does it later, and its clients are not counted.
    ///
    /// # Errors
    /// When a shard takes nothing; then nothing was announced.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the others are told.
    pub async fn announce(&self, announcement: Announcement) -> Result<Announced, AnnounceError> {
        if !self.sinks.iter().all(|sink| sink.has_room(0)) {
            return Err(AnnounceError::ShardStalled);
        }
        let tell = |sink: &Arc<dyn Sink>| {
            let (count, counted) = oneshot::channel();
            sink.announce(announcement.clone(), Some(count));
            async { timeout(ANNOUNCEMENT_ANSWER_DEADLINE, counted).await.ok()?.ok() }
        };
        let counts = join_all(self.sinks.iter().map(tell).collect::<Vec<_>>());
        let (counts, scope) = tokio::join!(counts, self.broker.announce(&announcement));
        Ok(Announced { clients: counts.into_iter().flatten().sum(), scope })
    }
}
