//! One subscription for all shards of a process, where that is wanted.
//!
//! The first shard subscribes to every channel that any shard wants and delivers into the mailboxes
//! of those shards. Shards ask for channels from their own threads, under one mutex that is never
//! held across an await; their requests are kept by channel. So the work that waits for the first
//! shard is bounded by the channels and the shards that wait for them, however often shards change
//! their minds.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::{Notify, oneshot};

use super::subscriptions::{Confirmation, Place};
use crate::{
    broker::{Announcement, Missed, Publication, Sink, redis::protocol::replies::StreamPosition},
    channel::ChannelName,
    position::Position,
};

/// The channels that the shards want, and the first shard's progress.
///
/// # Invariants
/// - A shard that adds itself to the hearers of a confirmed channel gets all messages published
///   from then on: a channel loses its confirmation under the same lock that finds it without
///   hearers.
#[derive(Debug)]
pub(crate) struct SharedSubscriber {
    sinks: Vec<Arc<dyn Sink>>,
    state: Mutex<State>,
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The shards that want a channel: never none.
    hearers: HashMap<ChannelName, BTreeSet<usize>>,
    changed: HashMap<ChannelName, Change>,
    /// The waiters for a subscription's confirmation; dropped when it has come, or will not.
    waiters: HashMap<ChannelName, Waiters>,
    /// The confirmation since which the channel is heard.
    confirmed: HashMap<ChannelName, Confirmation>,
    /// Channels with a known position: messages missing since then will show.
    with_baseline: HashSet<ChannelName>,
    /// Where channels began whose position the first shard found out by itself, as long as nothing
    /// has arrived on them.
    begun: HashMap<ChannelName, Position>,
}

/// The callers that wait for a subscription's confirmation, and the first shard's own wait for it:
/// as long as there is one, they ask for the position themselves.
#[derive(Debug, Default)]
struct Waiters {
    callers: Vec<oneshot::Sender<()>>,
    confirmed: Option<oneshot::Receiver<()>>,
}

/// Work for the first shard; callers that wait for it are told by dropping.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The channel's position, the confirmation that preceded the query, and the caller that
    /// wants to know whether the answer is certain.
    pub(super) baselines: Vec<(StreamPosition, Option<Confirmation>, oneshot::Sender<bool>)>,
}

impl SharedSubscriber {
    pub(crate) fn new(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self { sinks, state: Mutex::default(), changed: Notify::new() }
    }

