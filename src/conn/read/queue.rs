//! What clients say while something of theirs is on its way to the broker, and what it costs.
//!
//! Plain values, so that whatever holds a client may name them. What is done with them is the
//! matter of `commands`.

use std::{borrow::Cow, collections::VecDeque};

use bytes::Bytes;

use crate::{
    broker::{IdempotencyKey, Principal},
    channel::ChannelName,
    conn::positions::Wanted,
    limits::INBOX_MESSAGE_COST_BYTES,
    ws::Kind,
};

/// A message's payload: in the read buffer, or put together from several reads.
pub(in crate::conn) type Borrowed<'a> = Cow<'a, [u8]>;

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
pub(in crate::conn) struct Inbox {
    waiting: VecDeque<Offered>,
    bytes: usize,
}

impl Inbox {
    /// Puts a message behind the others; what it costs.
    pub(in crate::conn) fn push(&mut self, message: Offered) -> usize {
        let cost = cost(&message);
        self.bytes += cost;
        self.waiting.push_back(message);
        cost
    }

    /// Takes the next one, and what it cost.
    pub(in crate::conn) fn pop(&mut self) -> Option<(Offered, usize)> {
        let message = self.waiting.pop_front()?;
        let cost = cost(&message);
        self.bytes -= cost;
        Some((message, cost))
    }

    /// Throws away what waits; what it cost.
    pub(in crate::conn) fn clear(&mut self) -> usize {
        self.waiting = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Whether nothing waits.
    pub(in crate::conn) fn is_empty(&self) -> bool {
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
