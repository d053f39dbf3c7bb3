//! The channels that a shard wants, and how far Redis has been told. Nothing here does IO.
//!
//! The wanted channels are the truth; commands follow from the difference to what Redis was told,
//! so however often a channel comes and goes while Redis is slow, the waiting commands are bounded
//! by the number of channels. A connection's end forgets what was told, never what is wanted.

mod moving;

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

pub(in crate::broker::redis) use self::moving::{Moving, Place};
use super::{command::Command, topic::Topic};
use crate::{
    broker::redis::{commands::connectivity::Component, recovery::sequence::SequenceTracker},
    channel::ChannelName,
    clock::Millis,
    position::Position,
};

/// One Redis channel: whether it is wanted, and what Redis was told.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: Topic,
    pub(super) tracker: SequenceTracker,
    wanted: bool,
    /// The last command about it was SUBSCRIBE.
    told: bool,
    /// By which of all confirmations.
    confirmed: Option<u64>,
    refused: bool,
    /// It was refused, and has not been confirmed since: the clients that wanted it then have been
    /// told.
    deaf: bool,
    /// Commands about it without an answer.
    unanswered: u32,
    /// Its name is in `changed`.
    queued: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

/// The confirmation since which a channel is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub(super) component: Component,
    /// Its number among the subscriber's.
    pub(super) confirmation: u64,
}

/// All of a shard's subscriptions, by the name of the Redis channel.
///
/// # Invariants
/// - `changed` holds a name at most once; without a connection it is empty.
/// - A channel that is neither wanted, nor told, nor waited for is not in the map.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    by_name: HashMap<String, Subscription>,
    changed: VecDeque<String>,
    /// Channels confirmed anew, and not yet compared with Redis' position, or whose position nobody
    /// else is asking for. They may be unwanted by now; without a connection it is empty.
    unchecked: VecDeque<String>,
    connected: bool,
    /// The first connection is being made: one may wait for it.
    awaited: bool,
    /// How many subscriptions were confirmed, again and again.
    confirmations: u64,
    /// Places of channels are another process' matter, and will be known.
    is_held: bool,
}

impl Subscriptions {
    /// Subscriptions of a connection that is about to be made.
    pub(super) fn awaited() -> Self {
        Self { awaited: true, ..Self::default() }
    }

    /// Wants the messages of `name`. The answer resolves (by value or by being dropped) when
    /// Redis has confirmed or refused it, or the connection has ended; None if it is confirmed.
    pub(crate) fn want(&mut self, name: String, topic: Topic) -> Option<oneshot::Receiver<()>> {
        let known = self.by_name.entry(name.clone()).or_insert_with(|| Subscription::new(topic));
        if !known.wanted {
            known.wanted = true;
            // Messages between two subscriptions were not meant for us.
            known.tracker = SequenceTracker::default();
            if self.is_held {
                known.tracker.interrupt();
            }
            // Redis was not told yet that the channel is unwanted.
            if known.told && known.unanswered == 0 {
                self.confirmations += 1;
                known.confirmed = Some(self.confirmations);
            }
            self.change(name.clone());
        }
        let known = self.by_name.get_mut(&name)?;
        if known.confirmed.is_some() || !(self.connected || self.awaited) {
            return None;
        }
        let (waiter, confirmed) = oneshot::channel();
        known.waiters.retain(|waiter| !waiter.is_closed());
        known.waiters.push(waiter);
        Some(confirmed)
    }

    /// No longer wants the messages of `name`.
    pub(super) fn unwant(&mut self, name: &str) {
        let Some(known) = self.by_name.get_mut(name) else { return };
        known.wanted = false;
        known.confirmed = None;
        known.refused = false;
        known.waiters.clear();
        if self.connected {
            self.change(name.to_owned());
        } else {
            self.by_name.remove(name);
        }
    }

