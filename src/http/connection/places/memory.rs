//! The memory that HTTP connections make their thread hold: one budget, and one way to be charged.
//!
//! Input (unfinished heads, bodies) has one part of it; work and output (batches with their
//! results, answers that are not read) have the other, so that neither blocks the other. Each
//! charge belongs to the connection that causes it. When room is short, the first connections to be
//! closed are those that keep the server waiting: idle and unfinished ones, then those that have
//! moved no byte of a body or an answer for a while. A connection by itself always gets the memory
//! it needs.

use std::{io, rc::Rc};

use tokio::time::timeout;

use super::{
    Places, Standing,
    budget::{Bytes, Part},
};
use crate::{
    limits::{
        HTTP_BUFFERS_FREE_BYTES, HTTP_CROWDED_LOOK, HTTP_INPUT_BYTES_MAX, HTTP_LITTLE_WORK_BYTES,
        HTTP_MEMORY_PATIENCE, HTTP_MEMORY_WAIT, HTTP_MUCH_WORK_BYTES_MAX, HTTP_PATIENCE,
        HTTP_WORK_BYTES_MAX,
    },
    metrics::Dismissed,
};

/// The memory held for one request, returned on drop.
pub(in crate::http) struct Charge {
    standing: Rc<Standing>,
    bytes: Bytes,
}

impl Places {
    /// The memory of all connections.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.memory.held.of(Part::Input) + self.memory.held.of(Part::Work)
    }

    /// Dismisses a connection that holds some of `part`, to make room for `one`.
    fn free_memory(&self, part: Part, one: &Standing) -> bool {
        let now = self.clock.instant();
        let holds = |other: &Standing| other.held.of(part) > 0 && !std::ptr::eq(other, one);
        let waiting = |other: &Standing| {
            let waited = now.saturating_duration_since(other.since.get());
            (holds(other) && other.is_waiting() && waited >= HTTP_PATIENCE).then_some(waited)
        };
        let stuck = |other: &Standing| {
            let stuck = now.saturating_duration_since(other.moved.get().max(other.since.get()));
            (holds(other) && other.is_half_done() && stuck >= HTTP_MEMORY_PATIENCE).then_some(stuck)
        };
        let found = self.largest(waiting).or_else(|| self.largest(stuck));
        found.inspect(|other| self.send_away(other, Dismissed::Memory)).is_some()
    }

    /// The connection for which `measure` is largest.
    fn largest<T: Ord>(&self, measure: impl Fn(&Standing) -> Option<T>) -> Option<Rc<Standing>> {
        let seated = self.seated.borrow();
        let measured = seated.iter().filter_map(|(_, one)| Some((measure(one)?, one)));
        measured.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, one)| one.clone())
    }
}

impl Standing {
    /// A share of the budget for a request of this connection.
    pub(in crate::http) fn charge(self: &Rc<Self>) -> Charge {
        Charge { standing: self.clone(), bytes: Bytes::default() }
    }

    /// The connection's buffers have grown to `bytes` beyond what each has; `false`: there is no
    /// room for them.
    pub(in crate::http) fn hold(&self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.buffers.get());
        let fits = self.take(Part::Input, more, HTTP_INPUT_BYTES_MAX);
        if fits {
            self.buffers.set(self.buffers.get() + more);
        }
        fits
    }

    /// The connection's buffers have grown to `bytes`, part of which each has and is not charged.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(in crate::http) fn hold_buffers(&self, bytes: usize) -> io::Result<()> {
        match self.hold(bytes.saturating_sub(HTTP_BUFFERS_FREE_BYTES)) {
            true => Ok(()),
            false => Err(io::Error::other("all connections together hold too much")),
        }
    }

    /// A byte has come from the peer, or gone to it.
    pub(in crate::http) fn has_moved(&self) {
        self.moved.set(self.now());
    }

    /// Takes `bytes` if all together then hold no more than `most`, or no other one holds any.
    fn take(&self, part: Part, bytes: usize, part_max: usize) -> bool {
        let held = &self.places.memory.held;
        while bytes > 0 && held.of(part) + bytes > part_max && held.of(part) > self.held.of(part) {
            if !self.places.free_memory(part, self) {
                return false;
            }
        }
        self.held.add(part, bytes);
        held.add(part, bytes);
        true
    }

    /// The memory of a dismissed connection was returned at once.
    fn give_back(&self, part: Part, bytes: usize) {
        let bytes = bytes.min(self.held.of(part));
        if bytes > 0 {
            let memory = &self.places.memory;
            self.held.sub(part, bytes);
            memory.held.sub(part, bytes);
            memory.freed.notify_waiters();
        }
    }

    pub(in crate::http) fn hold_nothing(&self) {
        self.give_back(Part::Input, usize::MAX);
        self.give_back(Part::Work, usize::MAX);
    }
}

impl Charge {
    /// Grows to `bytes` for what comes in; `false`: there is no room.
    pub(in crate::http) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes.of(Part::Input));
        self.add(Part::Input, more, HTTP_INPUT_BYTES_MAX)
    }

    /// The input has been dropped.
    pub(in crate::http) fn input_is_gone(&mut self) {
        self.shrink(Part::Input, 0);
    }

    /// Takes `bytes` for an answer; `false`: there is no room.
    pub(in crate::http) fn add_answer(&mut self, bytes: usize) -> bool {
        self.add(Part::Work, bytes, HTTP_WORK_BYTES_MAX)
    }

    /// Takes `bytes` for work as soon as there is room, in line with others unless it is little;
    /// `false`: there is none in time.
    ///
    /// # Cancel safety
    /// May be dropped: nothing more is taken then.
    pub(in crate::http) async fn wait_for(&mut self, bytes: usize) -> bool {
        if bytes <= HTTP_LITTLE_WORK_BYTES && self.add(Part::Work, bytes, HTTP_WORK_BYTES_MAX) {
            return true;
        }
        let places = self.standing.places.clone();
        let waiting = async {
            let _first = places.memory.line.acquire().await;
            loop {
                let freed = places.memory.freed.notified();
                if self.add(Part::Work, bytes, HTTP_MUCH_WORK_BYTES_MAX) {
                    return;
                }
                // A connection that gets stuck is not reported, so this is looked at again.
                let _ = timeout(HTTP_CROWDED_LOOK, freed).await;
            }
        };
        timeout(HTTP_MEMORY_WAIT, waiting).await.is_ok()
    }

    /// Gives back what was taken for work but `bytes`.
    pub(in crate::http) fn shrink_to(&mut self, bytes: usize) {
        self.shrink(Part::Work, bytes);
    }

    fn add(&mut self, part: Part, bytes: usize, part_max: usize) -> bool {
        let fits = self.standing.take(part, bytes, part_max);
        self.bytes.add(part, if fits { bytes } else { 0 });
        fits
    }

    fn shrink(&mut self, part: Part, bytes: usize) {
        let less = self.bytes.of(part).saturating_sub(bytes);
        self.bytes.sub(part, less);
        self.standing.give_back(part, less);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(Part::Input, 0);
        self.shrink(Part::Work, 0);
    }
}
