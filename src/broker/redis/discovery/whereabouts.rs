//! Which of the process's connections lead to where Redis is now: one number for all its threads.
//!
//! A name, or an address with a proxy behind it, may lead elsewhere from one moment to the next,
//! and connections that stand do not move with it. So every connection belongs to an era. When
//! somebody finds out that those of the present one are not all on the one server that the name
//! leads to, a new era begins: all of them, whoever publishes and whoever listens, are made anew,
//! by name. Who belongs to an era that is over has nothing more to say about the present one. In a
//! cluster each master's name is followed by itself (`homes`).
//! Nothing here does IO.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use crate::{
    clock::Millis,
    limits::{MOVE_CALM, MOVE_PAUSE_MAX, MOVE_PAUSE_MIN},
};

/// A time in which all connections led to one place, as far as was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Era(u64);

/// The present era, and doubts about it.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    era: watch::Sender<Era>,
    moves: Mutex<Moves>,
    doubted: watch::Sender<Option<Era>>,
    /// Somebody doubts, or is refused: it is time for a look.
    pub(crate) news: Notify,
}

/// How often it was moved lately.
#[derive(Debug, Default)]
pub(super) struct Moves {
    last: Option<Millis>,
    pause: Duration,
}

impl Whereabouts {
    pub(crate) fn new() -> Self {
        Self {
            era: watch::Sender::default(),
            moves: Mutex::default(),
            doubted: watch::Sender::default(),
            news: Notify::new(),
        }
    }

    /// The present era: to be read before a connection is begun.
    pub(crate) fn era(&self) -> Era {
        *self.era.borrow()
    }

    /// Whether `era` is over.
    pub(crate) fn is_over(&self, era: Era) -> bool {
        self.era() > era
    }

    /// Resolves when `era` is over.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub(crate) async fn over(&self, era: Era) {
        let mut present = self.era.subscribe();
        if present.wait_for(|present| *present > era).await.is_err() {
            // Nobody is left to say so.
            std::future::pending::<()>().await;
        }
    }

    /// A server that was connected to in `era` says that it is not the one.
    pub(crate) fn doubt(&self, era: Era) {
        if !self.is_over(era) {
            self.doubted.send_replace(Some(era));
            self.news.notify_one();
        }
    }

    /// Whether anybody doubts the present era.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.borrow().is_some_and(|era| !self.is_over(era))
    }

    /// Ends `era`, unless that has been done, or was done a moment ago: where a name leads to one
    /// server now and to another then, nobody is to run back and forth.
    pub(super) fn end(&self, era: Era, now: Millis) -> bool {
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over(era) || !moves.may_move(now) {
            return false;
        }
        self.era.send_modify(|era| era.0 += 1);
        true
    }
}

impl Moves {
    /// Whether it may be moved now, which is noted then.
    pub(super) fn may_move(&mut self, now: Millis) -> bool {
        let Some(last) = self.last else {
            *self = Self { last: Some(now), pause: MOVE_PAUSE_MIN };
            return true;
        };
        if now - last < self.pause {
            return false;
        }
        let is_calm = now - last >= MOVE_CALM.max(self.pause * 2);
        let pause = if is_calm { MOVE_PAUSE_MIN } else { (self.pause * 2).min(MOVE_PAUSE_MAX) };
        *self = Self { last: Some(now), pause };
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn at(ms: u64) -> Millis {
        Millis(1_000_000 + ms)
    }

    #[test]
    fn an_era_ends_once_however_many_say_so() {
        let whereabouts = Whereabouts::new();
        let first = whereabouts.era();
        assert!(whereabouts.over(first).now_or_never().is_none());
        assert!(whereabouts.end(first, at(0)));
        assert!(whereabouts.over(first).now_or_never().is_some());
        let second = whereabouts.era();
        for _ in 0..100 {
            whereabouts.doubt(first);
            assert!(!whereabouts.end(first, at(60_000)), "that one is over");
        }
        assert!(!whereabouts.is_doubted());
        assert!(whereabouts.over(second).now_or_never().is_none());
    }

    #[test]
    fn a_doubt_is_about_the_present_era_only() {
        let whereabouts = Whereabouts::new();
        let first = whereabouts.era();
        whereabouts.doubt(first);
        assert!(whereabouts.is_doubted());
        assert!(whereabouts.end(first, at(0)));
        assert!(!whereabouts.is_doubted(), "with it the doubt is over");
    }

    #[test]
    fn a_name_that_leads_here_and_there_is_followed_ever_more_seldom() {
        let whereabouts = Whereabouts::new();
        let mut moves = Vec::new();
        for ms in (0..300_000).step_by(100) {
            if whereabouts.end(whereabouts.era(), at(ms)) {
                moves.push(ms);
            }
        }
        assert_eq!(moves[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert!(moves.len() < 20, "{moves:?}");
        let much_later = at(600_000);
        assert!(whereabouts.end(whereabouts.era(), much_later));
        assert!(whereabouts.end(whereabouts.era(), much_later + MOVE_PAUSE_MIN), "it was calm");
    }
}
