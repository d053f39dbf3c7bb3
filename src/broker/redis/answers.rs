//! What Redis answers, to the scripts above all, read with suspicion: pure.
//!
//! Anyone with access can write our keys by hand. What is not as the scripts write it is an
//! error, or (an entry of a stream) left out; nothing here panics or believes.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use fred::{
    error::{Error, ErrorKind},
    types::Value,
};

use super::{era::Eras, wire};
use crate::{
    broker::{
        Position,
        history::{Kept, Stamped},
    },
    limits::{REDIS_BEGINNING_BYTES, RETIRED_EPOCHS_MAX},
    position::{is_empty_epoch, is_epoch, offset_in},
};

/// What became of a slot inside Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Redis' clock is in another slot; nothing happened.
    Other,
    /// Someone had it.
    Taken,
    /// It was ours, and the notice went out.
    Sent(Position),
}

/// How a script's note begins that something in Redis was not as scripts write it.
pub(super) const NOTED: &str = "anew: ";

/// Takes off a script's note, if there is one.
pub(super) fn note(answer: Value) -> (Value, Option<String>) {
    let Value::Array(mut parts) = answer else { return (answer, None) };
    let last = parts.last().and_then(|last| last.as_bytes_str());
    let note = last.and_then(|last| last.strip_prefix(NOTED).map(ToOwned::to_owned));
    if note.is_some() {
        parts.pop();
    }
    (Value::Array(parts), note)
}

/// Where a channel stands in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) position: Position,
    /// The newest message's; 0 if there is none.
    pub(super) nonce: u64,
    /// What was over before it, as far as is known: at each time the ends of some histories, the
    /// newest first.
    pub(super) ended: Vec<Vec<Ended>>,
}

/// Where a history had got to, as some process knew when it ended an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) position: Position,
    pub(super) nonce: u64,
}

/// What the stream of a channel held.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) standing: Standing,
    /// Milliseconds that the stream still lives; negative if there is none.
    pub(super) lives_ms: i64,
    /// In order.
    pub(super) messages: Vec<Stamped>,
}

/// What became of a message inside Redis.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stamp {
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
pub(super) fn stamp(value: Value) -> Result<Stamp, Error> {
    let mut parts = Parts::of_stamp(value)?;
    let first: String = parts.next()?.convert()?;
    let Ok(offset) = parts.next() else {
        return match first.as_str() {
            "keys" => Ok(Stamp::KeysFull),
            "channels" => Ok(Stamp::ChannelsFull),
            _ => Err(unexpected("a word that no script says")),
        };
    };
    let position = Parts::new(Value::Array(vec![first.into(), offset])).position()?;
    let third: String = parts.next()?.convert()?;
    match (third.as_str(), third.parse()) {
        (_, Ok(bytes)) => Ok(Stamp::New { position, bytes, has_ended: false }),
        ("ended", _) => Ok(Stamp::New { position, bytes: 0, has_ended: true }),
        ("known", _) => Ok(Stamp::Known(position)),
        _ => Err(unexpected("a word that no script says")),
    }
}

/// Reads the position of a message.
pub(super) fn position(value: Value) -> Result<Position, Error> {
    Parts::of_stamp(value)?.position()
}

/// Reads the answer of the slot script: the outcome, and Redis' time in milliseconds.
pub(super) fn claim(value: Value) -> Result<(Claim, u64), Error> {
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

/// Reads where a channel stands.
pub(super) fn standing(value: Value) -> Result<Standing, Error> {
    Parts::new(value).standing()
}

/// Reads where a channel stands, and its stream if there is something of it; None if nobody has
/// published to it.
pub(super) fn standing_and_history(
    value: Value,
) -> Result<Option<(Standing, Option<Read>)>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let mut parts = Parts::new(value);
    let standing = parts.standing()?;
    let read = match parts.0.len() {
        0 => None,
        _ => Some(parts.read(standing.clone())?),
    };
    Ok(Some((standing, read)))
}

/// Reads the eras that count.
pub(super) fn eras(value: Value) -> Result<Eras, Error> {
    let text: String = value.convert()?;
    let is_era = |era: &&str| is_epoch(era) && is_empty_epoch(era);
    let mut eras = text.split(' ').filter(is_era).map(Arc::from);
    let current = eras.next().ok_or_else(|| unexpected("the stored era is none"))?;
    Ok(Eras { current, before: eras.next() })
}

/// Reads a stream; None if Redis does not know the channel.
pub(super) fn read(value: Value) -> Result<Option<Read>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    let mut parts = Parts::new(value);
    let standing = parts.standing()?;
    parts.read(standing).map(Some)
}

