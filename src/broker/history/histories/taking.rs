//! The histories of another process, as this one takes them over, part by part: pure.
//!
//! Until all is there more is held than this process will keep, since the other one tells only at
//! the end which messages and channels it has evicted meanwhile. Then the bounds of this process
//! count, which may be narrower.

use std::collections::{HashMap, HashSet};

use super::{Channel, ChannelPart, Evicted, Histories, HistorySettings};
use crate::{
    broker::{PublisherClass, history::ring::Ring},
    channel::ChannelName,
    clock::Millis,
    limits::{HANDOVER_SLACK_BYTES, HANDOVER_SLACK_CHANNELS},
    position::{Position, is_same_epoch},
};

/// The histories as far as they are there.
#[derive(Debug)]
pub(in crate::broker) struct StagedHistories {
    histories: Histories,
    settings: HistorySettings,
    channels_max: usize,
    names: HashMap<u64, ChannelName>,
    /// The ids of the channels that the other process knows at the end.
    alive: HashSet<u64>,
}

/// The numbers of all channels together, at the end.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct HistoriesEnd {
    pub(in crate::broker) uses: u64,
    pub(in crate::broker) evicted: Evicted,
}

impl StagedHistories {
    /// Nothing is there. `settings` and `channels_max` are those of this process.
    pub(in crate::broker) fn new(settings: HistorySettings, channels_max: usize) -> Self {
        let total_bytes_max = settings.total_bytes_max.saturating_add(HANDOVER_SLACK_BYTES);
        let staging_max = channels_max.saturating_add(HANDOVER_SLACK_CHANNELS);
        Self {
            histories: Histories::new(HistorySettings { total_bytes_max, ..settings }, staging_max),
            settings,
            channels_max,
            names: HashMap::new(),
            alive: HashSet::new(),
        }
    }

    /// A part arrives, as it was `at` that moment by this process's clock.
    pub(in crate::broker) fn put(&mut self, part: ChannelPart, at: Millis) {
        let ChannelPart { channel, publisher, id, used, age, after, messages } = part;
        let (histories, bounds) = (&mut self.histories, self.settings.bounds());
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let until = Millis((at + self.settings.ttl).0.saturating_sub(age));
        if histories.channels.get(&channel).is_none_or(|known| known.id != id) {
            histories.put_new(channel.clone(), publisher, id, used, after.clone());
            self.names.insert(id, channel.clone());
        }
        histories.change(&channel, |channel| {
            channel.publisher = publisher;
            channel.used = used;
            channel.until = until;
            let last = channel.ring.position();
            if last.offset < after.offset && is_same_epoch(&last.epoch, &after.epoch) {
                channel.ring.advance(after.offset);
            }
            for message in messages {
                channel.ring.push(message, bounds);
            }
        });
    }

    /// Channels are among those that the other process knows at the end, and it has forgotten their
    /// messages up to these offsets.
    pub(in crate::broker) fn trim(&mut self, floors: Vec<(u64, u64)>) {
        for (id, floor) in floors {
            self.alive.insert(id);
            let Some(name) = self.names.get(&id) else { continue };
            // Most of many channels reach back as far as they did.
            if self.histories.get(name).is_some_and(|ring| ring.floor() < floor) {
                self.histories.change(name, |channel| channel.ring.trim(floor));
            }
        }
    }

    /// All has arrived.
    pub(in crate::broker) fn end(self, end: HistoriesEnd) -> Histories {
        let Self { mut histories, settings, channels_max, names: _, alive } = self;
        let dead = histories.channels.iter().filter(|(_, channel)| !alive.contains(&channel.id));
        let dead: Vec<ChannelName> = dead.map(|(name, _)| name.clone()).collect();
        dead.iter().for_each(|name| histories.forget(name));
        histories.uses = end.uses;
        histories.evicted.messages += end.evicted.messages;
        histories.evicted.channels += end.evicted.channels;
        histories.settings = settings;
        histories.make_bytes();
        // Room for one more than there is.
        histories.channels_max = channels_max.saturating_add(1);
        for _ in channels_max..histories.channels.len() {
            histories.make_room();
        }
        histories.channels_max = channels_max;
        histories
    }
}

impl Histories {
    /// A channel as another process knows it, in the place of what is known of it here.
    fn put_new(
        &mut self,
        name: ChannelName,
        publisher: PublisherClass,
        id: u64,
        used: u64,
        after: Position,
    ) {
        self.forget(&name);
        self.make_room();
        let ring = Ring::new(after);
        let new = Channel { ring, publisher, id, used, until: Millis(0), due: None };
        self.eviction_order.insert(&new.eviction_key(), name.clone());
        self.channels.insert(name, new);
    }
}
