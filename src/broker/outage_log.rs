//! The reasons why Redis cannot be used, logged each at once, and again every minute while they
//! last, however many threads find them and however often. Nothing here does IO or waits.

use std::sync::{Mutex, PoisonError};

use crate::{
    clock::Millis,
    limits::{LOG_COUNT_INTERVAL, OUTAGE_REASONS_MAX, OUTAGE_REPEAT, OUTAGE_UNEXPLAINED},
};

/// The reasons logged within the last minute.
#[derive(Debug, Default)]
pub(super) struct OutageLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Vec<Told>,
    /// A reason was logged since Redis was last in reach.
    is_explained: bool,
}

#[derive(Debug)]
struct Told {
    reason: String,
    at: Millis,
    /// Redis was in reach since.
    is_over: bool,
}

impl OutageLog {
    /// Redis is out of reach, for this reason.
    pub(super) fn out_of_reach(&self, reason: &str, now: Millis) {
        self.state().is_explained = true;
        match self.is_due(reason, now) {
            true => tracing::warn!(%reason, "Redis is out of reach; trying again and again"),
            false => tracing::debug!(%reason, "Redis is still out of reach"),
        }
    }

    /// Redis is out of reach `since` then; that is said, too, if nobody knows why.
    pub(super) fn out_of_reach_since(&self, since: Millis, now: Millis) {
        if now - since >= OUTAGE_UNEXPLAINED && !self.state().is_explained {
            const ODD: &str = "Redis is connected to, and what is published there does not come \
                               back through the subscriptions: is there a proxy or a balancer \
                               that leads to several servers?";
            match self.is_due(ODD, now) {
                true => tracing::warn!(reason = ODD, "Redis is out of reach"),
                false => tracing::debug!(reason = ODD, "Redis is still out of reach"),
            }
        }
    }

    /// Redis is in reach and refuses something that is needed.
    pub(super) fn refused(&self, reason: &str, now: Millis) {
        match self.is_due(reason, now) {
            true => tracing::warn!("{reason}"),
            false => tracing::debug!("{reason}"),
        }
    }

    /// Whether `reason` is to be logged now. No more than [`OUTAGE_REASONS_MAX`] in a minute are.
    fn is_due(&self, reason: &str, now: Millis) -> bool {
        let mut state = self.state();
        state.told.retain(|told| {
            let keep = if told.is_over { LOG_COUNT_INTERVAL } else { OUTAGE_REPEAT };
            now - told.at < keep
        });
        let is_known = state.told.iter().any(|told| told.reason == reason);
        if is_known || state.told.len() >= OUTAGE_REASONS_MAX {
            return false;
        }
        state.told.push(Told { reason: reason.to_owned(), at: now, is_over: false });
        true
    }

    /// Redis is in reach: the next reason belongs to another outage, unless Redis comes and goes.
    pub(super) fn over(&self) {
        let mut state = self.state();
        state.is_explained = false;
        state.told.iter_mut().for_each(|told| told.is_over = true);
    }

    /// A panic elsewhere leaves whole entries: go on.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Millis {
        Millis(1_000 * (1_000 + seconds))
    }

    /// Each reason is logged at once, and every minute while it lasts.
    #[test]
    fn each_reason_is_told_at_once_and_every_minute() {
        let reasons = OutageLog::default();
        let mut told = Vec::new();
        for second in 0..=125 {
            for _ in 0..3 {
                if reasons.is_due("refused", at(second)) {
                    told.push(("refused", second));
                }
            }
            if (7..20).contains(&second) && reasons.is_due("silent", at(second)) {
                told.push(("silent", second));
            }
        }
        assert_eq!(told, [("refused", 0), ("silent", 7), ("refused", 60), ("refused", 120)]);
    }

    /// The next outage is logged too, but one that comes and goes is not each time.
    #[test]
    fn the_next_outage_is_told_too() {
        let reasons = OutageLog::default();
        assert!(reasons.is_due("refused", at(0)));
        reasons.over();
        let told = (0..20).filter(|second| {
            let is_due = reasons.is_due("refused", at(*second));
            reasons.over();
            is_due
        });
        assert_eq!(told.collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn reasons_that_are_ever_others_do_not_fill_the_log() {
        let reasons = OutageLog::default();
        let tell = |second| {
            let others = (0..1_000).map(|number| format!("{second} {number}"));
            others.filter(|reason| reasons.is_due(reason, at(second))).count()
        };
        let told: usize = (0..60).map(tell).sum();
        assert_eq!(told, OUTAGE_REASONS_MAX);
        assert_eq!(tell(60), OUTAGE_REASONS_MAX);
    }
}
