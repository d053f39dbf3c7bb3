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
use crate::{
    bans::{Bans, BansFull},
    limits::ANNOUNCEMENT_ANSWER_DEADLINE,
    metrics::Scope,
};

/// A thread's way to make announcements.
#[derive(Clone)]
pub struct Announcer {
    broker: Rc<dyn Broker>,
    sinks: Arc<[Arc<dyn Sink>]>,
    bans: Arc<Bans>,
}

impl Announcer {
    /// `sinks`: those of all shards of the process; `bans`: the process's.
    #[must_use]
    pub fn new(broker: Rc<dyn Broker>, sinks: Arc<[Arc<dyn Sink>]>, bans: Arc<Bans>) -> Self {
        Self { broker, sinks, bans }
    }

    /// Tells all shards of this process and all other processes. A shard that does not answer
    /// within [`ANNOUNCEMENT_ANSWER_DEADLINE`] does it later, and its clients are not counted.
    ///
    /// # Errors
    /// When a shard takes nothing, or nobody more can be kept out; then nothing was announced.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open which shards and processes are told.
    pub async fn announce(&self, announcement: Announcement) -> Result<Announced, AnnounceError> {
        let Announcement::Disconnect(disconnection) = &announcement;
        if !self.sinks.iter().all(|sink| sink.has_room(0)) {
            return Err(AnnounceError::ShardStalled);
        }
        let Some((bearer, time)) = disconnection.ban() else {
            let (clients, scope) =
                tokio::join!(self.tell_shards(&announcement), self.broker.announce(&announcement));
            return Ok(Announced { clients, scope: scope? });
        };
        self.bans.check_room(bearer)?;
        // First: all processes together may have no room.
        let scope = self.broker.announce(&announcement).await?;
        if scope == Scope::Local {
            self.bans.add(bearer, time)?;
        }
        Ok(Announced { clients: self.tell_shards(&announcement).await, scope })
    }

    /// The number of their clients that are concerned.
    async fn tell_shards(&self, announcement: &Announcement) -> usize {
        let tell = |sink: &Arc<dyn Sink>| {
            let (count, counted) = oneshot::channel();
            sink.announce(announcement.clone(), Some(count));
            async { timeout(ANNOUNCEMENT_ANSWER_DEADLINE, counted).await.ok()?.ok() }
        };
        let counts = join_all(self.sinks.iter().map(tell).collect::<Vec<_>>()).await;
        counts.into_iter().flatten().sum()
    }
}

impl From<BansFull> for AnnounceError {
    fn from(BansFull: BansFull) -> Self {
        Self::BansFull
    }
}
