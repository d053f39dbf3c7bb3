//! Publications, messages that arrive, and the outcome of a publication.

use std::{fmt, rc::Rc, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use super::{
    idempotency::{self, IdempotencyKey},
    principal::Principal,
};
use crate::{
    channel::ChannelName,
    metrics::{PublishFailure, Scope},
    position::Position,
    ws::Kind,
};

/// A message to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The publisher.
    pub publisher: Principal,
    /// Where it goes.
    pub channel: ChannelName,
    /// Text (valid UTF-8) or binary.
    pub kind: Kind,
    /// The payload.
    pub data: Bytes,
    /// With a key it is published once, however often it is sent within
    /// [`crate::limits::IDEMPOTENCY_TTL`] by the same publisher: later ones get the first one's
    /// receipt.
    pub key: Option<IdempotencyKey>,
}

impl Message {
    /// The ID under which its first answer is remembered.
    pub(super) fn id(&self) -> Option<idempotency::Id> {
        let key = self.key.clone()?;
        Some(idempotency::Id { publisher: self.publisher, channel: self.channel.clone(), key })
    }
}

/// A message as it arrives at a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The channel it belongs to.
    pub channel: ChannelName,
    /// Text (valid UTF-8) or binary.
    pub kind: Kind,
    /// The payload; shared, never copied between shards of the embedded broker.
    pub data: Bytes,
    /// None for local messages.
    pub position: Option<Position>,
}

/// The outcome of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Redis (or the sequencer) has it; every shard of this process is subscribed.
    Cluster(Position),
    /// It was surely not sent to Redis and went to this process's clients alone.
    Local,
}

impl Receipt {
    /// How far it got, for the metrics.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Cluster(_) => Scope::Cluster,
            Self::Local => Scope::Local,
        }
    }
}

/// Why a message was not (surely) published.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// A shard's mailbox is full; nothing was delivered anywhere. Answer 503.
    #[error("a shard of this process is too far behind to take the message")]
    ShardStalled,
    /// Redis is out of reach and the policy is `reject`. Answer 503.
    #[error("Redis is out of reach")]
    BrokerLost,
    /// It was sent and no answer came in time. Answer 504.
    #[error("Redis did not confirm the message in time")]
    Unconfirmed,
    /// There is no room to remember its key; nothing was delivered. Answer 503.
    #[error("too many idempotency keys within five minutes")]
    KeysFull,
    /// Its channel had no publications, and too many such channels were begun in Redis lately;
    /// nothing was delivered. Answer 503.
    #[error("too many new channels within five minutes")]
    ChannelsFull,
    /// Another process has taken this one's place; nothing was delivered. Answer 503.
    #[error("another process has taken this one's place")]
    Restarting,
}

impl From<&PublishError> for PublishFailure {
    fn from(error: &PublishError) -> Self {
        match error {
            PublishError::ShardStalled => Self::ShardStalled,
            PublishError::BrokerLost => Self::BrokerLost,
            PublishError::Unconfirmed => Self::Unconfirmed,
            PublishError::KeysFull => Self::KeysFull,
            PublishError::ChannelsFull => Self::ChannelsFull,
            PublishError::Restarting => Self::Restarting,
        }
    }
}

/// A periodic message: at most one per interval slot for the whole cluster.
#[derive(Clone)]
pub struct PeriodicSlot {
    /// The channel it goes to.
    pub channel: ChannelName,
    /// Slot length, milliseconds; slot number = broker's Unix time ÷ this.
    pub interval_ms: u64,
    /// The payload (text) for a moment of the slot, as the broker's Unix time: a text that names
    /// its time names one in the slot that it was sent for, whatever this machine's clock says.
    pub text_at: Rc<dyn Fn(Duration) -> Bytes>,
}

impl fmt::Debug for PeriodicSlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, interval_ms, text_at: _ } = self;
        let mut slot = formatter.debug_struct("PeriodicSlot");
        slot.field("channel", channel).field("interval_ms", interval_ms).finish_non_exhaustive()
    }
}

/// The outcome of a slot's message.
#[derive(Clone, Debug)]
pub struct SlotOutcome {
    /// `Ok(Some)`: this call published it; `Ok(None)`: another process had.
    pub published: Result<Option<Receipt>, PublishError>,
    /// Milliseconds until the next slot begins.
    pub next_slot_in_ms: u64,
}
