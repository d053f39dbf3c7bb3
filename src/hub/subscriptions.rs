//! Subscriptions: a channel's logs begin with their first subscriber and end with their last.
//!
//! The logs of a channel, one for each encoding in use, form a chain that starts at its name; most
//! chains have one link. A client knows its entry in each log, and a log knows its clients; any
//! code that moves an entry tells the client. The name of a channel that has lost its last
//! subscriber here is kept until it is asked for, so that the caller can unsubscribe from the hub's
//! source.

use std::{io, sync::atomic::Ordering};

use super::{
    Encoding, Entry, Hub, Log, Outlet,
    bytelog::ByteLog,
    clients::{Client, Key, LogPlace, WritingState},
    number::small,
    subscriber_list::{LogReader, SubscriberList},
    track::Track,
};
use crate::{channel::ChannelName, limits::SUBSCRIPTION_COST_BYTES};

/// How many subscribers are considered when a log has to be attributed to another client.
const HEIRS_MAX: usize = 8;
/// An odd number without a pattern.
const SCATTER: u64 = 0x9E37_79B9_7F4A_7C15;

impl<O: Outlet> Hub<O> {
    /// Subscribes a client to `channel`, from now on, in `encoding`. True if it is the channel's
    /// first subscriber here. Does nothing the second time, nor for a client that is closing.
    pub fn subscribe(&mut self, key: Key, channel: &ChannelName, encoding: Encoding) -> bool {
        let Some(client) = self.clients.find(key) else { return false };
        if self.clients.get(client).state != WritingState::Open {
            return false;
        }
        let first = self.log_of(channel.as_str());
        let places = &self.clients.get(client).places;
        if self.chain(first).any(|(log, _)| places.position(log).is_some()) {
            return false;
        }
        let same = self.chain(first).find(|(_, log)| log.encoding == encoding);
        let log = match same {
            Some((log, _)) => log,
            None => {
                let has_many =
                    self.clients.get(client).places.as_slice().len() >= self.channels_free;
                self.create_log(channel, encoding, first, has_many.then_some(client))
            }
        };
        let subscribed = self.clients.get_mut(client);
        let target = &mut self.logs[log as usize];
        let busy = subscribed.blocked || subscribed.held || subscribed.outbox.is_some();
        let cursor = target.bytes.head();
        let index =
            small(target.subscriber_list.push(LogReader { cursor, client, busy, parting: false }));
        target.seats.fetch_add(1, Ordering::Relaxed);
        subscribed.places.push(LogPlace { log, index });
        if subscribed.places.as_slice().len() > self.channels_free {
            self.subscribers.add(client);
            self.budget.resize_subscriptions(0, SUBSCRIPTION_COST_BYTES);
            self.relieve_if_tight();
        }
        first.is_none()
    }

    /// Unsubscribes a client from `channel`: it gets nothing more that was published there, except
    /// the end of a begun frame. False if it is not subscribed, or is closing.
    pub fn leave(&mut self, key: Key, channel: &str) -> bool {
        let Some(index) = self.clients.find(key) else { return false };
        let client = self.clients.get(index);
        let Some(position) = self.place_in(client, channel) else { return false };
        if client.state != WritingState::Open {
            return false;
        }
        if client.begun() == Some(position) && !self.carry(index, position) {
            self.fail(index, io::ErrorKind::OutOfMemory);
            return true;
        }
        self.unsubscribe(index, position);
        self.drop_behind(index, Some(channel));
        self.relieve_if_tight();
        true
    }

    /// The index of the client's place in `channel`.
    pub(super) fn place_in(&self, client: &Client<O>, channel: &str) -> Option<usize> {
        let mut logs = self.chain(self.log_of(channel));
        logs.find_map(|(log, _)| client.places.position(log))
    }

    /// Whether a client is subscribed to `channel`.
    #[must_use]
    pub fn hears(&self, key: Key, channel: &str) -> bool {
        let client = self.clients.find(key).map(|index| self.clients.get(index));
        client.is_some_and(|client| self.place_in(client, channel).is_some())
    }

    /// How many channels a client is subscribed to.
    #[must_use]
    pub fn subscription_count(&self, key: Key) -> usize {
        let index = self.clients.find(key);
        index.map_or(0, |index| self.clients.get(index).places.as_slice().len())
    }

    /// Whether `channel` has a log in `encoding`.
    #[must_use]
    pub fn has_log(&self, channel: &str, encoding: Encoding) -> bool {
        self.chain(self.log_of(channel)).any(|(_, log)| log.encoding == encoding)
    }

