//! The answers of Redis, above all to the scripts, read with suspicion: pure.
//!
//! Anyone with access can write our keys by hand. A value that is not as the scripts write it is an
//! error, or (an entry of a stream) left out; nothing here panics or takes a value on trust.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use fred::{
    error::{Error, ErrorKind},
    types::Value,
};

use super::envelope;
use crate::{
    broker::{
        Position,
        history::{HistoryMessage, StreamEntry},
    },
    limits::{BAN_MAX, REDIS_BEGINNING_BYTES, RETIRED_EPOCHS_MAX},
    position::{is_empty_epoch, is_epoch, offset_in},
};

/// The outcome of a slot inside Redis.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Redis' clock is in another slot; nothing happened.
    Other,
    /// Another process has claimed it.
    Taken,
    /// It was ours, and the notice went out.
    Sent(Position),
}

/// How a script's note begins that something in Redis was not as scripts write it.
pub(super) const NOTED: &str = "anew: ";

/// Takes off a script's note, if there is one.
pub(crate) fn note(answer: Value) -> (Value, Option<String>) {
    let Value::Array(mut parts) = answer else { return (answer, None) };
    let last = parts.last().and_then(|last| last.as_bytes_str());
    let note = last.and_then(|last| last.strip_prefix(NOTED).map(ToOwned::to_owned));
    if note.is_some() {
        parts.pop();
    }
    (Value::Array(parts), note)
}

/// The position of a channel in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamPosition {
    pub(crate) position: Position,
    /// The newest message's; 0 if there is none.
    pub(crate) nonce: u64,
    /// The earlier histories, as far as they are known: at each time the ends of some histories,
    /// the newest first.
    pub(crate) ended: Vec<Vec<Ended>>,
}

/// Where a history had got to, as some process knew when it ended an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) position: Position,
    pub(crate) nonce: u64,
}

/// The epochs of empty channels that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmptyEpochs {
    /// As the epoch of an empty position.
    pub(crate) current: Arc<str>,
    pub(crate) before: Option<Arc<str>>,
}

/// The content of a channel's stream.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) stream_position: StreamPosition,
    /// Milliseconds that the stream still lives; negative if there is none.
    pub(crate) lives_ms: i64,
    /// In order.
    pub(crate) messages: Vec<StreamEntry>,
}

/// The outcome of a message inside Redis.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PublishReply {
    /// It is published, and the channel's stream has so many bytes; or there was one, and it has
    /// ended.
    New { position: Position, bytes: usize, has_ended: bool },
    /// It was before, with its key.
    Known(Position),
    /// It is not: there must be no new key.
    KeysFull,
    /// It is not: there must be no new channel.
    ChannelsFull,
}

/// Reads the answer of the publishing script, and of its trial.
pub(crate) fn publish_reply(value: Value) -> Result<PublishReply, Error> {
    let mut parts = Parts::of_stamp(value)?;
    let first: String = parts.next()?.convert()?;
    let Ok(offset) = parts.next() else {
        return match first.as_str() {
            "keys" => Ok(PublishReply::KeysFull),
            "channels" => Ok(PublishReply::ChannelsFull),
            _ => Err(unexpected("a word that no script says")),
        };
    };
    let position = Parts::new(Value::Array(vec![first.into(), offset])).position()?;
    let third: String = parts.next()?.convert()?;
    match (third.as_str(), third.parse()) {
        (_, Ok(bytes)) => Ok(PublishReply::New { position, bytes, has_ended: false }),
        ("ended", _) => Ok(PublishReply::New { position, bytes: 0, has_ended: true }),
        ("known", _) => Ok(PublishReply::Known(position)),
        _ => Err(unexpected("a word that no script says")),
    }
}

/// Reads the position of a message.
pub(crate) fn position(value: Value) -> Result<Position, Error> {
    Parts::of_stamp(value)?.position()
}

/// Reads the answer of the slot script: the outcome, and Redis' time in milliseconds.
pub(crate) fn claim(value: Value) -> Result<(Claim, u64), Error> {
    let mut parts = Parts::new(value);
    let outcome: String = parts.next()?.convert()?;
    let now_ms: u64 = parts.next()?.convert()?;
    let claim = match outcome.as_str() {
        "other" => Claim::Other,
        "taken" => Claim::Taken,
        _ => Claim::Sent(parts.position()?),
    };
    Ok((claim, now_ms))
}

