//! The subscriptions of a process that hands its clients over, and of the one that takes them.
//!
//! The new process subscribes to the channels before the old one stops, and keeps what arrives. The
//! old one then lets its shards hear all that was published before, brings them to one place in
//! each channel, and tells that. The new one goes on from there: what it has kept and the old one
//! had is dropped, the rest is delivered; what neither has got is found missing like anything that
//! is lost on its way, and fetched or reported.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use thiserror::Error;
use tokio::{sync::oneshot, time::timeout};

use super::{
    local::{LocalGiving, LocalTaking},
    process::Process,
    pubsub::moving::{Order, Place},
};
use crate::{
    broker::{
        Reach,
        history::PartBounds,
        record::{BrokerPart, ChannelShards, HearingRecord, PlaceRecord, TakeError},
    },
    channel::ChannelName,
    clock::Millis,
    limits::HANDOVER_CHUNK_ITEMS_MAX,
};

/// A shard of the old process does not answer: its clients' places are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a shard does not say how far it has heard from Redis")]
pub struct NotLevel;

/// Redis is not reached, or not all channels are subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotSubscribed {
    /// Some connection cannot be made.
    #[error("Redis is not reached, which the old process reaches")]
    NotReached,
    /// Some channel is not confirmed.
    #[error("Redis has not confirmed all subscriptions in time")]
    NotConfirmed,
}

/// The part of a process that it gives away.
#[derive(Debug)]
pub(in crate::broker) struct RedisGiving {
    local: LocalGiving,
    told: HashSet<(ChannelName, usize)>,
    /// The rest of a round.
    round: Option<VecDeque<ChannelShards>>,
    places: Vec<Place>,
}

/// The part of another process that it has given.
#[derive(Debug)]
pub(in crate::broker) struct RedisTaking {
    local: LocalTaking,
    /// How the other process hears.
    hearing: HearingRecord,
    /// Channels were named since the last ones were found subscribed.
    has_new: bool,
    places: Vec<Place>,
}

/// A process whose subscribers let nothing through: dropped, they do again.
#[derive(Debug)]
pub(in crate::broker) struct HaltedProcess(Arc<Process>);

impl Drop for HaltedProcess {
    fn drop(&mut self) {
        self.0.order_all(|| Order::Open);
    }
}

impl Process {
    /// Begins to hand over.
    pub(in crate::broker) fn give(&self) -> RedisGiving {
        RedisGiving {
            local: LocalGiving::new(PartBounds::default(), self.clock.now()),
            told: HashSet::new(),
            round: None,
            places: Vec::new(),
        }
    }

    /// The next part of a round; None at its end.
    pub(in crate::broker) fn next_part(&self, giving: &mut RedisGiving) -> Option<BrokerPart> {
        giving.local.next(&self.local.lock().state, self.clock.now())
    }

    /// All parts that are left.
    pub(in crate::broker) fn last_parts(&self, giving: RedisGiving) -> Vec<BrokerPart> {
        let clock_ahead_ms = self.health.clock_ahead_ms();
        let now = self.clock.now();
        let empty = giving.local.empty(now);
        let mut parts = places_parts(giving.places, &empty);
        parts.extend(giving.local.finish(&self.local.lock().state, clock_ahead_ms, now));
        parts
    }

    /// The next channels of a round, of those that were not told before; None at its end.
    pub(in crate::broker) async fn next_channels(
        &self,
        giving: &mut RedisGiving,
    ) -> Option<BrokerPart> {
        if giving.round.is_none() {
            let is_first = giving.told.is_empty();
            let round = self.new_channels(&mut giving.told).await;
            if round.is_empty() && !is_first {
                return None;
            }
            giving.round = Some(round);
        } else if giving.round.as_ref().is_some_and(VecDeque::is_empty) {
            giving.round = None;
            return None;
        }
        let round = giving.round.as_mut()?;
        let some = round.len().min(HANDOVER_CHUNK_ITEMS_MAX);
        let wanted = round.drain(..some).collect();
        let is_reached = self.health.reach() == Reach::Up;
        let hearing = Some(HearingRecord { is_reached, shards: self.sinks.len() });
        Some(BrokerPart { wanted, hearing, ..giving.local.empty(self.clock.now()) })
    }

