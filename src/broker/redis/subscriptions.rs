//! What a shard wants to hear, and how far Redis has been told: pure.
//!
//! The truth is what is wanted; commands follow from the difference to what Redis was told, so
//! however often a channel comes and goes while Redis is slow, what waits is bounded by the
//! number of channels. A connection's end forgets what was told, never what is wanted.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::track::Track;
use crate::{channel::ChannelName, clock, position::Position};

/// What messages of a Redis channel are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Publications of ours.
    Channel(ChannelName),
    /// What any program publishes, as it is.
    Raw,
    /// Our own sign of life.
    Heartbeat,
}

/// One Redis channel, as wanted and as told.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) topic: Topic,
    pub(super) track: Track,
    wanted: bool,
    /// The last command about it was SUBSCRIBE.
    told: bool,
    confirmed: bool,
    refused: bool,
    /// Commands about it without an answer.
    unanswered: u32,
    /// Its name is in `changed`.
    queued: bool,
    waiters: Vec<oneshot::Sender<()>>,
}

/// A command for Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Subscribe(String),
    Unsubscribe(String),
}

/// All of a shard's subscriptions, by the name of the Redis channel.
///
/// # Invariants
/// - `changed` holds a name at most once; without a connection it is empty.
/// - Who is neither wanted, nor told, nor waited for is not in the map.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_name: HashMap<String, Subscription>,
    changed: VecDeque<String>,
    /// Confirmed anew, and not yet compared with where Redis stands. May hold what is not wanted
    /// any more; without a connection it is empty.
    unchecked: VecDeque<String>,
    connected: bool,
}

impl Subscriptions {
    /// Wants the messages of `name`. The answer resolves (by value or by being dropped) when
    /// Redis has confirmed or refused it, or the connection has ended; None if it is confirmed.
    pub(super) fn want(&mut self, name: String, topic: Topic) -> Option<oneshot::Receiver<()>> {
        let known = self.by_name.entry(name.clone()).or_insert_with(|| Subscription::new(topic));
        if !known.wanted {
            known.wanted = true;
            // Whatever came between two subscriptions was not meant for us.
            known.track = Track::default();
            self.change(name.clone());
        }
        let known = self.by_name.get_mut(&name)?;
        if known.confirmed || !self.connected {
            return None;
        }
        let (waiter, confirmed) = oneshot::channel();
        known.waiters.retain(|waiter| !waiter.is_closed());
        known.waiters.push(waiter);
        Some(confirmed)
    }

    /// Does not want them any more.
    pub(super) fn unwant(&mut self, name: &str) {
        let Some(known) = self.by_name.get_mut(name) else { return };
        known.wanted = false;
        known.confirmed = false;
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
    pub(super) fn connected(&mut self) {
        self.disconnected();
        self.connected = true;
        let names: Vec<String> = self.by_name.keys().cloned().collect();
        for name in names {
            self.change(name);
        }
    }

    /// The connection has ended: nobody waits for it any longer.
    pub(super) fn disconnected(&mut self) {
        self.connected = false;
        self.changed.clear();
        self.unchecked.clear();
        self.by_name.retain(|_, known| known.wanted);
        for known in self.by_name.values_mut() {
            known.told = false;
            known.confirmed = false;
            known.refused = false;
            known.unanswered = 0;
            known.queued = false;
            known.waiters.clear();
        }
    }

    /// The next thing to tell Redis.
    pub(super) fn next_command(&mut self) -> Option<Command> {
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

    /// Redis has carried out `command`, or refused it.
    pub(super) fn answered(&mut self, command: &Command, refused: bool) {
        let (Command::Subscribe(name) | Command::Unsubscribe(name)) = command;
        let Some(known) = self.by_name.get_mut(name) else { return };
        known.unanswered = known.unanswered.saturating_sub(1);
        // Only the answer to the last command tells how it stands.
        if known.unanswered == 0 && matches!(command, Command::Subscribe(_)) && known.told {
            known.confirmed = !refused && known.wanted;
            if known.confirmed && known.track.has_begun() {
                self.unchecked.push_back(name.clone());
            }
            known.refused = refused && known.wanted;
            known.told = !refused;
            for waiter in known.waiters.drain(..) {
                // Who does not wait any more does not mind.
                let _ = waiter.send(());
            }
        }
        if known.is_forgotten() && !known.queued {
            self.by_name.remove(name);
        }
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

    /// Whether `name` is wanted.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|known| known.wanted)
    }

    /// Whether all that is published on `name` arrives.
    pub(super) fn is_confirmed(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|known| known.confirmed)
    }

    /// Where the channel of `name` stands, for one of which nothing has arrived yet. Unless it
    /// was confirmed `before` that was asked for, messages since then may be missing.
    pub(super) fn anchor(
        &mut self,
        name: &str,
        position: &Position,
        nonce: u64,
        confirmed_before: bool,
    ) {
        let Some(known) = self.by_name.get_mut(name).filter(|known| known.wanted) else { return };
        if known.track.has_begun() {
            return;
        }
        known.track.advance(&position.epoch, position.offset, nonce, clock::now());
        if known.confirmed && !confirmed_before {
            self.unchecked.push_back(name.to_owned());
        }
    }

    /// Some channels of which something was known when they were subscribed: by the names of
    /// their Redis channels, at most `count_max`.
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
            track: Track::default(),
            wanted: false,
            told: false,
            confirmed: false,
            refused: false,
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