/// Reads the position of a channel.
pub(crate) fn stream_position(value: Value) -> Result<StreamPosition, Error> {
    Parts::new(value).stream_position()
}

/// Reads the position of a channel, and its stream if it has one; None if the channel has no
/// publications.
pub(crate) fn stream_position_and_history(
    value: Value,
) -> Result<Option<(StreamPosition, Option<Read>)>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let mut parts = Parts::new(value);
    let stream_position = parts.stream_position()?;
    let read = match parts.0.len() {
        0 => None,
        _ => Some(parts.read(stream_position.clone())?),
    };
    Ok(Some((stream_position, read)))
}

/// Reads the epochs of empty channels that count.
pub(crate) fn empty_epochs(value: Value) -> Result<EmptyEpochs, Error> {
    let text: String = value.convert()?;
    let is_empty = |empty_epoch: &&str| is_epoch(empty_epoch) && is_empty_epoch(empty_epoch);
    let mut empty_epochs = text.split(' ').filter(is_empty).map(Arc::from);
    let current = empty_epochs
        .next()
        .ok_or_else(|| unexpected("the stored epoch of empty channels is none"))?;
    Ok(EmptyEpochs { current, before: empty_epochs.next() })
}

/// Reads a stream; None if Redis does not know the channel.
pub(crate) fn read(value: Value) -> Result<Option<Read>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let mut parts = Parts::new(value);
    let stream_position = parts.stream_position()?;
    parts.read(stream_position).map(Some)
}

/// Reads the state of the lease: None if it is ours, else the milliseconds until it is free.
pub(crate) fn lease(value: Value) -> Result<Option<u64>, Error> {
    let mut parts = Parts::new(value);
    let is_ours: i64 = parts.next()?.convert()?;
    let free_in_ms = parts.next()?.convert()?;
    Ok((is_ours == 0).then_some(free_in_ms))
}

/// The outcome of an announcement in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It went out; a ban has this stamp.
    Sent(u64),
    /// Redis knows this very command about the bearer, or a later one: its stamp, and for how long
    /// the bearer is kept out. Nobody was told.
    Known(u64, Duration),
    /// No more can be kept out. Nobody was told.
    Full,
}

/// Reads whether an announcement went out.
pub(crate) fn told(value: Value) -> Result<Told, Error> {
    let mut parts = Parts::new(value);
    let word: String = parts.next()?.convert()?;
    match word.as_str() {
        "told" => Ok(Told::Sent(number(parts.next()?)?)),
        "known" => {
            let stamp = number(parts.next()?)?;
            let time = Duration::from_millis(number(parts.next()?)?);
            Ok(Told::Known(stamp, time.min(BAN_MAX)))
        }
        "full" => Ok(Told::Full),
        _ => Err(unexpected("a word that no script says")),
    }
}

/// Reads Redis' clock and those that are kept out: the text of each, the milliseconds for which it
/// still is, and the stamp; what is not as the scripts write it is left out.
pub(crate) fn bans(value: Value) -> Result<(u64, Vec<[String; 3]>), Error> {
    let Value::Array(parts) = value else { return Err(unexpected("no list")) };
    let mut parts = parts.into_iter();
    let read_at = number(parts.next().ok_or_else(|| unexpected("no time"))?)?;
    let mut texts = parts.map(Value::into_string);
    let bans = std::iter::from_fn(|| Some([texts.next()?, texts.next()?, texts.next()?]));
    let whole = |[bearer, ms, stamp]: [Option<String>; 3]| Some([bearer?, ms?, stamp?]);
    Ok((read_at, bans.filter_map(whole).collect()))
}

/// A number that is too large for one of Lua's whole ones, as text.
fn number(value: Value) -> Result<u64, Error> {
    let text: String = value.convert()?;
    offset_in(&text).ok_or_else(|| unexpected("no number"))
}