    /// The channels with clients that are not among `told`, which has them then.
    async fn new_channels(
        &self,
        told: &mut HashSet<(ChannelName, usize)>,
    ) -> VecDeque<ChannelShards> {
        let mut all: HashMap<ChannelName, Vec<usize>> = HashMap::new();
        match &self.shared_subscriber {
            Some(shared) => all.extend(shared.hearers()),
            None => {
                let lists = self.ask_all(Order::List);
                for (shard, list) in join_all(lists).await.into_iter().enumerate() {
                    // A shard that ends has none.
                    for channel in list.unwrap_or_default() {
                        all.entry(channel).or_default().push(shard);
                    }
                }
            }
        }
        let mut new = VecDeque::new();
        for (channel, mut shards) in all {
            shards.retain(|&shard| told.insert((channel.clone(), shard)));
            if !shards.is_empty() {
                new.push_back(ChannelShards { channel, shards });
            }
        }
        new
    }

    /// See [`crate::broker::BrokerGiving::level`].
    pub(in crate::broker) async fn level(
        self: &Arc<Self>,
        giving: &mut RedisGiving,
        within: Duration,
    ) -> Result<HaltedProcess, NotLevel> {
        let halted = HaltedProcess(self.clone());
        let half = within / 2;
        let halts = self.ask_all(|answer| Order::Halt(half, answer));
        let halts = timeout(within, join_all(halts)).await.map_err(|_| NotLevel)?;
        let halts: Result<Vec<Vec<Place>>, _> = halts.into_iter().collect();
        let shards = halts.map_err(|_| NotLevel)?;
        let mut furthest: HashMap<&ChannelName, &Place> = HashMap::new();
        for place in shards.iter().flatten() {
            let best = furthest.entry(&place.channel).or_insert(place);
            let is_same = !best.tracker.is_after(&place.tracker);
            if place.tracker.is_after(&best.tracker) || (is_same && best.is_unsure) {
                *best = place;
            }
        }
        let mut levels = Vec::new();
        for (shard, places) in self.subscribing().zip(&shards) {
            let is_behind = |place: &&Place| {
                let is_placed = place.tracker.newest().is_some() || place.is_unsure;
                let furthest = &furthest[&place.channel].tracker;
                is_placed && furthest.newest() != place.tracker.newest()
            };
            let behind: Vec<_> = places.iter().filter(is_behind).collect();
            let goals: Vec<Place> =
                behind.iter().map(|place| furthest[&place.channel].clone()).collect();
            if !goals.is_empty() {
                levels.push(self.orders[shard].ask(|done| Order::Level(goals, half, done)));
            }
        }
        let levels = timeout(within, join_all(levels)).await.map_err(|_| NotLevel)?;
        if levels.iter().any(Result::is_err) {
            return Err(NotLevel);
        }
        giving.places = furthest.into_values().cloned().collect();
        Ok(halted)
    }

    /// Begins to take over: what arrives on channels waits from here on.
    pub(in crate::broker) fn take_over(&self) -> RedisTaking {
        self.order_all(|| Order::AwaitPlaces);
        let local = LocalTaking::new(self.local.lock().state.empty_like());
        let hearing = HearingRecord { is_reached: false, shards: self.sinks.len() };
        RedisTaking { local, hearing, has_new: true, places: Vec::new() }
    }

