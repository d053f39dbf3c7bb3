//! A process whose name for Redis leads to another, empty one for a while, and back.

use std::rc::Rc;

use fred::types::Value;

use super::{PROCESSES, SHARDS_EACH, World, held::Held, model::Redis};
use crate::broker::redis::{
    commands::{call_error::CallError, stand_in::StandIn},
    protocol::scripts::Script,
};

/// Redis as one process sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) redis: Rc<Redis>,
    pub(super) process: usize,
}

impl StandIn for View {
    fn answer(&self, script: &Script, args: Vec<Value>) -> Result<Value, CallError> {
        self.redis.answer(self.process, script, args)
    }
}

impl Redis {
    /// The process is led elsewhere, where nothing is; its connections end.
    fn leave(&self, process: usize) {
        self.elsewhere.replace(Held::default());
        self.away.set(Some(process));
        self.leaves.set(self.leaves.get() + 1);
        self.move_lines(process);
    }

    pub(super) fn come_back(&self) {
        if let Some(process) = self.away.take() {
            self.move_lines(process);
        }
    }

    /// Messages under way may still come.
    fn move_lines(&self, process: usize) {
        // The process may know only a part of a history.
        self.losses.set(self.losses.get() + 2);
        self.failovers.set(self.failovers.get() + 1);
        self.reigns.borrow_mut()[process] += 1;
        let first = process * SHARDS_EACH;
        let mut lines = self.lines.borrow_mut();
        lines[first..first + SHARDS_EACH]
            .iter_mut()
            .flatten()
            .for_each(|line| line.is_stale = true);
    }

    fn publish_elsewhere(&self) {
        self.publish_in(&self.elsewhere, true);
    }
}

/// How a process may be led elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leading {
    /// It is not.
    Never,
    /// Where nobody publishes.
    IntoSilence,
    /// Where it continues to publish.
    IntoAnother,
}

impl World {
    /// Takes the place of the server that loses data.
    pub(super) fn lead(&mut self) {
        if self.redis.away.get().is_none() {
            self.redis.leave(self.random.usize(0..PROCESSES));
        } else if self.leading == Leading::IntoAnother && self.random.u8(0..3) > 0 {
            self.redis.publish_elsewhere();
        } else {
            self.redis.come_back();
        }
    }

    /// A connection was made.
    pub(super) fn note_where(&mut self, shard: usize) {
        if self.redis.away.get() == Some(shard / SHARDS_EACH) {
            self.shards[shard].listener.is_elsewhere(self.redis.leaves.get());
        }
    }
}
