//! What is known of one thing that was refused: whether it stands, by what messages and trials met.

use crate::{
    clock::Millis,
    limits::{REFUSAL_CONTRADICTED_SOON, REFUSAL_CONTRADICTIONS_MAX, REFUSAL_LASTS},
    metrics::BrokerRefusal,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) reason: BrokerRefusal,
    pub(super) standing: Standing,
    pub(super) since: Millis,
    /// When a message was last refused; None: trials alone were.
    pub(super) published: Option<Millis>,
    /// When a trial was last refused; None: the last one went well, or there was none.
    pub(super) tried: Option<Millis>,
    /// How often messages were refused after a trial went well.
    contradictions: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is refused.
    Stands,
    /// A trial went well then.
    Cleared(Millis),
    /// Trials are refused, and messages are taken all the same.
    Void,
}

impl Refused {
    pub(super) fn new(reason: BrokerRefusal, now: Millis) -> Self {
        let standing = Standing::Stands;
        Self { reason, standing, since: now, published: None, tried: None, contradictions: 0 }
    }

    pub(super) fn stands(&self) -> bool {
        self.standing == Standing::Stands
    }

    pub(super) fn lasts(&self, now: Millis) -> bool {
        self.stands() && now - self.since >= REFUSAL_LASTS
    }

    /// Whether trials don't see what happens to messages.
    pub(super) fn is_blind(&self) -> bool {
        self.contradictions >= REFUSAL_CONTRADICTIONS_MAX
    }

    fn stand(&mut self, now: Millis) {
        self.standing = Standing::Stands;
        self.since = now;
    }

    /// A message that was sent at `began` is refused now.
    pub(super) fn message_refused(&mut self, reason: BrokerRefusal, began: Millis, now: Millis) {
        match self.standing {
            Standing::Cleared(cleared) if began > cleared => {
                let is_soon = now - cleared < REFUSAL_CONTRADICTED_SOON;
                self.contradictions += if is_soon { 2 } else { 1 };
                let since = self.since;
                self.stand(now);
                if self.is_blind() {
                    self.since = since;
                }
            }
            // It was on its way.
            Standing::Cleared(_) | Standing::Stands => {}
            Standing::Void => self.stand(now),
        }
        (self.reason, self.published) = (reason, Some(now));
    }

    pub(super) fn trial_refused(&mut self, reason: BrokerRefusal, now: Millis) {
        match self.standing {
            Standing::Cleared(_) => self.stand(now),
            Standing::Void if reason != self.reason => self.stand(now),
            Standing::Void | Standing::Stands => {}
        }
        (self.reason, self.tried) = (reason, Some(now));
    }
}
