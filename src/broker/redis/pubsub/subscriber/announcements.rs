//! Announcements of other processes, on their way to the shards that hear through a subscriber.

use bytes::Bytes;

use super::Subscriber;
use crate::{broker::redis::protocol::announcement, telemetry::seldom};

impl Subscriber {
    /// An announcement arrived, or something that is none. It waits while a shard has no room for
    /// more: what comes meanwhile waits in the connection.
    pub(super) async fn announced(&self, payload: &Bytes) {
        let router = &self.router;
        match announcement::decode(payload) {
            // This process was told directly.
            Some((sender, _)) if sender == router.settings.names.process() => {}
            Some((_, announcement)) => {
                if !self.delivery.sink.has_room(1) {
                    self.delivery.sink.room().await;
                }
                self.delivery.sink.announce(announcement, None);
            }
            None => {
                router.health.foreign.add(1);
                seldom!(warn, "dropped an announcement that is none of ours");
            }
        }
    }
}
