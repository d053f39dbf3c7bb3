//! A bound on the cost of the ops routes: a share of the thread's time, in turns.
//!
//! A client with the right to look may do so a thousand times at once, on hundreds of connections,
//! and the thread has other work: the periodic notice, the drain, other clients' probes. So a
//! limited number of requests is answered, in order, before all other ready tasks have had their
//! turn; and a long text is written anew only while writing it has not taken too much of the time
//! lately. Otherwise the request gets the last text, which is some milliseconds old.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::yield_now, time::Instant};

use crate::{
    clock::Clock,
    limits::{LOOKS_CREDIT_MAX, LOOKS_PER_TURN, LOOKS_TIME_SHARE},
};

/// The turns of one thread's listeners.
#[derive(Debug)]
pub struct OpsPacer(Semaphore);

impl Default for OpsPacer {
    fn default() -> Self {
        Self(Semaphore::new(LOOKS_PER_TURN))
    }
}

impl OpsPacer {
    /// Waits for a turn: all that is ready has run since, and at most so many others were let
    /// through meanwhile.
    ///
    /// # Cancel safety
    /// May be dropped: the turn goes to the next.
    pub(super) async fn next(&self) {
        let _held_for_a_round = self.0.acquire().await;
        yield_now().await;
    }
}

/// A text about this moment, or nearly.
pub struct Text {
    clock: Clock,
    make: Rc<dyn Fn() -> String>,
    last: RefCell<Bytes>,
    spent: Cell<Spent>,
}

/// Time that making the text has taken, beyond what was granted for it.
#[derive(Clone, Copy, Debug)]
struct Spent {
    time: Duration,
    at: Instant,
}

impl Spent {
    /// At `now`: a share of the time that has passed is forgotten.
    fn at(self, now: Instant) -> Self {
        let granted = now.saturating_duration_since(self.at) / LOOKS_TIME_SHARE;
        Self { time: self.time.saturating_sub(granted), at: now }
    }

    fn may_go_on(self) -> bool {
        self.time < LOOKS_CREDIT_MAX
    }
}

impl Text {
    /// A text that `make` writes; `clock` tells how long that takes.
    #[must_use]
    pub fn new(clock: Clock, make: impl Fn() -> String + 'static) -> Self {
        let spent = Cell::new(Spent { time: Duration::ZERO, at: clock.instant() });
        Self { clock, make: Rc::new(make), last: RefCell::default(), spent }
    }

    /// The text now, or the last one if there is no time left to make it.
    pub(super) fn now(&self) -> Bytes {
        let before = self.clock.instant();
        let spent = self.spent.get().at(before);
        if spent.may_go_on() || self.last.borrow().is_empty() {
            let text = Bytes::from((self.make)());
            let now = self.clock.instant();
            self.spent.set(Spent { time: spent.time + (now - before), at: now });
            self.last.replace(text);
        }
        self.last.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    /// A text that says how often it was made, and takes so long to be made.
    fn counting(takes: Duration) -> (Text, Rc<Cell<u32>>) {
        let made = Rc::new(Cell::new(0));
        let count = made.clone();
        let text = Text::new(Clock::start(), move || {
            count.set(count.get() + 1);
            advance(takes).now_or_never();
            count.get().to_string()
        });
        (text, made)
    }

    #[tokio::test(start_paused = true)]
    async fn occasional_requests_get_a_text_of_this_moment() {
        let (text, _) = counting(Duration::from_millis(5));
        for round in 1..100 {
            assert_eq!(text.now(), round.to_string());
            advance(Duration::from_millis(5) * LOOKS_TIME_SHARE).await;
        }
    }

    /// A flood of questions takes a share of the time and no more.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_ops_requests_is_paced() {
        let (text, made) = counting(Duration::from_millis(5));
        let begun = text.clock.instant();
        while begun.elapsed() < Duration::from_secs(10) {
            for _ in 0..100 {
                text.now();
            }
            advance(Duration::from_millis(1)).await;
        }
        let took = Duration::from_millis(5) * made.get();
        let granted = begun.elapsed() / LOOKS_TIME_SHARE + LOOKS_CREDIT_MAX;
        assert!(took <= granted + Duration::from_millis(10), "{took:?} of {granted:?}");
        assert!(took >= granted / 2, "and it is made anew all the same");
    }

    /// Everything else that is ready runs between two turns.
    #[tokio::test]
    async fn other_ready_work_runs_between_two_turns() {
        let turns = OpsPacer::default();
        let passed = Cell::new(0);
        let most = Cell::new(0);
        let asking = (0..10 * LOOKS_PER_TURN).map(|_| async {
            turns.next().await;
            passed.set(passed.get() + 1);
        });
        let asking = futures_util::future::join_all(asking);
        let beside = async {
            loop {
                let before = passed.get();
                yield_now().await;
                most.set((passed.get() - before).max(most.get()));
            }
        };
        tokio::select! {
            biased;
            () = beside => {}
            _ = asking => {}
        }
        assert_eq!(passed.get(), 10 * LOOKS_PER_TURN);
        assert!(most.get() <= 2 * LOOKS_PER_TURN, "{}", most.get());
    }
}
