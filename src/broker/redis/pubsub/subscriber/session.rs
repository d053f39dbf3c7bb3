//! One connection of a subscriber, and its state.

use std::collections::VecDeque;

use bytes::Bytes;
use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::sync::oneshot;

use crate::{
    broker::redis::{net::connection::Connection, pubsub::command::Command},
    clock::Millis,
};

/// A command whose answer is to come, in order.
#[derive(Debug)]
pub(super) enum Unanswered {
    Command(Command),
    Ping,
    /// A ping whose answer comes after all that was published before; for these callers.
    Halt(Vec<oneshot::Sender<()>>),
}

/// A connection that was greeted.
pub(super) struct Session {
    pub(super) server: Server,
    pub(super) connection: Connection,
    pub(super) unanswered: VecDeque<Unanswered>,
    /// When something was last read.
    pub(super) heard: Millis,
    /// When what was refused was last tried again.
    pub(super) retried: Millis,
}

impl Session {
    pub(super) fn new(server: Server, connection: Connection, now: Millis) -> Self {
        Self { server, connection, unanswered: VecDeque::new(), heard: now, retried: now }
    }

    /// Whether the end of `name` is the next expected answer.
    pub(super) fn is_awaited(&self, name: &[u8]) -> bool {
        let Some(Unanswered::Command(command)) = self.unanswered.front() else { return false };
        matches!(command, Command::Unsubscribe(asked) if asked.as_bytes() == name)
    }
}

/// The text of a push's part.
pub(super) fn into_bytes(frame: BytesFrame) -> Option<Bytes> {
    match frame {
        BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. } => Some(data),
        _ => None,
    }
}
