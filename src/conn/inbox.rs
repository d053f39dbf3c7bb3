//! Clients' own messages on their way to the broker: of each client one at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one read and one message, and charged to the budget. It outlives its
//! client: who says three things and hangs up has said all three. It must not publish itself.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Borrowed, Clients, Request, entry, entry::Entry};
use crate::{
    channel::ChannelName,
    hub::Key,
    limits::INBOX_MESSAGE_COST_BYTES,
    ws::{Kind, close::CloseReason},
};

/// A client's message for its first channel.
#[derive(Debug)]
pub struct Offered {
    /// Where it goes.
    pub channel: ChannelName,
    /// Text or binary.
    pub kind: Kind,
    /// The payload.
    pub data: Bytes,
}

/// Messages that wait while one is on its way.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Offered>,
    bytes: usize,
}

impl Inbox {
    /// Puts a message behind the others; what it costs.
    fn push(&mut self, message: Offered) -> usize {
        let cost = cost(&message);
        self.bytes += cost;
        self.waiting.push_back(message);
        cost
    }

    /// Takes the next one, and what it cost.
    fn pop(&mut self) -> Option<(Offered, usize)> {
        let message = self.waiting.pop_front()?;
        let cost = cost(&message);
        self.bytes -= cost;
        Some((message, cost))
    }

    /// Throws away what waits; what it cost.
    fn clear(&mut self) -> usize {
        self.waiting = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What a waiting message takes up, be its payload ever so small.
fn cost(message: &Offered) -> usize {
    message.data.len() + INBOX_MESSAGE_COST_BYTES
}

impl Clients {
    /// A client's message for its first channel: at once, or behind those on their way.
    pub(super) fn offer(&mut self, key: Key, kind: Kind, data: Borrowed<'_>) {
        let Some(channel) = self.hub.first_channel(key).cloned() else { return };
        let Some(entry) = entry(&mut self.entries, key) else { return };
        let message = Offered { channel, kind, data: data.into_owned().into() };
        let Some(inbox) = entry.inbox_mut() else {
            entry.open_inbox();
            entry.paused = true;
            self.requests.push(Request::Publish(key, message));
            return;
        };
        self.input.charge(inbox.push(message));
        if self.input.over() && !self.hub.relieve() {
            self.discard_inbox(key);
            self.close(key, CloseReason::Policy);
        }
    }

    fn discard_inbox(&mut self, key: Key) {
        if let Some(inbox) = entry(&mut self.entries, key).and_then(Entry::inbox_mut) {
            self.input.release(inbox.clear());
        }
    }

    /// The client's message on its way has been dealt with; the one that follows it. The client
    /// itself may be gone.
    pub fn published(&mut self, key: Key) -> Option<Offered> {
        let inbox = match entry(&mut self.entries, key) {
            Some(entry) => entry.inbox_mut(),
            None => self.orphans.get_mut(&key),
        };
        if let Some((message, cost)) = inbox.and_then(|inbox| inbox.pop()) {
            self.input.release(cost);
            return Some(message);
        }
        self.orphans.remove(&key);
        if let Some(entry) = entry(&mut self.entries, key) {
            entry.take_inbox();
        }
        self.resume(key);
        None
    }
}
