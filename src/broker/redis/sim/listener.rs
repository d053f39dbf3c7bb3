//! The messages that a shard receives, and whether they are as promised.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::oneshot;

use super::model::Redis;
use crate::{
    broker::{Announcement, Missed, Publication, Sink},
    channel::ChannelName,
    position::Position,
};

/// A shard's sink: notes all.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    seen: Mutex<Vec<Seen>>,
    /// Messages delivered within the process alone.
    local: Mutex<Vec<String>>,
}

#[derive(Debug)]
enum Seen {
    Message(Position, String),
    Gap(Missed),
}

impl Recorded {
    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often `text` was delivered within the process alone.
    pub(super) fn times_local(&self, text: &str) -> usize {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.iter().filter(|one| *one == text).count()
    }

    /// The offsets of the messages among the records.
    pub(crate) fn offsets(&self) -> Vec<u64> {
        let offset = |seen: Seen| match seen {
            Seen::Message(position, _) => Some(position.offset),
            Seen::Gap(_) => None,
        };
        self.take().into_iter().filter_map(offset).collect()
    }
}

impl Sink for Recorded {
    fn has_room(&self, _bytes: usize) -> bool {
        true
    }

    fn deliver(&self, publication: Publication) {
        let text = String::from_utf8(publication.data.to_vec()).expect("it was published as text");
        match publication.position {
            Some(position) => self.note(Seen::Message(position, text)),
            None => self.local.lock().unwrap_or_else(PoisonError::into_inner).push(text),
        }
    }

    fn gap(&self, _channel: &ChannelName, missed: Missed) {
        self.note(Seen::Gap(missed));
    }

