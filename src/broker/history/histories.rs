//! The channels of a process, and the messages kept of each: the least needed are evicted first.
//!
//! Bounded per channel (messages, bytes, time) and as a whole (bytes, channels).

mod giving;
pub(super) mod merging;
mod taking;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

pub(in crate::broker) use self::{
    giving::{ChannelPart, HistoriesWalk, PartBounds},
    taking::{HistoriesEnd, StagedHistories},
};

use super::{
    eviction_order::{EvictionKey, EvictionOrder},
    ring::{Bounds, HistoryMessage, Ring},
};
use crate::{
    broker::{Publication, PublisherClass},
    channel::ChannelName,
    clock::Millis,
    position::{Position, is_same_epoch},
    telemetry::seldom,
};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySettings {
    /// Messages of one channel; 0: no history.
    pub messages_max: usize,
    /// Bytes of one channel, payloads and what keeping a message costs besides.
    pub bytes_max: usize,
    /// Bytes of all channels of this process; past it the largest holder loses first.
    pub total_bytes_max: usize,
    /// A channel's history is kept this long after its last message.
    pub ttl: Duration,
}

impl HistorySettings {
    /// Whether anything is kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.messages_max > 0 && self.bytes_max > 0 && !self.ttl.is_zero()
    }

    fn bounds(&self) -> Bounds {
        let messages_max = if self.is_on() { self.messages_max } else { 0 };
        Bounds { messages_max, bytes_max: self.bytes_max.min(self.total_bytes_max) }
    }
}

/// The evictions for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Messages of channels that are kept.
    pub messages: u64,
    /// Channels, with all of their messages.
    pub channels: u64,
}

/// The channels of a process.
///
/// # Invariants
/// - `channels` and `eviction_order` hold the same channels, at most `channels_max`.
/// - `due` holds those that keep messages (others may be among them), each under a time that has
///   not come, or at which none of its messages is out of date.
/// - `bytes` is the sum over all channels.
#[derive(Debug)]
pub(in crate::broker) struct Histories {
    settings: HistorySettings,
    channels: HashMap<ChannelName, Channel>,
    eviction_order: EvictionOrder,
    due: BTreeMap<(Millis, u64), ChannelName>,
    uses: u64,
    bytes: usize,
    channels_max: usize,
    evicted: Evicted,
}

#[derive(Debug)]
struct Channel {
    ring: Ring,
    publisher: PublisherClass,
    id: u64,
    used: u64,
    /// Its messages are kept until then, unless it is used again.
    until: Millis,
    /// Its place in `due`.
    due: Option<Millis>,
}

impl Channel {
    fn eviction_key(&self) -> EvictionKey {
        let Self { ring, publisher, id, used, .. } = self;
        EvictionKey {
            publisher: *publisher,
            id: *id,
            used: *used,
            messages: ring.len(),
            bytes: ring.bytes(),
        }
    }
}

impl Histories {
    pub(in crate::broker) fn new(settings: HistorySettings, channels_max: usize) -> Self {
        Self {
            settings,
            channels: HashMap::new(),
            eviction_order: EvictionOrder::default(),
            due: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            channels_max,
            evicted: Evicted::default(),
        }
    }

    /// A history went elsewhere, since its publisher has too much in Redis.
    pub(in crate::broker) fn count_evicted(&mut self) {
        self.evicted.channels += 1;
    }

    /// How much is kept.
    pub(in crate::broker) fn settings(&self) -> &HistorySettings {
        &self.settings
    }

    /// The evictions for want of room.
    pub(in crate::broker) fn evicted(&self) -> Evicted {
        self.evicted
    }

    /// The messages kept of `channel`.
    pub(in crate::broker) fn get(&self, channel: &ChannelName) -> Option<&Ring> {
        self.channels.get(channel).map(|channel| &channel.ring)
    }

    /// Begins to keep `channel`, whose newest message is at `position`, on behalf of `publisher`.
    /// Messages kept of it before are forgotten.
    pub(in crate::broker) fn begin(
        &mut self,
        channel: &ChannelName,
        publisher: PublisherClass,
        position: Position,
        now: Millis,
    ) {
        self.begin_at(channel, publisher, position, 0, now);
    }

    /// The same where the newest message has a nonce.
    fn begin_at(
        &mut self,
        channel: &ChannelName,
        publisher: PublisherClass,
        position: Position,
        nonce: u64,
        now: Millis,
    ) {
        let before = self.get(channel);
        let replaced = before.map(|ring| ring.replaced_by(&position.epoch)).unwrap_or_default();
        self.forget(channel);
        self.make_room();
        self.uses += 1;
        let ring = Ring::begin(position, nonce, replaced);
        let (id, used) = (self.uses, self.uses);
        let until = now + self.settings.ttl;
        let begun = Channel { ring, publisher, id, used, until, due: None };
        self.eviction_order.insert(&begun.eviction_key(), channel.clone());
        self.channels.insert(channel.clone(), begun);
    }

    /// Forgets a channel if there is no room for another one.
    pub(in crate::broker) fn make_room(&mut self) {
        if self.channels.len() >= self.channels_max
            && let Some(name) = self.eviction_order.first_by_number().cloned()
        {
            self.forget(&name);
            self.evicted.channels += 1;
            seldom!(warn, "too many channels: the history of one is forgotten", channel = %name);
        }
    }

    /// Whether messages are kept at all.
    pub(in crate::broker) fn are_kept(&self) -> bool {
        self.settings.is_on()
    }