/// Reads what became of the lease: None if it is ours, else the milliseconds until it is free.
pub(super) fn lease(value: Value) -> Result<Option<u64>, Error> {
    let mut parts = Parts::new(value);
    let is_ours: i64 = parts.next()?.convert()?;
    let free_in_ms = parts.next()?.convert()?;
    Ok((is_ours == 0).then_some(free_in_ms))
}

/// `[OFFSET-NONCE, [k, KIND, d, PAYLOAD, p, PREVIOUS]]`.
fn message(epoch: &Arc<str>, entry: Value) -> Option<Stamped> {
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
    let kind = wire::kind_of(&letter, &data)?;
    let kept = Kept { kind, data, nonce: offset_in(nonce)? };
    let position = Position { epoch: epoch.clone(), offset: offset_in(offset)? };
    let previous = offset_in(&previous)?;
    (position.offset > 0).then_some(Stamped { position, previous, kept })
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

    /// Something else in Redis' place may answer anything: that is told.
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

    fn standing(&mut self) -> Result<Standing, Error> {
        let (position, nonce) = (self.position()?, self.number()?);
        let ended: String = self.next()?.convert()?;
        let at_once = |ends: &str| ends.split(',').filter_map(ended_at).collect();
        let ended = ended.split(' ').take(RETIRED_EPOCHS_MAX).map(at_once).collect();
        Ok(Standing { position, nonce, ended })
    }

    fn read(&mut self, standing: Standing) -> Result<Read, Error> {
        let lives_ms = self.next()?.convert()?;
        let newest_first = self.next()?.into_array().into_iter();
        let epoch = &standing.position.epoch;
        let mut messages: Vec<Stamped> =
            newest_first.filter_map(|entry| message(epoch, entry)).collect();
        messages.reverse();
        Ok(Read { standing, lives_ms, messages })
    }
}

fn unexpected(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Protocol, what)
}

fn beginning(text: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(REDIS_BEGINNING_BYTES)])
}

