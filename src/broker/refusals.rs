//! The things that Redis refuses though it can be reached, and for how long: a process that
//! publishes into a Redis which accepts nothing is cut off from the others, and must not look
//! healthy.
//!
//! Each refusal is counted. A refused subject is remembered until the same is accepted: from a
//! publisher, or in a trial meanwhile (`redis/probes/watch.rs`). The outcome of messages counts for
//! more than trials do: a trial that succeeds while messages are still refused clears nothing after
//! some times, and one that is refused while messages are accepted means nothing. Whether the
//! refusals matter follows from these facts and the clock. Nothing here does IO or waits.

mod advice;
mod refusal;

use std::{
    collections::HashMap,
    fmt::Display,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

use self::refusal::{Refusal, RefusalState};
use crate::{
    channel::ChannelName,
    clock::Millis,
    limits::{
        LOG_REFUSALS_INTERVAL, REFUSAL_MEMORY, REFUSAL_UNTRIED_CALM, REFUSALS_MAX,
        SUBSCRIPTION_REFUSAL_MEMORY,
    },
    metrics::{BrokerRefusal, Counters},
    telemetry::seldom,
};

/// The extent of publications that Redis refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalExtent {
    /// Nothing, as far as is known, or not for long.
    Nothing,
    /// Publications to some channels.
    Some,
    /// Everything: it is the server that refuses.
    All,
}

/// The subjects that can be refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A message to a channel.
    Channel(ChannelName),
    /// Anything on a server, by its address.
    Server(String),
    /// That a channel is heard; None: that any is.
    Subscription(Option<ChannelName>),
}

/// # Invariants
/// - `is_any` says whether `refused` holds something: publishing looks at nothing else.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: Counters<{ BrokerRefusal::WORDS.len() }>,
    is_any: AtomicBool,
    state: Mutex<State>,
    /// Something is refused that was not.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    refused: HashMap<Subject, Refusal>,
    /// When the last message that was taken was sent, while something is remembered.
    accepted: Millis,
    /// When a reason was last logged, and how often it came since.
    told: HashMap<&'static str, (Millis, u64)>,
}

impl Refusals {
    /// A command was refused.
    pub(super) fn count(&self, reason: BrokerRefusal) {
        self.counts.add(reason as usize, 1);
    }

    pub(super) fn counts(&self) -> [u64; BrokerRefusal::WORDS.len()] {
        std::array::from_fn(|place| self.counts.get(place))
    }

    /// A message that was sent at `began` is refused now.
    pub(super) fn refused(
        &self,
        subject: Subject,
        reason: BrokerRefusal,
        error: &dyn Display,
        (began, now): (Millis, Millis),
    ) {
        let mut state = self.state();
        state.tell(&subject, reason, error, now);
        self.refuse(state, subject, reason, now, |it| it.message_refused(reason, began, now));
    }

    /// A trial is refused now.
    pub(super) fn trial_refused(
        &self,
        subject: Subject,
        reason: BrokerRefusal,
        error: &dyn Display,
        now: Millis,
    ) {
        let mut state = self.state();
        if !state.refused.contains_key(&subject) {
            state.tell(&subject, reason, error, now);
        }
        self.refuse(state, subject, reason, now, |it| it.trial_refused(reason, now));
    }

    fn refuse(
        &self,
        mut state: MutexGuard<'_, State>,
        subject: Subject,
        reason: BrokerRefusal,
        now: Millis,
        how: impl FnOnce(&mut Refusal),
    ) {
        if state.refused.len() >= REFUSALS_MAX && !state.refused.contains_key(&subject) {
            // Where all are in force, one more would change nothing.
            let other = state.refused.iter().find(|(_, refused)| !refused.is_active());
            let Some(other) = other.map(|(subject, _)| subject.clone()) else { return };
            state.refused.remove(&other);
        }
        let known = state.refused.get(&subject).is_some_and(Refusal::is_active);
        how(state.refused.entry(subject).or_insert_with(|| Refusal::new(reason, now)));
        self.is_any.store(true, Ordering::Release);
        if !known {
            self.changed.notify_one();
        }
    }

    /// A message that was sent at `began` was taken: of a channel, by a server. Cheap where
    /// nothing is refused.
    pub(super) fn accepted(
        &self,
        subjects: impl FnOnce() -> (Subject, Option<Subject>),
        began: Millis,
        now: Millis,
    ) {
        if !self.is_any() {
            return;
        }
        let (channel, server) = subjects();
        self.clear(now, |state| {
            state.accepted = state.accepted.max(began);
            for subject in std::iter::once(channel).chain(server) {
                let Some(refused) = state.refused.get_mut(&subject) else { continue };
                match refused.tried {
                    None => _ = state.refused.remove(&subject),
                    Some(tried) if began > tried => refused.state = RefusalState::Contradicted,
                    // It may have been before.
                    Some(_) => {}
                }
            }
        });
    }

    /// A channel that `is_it` is subscribed.
    pub(super) fn subscription_accepted(&self, is_it: impl Fn(&ChannelName) -> bool, now: Millis) {
        if self.is_any() {
            self.clear(now, |state| {
                state.refused.retain(|subject, _| match subject {
                    Subject::Subscription(channel) => !channel.as_ref().is_none_or(&is_it),
                    Subject::Channel(_) | Subject::Server(_) => true,
                });
            });
        }
    }

