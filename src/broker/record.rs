//! The broker's state as one process hands it over to another, as plain data in parts.
//!
//! Most parts are given while the old process still publishes, and later ones tell what has changed
//! since. The last part says that all is there.

use std::{collections::BTreeMap, ops::Not, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Principal, PublisherClass,
    history::{ChannelPart, HistoryMessage},
    idempotency::{Id, IdempotencyKey, RememberedAnswer},
    quota::WindowPart,
    redis::{LocalOutcome, StreamShare, TrackerRecord},
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) streams: Vec<StreamRecord>,
    /// Channels that have clients and were not named before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) wanted: Vec<ChannelShards>,
    /// How the process hears; with the channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hearing: Option<HearingRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) places: Vec<PlaceRecord>,
    /// The last part of an embedded broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sequencer: Option<SequencerRecord>,
    /// The last part of a process with Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) local: Option<LocalRecord>,
}

impl BrokerPart {
    /// Whether a process with Redis has given it.
    pub(super) fn is_of_redis(&self) -> bool {
        let has_channels = !self.wanted.is_empty() || !self.places.is_empty();
        self.local.is_some() || self.hearing.is_some() || has_channels || !self.streams.is_empty()
    }
}

/// How a process hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HearingRecord {
    /// It reaches Redis.
    pub(super) is_reached: bool,
    /// Its shards.
    pub(super) shards: usize,
}

/// A channel that has clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChannelShards {
    pub(super) channel: ChannelName,
    /// The shards that they are on.
    pub(super) shards: Vec<usize>,
}

/// The place to which a process has got in a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlaceRecord {
    pub(super) channel: ChannelName,
    #[serde(default)]
    pub(super) tracker: TrackerRecord,
    /// Something before may be missing that nothing has shown yet.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub(super) is_unsure: bool,
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
    #[serde(default, skip_serializing_if = "Not::not")]
    is_binary: bool,
}

/// The answer to what was published with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnswerRecord {
    publisher: Principal,
    channel: ChannelName,
    key: IdempotencyKey,
    left_ms: u64,
    /// Its place in the sequence; none if it went to the clients of the process alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
    /// Redis may have it.
    #[serde(default, skip_serializing_if = "Not::not")]
    is_in_doubt: bool,
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

impl From<(ChannelName, u64, u64)> for SlotRecord {
    fn from((channel, interval_ms, number): (ChannelName, u64, u64)) -> Self {
        Self { channel, interval_ms, number }
    }
}

impl From<SlotRecord> for (ChannelName, u64, u64) {
    fn from(SlotRecord { channel, interval_ms, number }: SlotRecord) -> Self {
        (channel, interval_ms, number)
    }
}

/// A stream's cost to each of its publishers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamRecord {
    channel: ChannelName,
    bytes: BTreeMap<PublisherClass, usize>,
    left_ms: u64,
}

/// The end of what a process with Redis knows by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LocalRecord {
    #[serde(default)]
    pub(super) slots: Vec<SlotRecord>,
    /// Bytes of keys that Redis got, by publisher.
    #[serde(default)]
    pub(super) keys: Vec<WindowRecord>,
    /// Channels that were begun in Redis lately.
    #[serde(default)]
    pub(super) begun: Vec<WindowRecord>,
    #[serde(default)]
    pub(super) begun_in_a_day: Vec<WindowRecord>,
    /// By how much Redis' clock is ahead of the machine's.
    #[serde(default)]
    pub(super) clock_ahead_ms: i64,
}

/// The use of some resource in a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowRecord {
    left_ms: u64,
    taken: BTreeMap<PublisherClass, usize>,
}

impl From<WindowPart> for WindowRecord {
    fn from(WindowPart { left, taken }: WindowPart) -> Self {
        Self { left_ms: millis(left), taken }
    }
}

impl From<WindowRecord> for WindowPart {
    fn from(WindowRecord { left_ms, taken }: WindowRecord) -> Self {
        Self { left: Duration::from_millis(left_ms), taken }
    }
}

impl From<StreamShare> for StreamRecord {
    fn from(StreamShare { channel, by, left }: StreamShare) -> Self {
        Self { channel, bytes: by, left_ms: millis(left) }
    }
}

impl From<StreamRecord> for StreamShare {
    fn from(StreamRecord { channel, bytes, left_ms }: StreamRecord) -> Self {
        Self { channel, by: bytes, left: Duration::from_millis(left_ms) }
    }
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
        let RememberedAnswer { id, answer, left } = remembered;
        Self::new(id, left, Some(answer), false)
    }

    /// The record of an outcome that Redis does not know of.
    pub(super) fn of_process(remembered: RememberedAnswer<LocalOutcome>) -> Self {
        let RememberedAnswer { id, answer, left } = remembered;
        Self::new(id, left, None, answer == LocalOutcome::InDoubt)
    }

    fn new(id: Id, left: Duration, position: Option<Position>, is_in_doubt: bool) -> Self {
        let Id { publisher, channel, key } = id;
        Self { publisher, channel, key, left_ms: millis(left), position, is_in_doubt }
    }

    /// The answer that the sequencer gave.
    ///
    /// # Errors
    /// When it was another one.
    pub(super) fn for_sequencer(self) -> Result<RememberedAnswer<Position>, TakeError> {
        let answer = self.position.clone().ok_or(TakeError::OtherBroker)?;
        Ok(self.with(answer))
    }

    /// The outcome that Redis does not know of.
    ///
    /// # Errors
    /// When it was another one.
    pub(super) fn for_process(self) -> Result<RememberedAnswer<LocalOutcome>, TakeError> {
        if self.position.is_some() {
            return Err(TakeError::OtherBroker);
        }
        let is_in_doubt = self.is_in_doubt;
        Ok(self.with(if is_in_doubt { LocalOutcome::InDoubt } else { LocalOutcome::Local }))
    }

    fn with<T>(self, answer: T) -> RememberedAnswer<T> {
        let Self { publisher, channel, key, left_ms, .. } = self;
        let id = Id { publisher, channel, key };
        RememberedAnswer { id, answer, left: Duration::from_millis(left_ms) }
    }
}

/// Milliseconds as they stand in a record.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