    /// Begins a log. The channel's first log stays the first, since it is the usual one.
    fn create_log(
        &mut self,
        channel: &ChannelName,
        encoding: Encoding,
        first: Option<u32>,
        owner: Option<u32>,
    ) -> u32 {
        self.next_serial += 1;
        if let Some(owner) = owner {
            self.hoards.add(owner);
        }
        let known = first.and_then(|first| self.logs[first as usize].last.clone());
        let log = small(self.logs.insert(Log {
            name: channel.clone(),
            encoding,
            sibling: first.and_then(|first| self.logs[first as usize].sibling),
            bytes: ByteLog::default(),
            baseline: known.clone(),
            last: known,
            track: Track::default(),
            subscriber_list: SubscriberList::default(),
            seats: self.audience.join(channel),
            owner,
            serial: self.next_serial,
            queued: false,
            again: false,
            cut: None,
            owed: 0,
            parting: None,
        }));
        match first {
            Some(first) => self.logs[first as usize].sibling = Some(log),
            None => {
                self.by_name.insert(channel.clone(), Entry::Live(log));
            }
        }
        log
    }

    /// The logs of one channel, beginning with its first.
    pub(super) fn chain(&self, first: Option<u32>) -> impl Iterator<Item = (u32, &Log)> {
        let link = |log: u32| (log, &self.logs[log as usize]);
        std::iter::successors(first.map(link), move |(_, log)| log.sibling.map(link))
    }

    /// Forgets a log that has no subscribers.
    fn end_log(&mut self, log: u32) {
        let first = self.log_of(self.logs[log as usize].name.as_str());
        let before = self.chain(first).find(|(_, other)| other.sibling == Some(log));
        let before = before.map(|(before, _)| before);
        let gone = self.logs.remove(log as usize);
        self.audience.leave(&gone.name, gone.seats);
        self.budget.resize(gone.bytes.cost(), 0);
        self.budget.resize_joint(gone.bytes.joint_bytes(), 0);
        self.owed_bytes -= gone.owed;
        self.sizes.file(log, None);
        if let Some(owner) = gone.owner {
            self.hoards.sub(owner);
        }
        match (before, gone.sibling) {
            (Some(before), sibling) => self.logs[before as usize].sibling = sibling,
            (None, Some(sibling)) => {
                self.by_name.insert(gone.name, Entry::Live(sibling));
            }
            (None, None) => {
                self.by_name.insert(gone.name.clone(), Entry::Abandoned);
                self.abandoned.push(gone.name);
            }
        }
    }

    /// A client's channels, in the order in which it subscribed to them.
    pub fn channels(&self, key: Key) -> impl Iterator<Item = &ChannelName> {
        let client = self.clients.find(key).map(|index| self.clients.get(index));
        let places = client.map_or(&[][..], |client| client.places.as_slice());
        places.iter().map(|place| &self.logs[place.log as usize].name)
    }

    /// The channel that a client subscribed to first.
    #[must_use]
    pub fn first_channel(&self, key: Key) -> Option<&ChannelName> {
        let place = self.clients.get(self.clients.find(key)?).places.as_slice().first()?;
        Some(&self.logs[place.log as usize].name)
    }

    /// Whether `channel` has a subscriber here.
    #[must_use]
    pub fn has_channel(&self, channel: &str) -> bool {
        self.log_of(channel).is_some()
    }

    /// The clients that are subscribed to `channel`, each once.
    pub fn subscribers(&self, channel: &str) -> impl Iterator<Item = Key> {
        let logs = self.chain(self.log_of(channel));
        logs.flat_map(|(_, log)| log.subscriber_list.iter())
            .map(|subscriber| self.clients.key(subscriber.client))
    }

    /// The first of a channel's logs.
    pub(super) fn log_of(&self, channel: &str) -> Option<u32> {
        match self.by_name.get(channel) {
            Some(&Entry::Live(log)) => Some(log),
            Some(Entry::Abandoned) | None => None,
        }
    }

    /// The channels with a subscriber here.
    pub fn all_channels(&self) -> impl Iterator<Item = &ChannelName> {
        let live = self.by_name.iter().filter(|(_, entry)| matches!(entry, Entry::Live(_)));
        live.map(|(name, _)| name)
    }

