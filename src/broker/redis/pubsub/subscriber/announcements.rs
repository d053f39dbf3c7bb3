//! Announcements of other processes, on their way to the shards that hear through a subscriber.
//!
//! The bans in Redis are read after each confirmation of the subscription: earlier ones are among
//! them, later ones arrive by themselves. Clients that are kept out by one are closed like those
//! that an announcement concerns. The first shard's subscriber tells Redis in turn of the bans that
//! it does not know: those that were given without it, and those that it has lost.

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::sleep;

use super::Subscriber;
use crate::{
    bans::{Bans, BansFull, Bearer, SharedBan},
    broker::{
        Announcement,
        redis::{
            announcing,
            protocol::{
                announcement::{self, Heard},
                replies::Told,
            },
            pubsub::{command::Command, held::HeldPiece},
        },
    },
    channel::ChannelName,
    limits::{BANS_FULL_RETRY, BANS_RETRY},
    telemetry::seldom,
};

impl Subscriber {
    /// An announcement arrived, or something that is none. It waits while a shard has no room for
    /// more: what comes meanwhile waits in the connection.
    pub(super) async fn announced(&self, payload: &Bytes) {
        let settings = &self.router.settings;
        match announcement::decode(payload) {
            // This process was told directly.
            Some(Heard { sender, .. }) if sender == settings.names.process() => {}
            Some(Heard { announcement, stamp, .. }) => {
                let Announcement::Disconnect(disconnection) = &announcement;
                // First: clients that are about to come are looked at when they are there.
                if let (Some(bans), Some((bearer, time))) = (&settings.bans, disconnection.ban()) {
                    say_if_full(bans.hear(bearer, time, stamp));
                }
                self.hand_on(announcement).await;
            }
            None => {
                self.router.health.foreign.add(1);
                seldom!(warn, "dropped an announcement that is none of ours");
            }
        }
    }

    async fn hand_on(&self, announcement: Announcement) {
        if self.held.borrow().holds() {
            return self.hold(HeldPiece::Announcement(announcement));
        }
        self.carry_on(announcement).await;
    }

    /// Hands an announcement to the shards that hear through this subscriber.
    pub(super) async fn carry_on(&self, announcement: Announcement) {
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

    /// Has `bans` agree with Redis whenever announcements are heard anew; with `tells_redis` also
    /// whenever a ban is given that it does not know. Never returns.
    pub(crate) async fn keep_bans(self: Rc<Self>, bans: Arc<Bans>, tells_redis: bool) {
        let mut again_in = None;
        loop {
            let mut is_to_be_read = true;
            tokio::select! {
                () = self.announcements_heard.notified() => {}
                () = sleep(again_in.unwrap_or_default()), if again_in.is_some() => {}
                () = bans.unshared(), if tells_redis => is_to_be_read = false,
            }
            let unknown = match is_to_be_read {
                true => self.take_over(&bans).await,
                false => bans.all_unshared(),
            };
            if tells_redis {
                again_in = self.tell_redis(&bans, &unknown).await;
            }
        }
    }

    /// Takes over the bans in Redis, as soon as it tells; returns the bearers of whom it knows less
    /// or something else.
    async fn take_over(&self, bans: &Bans) -> Vec<Bearer> {
        let (read, read_at) = loop {
            self.router.opened(&ChannelName::default_channel()).await;
            match announcing::bans(&self.router).await {
                Ok(read) => break read,
                Err(error) => {
                    seldom!(warn, "it is not known which bearers of tokens others keep out", error);
                    sleep(BANS_RETRY).await;
                }
            }
        };
        let (unknown, taken) = bans.agree(&read, read_at);
        say_if_full(taken);
        for SharedBan { bearer, time, .. } in read {
            // A later command may have let the bearer in.
            if bans.keeps_out(&bearer) {
                self.hand_on(announcement::of_ban(&bearer, time)).await;
            }
        }
        unknown
    }

    /// Tells Redis of the bans of these bearers; returns the time after which they are to be told
    /// again, if they are.
    async fn tell_redis(&self, bans: &Bans, bearers: &[Bearer]) -> Option<Duration> {
        let mut again_in = None;
        for bearer in bearers {
            let Some(own) = bans.own(bearer) else { continue };
            match announcing::share(&self.router, bearer, own).await {
                Ok(Told::Sent(stamp)) => bans.settle(bearer, own.given, stamp, None),
                Ok(Told::Known(stamp, time)) => {
                    bans.settle(bearer, own.given, stamp, Some(time));
                    if !time.is_zero() {
                        self.hand_on(announcement::of_ban(bearer, time)).await;
                    }
                }
                Ok(Told::Full) => {
                    seldom!(warn, "others keep out as many bearers of tokens as may be");
                    again_in = Some(BANS_FULL_RETRY);
                }
                Err(error) => {
                    seldom!(warn, "the others do not know yet who is kept out", error);
                    return Some(BANS_RETRY);
                }
            }
        }
        again_in
    }
}

fn say_if_full(heard: Result<(), BansFull>) {
    if heard.is_err() {
        seldom!(warn, "as many bearers of tokens are kept out as may be: others are let in");
    }
}
