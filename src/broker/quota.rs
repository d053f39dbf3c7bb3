//! Publishers' use of a bounded resource: pure.
//!
//! All of them together stay within a bound, and each alone within three quarters of it, so that
//! nobody can leave nothing to the others. A [`Window`] forgets what was taken up long ago.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::PublisherClass;
use crate::clock::Millis;

/// The present use.
///
/// Use beyond a publisher's share is counted for that publisher alone: others have theirs.
#[derive(Debug)]
pub(super) struct Quota {
    max: usize,
    by: BTreeMap<PublisherClass, usize>,
}

impl Quota {
    /// Nothing is taken up.
    pub(super) fn new(max: usize) -> Self {
        Self { max, by: BTreeMap::new() }
    }

    /// Whether `publisher` may use so much more.
    pub(super) fn fits(&self, publisher: PublisherClass, amount: usize) -> bool {
        let own = self.by.get(&publisher).copied().unwrap_or_default();
        self.all() + amount <= self.max && own + amount <= self.share()
    }

    /// The share of one publisher.
    fn share(&self) -> usize {
        self.max - self.max / 4
    }

    /// `publisher` uses so much more.
    pub(super) fn take(&mut self, publisher: PublisherClass, amount: usize) {
        *self.by.entry(publisher).or_default() += amount;
    }

    /// `publisher` returns what it used.
    pub(super) fn give_back(&mut self, publisher: PublisherClass, amount: usize) {
        if let Some(own) = self.by.get_mut(&publisher) {
            *own = own.saturating_sub(amount);
        }
    }

    /// All that is taken up within the shares.
    pub(super) fn all(&self) -> usize {
        self.by.values().map(|own| *own.min(&self.share())).sum()
    }
}

/// A window is forgotten in so many parts, one after the other.
const PARTS: u32 = 30;

/// The use within a past period, give or take a thirtieth of it.
#[derive(Debug)]
pub(super) struct Window {
    quota: Quota,
    part: Duration,
    /// Until when each part counts, and what was taken up in it.
    parts: VecDeque<(Millis, BTreeMap<PublisherClass, usize>)>,
}

/// A part of a [`Window`] on its way to another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WindowPart {
    /// It counts for so long from now on.
    pub(super) left: Duration,
    pub(super) taken: BTreeMap<PublisherClass, usize>,
}

impl Window {
    /// At most `max` within `span`.
    pub(super) fn new(max: usize, span: Duration) -> Self {
        Self { quota: Quota::new(max), part: span / PARTS, parts: VecDeque::new() }
    }

    /// Whether `publisher` may use so much more now.
    pub(super) fn fits(&mut self, publisher: PublisherClass, amount: usize, now: Millis) -> bool {
        self.forget(now);
        self.quota.fits(publisher, amount)
    }

    /// `publisher` uses so much more.
    pub(super) fn take(&mut self, publisher: PublisherClass, amount: usize, now: Millis) {
        self.forget(now);
        self.quota.take(publisher, amount);
        let (part, until) = (self.part, now + self.span());
        if self.parts.back().is_none_or(|(newest, _)| until - *newest >= part) {
            self.parts.push_back((until, BTreeMap::new()));
        }
        if let Some((_, newest)) = self.parts.back_mut() {
            *newest.entry(publisher).or_default() += amount;
        }
    }

    /// `publisher` has not needed what it took a moment ago.
    pub(super) fn give_back(&mut self, publisher: PublisherClass, amount: usize) {
        let mut left = amount;
        for (_, taken) in self.parts.iter_mut().rev() {
            let Some(own) = taken.get_mut(&publisher) else { continue };
            let some = left.min(*own);
            *own -= some;
            left -= some;
            self.quota.give_back(publisher, some);
            if left == 0 {
                return;
            }
        }
    }

