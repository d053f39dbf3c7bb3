//! What Redis refuses though it can be reached, and for how long: a process that publishes into a
//! Redis which takes nothing is cut off from the others, and must not look whole.
//!
//! Each refusal is counted. What was refused is remembered, and stands until the same is accepted:
//! from a publisher, or from the one who asks again meanwhile (`redis/watch.rs`). Whether that
//! matters follows from these facts and the clock. Nothing here does IO or waits.

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    channel::ChannelName,
    clock::Millis,
    limits::{LOG_REFUSALS_INTERVAL, REFUSAL_LASTS, REFUSAL_MEMORY, REFUSALS_MAX},
    metrics::{BrokerRefusal, Counters},
    telemetry::seldom,
};

/// How much of what is published Redis refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuses {
    /// Nothing, as far as is known, or not for long.
    Nothing,
    /// What goes to some channels.
    Some,
    /// Everything: it is the server that refuses.
    All,
}

/// What can be refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A message to a channel.
    Channel(ChannelName),
    /// Anything on a server, by its address.
    Server(String),
}

/// # Invariants
/// - `is_any` says whether `refused` holds something: who publishes looks at nothing else.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    counts: Counters<{ BrokerRefusal::WORDS.len() }>,
    is_any: AtomicBool,
    state: Mutex<State>,
    /// Something is refused that was not.
    pub(super) news: Notify,
}

#[derive(Debug, Default)]
struct State {
    refused: HashMap<Subject, Refused>,
    /// When a reason was last logged, and how often it came since.
    told: HashMap<&'static str, (Millis, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Refused {
    reason: BrokerRefusal,
    since: Millis,
    last: Millis,
}

impl BrokerRefusal {
    pub(super) fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// Whether it is about the server, whatever the channel.
    pub(super) fn is_the_servers(self) -> bool {
        !matches!(self, Self::NoPerm | Self::WrongType | Self::TryAgain | Self::Other)
    }

    /// What to do about it.
    fn cure(self) -> &'static str {
        match self {
            Self::ReadOnly => "this server is a replica: the URL has to lead to the master",
            Self::NoReplicas => "too few replicas follow this server: see min-replicas-to-write",
            Self::Misconf => "this server cannot save to its disk: see its own log",
            Self::Oom => "this server's memory is full: see maxmemory and maxmemory-policy",
            Self::NoPerm => "the user lacks a right: README names all of them",
            Self::NoAuth => "the URL needs a user name and a password",
            Self::Moved => "this is a cluster: use redis-cluster://",
            Self::TryAgain => "the slot of this channel has been on its way for long",
            Self::ClusterDown => {
                "the cluster does not serve the slot of this channel (its URL is redis-cluster://)"
            }
            Self::MasterDown => "this server is a replica that has lost its master",
            Self::Loading => "this server still reads its data",
            Self::Busy => "a script is running in this server for long: see SCRIPT KILL",
            Self::WrongType => "something else has written to our keys: see --redis-prefix",
            Self::Other => "see the error",
        }
    }
}

impl Refusing {
    /// A command that publishes nothing was refused.
    pub(super) fn count(&self, reason: BrokerRefusal) {
        self.counts.add(reason as usize, 1);
    }

    pub(super) fn counts(&self) -> [u64; BrokerRefusal::WORDS.len()] {
        std::array::from_fn(|place| self.counts.get(place))
    }

    /// Something is refused now.
    pub(super) fn refused(
        &self,
        subject: Subject,
        reason: BrokerRefusal,
        error: &dyn Display,
        now: Millis,
    ) {
        let mut state = self.state();
        state.tell(&subject, reason, error, now);
        let is_full = state.refused.len() >= REFUSALS_MAX;
        match state.refused.get_mut(&subject) {
            Some(refused) => *refused = Refused { reason, last: now, ..*refused },
            // They are as good as all.
            None if is_full => {}
            None => {
                state.refused.insert(subject, Refused { reason, since: now, last: now });
                self.is_any.store(true, Ordering::Release);
                self.news.notify_one();
            }
        }
    }

    /// Something was accepted. Cheap where nothing is refused.
    pub(super) fn accepted(&self, subject: impl FnOnce() -> Subject, now: Millis) {
        if self.is_any() {
            let mut state = self.state();
            if let Some(refused) = state.refused.remove(&subject()) {
                self.settle(&state);
                if state.refused.is_empty() && now - refused.since >= REFUSAL_LASTS {
                    seldom!(info, "Redis accepts again what it has refused");
                }
            }
        }
    }

    /// What is to be asked for again. A channel that was refused for reasons of its own, and that
    /// nobody publishes to any more, is forgotten.
    pub(super) fn suspects(&self, now: Millis) -> Vec<Subject> {
        if !self.is_any() {
            return Vec::new();
        }
        let mut state = self.state();
        let is_fresh = |refused: &Refused| now - refused.last < REFUSAL_MEMORY;
        state.refused.retain(|_, refused| refused.reason.is_the_servers() || is_fresh(refused));
        self.settle(&state);
        let mut suspects: Vec<Subject> = state.refused.keys().cloned().collect();
        let is_a_channels = |refused: &Refused| !refused.reason.is_the_servers();
        let default = Subject::Channel(ChannelName::default_channel());
        if state.refused.values().any(is_a_channels) && !suspects.contains(&default) {
            // Whether it is that channel alone.
            suspects.push(default);
        }
        suspects
    }