    fn change(&mut self, name: String) {
        if self.connected
            && let Some(known) = self.by_name.get_mut(&name)
            && !known.queued
        {
            known.queued = true;
            self.changed.push_back(name);
        }
    }

    /// A new connection: Redis knows nothing yet.
    pub(crate) fn connected(&mut self) {
        self.forget_told();
        self.connected = true;
        let names: Vec<String> = self.by_name.keys().cloned().collect();
        for name in names {
            self.change(name);
        }
    }

    /// The connection has ended: no caller waits for it any longer.
    pub(crate) fn disconnected(&mut self) {
        self.forget_told();
        self.connected = false;
        self.awaited = false;
        for known in self.by_name.values_mut() {
            known.waiters.clear();
        }
    }

    fn forget_told(&mut self) {
        self.changed.clear();
        self.unchecked.clear();
        self.by_name.retain(|_, known| known.wanted);
        for known in self.by_name.values_mut() {
            known.tracker.interrupt();
            known.told = false;
            known.confirmed = None;
            known.refused = false;
            known.unanswered = 0;
            known.queued = false;
        }
    }

    /// A subscription has to be made once more, elsewhere or otherwise: when
    /// [`Self::retry_refused`] is called. A waiter goes on waiting.
    pub(super) fn postpone(&mut self, name: &str) {
        if let Some(known) = self.by_name.get_mut(name) {
            known.unanswered = known.unanswered.saturating_sub(1);
        }
        self.ended(name);
    }

    /// Redis has ended a subscription by itself: as if it had refused it.
    pub(crate) fn ended(&mut self, name: &str) {
        let Some(known) = self.by_name.get_mut(name) else { return };
        known.tracker.interrupt();
        known.told = false;
        known.confirmed = None;
        known.refused = known.wanted;
        if known.is_forgotten() && !known.queued {
            self.by_name.remove(name);
        }
    }

    /// The next thing to tell Redis.
    pub(crate) fn next_command(&mut self) -> Option<Command> {
        while let Some(name) = self.changed.pop_front() {
            let Some(known) = self.by_name.get_mut(&name) else { continue };
            known.queued = false;
            if known.wanted && !known.told {
                known.told = true;
                known.unanswered += 1;
                return Some(Command::Subscribe(name));
            }
            if !known.wanted && known.told {
                known.told = false;
                known.unanswered += 1;
                return Some(Command::Unsubscribe(name));
            }
            if known.is_forgotten() {
                self.by_name.remove(&name);
            }
        }
        None
    }

    /// Whether Redis has been told everything.
    pub(super) fn is_told(&self) -> bool {
        self.changed.is_empty()
    }

    /// Redis has carried out `command`, or refused it. Returns whether clients have to be told that
    /// they do not get the channel.
    pub(crate) fn answered(&mut self, command: &Command, refused: bool) -> bool {
        let (Command::Subscribe(name) | Command::Unsubscribe(name)) = command;
        let Some(known) = self.by_name.get_mut(name) else { return false };
        let mut is_news = false;
        let is_awaited = known.waiters.iter().any(|waiter| !waiter.is_closed());
        known.unanswered = known.unanswered.saturating_sub(1);
        // Only the answer to the last command gives the state.
        if known.unanswered == 0 && matches!(command, Command::Subscribe(_)) && known.told {
            if !refused && known.wanted {
                self.confirmations += 1;
                known.confirmed = Some(self.confirmations);
                // A caller that waits asks for the position itself.
                if known.tracker.has_begun() || !is_awaited {
                    self.unchecked.push_back(name.clone());
                }
            }
            known.refused = refused && known.wanted;
            known.told = !refused;
            is_news = known.refused && (!known.deaf || is_awaited);
            known.deaf = known.refused;
            for waiter in known.waiters.drain(..) {
                // An error means that the client no longer waits.
                let _ = waiter.send(());
            }
        }
        if known.is_forgotten() && !known.queued {
            self.by_name.remove(name);
        }
        is_news
    }

