//! What clients say on its way to the broker: of each client one thing at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one read and one message, and charged to the budget. It outlives its
//! client: who says three things and hangs up has said all three. It must not publish itself.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Clients, Request, Wanted, entry, entry::Entry, v1::words::Word};
use crate::{
    broker::{IdempotencyKey, Principal},
    channel::ChannelName,
    hub::Key,
    limits::INBOX_MESSAGE_COST_BYTES,
    ws::{Kind, close::CloseReason},
};

/// What a client has said and the table cannot do by itself, or not before what came first.
#[derive(Debug)]
pub enum Offered {
    /// A message of its own.
    Message(OwnMessage),
    /// It wants a channel more.
    Subscription(Wanted),
    /// It wants a channel no more.
    Departure(ChannelName),
    /// It wants an answer.
    Ping,
}

/// A client's own message.
#[derive(Debug)]
pub struct OwnMessage {
    /// As whom it is published.
    pub who: Principal,
    /// Where it goes.
    pub channel: ChannelName,
    /// Text or binary.
    pub kind: Kind,
    /// The payload.
    pub data: Bytes,
    /// What the client calls it.
    pub id: Option<IdempotencyKey>,
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
fn cost(offered: &Offered) -> usize {
    let data_bytes = match offered {
        Offered::Message(message) => message.data.len(),
        Offered::Subscription(_) | Offered::Departure(_) | Offered::Ping => 0,
    };
    data_bytes + INBOX_MESSAGE_COST_BYTES
}

impl Clients {
    /// Does what a client says at once, or behind what is on its way.
    pub(super) fn offer(&mut self, key: Key, offered: Offered) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let Some(inbox) = client.inbox_mut() else {
            let Some(offered) = self.do_here(key, offered) else { return };
            let Some(client) = entry(&mut self.entries, key) else { return };
            client.open_inbox();
            client.paused = true;
            self.requests.push(Request::Offer(key, offered));
            return;
        };
        self.input.charge(inbox.push(offered));
        if self.input.is_tight() && !self.hub.relieve() {
            self.discard_inbox(key);
            self.close(key, CloseReason::Policy);
        }
    }

    /// Does what needs no broker; gives back the rest.
    fn do_here(&mut self, key: Key, offered: Offered) -> Option<Offered> {
        match offered {
            Offered::Message(_) | Offered::Subscription(_) => return Some(offered),
            Offered::Departure(channel) => self.depart(key, &channel),
            Offered::Ping => self.say(key, &Word::Pong),
        }
        None
    }

    fn discard_inbox(&mut self, key: Key) {
        if let Some(inbox) = entry(&mut self.entries, key).and_then(Entry::inbox_mut) {
            self.input.release(inbox.clear());
        }
    }

    /// What a client wanted has been dealt with; what it wants next. The client itself may be
    /// gone.
    pub fn next_offer(&mut self, key: Key) -> Option<Offered> {
        let offered = loop {
            let inbox = match entry(&mut self.entries, key) {
                Some(entry) => entry.inbox_mut(),
                None => self.orphans.get_mut(&key),
            };
            let Some((offered, cost)) = inbox.and_then(|inbox| inbox.pop()) else { break None };
            self.input.release(cost);
            if let Some(offered) = self.do_here(key, offered) {
                break Some(offered);
            }
        };
        if offered.is_none() {
            self.orphans.remove(&key);
            if let Some(entry) = entry(&mut self.entries, key) {
                entry.take_inbox();
            }
            self.resume(key);
        }
        self.settle();
        offered
    }
}