    /// A trial went well.
    pub(super) fn trial_accepted(&self, subject: &Subject, now: Millis) {
        if !self.is_any() {
            return;
        }
        self.clear(now, |state| {
            let Some(refused) = state.refused.get_mut(subject) else { return };
            refused.tried = None;
            let Some(published) = refused.published else {
                state.refused.remove(subject);
                return;
            };
            if !refused.is_unseen_by_trials() {
                if !matches!(refused.state, RefusalState::Cleared(_)) {
                    refused.state = RefusalState::Cleared(now);
                }
            } else if now - published >= REFUSAL_UNTRIED_CALM {
                state.refused.remove(subject);
            }
        });
    }

    /// Unanswered queries do not matter any more: Redis is out of reach.
    pub(super) fn out_of_reach(&self, now: Millis) {
        if self.is_any() {
            self.clear(now, |state| {
                state.refused.retain(|_, refused| refused.reason != BrokerRefusal::NoAnswer);
            });
        }
    }

    /// A server that the process no longer uses refuses nothing.
    pub(super) fn keep_servers(&self, is_there: impl Fn(&str) -> bool, now: Millis) {
        if self.is_any() {
            self.clear(now, |state| {
                state.refused.retain(|subject, _| match subject {
                    Subject::Server(server) => is_there(server),
                    Subject::Channel(_) | Subject::Subscription(_) => true,
                });
            });
        }
    }

    fn clear(&self, now: Millis, what: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let lasted = state.refused.values().any(|refused| refused.lasts(now));
        what(&mut state);
        self.settle(&state);
        if lasted && !state.refused.values().any(Refusal::is_active) {
            seldom!(info, "Redis accepts again what it has refused");
        }
    }

    /// The subjects to be tried again. A channel that was refused for reasons of its own, and is no
    /// longer published to, is forgotten; so are past refusals.
    pub(super) fn suspects(&self, now: Millis) -> Vec<Subject> {
        if !self.is_any() {
            return Vec::new();
        }
        let mut state = self.state();
        let default = Subject::Channel(ChannelName::default_channel());
        state.refused.retain(|subject, refused| {
            let last = refused.published.unwrap_or(refused.since);
            let is_heard = matches!(subject, Subject::Subscription(_));
            let memory = if is_heard { SUBSCRIPTION_REFUSAL_MEMORY } else { REFUSAL_MEMORY };
            let is_fresh = now - last < memory;
            let is_lasting = refused.reason.is_the_servers() || *subject == default;
            is_fresh || (is_lasting && !is_heard && refused.is_active())
        });
        self.settle(&state);
        let open =
            state.refused.iter().filter(|(_, it)| !matches!(it.state, RefusalState::Cleared(_)));
        let mut suspects: Vec<Subject> = open.map(|(subject, _)| subject.clone()).collect();
        let is_a_channels = |(subject, it): (&Subject, &Refusal)| {
            matches!(subject, Subject::Channel(_)) && it.is_active() && !it.reason.is_the_servers()
        };
        if state.refused.iter().any(is_a_channels) && !suspects.contains(&default) {
            // Whether it is that channel alone.
            suspects.push(default);
        }
        suspects
    }

    /// Whether anything is refused, as far as is known.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_any() && self.state().refused.values().any(Refusal::is_active)
    }

    /// Whether `subject` is refused.
    pub(super) fn is_refused(&self, subject: &Subject) -> bool {
        self.is_any() && self.state().refused.get(subject).is_some_and(Refusal::is_active)
    }

    pub(super) fn extent_at(&self, now: Millis) -> RefusalExtent {
        if !self.is_any() {
            return RefusalExtent::Nothing;
        }
        let state = self.state();
        let lasting = state.refused.iter().filter(|(_, refused)| refused.lasts(now));
        let extents = lasting.map(|(subject, refused)| state.extent(subject, refused));
        extents.max().unwrap_or(RefusalExtent::Nothing)
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
    fn extent(&self, subject: &Subject, refused: &Refusal) -> RefusalExtent {
        let is_all = match subject {
            Subject::Server(_) | Subject::Subscription(None) => true,
            Subject::Subscription(Some(_)) => false,
            Subject::Channel(channel) => {
                // A publisher's message is the best evidence.
                let is_any_taken = self.accepted > refused.since;
                let is_default = *channel == ChannelName::default_channel();
                refused.reason.is_the_servers()
                    || is_default && (refused.published.is_some() || !is_any_taken)
                    || refused.is_unseen_by_trials() && !is_any_taken
            }
        };
        if is_all { RefusalExtent::All } else { RefusalExtent::Some }
    }

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
        let (what, reason, cure) = (reason.what(), reason.word(), reason.advice());
        match subject {
            Subject::Channel(channel) => {
                tracing::warn!(%channel, %error, cure, reason, times, "{what}");
            }
            // Each is logged, with its server.
            Subject::Subscription(_) => {}
            Subject::Server(server) => {
                tracing::warn!(%server, %error, cure, reason, "Redis refuses what is written");
            }
        }
    }
}

#[cfg(test)]
mod tests;
