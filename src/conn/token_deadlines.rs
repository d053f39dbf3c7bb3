//! When a client is told that its token expires, and when it has to go: pure.
//!
//! The time that a token has left is measured once, when it is verified, and from then on runs on
//! the monotonic clock: a wall clock that is set meanwhile ends no client early, and keeps none.
//! Thousands of clients may have verified tokens at the same moment, or tokens that expire at the
//! same moment: so each one's moments are drawn from windows, and draws that follow one another
//! lie far apart, so that the windows fill evenly.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    limits::{TOKEN_GRACE_MAX, TOKEN_GRACE_SHARE, TOKEN_REMINDER_SHARES},
};

/// Numbers from 0 to 1. Any sequence of them is spread evenly: multiples of the golden ratio, of
/// which the next one always lies in one of the widest gaps.
#[derive(Debug)]
pub(super) struct EvenDraws(f64);

impl EvenDraws {
    /// Numbers that begin anywhere.
    pub(super) fn new() -> Self {
        Self(fastrand::f64())
    }

    fn next(&mut self) -> f64 {
        const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;
        self.0 = (self.0 + GOLDEN_RATIO).fract();
        self.0
    }

    fn within(&mut self, window: RangeInclusive<f64>) -> f64 {
        window.start() + (window.end() - window.start()) * self.next()
    }
}

/// The moments of one client's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenDeadlines {
    /// From then on the token is void.
    expires: Millis,
    /// Then the client is told; None: it has been, or cannot be.
    remind: Option<Millis>,
    /// Then it has to go.
    end: Millis,
    /// The end was put off.
    is_postponed: bool,
}

/// The action due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenAction {
    /// Nothing until then.
    Wait(Millis),
    /// Tell the client that its token expires in so much time; look again then.
    Remind(Duration, Millis),
    /// It has to go.
    End,
}

/// Draws the moments of clients.
#[derive(Debug)]
pub(super) struct TokenClock {
    reminders: EvenDraws,
    ends: EvenDraws,
}

impl TokenClock {
    pub(super) fn new() -> Self {
        Self { reminders: EvenDraws::new(), ends: EvenDraws::new() }
    }

    /// The moments of a token that was verified `now` and expires at `expires`.
    pub(super) fn draw(&mut self, now: Millis, expires: Millis, is_told: bool) -> TokenDeadlines {
        let left = expires - now;
        let grace = left.mul_f64(TOKEN_GRACE_SHARE).min(TOKEN_GRACE_MAX);
        let remind = || now + left.mul_f64(self.reminders.within(TOKEN_REMINDER_SHARES));
        TokenDeadlines {
            expires,
            remind: is_told.then(remind),
            end: expires + grace.mul_f64(self.ends.next()),
            is_postponed: false,
        }
    }
}

/// The moments of one client's token, as seen from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeadlinesRecord {
    expires_in_ms: u64,
    #[serde(default)]
    remind_in_ms: Option<u64>,
    end_in_ms: u64,
    #[serde(default)]
    is_postponed: bool,
}

impl TokenDeadlines {
    /// The moments as seen from `now`.
    pub(super) fn record(&self, now: Millis) -> DeadlinesRecord {
        let left = |until: Millis| until.0.saturating_sub(now.0);
        DeadlinesRecord {
            expires_in_ms: left(self.expires),
            remind_in_ms: self.remind.map(left),
            end_in_ms: left(self.end),
            is_postponed: self.is_postponed,
        }
    }

    /// The moments that were recorded, as seen from `now`.
    pub(super) fn restore(record: DeadlinesRecord, now: Millis) -> Self {
        let after = |left_ms| now + Duration::from_millis(left_ms);
        Self {
            expires: after(record.expires_in_ms),
            remind: record.remind_in_ms.map(after),
            end: after(record.end_in_ms),
            is_postponed: record.is_postponed,
        }
    }

    /// The first moment at which something is due.
    pub(super) fn first(&self) -> Millis {
        self.remind.unwrap_or(self.end)
    }