    fn announce(&self, _: Announcement, _: Option<oneshot::Sender<usize>>) {
        unreachable!("nobody announces anything")
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

/// A client that listens on a shard for ever.
#[derive(Debug, Default)]
pub(crate) struct TestListener {
    /// The newest offset that it has, or that was reported missing; None: nothing is known yet.
    pub(crate) at: Option<Position>,
    /// How many messages there were when nobody had published to the channel yet.
    count: usize,
    /// Nothing has come since it was told where it begins: earlier messages may still.
    is_new: bool,
    /// Those are for it, too: it was not told where it begins.
    is_unplaced: bool,
    /// All it has of this history.
    pub(crate) heard: Vec<(Position, String)>,
    pub(crate) gaps: u64,
    /// Those of them that are reported to plain clients, too.
    pub(crate) sure: u64,
    /// All it ever had, by when it was published.
    ever: HashSet<u64>,
    /// All gaps reported to it: epochs, and from where to where.
    told: Vec<(Arc<str>, u64, u64)>,
    /// Texts up to this number are from before it listened.
    pub(crate) since: u64,
    /// Texts up to this number were there when plain clients were closed for the last time.
    closed: u64,
    /// The times that it was led elsewhere.
    elsewhere: HashSet<u64>,
    /// The newest of each epoch.
    ends: HashMap<Arc<str>, u64>,
}

impl TestListener {
    /// A client that comes now.
    pub(crate) fn new(redis: &Redis) -> Self {
        Self { since: redis.newest_text(), ..Self::default() }
    }

    /// Begins after `position`, unless something was there already.
    /// `count`: how many messages there had been when that was asked.
    pub(crate) fn begin(&mut self, position: Position, count: usize) {
        if self.at.is_none() {
            *self = Self {
                ends: HashMap::from([(position.epoch.clone(), position.offset)]),
                at: Some(position),
                count,
                is_new: true,
                since: self.since,
                ..Self::default()
            };
        }
    }

    /// The same for one that is not told so, and gets earlier messages that are still on their way.
    pub(crate) fn begin_unplaced(&mut self, position: Position, count: usize) {
        self.begin(position, count);
        self.is_unplaced = true;
    }

    /// Whether it has the message published at a position, or was told of it, or need not have it.
    pub(crate) fn knows(&self, epoch: &str, offset: u64, text: &str, redis: &Redis) -> bool {
        let is_told = |(told, from, to): &(Arc<str>, u64, u64)| {
            **told == *epoch && (*from..=*to).contains(&offset)
        };
        self.at.is_none()
            || self.has(redis.moment(text))
            || self.told.iter().any(is_told)
            || redis.moment(text) <= self.since
    }

    pub(crate) fn is_elsewhere(&mut self, time: u64) {
        self.elsewhere.insert(time);
    }

    pub(crate) fn was_elsewhere(&self, time: u64) -> bool {
        self.elsewhere.contains(&time)
    }

    pub(crate) fn has(&self, text: u64) -> bool {
        self.ever.contains(&text)
    }

    /// Whether a plain client has no business with a text that it does not have.
    pub(crate) fn need_not_have(&self, text: u64) -> bool {
        self.at.is_none() || text <= self.since.max(self.closed)
    }

    /// Processes the records: each message must follow the one before, or a gap between the two was
    /// reported. `failed`: Redis could not be asked for everything.
    pub(crate) fn hear(&mut self, recorded: &Recorded, redis: &Redis, failed: bool) {
        for seen in recorded.take() {
            match seen {
                Seen::Message(position, text) => self.message(position, text, redis),
                Seen::Gap(missed) => self.gap(&missed, redis, failed),
            }
        }
    }

    fn message(&mut self, position: Position, text: String, redis: &Redis) {
        let Position { epoch, offset } = &position;
        assert!(redis.has_said(epoch, *offset, &text), "{text} was never published at {position}");
        if let Some(at) = &self.at {
            let is_same = at.is_comparable(&position);
            let is_early = self.is_new && is_same && *offset <= at.offset;
            if is_early && !self.is_unplaced {
                return;
            }
            let is_first = at.is_empty() && *offset == 1;
            let is_next = is_same && *offset == at.offset + 1;
            assert!(is_first || is_next || is_early, "{position} after {at}");
            if is_first {
                assert!(
                    redis.goes_on_with(epoch, self.count),
                    "something before {position} is lost"
                );
            }
        }
        if self.at.is_none() {
            // Its beginning was unknown.
            self.since = self.since.max(redis.moment(&text) - 1);
        }
        self.is_new = false;
        self.at = Some(position.clone());
        self.ends.insert(position.epoch.clone(), position.offset);
        self.ever.insert(redis.moment(&text));
        self.heard.push((position, text));
    }

    fn gap(&mut self, missed: &Missed, redis: &Redis, failed: bool) {
        let epoch = missed.epoch.clone().expect("its epoch is told");
        let to = missed.to.expect("its end is told");
        if let Some(at) = &self.at {
            // An unchanged channel need not be reported.
            let end =
                self.ends.get(&epoch).filter(|end| *at.epoch != *epoch && missed.from > **end);
            let from = match end {
                // It had left that one, and comes back to it.
                Some(end) if missed.from > 1 => end + 1,
                _ if *at.epoch == *epoch => at.offset + 1,
                _ => 1,
            };
            let may_be_old = self.is_new && *at.epoch == *epoch && missed.from <= from;
            assert!(missed.from == from || may_be_old, "{missed:?} was told after {at}");
            if *at.epoch != *epoch {
                // It knows that another history has begun.
                self.heard.clear();
            }
        }
        let is_there = missed.from <= to && redis.certainly_has(&epoch, to);
        assert!(failed || !is_there, "{missed:?} was told, and is there");
        self.told.push((epoch.clone(), missed.from, to));
        self.gaps += 1;
        if missed.is_certain() {
            self.sure += 1;
            self.closed = redis.newest_text();
        }
        self.ends.insert(epoch.clone(), to);
        self.count = redis.mark.get();
        self.is_new = false;
        self.at = Some(Position { epoch, offset: to });
    }
}