/// `[OFFSET-NONCE, [k, KIND, d, PAYLOAD, p, PREVIOUS]]`.
fn message(epoch: &Arc<str>, entry: Value) -> Option<StreamEntry> {
    let mut parts = Parts::new(entry);
    let id: String = parts.next().ok()?.convert().ok()?;
    let (offset, nonce) = id.split_once('-')?;
    let mut fields = Parts::new(parts.next().ok()?);
    let mut field = |name: &str| {
        let found: String = fields.next().ok()?.convert().ok()?;
        (found == name).then_some(())?;
        fields.next().ok()
    };
    let letter: String = field("k")?.convert().ok()?;
    let data: Bytes = field("d")?.convert().ok()?;
    let previous: String = field("p")?.convert().ok()?;
    let kind = envelope::kind_of(&letter, &data)?;
    let kept = HistoryMessage { kind, data, nonce: offset_in(nonce)? };
    let position = Position { epoch: epoch.clone(), offset: offset_in(offset)? };
    let previous = offset_in(&previous)?;
    (position.offset > 0).then_some(StreamEntry { position, previous, kept })
}

/// `EPOCH:OFFSET:NONCE`; what else is written there is left out.
fn ended_at(text: &str) -> Option<Ended> {
    let (position, nonce) = text.rsplit_once(':')?;
    Some(Ended { position: position.parse().ok()?, nonce: offset_in(nonce)? })
}

/// The elements of an array, one after another.
struct Parts(std::vec::IntoIter<Value>);

impl Parts {
    fn new(value: Value) -> Self {
        Self(value.into_array().into_iter())
    }

    /// Another program in Redis' place may answer anything: that is reported.
    fn of_stamp(value: Value) -> Result<Self, Error> {
        if matches!(&value, Value::Array(parts) if !parts.is_empty()) {
            return Ok(Self::new(value));
        }
        let got = match &value {
            Value::Null => "nil".to_owned(),
            Value::Array(_) => "an array with nothing in it".to_owned(),
            Value::Integer(number) => format!("the number {number}"),
            other => match other.as_bytes() {
                Some(text) => format!("the text {:?}", beginning(text)),
                None => "something else".to_owned(),
            },
        };
        Err(unexpected(format!("expected an array of epoch and offset, got {got}")))
    }

    fn next(&mut self) -> Result<Value, Error> {
        self.0.next().ok_or_else(|| unexpected("a short answer"))
    }

    fn position(&mut self) -> Result<Position, Error> {
        let epoch: String = self.next()?.convert()?;
        if !is_epoch(&epoch) || is_empty_epoch(&epoch) {
            return Err(unexpected("the stored epoch is none"));
        }
        Ok(Position { epoch: epoch.into(), offset: self.number()? })
    }

    /// An offset or a nonce: scripts answer with their digits.
    fn number(&mut self) -> Result<u64, Error> {
        let number = self.next()?.into_string();
        let number = number.and_then(|number| offset_in(&number));
        number.ok_or_else(|| unexpected("a stored number is none"))
    }

    fn stream_position(&mut self) -> Result<StreamPosition, Error> {
        let (position, nonce) = (self.position()?, self.number()?);
        let ended: String = self.next()?.convert()?;
        let at_once = |ends: &str| ends.split(',').filter_map(ended_at).collect();
        let ended = ended.split(' ').take(RETIRED_EPOCHS_MAX).map(at_once).collect();
        Ok(StreamPosition { position, nonce, ended })
    }

    fn read(&mut self, stream_position: StreamPosition) -> Result<Read, Error> {
        let lives_ms = self.next()?.convert()?;
        let newest_first = self.next()?.into_array().into_iter();
        let epoch = &stream_position.position.epoch;
        let mut messages: Vec<StreamEntry> =
            newest_first.filter_map(|entry| message(epoch, entry)).collect();
        messages.reverse();
        Ok(Read { stream_position, lives_ms, messages })
    }
}

fn unexpected(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Protocol, what)
}

fn beginning(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(REDIS_BEGINNING_BYTES)])
}

/// Whether the error is Redis' own answer: its first word is a code in capitals.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let word = error.details().split(' ').next().unwrap_or_default();
    word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether another server of a cluster has the keys, or will have them in a moment.
pub(crate) fn is_redirection(error: &Error) -> bool {
    ["MOVED ", "ASK ", "TRYAGAIN"].iter().any(|code| error.details().starts_with(code))
}

/// Whether the server cannot write any more and another one may.
pub(crate) fn is_demoted(error: &Error) -> bool {
    ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"]
        .iter()
        .any(|code| error.details().starts_with(code))
}

#[cfg(test)]
mod tests;
