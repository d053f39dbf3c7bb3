//! Generations of connections: which of the process's connections lead to where Redis is now.
//!
//! A host name, or an address with a proxy behind it, may lead elsewhere from one moment to the
//! next, and open connections do not move with it. So every connection belongs to a generation.
//! When the process finds out that those of the present generation do not all lead to the one
//! server behind the name, it begins a new generation: all connections, for publishing and for
//! listening, are opened anew by name. A connection of an earlier generation says nothing about the
//! present one. In a cluster each primary's name is followed by itself (`node_ids`). Nothing here
//! does IO.

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
pub(crate) struct Generation(u64);

/// The present generation, and whether it is suspected to be over.
#[derive(Debug)]
pub(crate) struct Generations {
    generation: watch::Sender<Generation>,
    moves: Mutex<MoveBackoff>,
    suspected: watch::Sender<Option<Generation>>,
    /// The generation is suspected, or a command was refused: the control thread is to look now.
    pub(crate) look_wanted: Notify,
}

/// The pause between two moves: it doubles while a name leads here and there.
#[derive(Debug, Default)]
pub(super) struct MoveBackoff {
    last: Option<Millis>,
    pause: Duration,
}

impl Generations {
    pub(crate) fn new() -> Self {
        Self {
            generation: watch::Sender::default(),
            moves: Mutex::default(),
            suspected: watch::Sender::default(),
            look_wanted: Notify::new(),
        }
    }

    /// The present generation: to be read before a connection is begun.
    pub(crate) fn current(&self) -> Generation {
        *self.generation.borrow()
    }

    /// Whether `generation` is over.
    pub(crate) fn is_over(&self, generation: Generation) -> bool {
        self.current() > generation
    }

    /// Resolves when `generation` is over.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub(crate) async fn ended(&self, generation: Generation) {
        let mut present = self.generation.subscribe();
        if present.wait_for(|present| *present > generation).await.is_err() {
            // The sender is gone: it never resolves.
            std::future::pending::<()>().await;
        }
    }

    /// A server that was connected to in `generation` says that it is not the one.
    pub(crate) fn suspect(&self, generation: Generation) {
        if !self.is_over(generation) {
            self.suspected.send_replace(Some(generation));
            self.look_wanted.notify_one();
        }
    }

    /// Whether the present generation is suspected to be over.
    pub(crate) fn is_suspected(&self) -> bool {
        self.suspected.borrow().is_some_and(|generation| !self.is_over(generation))
    }

    /// Ends `generation`, unless it is over, or another one ended a moment ago: where a name leads
    /// to one server now and to another then, the process does not run back and forth.
    pub(super) fn end(&self, generation: Generation, now: Millis) -> bool {
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_over(generation) || !moves.may_move(now) {
            return false;
        }
        self.generation.send_modify(|generation| generation.0 += 1);
        true
    }
}

impl MoveBackoff {
    /// Whether the connections may move now; if so, the move is counted.
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
    fn a_generation_ends_once_however_many_say_so() {
        let generations = Generations::new();
        let first = generations.current();
        assert!(generations.ended(first).now_or_never().is_none());
        assert!(generations.end(first, at(0)));
        assert!(generations.ended(first).now_or_never().is_some());
        let second = generations.current();
        for _ in 0..100 {
            generations.suspect(first);
            assert!(!generations.end(first, at(60_000)), "that one is over");
        }
        assert!(!generations.is_suspected());
        assert!(generations.ended(second).now_or_never().is_none());
    }

    #[test]
    fn a_suspicion_is_of_the_present_generation() {
        let generations = Generations::new();
        let first = generations.current();
        generations.suspect(first);
        assert!(generations.is_suspected());
        assert!(generations.end(first, at(0)));
        assert!(!generations.is_suspected(), "the suspicion ends with it");
    }

    /// A name that leads here and there is followed ever more seldom.
    #[test]
    fn an_alternating_name_is_followed_ever_more_seldom() {
        let generations = Generations::new();
        let mut moves = Vec::new();
        for ms in (0..300_000).step_by(100) {
            if generations.end(generations.current(), at(ms)) {
                moves.push(ms);
            }
        }
        assert_eq!(moves[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert!(moves.len() < 20, "{moves:?}");
        let much_later = at(600_000);
        assert!(generations.end(generations.current(), much_later));
        assert!(generations.end(generations.current(), much_later + MOVE_PAUSE_MIN), "it was calm");
    }
}
