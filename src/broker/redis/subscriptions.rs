//! What a shard wants to hear, and how far Redis has been told: pure.
//!
//! The truth is what is wanted; commands follow from the difference to what Redis was told, so
//! however often a channel comes and goes while Redis is slow, what waits is bounded by the
//! number of channels. A connection's end forgets what was told, never what is wanted.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use super::track::Track;
use crate::channel::ChannelName;

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

    /// The channels of which something has arrived already.
    pub(super) fn begun(&self) -> Vec<ChannelName> {
        let begun = |known: &Subscription| match &known.topic {
            Topic::Channel(channel) if known.wanted && known.track.has_begun() => {
                Some(channel.clone())
            }
            _ => None,
        };
        self.by_name.values().filter_map(begun).collect()
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
mod tests {
    use super::*;

    fn want(all: &mut Subscriptions, name: &str) -> Option<oneshot::Receiver<()>> {
        all.want(name.to_owned(), Topic::Raw)
    }

    fn subscribe(name: &str) -> Command {
        Command::Subscribe(name.to_owned())
    }

    fn unsubscribe(name: &str) -> Command {
        Command::Unsubscribe(name.to_owned())
    }

    #[test]
    fn who_wants_a_channel_waits_until_redis_has_confirmed_it() {
        let mut all = Subscriptions::default();
        all.connected();
        let mut first = want(&mut all, "a").unwrap();
        let mut second = want(&mut all, "a").unwrap();
        assert_eq!(all.next_command(), Some(subscribe("a")));
        assert_eq!(all.next_command(), None);
        assert!(first.try_recv().is_err());
        all.answered(&subscribe("a"), false);
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(want(&mut all, "a").is_none());
    }

    #[test]
    fn without_a_connection_nobody_waits_and_nothing_piles_up() {
        let mut all = Subscriptions::default();
        assert!(want(&mut all, "a").is_none());
        for _ in 0..100 {
            want(&mut all, "b");
            all.unwant("b");
        }
        assert!(all.changed.is_empty());
        assert_eq!(all.by_name.len(), 1);
        all.connected();
        assert_eq!(all.next_command(), Some(subscribe("a")));
        assert_eq!(all.next_command(), None);
    }

    #[test]
    fn a_new_connection_is_told_everything_wanted_again() {
        let mut all = Subscriptions::default();
        all.connected();
        let mut waiter = want(&mut all, "a").unwrap();
        all.next_command();
        all.disconnected();
        assert!(matches!(waiter.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        all.connected();
        assert_eq!(all.next_command(), Some(subscribe("a")));
    }

    #[test]
    fn coming_and_going_while_redis_is_slow_costs_one_command_each() {
        let mut all = Subscriptions::default();
        all.connected();
        for _ in 0..100 {
            want(&mut all, "a");
            all.unwant("a");
        }
        assert_eq!(all.changed.len(), 1);
        assert_eq!(all.next_command(), None);
        assert!(all.by_name.is_empty());
    }

    #[test]
    fn only_the_last_answer_confirms() {
        let mut all = Subscriptions::default();
        all.connected();
        want(&mut all, "a");
        assert_eq!(all.next_command(), Some(subscribe("a")));
        all.unwant("a");
        assert_eq!(all.next_command(), Some(unsubscribe("a")));
        let mut waiter = want(&mut all, "a").unwrap();
        assert_eq!(all.next_command(), Some(subscribe("a")));
        all.answered(&subscribe("a"), false);
        all.answered(&unsubscribe("a"), false);
        assert!(waiter.try_recv().is_err());
        all.answered(&subscribe("a"), false);
        assert!(waiter.try_recv().is_ok());
        all.unwant("a");
        assert_eq!(all.next_command(), Some(unsubscribe("a")));
        all.answered(&unsubscribe("a"), false);
        assert!(all.by_name.is_empty());
    }

    #[test]
    fn a_refused_channel_is_let_go_and_tried_again_later() {
        let mut all = Subscriptions::default();
        all.connected();
        let mut waiter = want(&mut all, "a").unwrap();
        all.next_command();
        all.answered(&subscribe("a"), true);
        assert!(waiter.try_recv().is_ok());
        assert_eq!(all.next_command(), None);
        all.retry_refused();
        assert_eq!(all.next_command(), Some(subscribe("a")));
        all.answered(&subscribe("a"), false);
        assert!(want(&mut all, "a").is_none());
    }
}
