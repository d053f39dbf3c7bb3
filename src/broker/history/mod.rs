//! What was published lately, by channel, within bounds: the memory that resumes are served from.
//!
//! The embedded broker's sequencer is one of these; with Redis a process keeps one, fed by its
//! subscribers and filled from Redis' streams. Bounded per channel (messages, bytes, time) and as
//! a whole (bytes, channels). Pure: time comes in as a value, and nothing here waits.

mod feed;
mod ring;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

pub(super) use feed::{Fed, Reading};
use ring::Bounds;
pub(super) use ring::{Kept, Ring, Stamped};

use super::Publication;
use crate::{
    channel::ChannelName,
    clock::Millis,
    position::{Position, is_same_epoch},
};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Messages of one channel; 0: no history.
    pub messages_max: usize,
    /// Bytes of one channel, payloads and what keeping a message costs besides.
    pub bytes_max: usize,
    /// Bytes of all channels of this process; past it the channel that was published to longest
    /// ago is forgotten first.
    pub total_bytes_max: usize,
    /// A channel's history is kept this long after its last message.
    pub ttl: Duration,
}

impl Settings {
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

/// The channels of a process.
///
/// # Invariants
/// - `channels` and `by_use` hold the same channels, at most `channels_max`.
/// - Channels whose last use is at most `emptied` keep no message.
/// - `bytes` is the sum over all channels.
#[derive(Debug)]
pub(super) struct Histories {
    settings: Settings,
    channels: HashMap<ChannelName, Channel>,
    by_use: BTreeMap<u64, ChannelName>,
    uses: u64,
    emptied: u64,
    bytes: usize,
    channels_max: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Channel {
    ring: Ring,
    used: u64,
    used_at: Millis,
}

impl Histories {
    pub(super) fn new(settings: Settings, channels_max: usize) -> Self {
        Self {
            settings,
            channels: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            emptied: 0,
            bytes: 0,
            channels_max,
            forgotten: 0,
        }
    }

    /// Channels that were forgotten altogether, because there were too many.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What is kept of `channel`.
    pub(super) fn get(&self, channel: &ChannelName) -> Option<&Ring> {
        self.channels.get(channel).map(|channel| &channel.ring)
    }

    /// Begins to keep `channel`, whose newest message is at `position`. What was kept of it is
    /// forgotten.
    pub(super) fn begin(&mut self, channel: &ChannelName, position: Position, now: Millis) {
        self.begin_at(channel, position, 0, now);
    }

    /// The same where the newest message has a nonce.
    fn begin_at(&mut self, channel: &ChannelName, position: Position, nonce: u64, now: Millis) {
        let before = self.get(channel);
        let replaced = before.map(|ring| ring.replaced_by(&position.epoch)).unwrap_or_default();
        self.forget(channel);
        self.make_room();
        self.uses += 1;
        self.by_use.insert(self.uses, channel.clone());
        let ring = Ring::begin(position, nonce, replaced);
        let begun = Channel { ring, used: self.uses, used_at: now };
        self.channels.insert(channel.clone(), begun);
    }

    /// Forgets the channel used longest ago if there is no room for another one.
    pub(super) fn make_room(&mut self) {
        if self.channels.len() >= self.channels_max
            && let Some((_, oldest)) = self.by_use.pop_first()
            && let Some(gone) = self.channels.remove(&oldest)
        {
            self.bytes -= gone.ring.bytes();
            self.forgotten += 1;
        }
    }

    /// Forgets `channel`.
    pub(super) fn forget(&mut self, channel: &ChannelName) {
        if let Some(gone) = self.channels.remove(channel) {
            self.by_use.remove(&gone.used);
            self.bytes -= gone.ring.bytes();
        }
    }

    /// The next message of `channel`; its position. None if the channel was not begun.
    pub(super) fn push(
        &mut self,
        channel: &ChannelName,
        kept: Kept,
        now: Millis,
    ) -> Option<Position> {
        let bounds = self.settings.bounds();
        let position = self.edit(channel, now, |ring| {
            ring.push(kept, bounds);
            ring.position()
        })?;
        self.expire(now);
        Some(position)
    }

    /// The messages of `channel` after `after`, up to the offset `to`: as many as fit into
    /// `bytes_max`, one at least. None if the first of them is not there (any more).
    pub(super) fn piece(
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
        let publication = |(offset, Kept { kind, data, .. })| Publication {
            channel: channel.clone(),
            kind,
            data,
            position: Some(Position { epoch: after.epoch.clone(), offset }),
        };
        Some((after.offset + 1..).zip(kept).map(publication).collect())
    }

    /// Changes a channel, which thereby becomes the one used last, and holds all of them to what
    /// they may take.
    fn edit<R>(
        &mut self,
        channel: &ChannelName,
        now: Millis,
        change: impl FnOnce(&mut Ring) -> R,
    ) -> Option<R> {
        let edited = self.channels.get_mut(channel)?;
        if edited.used < self.uses {
            // Seldom for whoever is published to often.
            self.uses += 1;
            let name = self.by_use.remove(&edited.used).expect("both hold the same channels");
            self.by_use.insert(self.uses, name);
            edited.used = self.uses;
        }
        edited.used_at = edited.used_at.max(now);
        // It may keep something again.
        self.emptied = self.emptied.min(edited.used - 1);
        let before = edited.ring.bytes();
        let changed = change(&mut edited.ring);
        self.bytes = self.bytes + edited.ring.bytes() - before;
        while self.bytes > self.settings.total_bytes_max && self.drop_some() {}
        Some(changed)
    }

    /// Forgets the messages of the channel used longest ago, or the oldest of the only one.
    fn drop_some(&mut self) -> bool {
        let Some((&used, name)) = self.by_use.range(self.emptied + 1..).next() else {
            return false;
        };
        let channel = self.channels.get_mut(name).expect("both hold the same channels");
        let before = channel.ring.bytes();
        if used == self.uses {
            if !channel.ring.drop_oldest() {
                return false;
            }
        } else {
            channel.ring.clear();
            self.emptied = used;
        }
        self.bytes = self.bytes + channel.ring.bytes() - before;
        true
    }

    /// Forgets the messages of channels that nobody has published to for long.
    pub(super) fn expire(&mut self, now: Millis) {
        while let Some((&used, name)) = self.by_use.range(self.emptied + 1..).next() {
            let channel = self.channels.get_mut(name).expect("both hold the same channels");
            if now - channel.used_at < self.settings.ttl {
                return;
            }
            self.bytes -= channel.ring.bytes();
            channel.ring.clear();
            self.emptied = used;
        }
    }

    /// Forgets `channel` as if there had been no room for it.
    #[cfg(test)]
    pub(super) fn lose(&mut self, channel: &ChannelName) {
        self.forgotten += u64::from(self.channels.contains_key(channel));
        self.forget(channel);
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    fn check(&self) {
        assert_eq!(self.channels.len(), self.by_use.len());
        assert!(self.channels.len() <= self.channels_max);
        let mut bytes = 0;
        for (used, name) in &self.by_use {
            let channel = &self.channels[name];
            assert_eq!(channel.used, *used);
            assert!(channel.ring.bytes() == 0 || *used > self.emptied, "known to be filled");
            bytes += channel.ring.bytes();
        }
        assert_eq!(self.bytes, bytes);
        assert!(bytes <= self.settings.total_bytes_max);
    }
}

#[cfg(test)]
mod tests;
