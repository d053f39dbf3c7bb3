//! The histories of a process on their way to another one, while this one goes on: pure.
//!
//! Channels are given in the order of their last use, a bounded part at a time. A channel that is
//! used later comes later again, with the messages that it got since: so the walk comes to an end
//! that moves on with what is published, nothing has to be noted when that happens, and a walk that
//! is given up leaves nothing behind. The end ([`Histories::floors`]) tells
//! which messages went meanwhile.

use std::{collections::HashMap, time::Duration};

use super::Histories;
use crate::{
    broker::{PublisherClass, history::ring::HistoryMessage},
    channel::ChannelName,
    clock::Millis,
    limits::{HANDOVER_CHUNK_BYTES_MAX, HANDOVER_CHUNK_ITEMS_MAX, HANDOVER_ITEM_COST_BYTES},
    position::Position,
};

/// Channels that are looked at together: so many of each class are sorted for it.
const CHANNELS_AT_A_TIME: usize = 64;

/// The size of what is collected in one go, while publishers wait.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct PartBounds {
    /// Channels, messages, keys.
    pub(in crate::broker) items_max: usize,
    /// Bytes in memory; one message may be more.
    pub(in crate::broker) bytes_max: usize,
}

impl Default for PartBounds {
    fn default() -> Self {
        Self { items_max: HANDOVER_CHUNK_ITEMS_MAX, bytes_max: HANDOVER_CHUNK_BYTES_MAX }
    }
}

/// A part of a channel's history: messages that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct ChannelPart {
    pub(in crate::broker) channel: ChannelName,
    pub(in crate::broker) publisher: PublisherClass,
    /// Tells the channel from others, also from those of the same name before it.
    pub(in crate::broker) id: u64,
    /// Grows with each use of any channel.
    pub(in crate::broker) used: u64,
    /// The time since its newest message; at most as long as messages are kept.
    pub(in crate::broker) age: Duration,
    /// The messages are those after this one; earlier ones that were not given are not there.
    pub(in crate::broker) after: Position,
    pub(in crate::broker) messages: Vec<HistoryMessage>,
}

/// How far the histories of a process were given.
#[derive(Debug, Default)]
pub(in crate::broker) struct HistoriesWalk {
    /// All channels used before were given, but what they got since.
    used: u64,
    /// The offsets up to which channels were given, by their ids.
    given: HashMap<u64, u64>,
    /// All was given at that moment.
    is_at_end: bool,
}

/// The room that is left for the next parts.
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, items: usize, bytes: usize) {
        self.items = self.items.saturating_sub(items);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_left(&self) -> bool {
        self.items > 0 && self.bytes > 0
    }
}

impl HistoriesWalk {
    /// The next parts of `histories`, within `bounds`; none if all was given.
    pub(in crate::broker) fn next(
        &mut self,
        histories: &Histories,
        bounds: PartBounds,
        now: Millis,
    ) -> Vec<ChannelPart> {
        let mut room = Room { items: bounds.items_max, bytes: bounds.bytes_max };
        // Two at least: the one looked at last is among them.
        let channels_max = bounds.items_max.clamp(2, CHANNELS_AT_A_TIME);
        let mut parts = Vec::new();
        self.is_at_end = false;
        loop {
            let names = histories.eviction_order.used_since(self.used, channels_max);
            for name in &names {
                if !room.is_left() {
                    return parts;
                }
                parts.extend(self.part(histories, name, &mut room, now));
            }
            if names.len() < channels_max {
                self.is_at_end = room.is_left();
                return parts;
            }
        }
    }

    /// Whether there was nothing more to give when the last parts were taken.
    pub(in crate::broker) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// The next part of a channel; None if all of it was given.
    fn part(
        &mut self,
        histories: &Histories,
        name: &ChannelName,
        room: &mut Room,
        now: Millis,
    ) -> Option<ChannelPart> {
        let channel = histories.channels.get(name)?;
        self.used = channel.used;
        let Position { epoch, offset: last } = channel.ring.position();
        let given = self.given.get(&channel.id).copied();
        if given == Some(last) {
            return None;
        }
        let after = channel.ring.floor().max(given.unwrap_or(0));
        room.take(1, HANDOVER_ITEM_COST_BYTES);
        let to = last.min(after.saturating_add(room.items.max(1) as u64));
        let messages = channel.ring.piece(after, to, room.bytes).unwrap_or_default();
        room.take(messages.len(), messages.iter().map(HistoryMessage::cost).sum());
        let to = after + messages.len() as u64;
        self.given.insert(channel.id, to);
        if to < last {
            // The rest comes next, before other channels.
            room.items = 0;
        }
        Some(ChannelPart {
            channel: name.clone(),
            publisher: channel.publisher,
            id: channel.id,
            used: channel.used,
            age: histories.settings.ttl.saturating_sub(channel.until - now),
            after: Position { epoch, offset: after },
            messages,
        })
    }
}

impl Histories {
    /// The ids of all channels, and the offset of each after which messages can be read.
    pub(in crate::broker) fn floors(&self) -> Vec<(u64, u64)> {
        self.channels.values().map(|channel| (channel.id, channel.ring.floor())).collect()
    }

    /// The number of uses so far.
    pub(in crate::broker) fn uses(&self) -> u64 {
        self.uses
    }
}