    /// Whether `subject` is refused.
    pub(super) fn is_refused(&self, subject: &Subject) -> bool {
        self.is_any() && self.state().refused.contains_key(subject)
    }

    /// That it was asked for in vain keeps nothing in memory.
    pub(super) fn still_refused(&self, subject: &Subject, reason: BrokerRefusal) {
        if let Some(refused) = self.state().refused.get_mut(subject) {
            refused.reason = reason;
        }
    }

    pub(super) fn extent_at(&self, now: Millis) -> Refuses {
        if !self.is_any() {
            return Refuses::Nothing;
        }
        let default = Subject::Channel(ChannelName::default_channel());
        let state = self.state();
        let lasting =
            state.refused.iter().filter(|(_, refused)| now - refused.since >= REFUSAL_LASTS);
        let extents = lasting.map(|(subject, refused)| {
            let is_all = refused.reason.is_the_servers()
                || matches!(subject, Subject::Server(_))
                || *subject == default;
            if is_all { Refuses::All } else { Refuses::Some }
        });
        extents.fold(Refuses::Nothing, |before, extent| match (before, extent) {
            (Refuses::All, _) | (_, Refuses::All) => Refuses::All,
            _ => extent,
        })
    }

    fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    fn settle(&self, state: &State) {
        self.is_any.store(!state.refused.is_empty(), Ordering::Release);
    }

    /// A panic elsewhere leaves whole entries: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first of its kind in full, then a count now and then.
    fn tell(&mut self, subject: &Subject, reason: BrokerRefusal, error: &dyn Display, now: Millis) {
        let again = self.told.get_mut(reason.word());
        if let Some((last, untold)) = again
            && now - *last < LOG_REFUSALS_INTERVAL
        {
            *untold += 1;
            return;
        }
        let times = self.told.insert(reason.word(), (now, 0)).map_or(0, |(_, untold)| untold) + 1;
        let (reason, cure) = (reason.word(), reason.cure());
        match subject {
            Subject::Channel(channel) => {
                tracing::warn!(%channel, %error, cure, reason, times, "Redis refuses a message");
            }
            Subject::Server(server) => {
                tracing::warn!(%server, %error, cure, reason, "Redis refuses what is written");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(name: &str) -> Subject {
        Subject::Channel(ChannelName::new(name).unwrap())
    }

    fn at(ms: u64) -> Millis {
        Millis(1_000_000 + ms)
    }

    const LASTS: u64 = REFUSAL_LASTS.as_millis() as u64;

    fn refused(refusing: &Refusing, subject: Subject, reason: BrokerRefusal, ms: u64) {
        refusing.refused(subject, reason, &"as the server says it", at(ms));
    }

    #[test]
    fn what_is_refused_for_a_moment_is_nothing() {
        let refusing = Refusing::default();
        refused(&refusing, channel("a"), BrokerRefusal::NoReplicas, 0);
        assert_eq!(refusing.extent_at(at(LASTS - 1)), Refuses::Nothing);
        assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
        refused(&refusing, channel("a"), BrokerRefusal::NoReplicas, LASTS);
        assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All, "since the first");
        refusing.accepted(|| channel("a"), at(LASTS));
        assert_eq!(refusing.extent_at(at(9 * LASTS)), Refuses::Nothing);
        assert!(refusing.suspects(at(LASTS)).is_empty());
    }

    #[test]
    fn one_channel_that_is_accepted_says_nothing_of_another() {
        let refusing = Refusing::default();
        refused(&refusing, channel("a"), BrokerRefusal::Moved, 0);
        refusing.accepted(|| channel("b"), at(1));
        assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
        assert_eq!(refusing.suspects(at(1)), [channel("a")]);
    }

    #[test]
    fn a_right_that_lacks_for_one_channel_is_not_the_servers_and_is_forgotten() {
        let refusing = Refusing::default();
        let default = Subject::Channel(ChannelName::default_channel());
        refused(&refusing, channel("a"), BrokerRefusal::NoPerm, 0);
        assert_eq!(refusing.extent_at(at(LASTS)), Refuses::Some);
        assert_eq!(refusing.suspects(at(1)), [channel("a"), default.clone()]);
        refused(&refusing, default.clone(), BrokerRefusal::NoPerm, 0);
        assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
        refusing.accepted(|| default, at(LASTS));
        let memory = u64::try_from(REFUSAL_MEMORY.as_millis()).unwrap();
        assert_eq!(refusing.suspects(at(memory - 1)).len(), 2);
        assert!(refusing.suspects(at(memory)).is_empty());
        assert_eq!(refusing.extent_at(at(memory)), Refuses::Nothing);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let refusing = Refusing::default();
        for number in 0..REFUSALS_MAX * 2 {
            refused(&refusing, channel(&number.to_string()), BrokerRefusal::Oom, 0);
        }
        assert_eq!(refusing.suspects(at(0) + Duration::from_secs(1)).len(), REFUSALS_MAX);
    }
}
