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
    limits::QUEUED_COMMAND_COST_BYTES,
    ws::Kind,
};

/// A message's payload: in the read buffer, or put together from several reads.
pub(super) type Borrowed<'a> = Cow<'a, [u8]>;

/// What a client has said and the table cannot do by itself, or not before what came first.
#[derive(Debug)]
pub enum ClientCommand {
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
pub(super) struct CommandQueue {
    waiting: VecDeque<ClientCommand>,
    bytes: usize,
}

impl CommandQueue {
    /// Puts a message behind the others; what it costs.
    pub(super) fn push(&mut self, message: ClientCommand) -> usize {
        let cost = cost(&message);
        self.bytes += cost;
        self.waiting.push_back(message);
        cost
    }

    /// Takes the next one, and what it cost.
    pub(super) fn pop(&mut self) -> Option<(ClientCommand, usize)> {
        let message = self.waiting.pop_front()?;
        let cost = cost(&message);
        self.bytes -= cost;
        Some((message, cost))
    }

    /// Throws away what waits; what it cost.
    pub(super) fn clear(&mut self) -> usize {
        self.waiting = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What a waiting message takes up, be its payload ever so small.
fn cost(command: &ClientCommand) -> usize {
    let data_bytes = match command {
        ClientCommand::Message(message) => message.data.len(),
        ClientCommand::Subscription(_) | ClientCommand::Departure(_) | ClientCommand::Ping => 0,
    };
    data_bytes + QUEUED_COMMAND_COST_BYTES
}
