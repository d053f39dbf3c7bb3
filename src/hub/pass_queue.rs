//! The logs that wait for a pass, and the progress of the sweep over them.
//!
//! Each log has a turn of one slice; a log that is not finished by then continues after the others,
//! so that a channel with many clients, or with long messages, does not hold up the rest. A sweep
//! is over when every log that waited at its beginning has been passed over completely.

use std::collections::VecDeque;

/// A log by its place and its serial.
pub(super) type LogId = (u32, u64);

/// Logs in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct PassQueue {
    /// Each log with the latest sweep that it belongs to.
    waiting: VecDeque<(LogId, u64)>,
    sweep: u64,
    /// How many logs of the present sweep still wait.
    left: usize,
}

impl PassQueue {
    /// A log has news: it goes to the end.
    pub(super) fn push(&mut self, log: LogId) {
        self.waiting.push_back((log, self.sweep + 1));
    }

    /// The log whose turn it is.
    pub(super) fn first(&mut self) -> Option<LogId> {
        self.begin_sweep();
        self.waiting.front().map(|&(log, _)| log)
    }

    /// The first log has been passed over completely. True if it was the last one of the sweep.
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

    /// The first log has had its turn and is not finished: it continues after the others.
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

    /// The log at `place`, which is below [`PassQueue::len`].
    pub(super) fn at(&self, place: usize) -> LogId {
        self.waiting[place].0
    }

    #[cfg(test)]
    pub(super) fn contains(&self, log: LogId) -> bool {
        self.waiting.iter().any(|&(waiting, _)| waiting == log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sweep is over when all that waited at its beginning are done.
    #[test]
    fn a_sweep_ends_with_those_that_waited_at_its_start() {
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