    /// Puts the end off until then, once. Whether it is.
    pub(super) fn postpone_end(&mut self, until: Millis) -> bool {
        let may = !self.is_postponed;
        if may {
            self.is_postponed = true;
            self.end = until;
        }
        may
    }

    /// The action due `now`.
    pub(super) fn on_deadline(&mut self, now: Millis) -> TokenAction {
        if now >= self.end {
            return TokenAction::End;
        }
        match self.remind {
            Some(remind) if now >= remind => {
                self.remind = None;
                TokenAction::Remind(self.expires - now, self.end)
            }
            _ => TokenAction::Wait(self.first()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    /// How many of `moments` lie in each second.
    fn by_second(moments: impl Iterator<Item = Millis>) -> Vec<usize> {
        let mut seconds = std::collections::BTreeMap::<u64, usize>::new();
        for moment in moments {
            *seconds.entry(moment.0 / 1000).or_default() += 1;
        }
        let (first, last) = (*seconds.keys().next().unwrap(), *seconds.keys().last().unwrap());
        (first..=last).map(|second| seconds.get(&second).copied().unwrap_or_default()).collect()
    }

    /// Ten thousand clients whose tokens expire in the same minute. The mean is that of the window
    /// that the moments are drawn from.
    #[test]
    fn clients_that_expire_together_are_told_apart() {
        for minutes in [5, 15, 60] {
            for spread_ms in [0, MINUTE_MS] {
                let mut clock = TokenClock::new();
                let left_ms = minutes * MINUTE_MS;
                let expires = (0..10_000).map(|n| Millis(left_ms + n * spread_ms / 10_000));
                let drawn: Vec<_> =
                    expires.map(|expires| clock.draw(Millis(0), expires, true)).collect();
                let told = by_second(drawn.iter().map(|one| one.remind.unwrap()));
                let mean = 10_000.0 / (left_ms as f64 / 1000.0 * 0.15);
                let most = *told.iter().max().unwrap() as f64;
                assert!(most <= 1.5 * mean, "{minutes} min, {spread_ms} ms: {most} of {mean}");
                let ends = by_second(drawn.iter().map(|one| one.end));
                let most = *ends.iter().max().unwrap();
                assert!(most <= 1_500, "{minutes} min, {spread_ms} ms: {most} a second");
            }
        }
    }

    /// The moments of one client lie in their windows.
    #[test]
    fn moments_lie_in_their_windows() {
        let mut clock = TokenClock::new();
        let now = Millis(1_000_000);
        for (left_ms, grace_ms) in [(1_000_000, 10_000), (50_000, 5_000), (10, 1), (0, 0)] {
            for _ in 0..1_000 {
                let expires = Millis(now.0 + left_ms);
                let TokenDeadlines { remind, end, .. } = clock.draw(now, expires, true);
                let remind_ms = remind.unwrap().0 - now.0;
                let window = left_ms * 75 / 100..=left_ms * 90 / 100;
                assert!(window.contains(&remind_ms), "{remind_ms} of {left_ms}");
                let late_ms = end.0 - expires.0;
                assert!(late_ms <= grace_ms, "{late_ms} after {left_ms}");
            }
        }
    }

    #[test]
    fn a_client_is_told_once_and_has_to_go() {
        let mut client = TokenDeadlines {
            expires: Millis(1000),
            remind: Some(Millis(800)),
            end: Millis(1050),
            is_postponed: false,
        };
        assert_eq!(client.on_deadline(Millis(799)), TokenAction::Wait(Millis(800)));
        let told = TokenAction::Remind(Duration::from_millis(190), Millis(1050));
        assert_eq!(client.on_deadline(Millis(810)), told);
        assert_eq!(client.on_deadline(Millis(811)), TokenAction::Wait(Millis(1050)));
        assert_eq!(client.on_deadline(Millis(1049)), TokenAction::Wait(Millis(1050)));
        assert_eq!(client.on_deadline(Millis(1050)), TokenAction::End);
        let mut untold = TokenClock::new().draw(Millis(0), Millis(1000), false);
        assert_eq!(untold.on_deadline(Millis(900)), TokenAction::Wait(untold.end));
    }
}
