//! How a handle hears: through its own subscriber, through the process's one, or not at all.
//!
//! The rest of the handle need not know which; the promises of [`crate::broker::Broker`] are the
//! same. Nothing here talks to Redis.

use std::{cell::RefCell, collections::HashSet, rc::Rc};

use tokio::sync::oneshot;

use super::{shard_subscriptions::Hearing, subscriber::Heard};
use crate::{
    broker::redis::{commands::connectivity::Link, protocol::replies::Standing},
    channel::ChannelName,
};

/// What a handle asks for the channels of its clients.
#[derive(Debug)]
pub(crate) enum Listening {
    /// It only publishes.
    Nothing,
    /// Its own subscribers.
    Own(Rc<Hearing>),
    /// The first shard's, which subscribes for all.
    Common(Listener),
}

/// A shard that hears through the process's one subscriber.
#[derive(Debug)]
pub(crate) struct Listener {
    link: Rc<Link>,
    shard: usize,
    wanted: RefCell<HashSet<ChannelName>>,
}

impl Listener {
    pub(crate) fn new(link: Rc<Link>, shard: usize) -> Self {
        Self { link, shard, wanted: RefCell::default() }
    }
}

impl Listening {
    /// Wants `channel`. The answer resolves (by value or by being dropped) when that is settled;
    /// None if there is nothing to wait for.
    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        match self {
            Self::Nothing => None,
            Self::Own(hearing) => hearing.want(channel),
            Self::Common(listener) => {
                let waiter =
                    listener.link.process().common.as_ref()?.want(listener.shard, &channel);
                listener.wanted.borrow_mut().insert(channel);
                waiter
            }
        }
    }

    /// Does not want it any more.
    pub(crate) fn unwant(&self, channel: &ChannelName) {
        match self {
            Self::Nothing => {}
            Self::Own(hearing) => hearing.unwant(channel),
            Self::Common(listener) => {
                if listener.wanted.borrow_mut().remove(channel)
                    && let Some(common) = &listener.link.process().common
                {
                    common.unwant(listener.shard, channel);
                }
            }
        }
    }

    /// By which confirmation all that is published to `channel` arrives.
    pub(crate) fn confirmed_on(&self, channel: &ChannelName) -> Option<Heard> {
        match self {
            Self::Nothing => None,
            Self::Own(hearing) => hearing.confirmed_on(channel),
            Self::Common(listener) => {
                listener.link.process().common.as_ref()?.confirmed_on(channel)
            }
        }
    }

    /// Where `channel` stands: once this resolves, what is missing since then shows. False: ask
    /// again.
    pub(crate) async fn anchor(
        &self,
        channel: &ChannelName,
        at: &Standing,
        before: Option<Heard>,
    ) -> bool {
        match self {
            Self::Nothing => true,
            Self::Own(hearing) => hearing.anchor(channel, at, before),
            Self::Common(listener) => {
                let Some(common) = &listener.link.process().common else { return true };
                match common.anchor(channel, at, before) {
                    // Dropped: the channel is not wanted any more, or the handle has ended.
                    Some(noted) => noted.await.unwrap_or(true),
                    None => true,
                }
            }
        }
    }
}
