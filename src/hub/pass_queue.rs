//! The logs that wait for a pass, and how far the sweep over them has got.
//!
//! Each has its turn of a slice; a log that is not done by then goes on after the others, so that
//! a channel with many clients, or long messages, does not hold up the rest. A sweep is over when
//! every log that waited at its beginning has been passed over whole.

use std::collections::VecDeque;

/// A log by its place and its serial.
pub(super) type LogId = (u32, u64);

/// Logs in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct PassQueue {
    /// With the sweep that each belongs to, at the latest.
    waiting: VecDeque<(LogId, u64)>,
    sweep: u64,
    /// How many of the present sweep wait.
    left: usize,
}

impl PassQueue {
    /// A log has news: it is last.
    pub(super) fn push(&mut self, log: LogId) {
        self.waiting.push_back((log, self.sweep + 1));
    }

    /// Whose turn it is.
    pub(super) fn first(&mut self) -> Option<LogId> {
        self.begin_sweep();
        self.waiting.front().map(|&(log, _)| log)
    }

    /// The first is passed over whole. True if that was the last of the sweep.
    pub(super) fn done(&mut self) -> bool {
        let Some((_, sweep)) = self.waiting.pop_front() else { return false };
        if sweep > self.sweep {
            return false;
        }
        self.left -= 1;
        let is_swept = self.left == 0;
        self.begin_sweep();
        is_swept
    }

    /// The first has had its turn and is not done: the others come before it goes on.
    pub(super) fn give_way(&mut self) {
        self.waiting.rotate_left(usize::from(!self.waiting.is_empty()));
    }

    fn begin_sweep(&mut self) {
        if self.left == 0 {
            self.sweep += 1;
            self.left = self.waiting.len();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The one at `place`, which is below [`PassQueue::len`].
    pub(super) fn at(&self, place: usize) -> LogId {
        self.waiting[place].0
    }

    pub(super) fn contains(&self, log: LogId) -> bool {
        self.waiting.iter().any(|&(waiting, _)| waiting == log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_over_when_all_that_waited_at_its_beginning_are_done() {
        let (a, b, c) = ((0, 1), (1, 2), (2, 3));
        let mut queue = PassQueue::default();
        assert!(queue.first().is_none() && !queue.done());
        queue.push(a);
        queue.push(b);
        assert_eq!(queue.first(), Some(a));
        queue.push(c);
        queue.give_way();
        assert_eq!(queue.first(), Some(b));
        assert!(!queue.done(), "a is not");
        assert_eq!(queue.first(), Some(c));
        assert!(!queue.done(), "it came later");
        queue.push(b);
        assert_eq!(queue.first(), Some(a));
        assert!(queue.done());
        assert_eq!(queue.first(), Some(b));
        assert!(queue.done() && queue.is_empty());
    }
}
