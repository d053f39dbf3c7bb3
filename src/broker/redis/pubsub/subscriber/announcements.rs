//! Announcements of other processes, on their way to the shards that hear through a subscriber.
//!
//! The bans in Redis are read after each confirmation of the subscription: earlier ones are among
//! them, later ones arrive by themselves. Clients that are kept out by one are closed like those
//! that an announcement concerns.

use std::rc::Rc;

use bytes::Bytes;
use tokio::time::sleep;

use super::Subscriber;
use crate::{
    broker::{
        Announcement,
        redis::{announcing, protocol::announcement, pubsub::command::Command},
    },
    channel::ChannelName,
    limits::BANS_RETRY,
    telemetry::seldom,
};

impl Subscriber {
    /// An announcement arrived, or something that is none. It waits while a shard has no room for
    /// more: what comes meanwhile waits in the connection.
    pub(super) async fn announced(&self, payload: &Bytes) {
        let router = &self.router;
        match announcement::decode(payload) {
            // This process was told directly.
            Some((sender, _)) if sender == router.settings.names.process() => {}
            Some((_, announcement)) => self.hand_on(announcement).await,
            None => {
                router.health.foreign.add(1);
                seldom!(warn, "dropped an announcement that is none of ours");
            }
        }
    }

    async fn hand_on(&self, announcement: Announcement) {
        if !self.delivery.sink.has_room(1) {
            self.delivery.sink.room().await;
        }
        self.delivery.sink.announce(announcement, None);
    }

    /// Redis has carried out `command`: the bans are to be read if announcements arrive by now.
    pub(super) fn note_announcements(&self, command: &Command) {
        let name = self.router.settings.names.announcements();
        let is_it = matches!(command, Command::Subscribe(subscribed) if *subscribed == name);
        if is_it && self.subscriptions.borrow().confirmed_by(&name).is_some() {
            self.announcements_heard.notify_one();
        }
    }

    /// Hands on the bans in Redis whenever announcements are heard anew; never returns.
    pub(crate) async fn read_bans(self: Rc<Self>) {
        loop {
            self.announcements_heard.notified().await;
            for ban in self.bans().await {
                self.hand_on(ban).await;
            }
        }
    }

    /// The bans in Redis, as soon as it tells.
    async fn bans(&self) -> Vec<Announcement> {
        loop {
            self.router.opened(&ChannelName::default_channel()).await;
            match announcing::bans(&self.router).await {
                Ok(bans) => return bans,
                Err(error) => {
                    seldom!(warn, "it is not known which bearers of tokens others keep out", error);
                    sleep(BANS_RETRY).await;
                }
            }
        }
    }
}
