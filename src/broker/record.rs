//! The broker's state as one process hands it over to another, as plain data in parts.
//!
//! Most parts are given while the old process still publishes, and later ones tell what has changed
//! since. The last part says that all is there.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Principal, PublisherClass,
    history::{ChannelPart, HistoryMessage},
    idempotency::{Id, IdempotencyKey, RememberedAnswer},
};
use crate::{channel::ChannelName, position::Position, record::BadRecord, ws::Kind};

/// Why a broker could not be taken over.
#[derive(Debug, Error)]
pub enum TakeError {
    /// A part is damaged.
    #[error(transparent)]
    Bad(#[from] BadRecord),
    /// The other process has another kind of broker.
    #[error("the other process has another kind of broker")]
    OtherBroker,
    /// Parts are missing.
    #[error("the last part of the broker's state has not arrived")]
    Incomplete,
    /// It names its histories in a way that later ones could not go on with.
    #[error("the other process's epoch is none")]
    Epoch,
}

/// A part. Its contents are put in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BrokerPart {
    /// The time since the hand-over began: all else that is relative is so to this moment.
    pub(super) at_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) channels: Vec<ChannelRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) answers: Vec<AnswerRecord>,
    /// Channels that are known at the end, by id, and the offset of each after which messages can
    /// be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) floors: Vec<(u64, u64)>,
    /// The last part of an embedded broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequencer: Option<SequencerRecord>,
}

/// A part of a channel's history: see [`ChannelPart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelRecord {
    channel: ChannelName,
    publisher: PublisherClass,
    id: u64,
    used: u64,
    age_ms: u64,
    after: Position,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<MessageRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MessageRecord {
    data: Bytes,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_binary: bool,
}

/// The answer to what was published with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnswerRecord {
    publisher: Principal,
    channel: ChannelName,
    key: IdempotencyKey,
    left_ms: u64,
    /// Its place in the sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

/// The end of a sequencer's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SequencerRecord {
    pub(super) process_epoch: String,
    pub(super) uses: u64,
    pub(super) evicted_messages: u64,
    /// Channels; a part of the epochs of later ones.
    pub(super) evicted_channels: u64,
    #[serde(default)]
    pub(super) slots: Vec<SlotRecord>,
}

/// The newest slot of a periodic message that was taken care of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlotRecord {
    pub(super) channel: ChannelName,
    pub(super) interval_ms: u64,
    pub(super) number: u64,
}

impl From<ChannelPart> for ChannelRecord {
    fn from(part: ChannelPart) -> Self {
        let ChannelPart { channel, publisher, id, used, age, after, messages } = part;
        let message = |HistoryMessage { kind, data, nonce: _ }| MessageRecord {
            data,
            is_binary: kind == Kind::Binary,
        };
        let messages = messages.into_iter().map(message).collect();
        Self { channel, publisher, id, used, age_ms: millis(age), after, messages }
    }
}

impl From<ChannelRecord> for ChannelPart {
    fn from(record: ChannelRecord) -> Self {
        let ChannelRecord { channel, publisher, id, used, age_ms, after, messages } = record;
        let message = |MessageRecord { data, is_binary }| HistoryMessage {
            kind: if is_binary { Kind::Binary } else { Kind::Text },
            data,
            nonce: 0,
        };
        let messages = messages.into_iter().map(message).collect();
        Self { channel, publisher, id, used, age: Duration::from_millis(age_ms), after, messages }
    }
}

impl AnswerRecord {
    /// The record of an answer that the sequencer gave.
    pub(super) fn of_sequencer(remembered: RememberedAnswer<Position>) -> Self {
        let RememberedAnswer { id: Id { publisher, channel, key }, answer, left } = remembered;
        Self { publisher, channel, key, left_ms: millis(left), position: Some(answer) }
    }

    /// The answer that the sequencer gave.
    pub(super) fn for_sequencer(self) -> Result<RememberedAnswer<Position>, TakeError> {
        let Self { publisher, channel, key, left_ms, position } = self;
        let answer = position.ok_or(TakeError::OtherBroker)?;
        let id = Id { publisher, channel, key };
        Ok(RememberedAnswer { id, answer, left: Duration::from_millis(left_ms) })
    }
}

/// Milliseconds as they stand in a record.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
