//! Who hears which channel: logs begin with their first subscriber and end with their last.
//!
//! A client knows its entry in each log and a log its clients; whatever moves an entry tells the
//! client. The names of channels that nobody here hears any more are kept until they are asked
//! for, so that the caller can tell whoever feeds this hub.

use super::{
    Entry, Hub, Log, Outlet,
    bytelog::ByteLog,
    clients::{Key, Place, State, small},
    roster::{Roster, Subscriber},
};
use crate::channel::ChannelName;

impl<O: Outlet> Hub<O> {
    /// Lets a client hear what is published on `channel` from now on. True if it is the first
    /// here that does. Does nothing the second time, nor for a client that is closing.
    pub fn subscribe(&mut self, key: Key, channel: &ChannelName) -> bool {
        let Some(client) = self.clients.find(key) else { return false };
        if self.clients.get(client).state != State::Open {
            return false;
        }
        let (log, first) = match self.by_name.get(channel) {
            Some(&Entry::Live(log)) => (log, false),
            Some(Entry::Abandoned) | None => (self.create_log(channel), true),
        };
        let subscribed = &mut self.clients.get_mut(client);
        if subscribed.places.position(log).is_none() {
            let target = &mut self.logs[log as usize];
            let busy = subscribed.blocked || subscribed.outbox.is_some();
            let cursor = target.bytes.head();
            let index = small(target.roster.push(Subscriber { cursor, client, busy }));
            subscribed.places.push(Place { log, index });
        }
        first
    }

    fn create_log(&mut self, channel: &ChannelName) -> u32 {
        self.next_serial += 1;
        let log = small(self.logs.insert(Log {
            name: channel.clone(),
            bytes: ByteLog::default(),
            roster: Roster::default(),
            serial: self.next_serial,
            queued: false,
            again: false,
        }));
        self.by_name.insert(channel.clone(), Entry::Live(log));
        log
    }

    /// The channel that a client subscribed to first.
    #[must_use]
    pub fn first_channel(&self, key: Key) -> Option<&ChannelName> {
        let place = self.clients.get(self.clients.find(key)?).places.as_slice().first()?;
        Some(&self.logs[place.log as usize].name)
    }

    /// Whether anyone here hears `channel`.
    #[must_use]
    pub fn has_channel(&self, channel: &str) -> bool {
        self.log_of(channel).is_some()
    }

    pub(super) fn log_of(&self, channel: &str) -> Option<u32> {
        match self.by_name.get(channel) {
            Some(&Entry::Live(log)) => Some(log),
            Some(Entry::Abandoned) | None => None,
        }
    }

    /// Number of channels that someone here hears.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.logs.len()
    }

    /// A channel that lost its last subscriber since it was last asked for, and has none now.
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
            self.logs[place.log as usize].roster.get_mut(place.index as usize).busy = busy;
        }
    }

    pub(super) fn unsubscribe_all(&mut self, index: u32) {
        for position in (0..self.clients.get(index).places.as_slice().len()).rev() {
            self.unsubscribe(index, position);
        }
    }

    /// Takes a client out of the log at `position` of its places.
    pub(super) fn unsubscribe(&mut self, index: u32, position: usize) {
        let Place { log, index: entry } = self.clients.get_mut(index).remove_place(position);
        let target = &mut self.logs[log as usize];
        let cursor = target.roster.get(entry as usize).cursor;
        let clients = &mut self.clients;
        target.roster.remove(entry as usize, |moved, _, to| {
            clients.get_mut(moved).places.moved(log, to);
        });
        if target.roster.len() == 0 {
            let gone = self.logs.remove(log as usize);
            self.account.resize(gone.bytes.cost(), 0);
            self.by_name.insert(gone.name.clone(), Entry::Abandoned);
            self.abandoned.push(gone.name);
        } else if target.bytes.is_in_oldest_chunk(cursor) {
            // It may have been the last that held the chunk.
            self.mark_dirty(log);
        }
    }
}