    /// Tries again what was refused.
    pub(super) fn retry_refused(&mut self) {
        let refused = self.by_name.iter().filter(|(_, known)| known.refused);
        let names: Vec<String> = refused.map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(known) = self.by_name.get_mut(&name) {
                known.refused = false;
            }
            self.change(name);
        }
    }

    /// The subscription that a message belongs to, if it is wanted.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Subscription> {
        self.by_name.get_mut(name).filter(|known| known.wanted)
    }

    /// The names of all that is wanted.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &String> {
        self.by_name.iter().filter(|(_, known)| known.wanted).map(|(name, _)| name)
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Whether `name` is wanted.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|known| known.wanted)
    }

    /// The confirmation since which all that is published on `name` arrives, by its number.
    pub(super) fn confirmed_by(&self, name: &str) -> Option<u64> {
        self.by_name.get(name)?.confirmed
    }

    /// Sets the position of the channel of `name`, as was asked for after the confirmation
    /// `before`. Unless that confirmation is still valid, messages since then may be missing: they
    /// are looked for. False: nothing tells whether they are missing, since later ones were the
    /// first to arrive; asked again, the position is a certain one.
    pub(crate) fn set_baseline(
        &mut self,
        name: &str,
        position: &Position,
        nonce: u64,
        before: Option<u64>,
        now: Millis,
    ) -> bool {
        let Some(known) = self.by_name.get_mut(name).filter(|known| known.wanted) else {
            return true;
        };
        let is_unbroken = before.is_some() && before == known.confirmed;
        if let Some((last, _)) = known.tracker.last() {
            return is_unbroken || (last.is_comparable(position) && last.offset <= position.offset);
        }
        known.tracker.advance(&position.epoch, position.offset, nonce, now);
        if !is_unbroken {
            known.tracker.interrupt();
            if known.confirmed.is_some() {
                self.unchecked.push_back(name.to_owned());
            }
        }
        true
    }

    /// A channel whose position was unknown stood there, after it was confirmed. Unless something
    /// has arrived since, all after it will, or be missed; and all of before that is on its way.
    pub(super) fn begin(&mut self, name: &str, position: &Position, nonce: u64, now: Millis) {
        let Some(known) = self.get_mut(name).filter(|known| !known.tracker.has_begun()) else {
            return;
        };
        known.tracker.begin(position, nonce, now);
        if known.confirmed.is_none() {
            known.tracker.interrupt();
        }
    }

    /// Confirmed channels whose position nobody has found out are asked about.
    pub(crate) fn check_unplaced(&mut self) {
        if self.unchecked.is_empty() {
            let is_unplaced =
                |known: &Subscription| known.confirmed.is_some() && !known.tracker.has_begun();
            let unplaced = self.by_name.iter().filter(|(_, known)| is_unplaced(known));
            self.unchecked = unplaced.map(|(name, _)| name.clone()).collect();
        }
    }

    /// Some channels to be compared with Redis' position: by the names of their Redis channels, at
    /// most `count_max`.
    pub(super) fn take_unchecked(&mut self, count_max: usize) -> Vec<(String, ChannelName)> {
        let mut taken = Vec::new();
        while taken.len() < count_max
            && let Some(name) = self.unchecked.pop_front()
        {
            if let Some(known) = self.by_name.get(&name)
                && let Topic::Channel(channel) = &known.topic
                && known.wanted
            {
                taken.push((name, channel.clone()));
            }
        }
        taken
    }
}

impl Subscription {
    fn new(topic: Topic) -> Self {
        Self {
            topic,
            tracker: SequenceTracker::default(),
            wanted: false,
            told: false,
            confirmed: None,
            refused: false,
            deaf: false,
            unanswered: 0,
            queued: false,
            waiters: Vec::new(),
        }
    }

    fn is_forgotten(&self) -> bool {
        !self.wanted && !self.told && self.unanswered == 0
    }
}

#[cfg(test)]
mod tests;
