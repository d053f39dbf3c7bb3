//! A handle's way to Redis and back, seen as a whole.
//!
//! Lanes and the subscriber tell it what happens to them; it tells the process's health when
//! this shard's way is whole: subscribed to everything wanted, and through every lane a
//! heartbeat came back since. It does no IO of its own.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use super::{Process, lane::Lane};
use crate::{
    broker::{Place, Shared},
    clock::{self, Millis},
    limits::HEARTBEAT_SILENCE_MAX,
};

/// The parts of one handle that know of each other.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) lanes: Vec<Rc<Lane>>,
    shard: Option<usize>,
    heartbeat_channel: Option<String>,
    subscribed: Cell<bool>,
    /// When a heartbeat last came back through each lane, since everything is subscribed.
    beats: RefCell<Vec<Option<Millis>>>,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, place: Place) -> Self {
        let pool = shared.redis().pool;
        let shard = match place {
            Place::Shard(shard) => Some(shard),
            Place::Control => None,
        };
        Self {
            lanes: (0..pool).map(|index| Rc::new(Lane::new(index))).collect(),
            heartbeat_channel: shard.map(|shard| shared.redis().names.heartbeat(shard)),
            subscribed: Cell::new(false),
            beats: RefCell::new(vec![None; pool]),
            shard,
            shared,
        }
    }

    pub(super) fn process(&self) -> &Process {
        self.shared.redis()
    }

    /// Where this shard's heartbeats go; None for a handle that only publishes.
    pub(super) fn heartbeat_channel(&self) -> Option<&str> {
        self.heartbeat_channel.as_deref()
    }

    /// Whether everything wanted is subscribed.
    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.get()
    }

    /// A lane has no client (any more).
    pub(super) fn lane_closed(&self, lane: usize) {
        self.beats.borrow_mut()[lane] = None;
        self.broken();
    }

    /// Everything wanted is subscribed: a heartbeat now shows that the link is whole.
    pub(super) fn subscribed(&self) {
        self.subscribed.set(true);
        self.beats.borrow_mut().fill(None);
        for lane in &self.lanes {
            lane.beat_now.notify_one();
        }
    }

    /// The subscriber's connection is gone, or could not be made.
    pub(super) fn unsubscribed(&self) {
        self.subscribed.set(false);
        self.broken();
    }

    fn broken(&self) {
        if let Some(shard) = self.shard {
            self.shared.health_ref().link_broken(shard);
        }
    }

    /// A heartbeat arrived at the subscriber: `LANE SENT`.
    pub(super) fn beat_returned(&self, payload: &[u8]) {
        let Some((lane, sent)) = parse_beat(payload) else { return };
        let now = clock::now();
        let mut beats = self.beats.borrow_mut();
        if !self.subscribed.get() || sent > now || lane >= beats.len() {
            return;
        }
        if self.lanes[lane].is_open() {
            beats[lane] = Some(now);
        }
        let fresh = |returned: &Millis| now - *returned <= HEARTBEAT_SILENCE_MAX;
        if let Some(shard) = self.shard
            && beats.iter().all(|beat| beat.as_ref().is_some_and(fresh))
        {
            self.shared.health_ref().beat_returned(shard, sent, now);
        }
    }
}

fn parse_beat(payload: &[u8]) -> Option<(usize, Millis)> {
    let (lane, sent) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((lane.parse().ok()?, Millis(sent.parse().ok()?)))
}