    /// The next part. Channels that are named in it are subscribed to.
    ///
    /// # Errors
    /// When it is none of a process with Redis; then nothing can be made of the rest.
    pub(in crate::broker) fn put(
        &self,
        taking: &mut RedisTaking,
        mut part: BrokerPart,
        now: Millis,
    ) -> Result<(), TakeError> {
        if let Some(hearing) = part.hearing {
            (taking.hearing, taking.has_new) = (hearing, true);
        }
        taking.places.extend(std::mem::take(&mut part.places).into_iter().map(Place::from));
        let mut expected: HashMap<usize, Vec<ChannelName>> = HashMap::new();
        for ChannelShards { channel, shards } in std::mem::take(&mut part.wanted) {
            for shard in self.subscribers_after(&shards, taking.hearing.shards) {
                expected.entry(shard).or_default().push(channel.clone());
            }
        }
        for (shard, channels) in expected {
            self.orders[shard].give(Order::Expect(channels));
        }
        taking.local.put(part, now)
    }

    /// See [`crate::broker::BrokerTaking::subscribed`].
    pub(in crate::broker) async fn subscribed(
        &self,
        taking: &mut RedisTaking,
        within: Duration,
    ) -> Result<(), NotSubscribed> {
        if !taking.hearing.is_reached || !taking.has_new {
            return Ok(());
        }
        let settled = async {
            self.health.up().await;
            self.settled().await
        };
        match timeout(within, settled).await {
            Ok(true) => {
                taking.has_new = false;
                Ok(())
            }
            _ if self.health.reach() != Reach::Up => Err(NotSubscribed::NotReached),
            _ => Err(NotSubscribed::NotConfirmed),
        }
    }

    /// Waits until all that is wanted is subscribed to; false if a shard ends.
    pub(super) async fn settled(&self) -> bool {
        join_all(self.ask_all(Order::Settle)).await.iter().all(Result::is_ok)
    }

    /// Goes on with what was given instead of its own.
    ///
    /// # Errors
    /// When the last part is missing.
    pub(in crate::broker) fn taken_over(&self, taking: RedisTaking) -> Result<(), TakeError> {
        let (state, clock_ahead_ms) = taking.local.finish()?;
        *self.local.lock().state = state;
        self.health.set_clock_ahead_ms(clock_ahead_ms);
        let places = Arc::new(taking.places);
        self.order_all(|| Order::Adopt(places.clone()));
        Ok(())
    }

    /// The shards that have subscribers.
    fn subscribing(&self) -> impl Iterator<Item = usize> {
        (0..self.sinks.len()).filter(|&shard| self.settings.subscribes(shard))
    }

    /// The shards that may hear for the clients of these `shards` of another process, which has
    /// `count` in all: the same ones, or, if there are more or fewer here, any.
    fn subscribers_after(&self, shards: &[usize], count: usize) -> Vec<usize> {
        let is_one = |shard: &usize| {
            self.settings.is_shared || count != self.sinks.len() || shards.contains(shard)
        };
        self.subscribing().filter(is_one).collect()
    }

    fn order_all(&self, order: impl Fn() -> Order) {
        self.subscribing().for_each(|shard| self.orders[shard].give(order()));
    }

    fn ask_all<T>(&self, order: impl Fn(oneshot::Sender<T>) -> Order) -> Vec<oneshot::Receiver<T>> {
        self.subscribing().map(|shard| self.orders[shard].ask(&order)).collect()
    }
}

fn places_parts(places: Vec<Place>, empty: &BrokerPart) -> Vec<BrokerPart> {
    let mut records: VecDeque<PlaceRecord> = places.into_iter().map(PlaceRecord::from).collect();
    let mut parts = Vec::new();
    while !records.is_empty() {
        let some = records.len().min(HANDOVER_CHUNK_ITEMS_MAX);
        parts.push(BrokerPart { places: records.drain(..some).collect(), ..empty.clone() });
    }
    parts
}

impl From<Place> for PlaceRecord {
    fn from(Place { channel, tracker, is_unsure }: Place) -> Self {
        Self { channel, tracker, is_unsure }
    }
}

impl From<PlaceRecord> for Place {
    fn from(PlaceRecord { channel, tracker, is_unsure }: PlaceRecord) -> Self {
        Self { channel, tracker, is_unsure }
    }
}
