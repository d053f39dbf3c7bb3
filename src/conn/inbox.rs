//! A client's own messages on their way to the broker: one at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one read and one message. It must not publish itself.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ws::Kind;

/// Messages that wait while one is on its way.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<(Kind, Bytes)>,
    bytes: usize,
}

impl Inbox {
    /// Puts a message behind the others.
    pub(super) fn push(&mut self, kind: Kind, data: Bytes) {
        self.bytes += data.len();
        self.waiting.push_back((kind, data));
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<(Kind, Bytes)> {
        let (kind, data) = self.waiting.pop_front()?;
        self.bytes -= data.len();
        Some((kind, data))
    }

    /// Payload bytes that wait; the table charges them to the budget.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }
}