/// Whether the error is Redis' own answer: its first word is a code in capitals.
pub(super) fn is_refusal(error: &Error) -> bool {
    let word = error.details().split(' ').next().unwrap_or_default();
    word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether another server of a cluster has the keys, or will have them in a moment.
pub(super) fn is_redirection(error: &Error) -> bool {
    ["MOVED ", "ASK ", "TRYAGAIN"].iter().any(|code| error.details().starts_with(code))
}

/// Whether the server cannot write any more and another one may.
pub(super) fn is_demoted(error: &Error) -> bool {
    ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN"]
        .iter()
        .any(|code| error.details().starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::OFFSET_MAX, position::for_each_number};

    fn text(text: &str) -> Value {
        Value::from(text)
    }

    fn entry(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![text(id), Value::Array(fields.iter().map(|field| text(field)).collect())])
    }

    fn answer(epoch: &str, entries: Vec<Value>) -> Value {
        let standing = [text(epoch), text("2"), text("20"), text("d:7:70,c:1:2 no b:1")];
        let rest = [Value::Integer(1_000), Value::Array(entries)];
        Value::Array(standing.into_iter().chain(rest).collect())
    }

    #[test]
    fn a_stream_is_read_into_the_order_it_was_written_in() {
        let newest_first = vec![
            entry("2-20", &["k", "b", "d", "two", "p", "10"]),
            entry("1-10", &["k", "t", "d", "one", "p", "0"]),
        ];
        let read = read(answer("e", newest_first)).unwrap().unwrap();
        assert_eq!((read.standing.position.to_string(), read.standing.nonce), ("e:2".into(), 20));
        let ended = |at: &str, nonce| Ended { position: at.parse().unwrap(), nonce };
        let ended = [vec![ended("d:7", 70), ended("c:1", 2)], vec![], vec![]];
        assert_eq!((read.lives_ms, read.standing.ended), (1_000, ended.to_vec()));
        let places = read
            .messages
            .iter()
            .map(|one| (one.position.offset, one.kept.nonce, one.previous, one.kept.data.clone()));
        let expected = [(1, 10, 0, Bytes::from("one")), (2, 20, 10, Bytes::from("two"))];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_became_of_a_message_is_told_apart() {
        let read =
            |parts: &[&str]| stamp(Value::Array(parts.iter().map(|&part| text(part)).collect()));
        let position: Position = "e:7".parse().unwrap();
        let new = |bytes, has_ended| Stamp::New { position: position.clone(), bytes, has_ended };
        assert_eq!(read(&["e", "7", "9"]).unwrap(), new(9, false));
        assert_eq!(read(&["e", "7", "ended"]).unwrap(), new(0, true));
        assert_eq!(read(&["e", "7", "known"]).unwrap(), Stamp::Known(position));
        assert_eq!(read(&["keys"]).unwrap(), Stamp::KeysFull);
        assert_eq!(read(&["channels"]).unwrap(), Stamp::ChannelsFull);
        assert!(read(&["other"]).is_err() && read(&["e", "7"]).is_err());
        assert!(read(&["e", "7", "other"]).is_err());
    }

    #[test]
    fn entries_that_none_of_us_wrote_are_left_out() {
        let bad = vec![
            entry("2", &["k", "t", "d", "x", "p", "0"]),
            entry("0-1", &["k", "t", "d", "x", "p", "0"]),
            entry("2-1", &["k", "x", "d", "x", "p", "0"]),
            entry("2-1", &["d", "x", "k", "t", "p", "0"]),
            entry("2-1", &["k", "t", "d", "x", "p", "zero"]),
            entry("2-1", &["k", "t", "d"]),
            text("2-1"),
        ];
        assert!(read(answer("e", bad)).unwrap().unwrap().messages.is_empty());
    }

    #[test]
    fn a_strangers_numbers_are_bounded() {
        for_each_number(|number, offset| {
            let read = position(Value::Array(vec![text("e"), text(number)])).ok();
            let read = read.map(|position| position.offset);
            assert!(read.is_none_or(|read| Some(read) == offset), "{number}");
            let sent = [text("sent"), Value::Integer(1), text("e"), text(number)];
            let claimed = claim(Value::Array(sent.to_vec())).ok();
            let Claim::Sent(claimed) = claimed.map_or(Claim::Taken, |(claim, _)| claim) else {
                assert_eq!(read, None, "{number}");
                return;
            };
            assert_eq!(Some(claimed.offset), read, "{number}");
            let nonce =
                standing(Value::Array([text("e"), text("1"), text(number), text("")].to_vec()));
            assert_eq!(nonce.ok().map(|standing| standing.nonce), read, "{number}");
            for (id, previous) in [(format!("{number}-1"), "0"), (format!("1-{number}"), number)] {
                let one = entry(&id, &["k", "t", "d", "x", "p", previous]);
                let read = super::read(answer("e", vec![one])).unwrap().unwrap();
                for one in read.messages {
                    let numbers = [one.position.offset, one.kept.nonce, one.previous];
                    assert!(numbers.iter().all(|number| *number <= OFFSET_MAX), "{number}");
                }
            }
        });
    }

    #[test]
    fn eras_are_read_and_what_is_none_is_left_out() {
        let read = |written: &str| {
            let Eras { current, before } = eras(text(written)).ok()?;
            Some((current.to_string(), before.map(|era| era.to_string())))
        };
        let era = |name: &str| name.to_owned();
        assert_eq!(read("empty-a"), Some((era("empty-a"), None)));
        assert_eq!(read("empty-b empty-a"), Some((era("empty-b"), Some(era("empty-a")))));
        assert_eq!(read("b empty-a \u{e4}"), Some((era("empty-a"), None)));
        assert_eq!(read(""), None);
    }

    #[test]
    fn what_is_no_answer_of_a_script_is_an_error() {
        assert!(read(Value::Null).unwrap().is_none());
        assert!(read(answer("no epoch", Vec::new())).is_err());
        assert!(read(Value::Array(vec![text("e"), text("2")])).is_err());
        let short = Value::Array(["e", "2", "20", "", "1000"].map(text).to_vec());
        assert!(standing_and_history(short).is_err());
        assert!(standing(Value::Array(vec![text("e"), text("2")])).is_err());
        assert!(lease(Value::Array(vec![Value::Integer(0), Value::Integer(-1)])).is_err());
        assert!(position(text("e")).is_err());
        assert!(position(Value::Array(vec![text("empty-e"), text("1")])).is_err());
        let none = |value| stamp(value).unwrap_err().details().to_owned();
        let expected = "expected an array of epoch and offset, got";
        assert_eq!(none(text("OK")), format!("{expected} the text \"OK\""));
        assert_eq!(none(Value::Null), format!("{expected} nil"));
        assert_eq!(none(Value::Integer(5)), format!("{expected} the number 5"));
        assert_eq!(none(Value::Array(vec![])), format!("{expected} an array with nothing in it"));
        assert!(claim(Value::Array(vec![text("sent"), Value::Integer(1), text("e")])).is_err());
    }
}