    /// All of it, for another process.
    pub(super) fn record(&self, now: Millis) -> Vec<WindowPart> {
        let part = |(until, taken): &(Millis, BTreeMap<PublisherClass, usize>)| WindowPart {
            left: *until - now,
            taken: taken.clone(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Takes over what was taken up in another process, which is all that there is.
    pub(super) fn restore(&mut self, parts: Vec<WindowPart>, now: Millis) {
        for WindowPart { left, taken } in parts {
            for (publisher, amount) in &taken {
                self.quota.take(*publisher, *amount);
            }
            self.parts.push_back((now + left.min(self.span()), taken));
        }
    }

    /// How much there is of it.
    pub(super) fn max(&self) -> usize {
        self.quota.max
    }

    /// How long a part counts: taken up at its end, it still does so for the whole span.
    fn span(&self) -> Duration {
        self.part * (PARTS + 1)
    }

    fn forget(&mut self, now: Millis) {
        while self.parts.front().is_some_and(|(until, _)| *until <= now) {
            for (publisher, amount) in self.parts.pop_front().into_iter().flat_map(|(_, by)| by) {
                self.quota.give_back(publisher, amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PublisherClass::{Anonymous, Api};

    const SPAN: Duration = Duration::from_secs(300);

    #[test]
    fn one_publisher_leaves_a_quarter_to_the_others() {
        let mut quota = Quota::new(100);
        assert!(quota.fits(Anonymous, 75) && !quota.fits(Anonymous, 76));
        quota.take(Anonymous, 75);
        assert!(!quota.fits(Anonymous, 1) && quota.fits(Api, 25) && !quota.fits(Api, 26));
        quota.give_back(Anonymous, 5);
        assert!(quota.fits(Anonymous, 5) && quota.fits(Api, 30));
        quota.take(Anonymous, 1000);
        assert!(quota.fits(Api, 25), "what is too much is not taken from others");
        quota.give_back(Anonymous, 2000);
        assert_eq!(quota.all(), 0);
    }

    /// Usage counts for its time and not much longer.
    #[test]
    fn usage_counts_for_its_time() {
        let mut window = Window::new(100, SPAN);
        let at = |secs: u64| Millis(secs * 1000);
        window.take(Api, 40, at(0));
        window.take(Api, 30, at(9));
        assert!(!window.fits(Api, 10, at(308)) && window.fits(Api, 5, at(308)));
        assert!(window.fits(Api, 75, at(310)), "forgotten: the last was 301 seconds ago");
        for secs in 0..10_000 {
            window.take(Anonymous, 0, at(400 + secs));
            assert!(window.parts.len() <= PARTS as usize + 1);
        }
    }

    /// A share that was not needed goes back to the sender that took it.
    #[test]
    fn an_unneeded_share_goes_back_to_its_taker() {
        let mut window = Window::new(100, SPAN);
        window.take(Api, 40, Millis(0));
        window.take(Api, 30, Millis(20_000));
        window.give_back(Anonymous, 10);
        window.give_back(Api, 35);
        assert_eq!(window.quota.all(), 35);
        window.forget(Millis(10_000_000));
        assert_eq!(window.quota.all(), 0);
    }

    /// A share that was taken up in another process counts as long as it would have there.
    #[test]
    fn a_share_counts_on_in_another_process() {
        let mut old = Window::new(100, SPAN);
        old.take(Api, 40, Millis(1_000_000));
        old.take(Anonymous, 30, Millis(1_200_000));
        let mut new = Window::new(100, SPAN);
        new.restore(old.record(Millis(1_250_000)), Millis(7));
        // The new process's clock is at 7 when the old one's is at 1,250,000.
        for later in [0, 59_999, 60_000, 259_999, 260_000] {
            let fits = |window: &mut Window, now| {
                [30, 31, 60, 61, 70, 71, 75].map(|amount| window.fits(Api, amount, Millis(now)))
            };
            assert_eq!(fits(&mut new, 7 + later), fits(&mut old, 1_250_000 + later), "{later}");
        }
        assert!(
            !new.fits(Anonymous, 76, Millis(400_000)) && new.fits(Anonymous, 75, Millis(400_000))
        );
    }
}