    /// Forgets `channel`.
    pub(in crate::broker) fn forget(&mut self, channel: &ChannelName) {
        if let Some(gone) = self.channels.remove(channel) {
            self.eviction_order.remove(&gone.eviction_key());
            if let Some(due) = gone.due {
                self.due.remove(&(due, gone.id));
            }
            self.bytes -= gone.ring.bytes();
        }
    }

    /// The next message of `channel`, by `publisher`; its position. None if the channel was not
    /// begun.
    pub(in crate::broker) fn push(
        &mut self,
        channel: &ChannelName,
        publisher: PublisherClass,
        kept: HistoryMessage,
        now: Millis,
    ) -> Option<Position> {
        let bounds = self.settings.bounds();
        let position = self.edit(channel, publisher, now, |ring| {
            ring.push(kept, bounds);
            ring.position()
        })?;
        self.expire(now);
        Some(position)
    }

    /// The messages of `channel` after `after`, up to the offset `to`: as many as fit into
    /// `bytes_max`, one at least. None if the first of them is not there (any more).
    pub(in crate::broker) fn piece(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        let ring = self.get(channel)?;
        if !is_same_epoch(&ring.position().epoch, &after.epoch) {
            return None;
        }
        let kept = ring.piece(after.offset, to, bytes_max)?;
        let publication = |(offset, HistoryMessage { kind, data, .. })| Publication {
            channel: channel.clone(),
            kind,
            data,
            position: Some(Position { epoch: after.epoch.clone(), offset }),
        };
        Some((after.offset + 1..).zip(kept).map(publication).collect())
    }

    /// Changes a channel, which thereby becomes the one used last, and keeps all channels within
    /// their bounds.
    fn edit<R>(
        &mut self,
        channel: &ChannelName,
        publisher: PublisherClass,
        now: Millis,
        change: impl FnOnce(&mut Ring) -> R,
    ) -> Option<R> {
        let (mut uses, until) = (self.uses, now + self.settings.ttl);
        let changed = self.change(channel, |edited| {
            if edited.used < uses {
                // Seldom for a channel that is often published to.
                uses += 1;
                edited.used = uses;
            }
            // The first use of a name gives no hold over the channels of others.
            edited.publisher = edited.publisher.min(publisher);
            edited.until = edited.until.max(until);
            change(&mut edited.ring)
        })?;
        self.uses = uses;
        Some(changed)
    }

    /// Changes a channel, and keeps all channels within their bounds.
    fn change<R>(
        &mut self,
        channel: &ChannelName,
        change: impl FnOnce(&mut Channel) -> R,
    ) -> Option<R> {
        let edited = self.channels.get_mut(channel)?;
        let before = edited.eviction_key();
        let changed = change(edited);
        let after = edited.eviction_key();
        if after.messages > 0 && edited.due.is_none() {
            edited.due = Some(edited.until);
            self.due.insert((edited.until, edited.id), channel.clone());
        }
        self.eviction_order.change(&before, &after);
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.make_bytes();
        Some(changed)
    }

    /// Forgets messages until the others have room.
    fn make_bytes(&mut self) {
        if self.bytes > self.settings.total_bytes_max {
            while self.bytes > self.settings.total_bytes_max && self.evict_one() {}
            seldom!(warn, "the histories are full: the largest gives its oldest messages");
        }
    }

    /// Forgets the oldest message of the largest holder.
    fn evict_one(&mut self) -> bool {
        let largest = self.eviction_order.first_by_bytes();
        let Some(channel) = largest.and_then(|name| self.channels.get_mut(name)) else {
            return false;
        };
        let before = channel.eviction_key();
        channel.ring.evict_oldest();
        let after = channel.eviction_key();
        self.eviction_order.change(&before, &after);
        self.bytes = self.bytes + after.bytes - before.bytes;
        self.evicted.messages += 1;
        true
    }

    /// Forgets the messages of channels without a recent publication.
    pub(in crate::broker) fn expire(&mut self, now: Millis) {
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), name) = first.remove_entry();
            let channel = self.channels.get_mut(&name).expect("it is forgotten in both");
            let due = channel.until;
            if due > now {
                // It was used since.
                channel.due = Some(due);
                self.due.insert((due, id), name);
                continue;
            }
            channel.due = None;
            let before = channel.eviction_key();
            channel.ring.clear();
            self.eviction_order.change(&before, &channel.eviction_key());
            self.bytes -= before.bytes;
        }
    }

    /// Forgets `channel` as if there had been no room for it.
    #[cfg(test)]
    pub(in crate::broker) fn evict(&mut self, channel: &ChannelName) {
        self.evicted.channels += u64::from(self.channels.contains_key(channel));
        self.forget(channel);
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(in crate::broker) fn check(&self) {
        assert!(self.channels.len() <= self.channels_max);
        let keys = self.channels.iter().map(|(name, channel)| (name, channel.eviction_key()));
        let keys: Vec<_> = keys.collect();
        self.eviction_order.check(&keys);
        let due = self.channels.iter().filter_map(|(name, channel)| {
            assert!(channel.due.is_some() || channel.ring.bytes() == 0, "it is out of date once");
            Some(((channel.due?, channel.id), name.clone()))
        });
        assert_eq!(due.collect::<BTreeMap<_, _>>(), self.due);
        let bytes: usize = keys.iter().map(|(_, key)| key.bytes).sum();
        assert_eq!(self.bytes, bytes);
        assert!(bytes <= self.settings.total_bytes_max);
    }
}

#[cfg(test)]
mod tests;
