//! The state of one refused subject: whether the refusal is in force, judged by messages and
//! trials.

use crate::{
    clock::Millis,
    limits::{REFUSAL_CONTRADICTED_SOON, REFUSAL_CONTRADICTIONS_MAX, REFUSAL_LASTS},
    metrics::BrokerRefusal,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) reason: BrokerRefusal,
    pub(super) state: RefusalState,
    pub(super) since: Millis,
    /// When a message was last refused; None: trials alone were.
    pub(super) published: Option<Millis>,
    /// When a trial was last refused; None: the last one went well, or there was none.
    pub(super) tried: Option<Millis>,
    /// How often messages were refused after a trial went well.
    contradictions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalState {
    /// It is refused.
    Active,
    /// A trial went well then.
    Cleared(Millis),
    /// Trials are refused, and messages are taken all the same.
    Contradicted,
}

impl Refusal {
    pub(super) fn new(reason: BrokerRefusal, now: Millis) -> Self {
        let state = RefusalState::Active;
        Self { reason, state, since: now, published: None, tried: None, contradictions: 0 }
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == RefusalState::Active
    }

    pub(super) fn lasts(&self, now: Millis) -> bool {
        self.is_active() && now - self.since >= REFUSAL_LASTS
    }

    /// Whether trials don't see what happens to messages.
    pub(super) fn is_unseen_by_trials(&self) -> bool {
        self.contradictions >= REFUSAL_CONTRADICTIONS_MAX
    }

    fn activate(&mut self, now: Millis) {
        self.state = RefusalState::Active;
        self.since = now;
    }

    /// A message that was sent at `began` is refused now.
    pub(super) fn message_refused(&mut self, reason: BrokerRefusal, began: Millis, now: Millis) {
        match self.state {
            RefusalState::Cleared(cleared) if began > cleared => {
                let is_soon = now - cleared < REFUSAL_CONTRADICTED_SOON;
                self.contradictions += if is_soon { 2 } else { 1 };
                let since = self.since;
                self.activate(now);
                if self.is_unseen_by_trials() {
                    self.since = since;
                }
            }
            // It was on its way.
            RefusalState::Cleared(_) | RefusalState::Active => {}
            RefusalState::Contradicted => self.activate(now),
        }
        (self.reason, self.published) = (reason, Some(now));
    }

    pub(super) fn trial_refused(&mut self, reason: BrokerRefusal, now: Millis) {
        match self.state {
            RefusalState::Cleared(_) => self.activate(now),
            RefusalState::Contradicted if reason != self.reason => self.activate(now),
            RefusalState::Contradicted | RefusalState::Active => {}
        }
        (self.reason, self.tried) = (reason, Some(now));
    }
}