    /// A panic elsewhere leaves whole entries: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `shard` wants `channel`. The answer resolves (by being dropped) when Redis has confirmed
    /// or refused it, or the connection has ended; None if it is confirmed.
    pub(crate) fn want(
        &self,
        shard: usize,
        channel: &ChannelName,
    ) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        state.hearers.entry(channel.clone()).or_default().insert(shard);
        if state.confirmed.contains_key(channel) {
            return None;
        }
        let (waiter, settled) = oneshot::channel();
        let waiters = state.waiters.entry(channel.clone()).or_default();
        waiters.callers.retain(|waiter| !waiter.is_closed());
        waiters.callers.push(waiter);
        state.changed.entry(channel.clone()).or_default();
        self.changed.notify_one();
        Some(settled)
    }

    /// `shard` does not want `channel` any more.
    pub(super) fn unwant(&self, shard: usize, channel: &ChannelName) {
        let mut state = self.state();
        let Some(hearers) = state.hearers.get_mut(channel) else { return };
        hearers.remove(&shard);
        if hearers.is_empty() {
            state.hearers.remove(channel);
            state.changed.entry(channel.clone()).or_default();
            self.changed.notify_one();
        }
    }

    /// The confirmation since which all that is published to `channel` arrives.
    pub(super) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        self.state().confirmed.get(channel).copied()
    }

    /// Tells the first shard the position of `channel`. The answer is whether that is certain; None
    /// if missing messages show already.
    pub(crate) fn set_baseline(
        &self,
        channel: &ChannelName,
        at: &StreamPosition,
        before: Option<Confirmation>,
    ) -> Option<oneshot::Receiver<bool>> {
        let mut state = self.state();
        if state.with_baseline.contains(channel) && before.is_some() {
            return None;
        }
        let (waiter, noted) = oneshot::channel();
        let change = state.changed.entry(channel.clone()).or_default();
        change.baselines.push((at.clone(), before, waiter));
        self.changed.notify_one();
        Some(noted)
    }

    /// The changed channels, and whether each is wanted now.
    pub(super) fn take_changed(&self) -> Vec<(ChannelName, Change, bool)> {
        let mut state = self.state();
        let changed = std::mem::take(&mut state.changed);
        let mut look = |(channel, change)| {
            let is_wanted = state.hearers.contains_key(&channel);
            if !is_wanted {
                state.confirmed.remove(&channel);
                state.with_baseline.remove(&channel);
                state.begun.remove(&channel);
                state.waiters.remove(&channel);
            }
            (channel, change, is_wanted)
        };
        changed.into_iter().map(&mut look).collect()
    }

    pub(super) fn baseline_is_set(&self, channel: ChannelName) {
        self.state().with_baseline.insert(channel);
    }

    /// The first shard has found out that `channel` begins `at` this position for those that hear
    /// it.
    pub(super) fn begin(&self, channel: &ChannelName, at: Position) {
        self.state().begun.insert(channel.clone(), at);
    }

    /// The position of [`Self::begin`], if nothing has arrived since.
    pub(super) fn begun_at(&self, channel: &ChannelName) -> Option<Position> {
        self.state().begun.get(channel).cloned()
    }

    /// The first shard goes on with `channel` where another process was, which `place` says;
    /// `begun`: see [`Self::begin`].
    pub(super) fn adopted(&self, channel: &ChannelName, begun: Option<Position>, place: &Place) {
        let mut state = self.state();
        if !state.hearers.contains_key(channel) {
            return;
        }
        if place.tracker.newest().is_some() {
            state.with_baseline.insert(channel.clone());
        }
        if let Some(begun) = begun {
            state.begun.insert(channel.clone(), begun);
        }
    }

    /// The channels that shards have, and which.
    pub(in crate::broker::redis) fn hearers(&self) -> Vec<(ChannelName, Vec<usize>)> {
        let state = self.state();
        let hearers = state.hearers.iter();
        hearers
            .map(|(channel, shards)| (channel.clone(), shards.iter().copied().collect()))
            .collect()
    }

    /// Channels of `subscribed` that no shard wants are to be unsubscribed.
    pub(super) fn end_unheard(&self, subscribed: Vec<ChannelName>) {
        let mut state = self.state();
        for channel in subscribed {
            if !state.hearers.contains_key(&channel) {
                state.changed.entry(channel).or_default();
            }
        }
        self.changed.notify_one();
    }

    /// The first shard waits for the confirmation of `channel`, for those that wait for it here.
    pub(super) fn waits(&self, channel: &ChannelName, confirmed: oneshot::Receiver<()>) {
        if let Some(waiters) = self.state().waiters.get_mut(channel) {
            waiters.confirmed = Some(confirmed);
        }
    }

    /// Unless somebody still waits for the confirmation of `channel`, the first shard does not.
    pub(super) fn wait_no_longer_than_others(&self, channel: &ChannelName) {
        if let Some(waiters) = self.state().waiters.get_mut(channel)
            && waiters.callers.iter().all(oneshot::Sender::is_closed)
        {
            waiters.confirmed = None;
        }
    }

    /// The subscription to `channel` is confirmed on a connection, or will not be for now.
    pub(super) fn settled(&self, channel: &ChannelName, confirmed: Option<Confirmation>) {
        let mut state = self.state();
        state.waiters.remove(channel);
        if let Some(heard) = confirmed {
            state.confirmed.insert(channel.clone(), heard);
        }
    }

    /// The connection has ended: nothing is confirmed, and no shard waits any longer.
    pub(crate) fn disconnected(&self) {
        let mut state = self.state();
        state.confirmed.clear();
        state.waiters.clear();
    }

    fn with_hearers(&self, channel: &ChannelName, tell: impl Fn(&dyn Sink)) {
        let mut state = self.state();
        state.begun.remove(channel);
        let hearers = state.hearers.get(channel).into_iter().flatten();
        hearers.for_each(|&shard| tell(&*self.sinks[shard]));
    }
}

/// Into the mailboxes of the shards that want it.
impl Sink for SharedSubscriber {
    fn has_room(&self, bytes: usize) -> bool {
        self.sinks.iter().all(|sink| sink.has_room(bytes))
    }

    fn deliver(&self, publication: Publication) {
        self.with_hearers(&publication.channel, |sink| sink.deliver(publication.clone()));
    }

    fn gap(&self, channel: &ChannelName, missed: Missed) {
        self.with_hearers(channel, |sink| sink.gap(channel, missed.clone()));
    }

    fn announce(&self, announcement: Announcement, _count: Option<oneshot::Sender<usize>>) {
        self.sinks.iter().for_each(|sink| sink.announce(announcement.clone(), None));
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        async {
            for sink in &self.sinks {
                sink.room().await;
            }
        }
        .boxed()
    }
}