    /// Number of channels with a subscriber here.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.by_name.values().filter(|entry| matches!(entry, Entry::Live(_))).count()
    }

    /// Number of logs: one for each channel and encoding in use here.
    #[must_use]
    pub fn log_count(&self) -> usize {
        self.logs.len()
    }

    /// A channel that has lost its last subscriber since the last call, and has none now.
    pub fn take_abandoned(&mut self) -> Option<ChannelName> {
        while let Some(name) = self.abandoned.pop() {
            if self.by_name.get(&name) == Some(&Entry::Abandoned) {
                self.by_name.remove(&name);
                return Some(name);
            }
        }
        None
    }

    /// Marks the client's subscriptions as (not) to be written by a pass.
    pub(super) fn set_busy(&mut self, index: u32, busy: bool) {
        for place in self.clients.get(index).places.as_slice() {
            self.logs[place.log as usize].subscriber_list.get_mut(place.index as usize).busy = busy;
        }
    }

    pub(super) fn unsubscribe_all(&mut self, index: u32) {
        self.drop_behind(index, None);
        for position in (0..self.clients.get(index).places.as_slice().len()).rev() {
            self.unsubscribe(index, position);
        }
    }

    /// Removes a client from the log at `position` of its places.
    pub(super) fn unsubscribe(&mut self, index: u32, position: usize) {
        let leaving = self.clients.get_mut(index);
        if leaving.places.as_slice().len() > self.channels_free {
            self.subscribers.sub(index);
            self.budget.resize_subscriptions(SUBSCRIPTION_COST_BYTES, 0);
        }
        let LogPlace { log, index: entry } = leaving.remove_place(position);
        let target = &mut self.logs[log as usize];
        let cursor = target.subscriber_list.get(entry as usize).cursor;
        let clients = &mut self.clients;
        target.subscriber_list.remove(entry as usize, |moved, _, to| {
            clients.get_mut(moved).places.moved(log, to);
        });
        target.seats.fetch_sub(1, Ordering::Relaxed);
        if target.subscriber_list.len() == 0 {
            return self.end_log(log);
        }
        if target.bytes.is_in_oldest_chunk(cursor) {
            // The client may have been the last one to need the chunk.
            self.mark_dirty(log);
        }
        if self.logs[log as usize].owner == Some(index) {
            self.pass_on(log, index);
        }
    }

    /// Attributes a log of the client `before` to another of its subscribers that has many logs.
    fn pass_on(&mut self, log: u32, before: u32) {
        let target = &self.logs[log as usize];
        // The choice must not follow from the order of joining: one client would get all logs.
        let from = target.serial.wrapping_mul(SCATTER) as usize % target.subscriber_list.len();
        let others = (0..target.subscriber_list.len().min(HEIRS_MAX)).map(|step| {
            let place = (from + step) % target.subscriber_list.len();
            target.subscriber_list.get(place).client
        });
        let has_many = |client: &u32| {
            *client != before
                && self.clients.get(*client).places.as_slice().len() > self.channels_free
        };
        let heir = others.into_iter().find(has_many);
        self.hoards.sub(before);
        if let Some(heir) = heir {
            self.hoards.add(heir);
        }
        self.logs[log as usize].owner = heir;
    }

    /// The client that makes this hub keep the most logs, if there is one with more than a few, and
    /// how many fewer would be kept without it; a log with other subscribers counts in part. Logs
    /// with many subscribers are thereby attributed to other clients, so the next answer may be
    /// another client.
    pub fn hoarder(&mut self) -> Option<(Key, usize)> {
        let (index, _) = self.hoards.largest()?;
        let places = self.clients.get(index).places.as_slice();
        let logs: Vec<u32> = places.iter().map(|place| place.log).collect();
        let mut thousandths = 0;
        for log in logs {
            let listeners = self.logs[log as usize].subscriber_list.len();
            thousandths += 1000 / listeners;
            if listeners > HEIRS_MAX && self.logs[log as usize].owner == Some(index) {
                self.pass_on(log, index);
            }
        }
        Some((self.clients.key(index), thousandths / 1000))
    }

    /// The client with the most subscriptions, if all subscriptions beyond the free ones would,
    /// with `more` of them for one client, take more than their part of the memory.
    #[must_use]
    pub fn largest_subscriber(&self, more: usize) -> Option<(Key, usize)> {
        if !self.budget.subscriptions_exceed(more * SUBSCRIPTION_COST_BYTES) {
            return None;
        }
        let (index, _) = self.subscribers.largest()?;
        Some((self.clients.key(index), self.clients.get(index).places.as_slice().len()))
    }
}
