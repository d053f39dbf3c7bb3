//! Clients' commands that wait while one of theirs is on its way to the broker, and what they cost.
//!
//! Plain values, so that any holder of a client may name them. They are executed in
//! `table/commands.rs`.

use std::{borrow::Cow, collections::VecDeque, fmt};

use bytes::Bytes;

use crate::{
    broker::{IdempotencyKey, Principal, PublisherClass},
    channel::ChannelName,
    clock::Millis,
    conn::positions::SubscribeRequest,
    limits::QUEUED_COMMAND_COST_BYTES,
    ws::Kind,
};

/// A message's payload: in the read buffer, or put together from several reads.
pub(super) type Borrowed<'a> = Cow<'a, [u8]>;

/// A client's command that the table cannot run by itself, or not before the one that came first.
#[derive(Debug)]
pub enum ClientCommand {
    /// Publish a message of its own.
    Publish(ClientMessage),
    /// Join one channel more.
    Subscribe(SubscribeRequest),
    /// Leave a channel.
    Unsubscribe(ChannelName),
    /// Show a new token.
    Token(HiddenToken),
    /// Answer.
    Ping,
}

/// A token as a client has sent it. Its `Debug` does not show it.
#[derive(PartialEq, Eq)]
pub struct HiddenToken(pub(super) Box<str>);

impl HiddenToken {
    /// The token, for the one that verifies it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HiddenToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HiddenToken")
    }
}

/// A client's own message.
#[derive(Debug)]
pub struct ClientMessage {
    /// The principal that publishes it: by the right that the client has when its turn comes.
    pub publisher: Principal,
    /// Where it goes.
    pub channel: ChannelName,
    /// Text or binary.
    pub kind: Kind,
    /// The payload.
    pub data: Bytes,
    /// The client's own key for it.
    pub id: Option<IdempotencyKey>,
}

/// The remaining commands of a departed client, and the class of its publications.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) queue: CommandQueue,
    pub(super) publisher: Option<PublisherClass>,
    /// Then those that are not begun are discarded.
    pub(super) until: Millis,
}

/// Commands that wait while one is on its way.
#[derive(Debug, Default)]
pub(super) struct CommandQueue {
    waiting: VecDeque<ClientCommand>,
    bytes: usize,
    /// None is on its way, and the next one waits until then: the client has shown a bad token.
    pub(super) pause_until: Option<Millis>,
    /// The one that is on its way shows a token.
    shows_token: bool,
}

impl CommandQueue {
    /// Puts a command behind the others; what it costs.
    pub(super) fn push(&mut self, command: ClientCommand) -> usize {
        let cost = cost(&command);
        self.bytes += cost;
        self.waiting.push_back(command);
        cost
    }

    /// `command` is on its way from now on.
    pub(super) fn begin(&mut self, command: &ClientCommand) {
        self.shows_token = matches!(command, ClientCommand::Token(_));
    }

    /// Whether a token is on its way, or waits.
    pub(super) fn has_token(&self) -> bool {
        let is_token = |command: &ClientCommand| matches!(command, ClientCommand::Token(_));
        self.shows_token || self.waiting.iter().any(is_token)
    }

    /// Takes the next command, and its cost.
    pub(super) fn pop(&mut self) -> Option<(ClientCommand, usize)> {
        let command = self.waiting.pop_front()?;
        let cost = cost(&command);
        self.bytes -= cost;
        Some((command, cost))
    }

    /// Discards the waiting commands; returns their cost.
    pub(super) fn clear(&mut self) -> usize {
        self.waiting = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// The client goes, and hears no answers: only its publications are kept, and the tokens by
    /// which they are judged, unless it has shown a bad one. Returns the cost of the others.
    pub(super) fn keep_publications(&mut self) -> usize {
        let last = self.waiting.iter().rposition(is_publication);
        let tokens_count = self.pause_until.is_none();
        let mut place = 0;
        self.retain(|command| {
            place += 1;
            last.is_some_and(|last| place <= last + 1) && outlives_client(command, tokens_count)
        })
    }

    /// Those that [`CommandQueue::keep_publications`] would keep.
    pub(super) fn publications(&self) -> impl Iterator<Item = &ClientCommand> {
        let last = self.waiting.iter().rposition(is_publication);
        let tokens_count = self.pause_until.is_none();
        let up_to_last = self.waiting.iter().take(last.map_or(0, |last| last + 1));
        up_to_last.filter(move |command| outlives_client(command, tokens_count))
    }

    /// Discards the tokens that wait; returns their cost.
    pub(super) fn discard_tokens(&mut self) -> usize {
        self.retain(|command| !matches!(command, ClientCommand::Token(_)))
    }

    fn retain(&mut self, is_kept: impl FnMut(&ClientCommand) -> bool) -> usize {
        self.waiting.retain(is_kept);
        self.waiting.shrink_to_fit();
        let kept = self.waiting.iter().map(cost).sum();
        std::mem::replace(&mut self.bytes, kept) - kept
    }

    /// The commands that wait, in their order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &ClientCommand> {
        self.waiting.iter()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn is_publication(command: &ClientCommand) -> bool {
    matches!(command, ClientCommand::Publish(_))
}

/// Whether a command is run although its client goes, if a publication follows it or it is one.
fn outlives_client(command: &ClientCommand, tokens_count: bool) -> bool {
    is_publication(command) || matches!(command, ClientCommand::Token(_)) && tokens_count
}

/// The memory of a waiting command, however small its payload.
fn cost(command: &ClientCommand) -> usize {
    let data_bytes = match command {
        ClientCommand::Publish(message) => message.data.len(),
        ClientCommand::Token(token) => token.0.len(),
        ClientCommand::Subscribe(_) | ClientCommand::Unsubscribe(_) | ClientCommand::Ping => 0,
    };
    data_bytes + QUEUED_COMMAND_COST_BYTES
}
