//! The scripts' parameters: keys and arguments, in the order in which the scripts count them.
//!
//! A trial of publishing does what publishing does, by the same part of the scripts, on keys of its
//! own that are gone at its end, and on a channel without subscribers. So a process that publishes
//! nothing notices, too, what Redis, a renamed command or a right would keep from being published.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use super::{
    envelope,
    names::{Names, Trial},
};
use crate::{
    broker::{HistorySettings, PublisherClass, epoch},
    channel::ChannelName,
    limits::{HISTORY_READ_CHUNK, REDIS_META_TTL},
    ws::Kind,
};

/// The payload of a heartbeat that only has to be heard.
pub(crate) const PROBE_PAYLOAD: &str = "-";

/// A duration as the scripts take it.
pub(crate) fn millis(duration: Duration) -> Value {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).into()
}

/// The parameters of `stamp.lua` for a message of `publisher` on the Redis channel `channel`.
pub(crate) fn stamp(
    history: &HistorySettings,
    publisher: PublisherClass,
    channel: String,
    kind: Kind,
    data: &Bytes,
) -> Vec<Value> {
    // In the order of the classes, also as text.
    let word = match publisher {
        PublisherClass::Api => "0",
        PublisherClass::Token => "0t",
        PublisherClass::Anonymous => "1",
    };
    let kept = if history.is_on() { history.messages_max } else { 0 };
    vec![
        channel.into(),
        envelope::letter(kind).into(),
        data.clone().into(),
        epoch::random().into(),
        millis(REDIS_META_TTL),
        envelope::nonce().to_string().into(),
        kept.to_string().into(),
        millis(history.ttl),
        history.bytes_max.to_string().into(),
        word.into(),
    ]
}

/// The parameters of a trial of publishing to `meant`, or to a channel without subscribers, under
/// the hash tag `tag`: keys and arguments.
pub(crate) fn trial(
    names: &Names,
    history: &HistorySettings,
    tag: &str,
    meant: Option<&ChannelName>,
) -> (Vec<String>, Vec<Value>) {
    let Trial { keys: own, channel } = names.trial(tag);
    let (meant_keys, meant_channel) = match meant {
        Some(meant) => (names.keys(meant), names.channel(meant)),
        None => (own[..2].to_vec(), channel.clone()),
    };
    let keys = own.into_iter().chain(meant_keys).collect();
    let mut args = stamp(history, PublisherClass::Api, channel, Kind::Text, &Bytes::new());
    args.push(meant_channel.into());
    (keys, args)
}

/// The parameters for reading a history: the newest `depth` messages from the offset `first` on, as
/// far as a process has room for them.
pub(crate) fn reading(history: &HistorySettings, first: u64, depth: usize) -> [Value; 4] {
    let bytes_max = history.bytes_max.min(history.total_bytes_max);
    let limits = [history.messages_max.min(depth), bytes_max, HISTORY_READ_CHUNK];
    let [messages_max, bytes_max, chunk] = limits.map(|limit| limit.to_string().into());
    [first.to_string().into(), messages_max, bytes_max, chunk]
}
