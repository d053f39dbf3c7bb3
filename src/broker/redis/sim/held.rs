//! The content of a server of the model, one channel, and the scripts that change it: `contract`
//! compares publishing with the script itself.

use std::collections::{HashMap, VecDeque};

use fred::types::Value;

use crate::limits::REDIS_MESSAGE_COST_BYTES;

/// A server's content of the channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) epoch: Option<String>,
    pub(super) offset: u64,
    pub(super) nonce: u64,
    pub(super) stream: VecDeque<Entry>,
    halves: Option<Halves>,
    pub(super) empty_epoch: Option<String>,
    /// Epochs that were ended before this one.
    pub(super) ended: String,
    /// All that was ever published in this epoch and not rolled back, trimmed or not.
    pub(super) texts: Vec<String>,
    /// Idempotency keys, and where their messages are.
    keys: HashMap<String, (String, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    offset: u64,
    nonce: u64,
    previous: u64,
    kind: String,
    text: String,
}

/// The two halves of a stream: where the newer one began, the bytes of both, and whose they are.
#[derive(Clone, Debug)]
struct Halves {
    since: u64,
    newer: usize,
    older: usize,
    publisher: String,
}

/// The header of a message that subscribers get.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) epoch: String,
    pub(super) offset: u64,
    pub(super) nonce: u64,
    pub(super) previous: u64,
}

impl Held {
    /// `publish.lua`, with its arguments in their order; what goes out, if something does.
    pub(super) fn publish(&mut self, key: Option<&str>, args: &[String]) -> (Value, Option<Sent>) {
        let is_full = |what: &str| args[10].contains(what);
        if let Some(key) = key {
            if let Some((epoch, offset)) = self.keys.get(key) {
                return (words([epoch, &offset.to_string(), "known"]), None);
            }
            if is_full("keys") {
                return (words(["keys"]), None);
            }
        }
        if is_full("channels") && self.epoch.is_none() {
            return (words(["channels"]), None);
        }
        let (sent, bytes) = self.stamp(args, is_full("histories"));
        let (epoch, offset) = (sent.epoch.clone(), sent.offset);
        if let Some(key) = key {
            self.keys.insert(key.to_owned(), (epoch.clone(), offset));
        }
        (words([&epoch, &offset.to_string(), &bytes]), Some(sent))
    }

    /// `stamp.lua`; with what is answered about the stream.
    fn stamp(&mut self, args: &[String], is_full: bool) -> (Sent, String) {
        let [_, kind, text, candidate, _, nonce, messages_max, _, half_bytes, publisher] =
            &args[..10]
        else {
            panic!("the script takes so many");
        };
        let (messages_max, half_bytes): (u64, usize) = (number(messages_max), number(half_bytes));
        if self.epoch.is_none() {
            self.begin(candidate.clone(), 0);
        }
        let offset = self.offset + 1;
        let (nonce, previous) = (number(nonce), std::mem::replace(&mut self.nonce, number(nonce)));
        let has_stream = messages_max > 0 && !self.stream.is_empty();
        let halves = self.halves.take().filter(|halves| has_stream && halves.since <= offset);
        let begun = Halves { since: 0, newer: 0, older: 0, publisher: publisher.clone() };
        let mut halves = halves.unwrap_or(begun);
        halves.publisher = halves.publisher.min(publisher.clone());
        let (mut is_kept, mut most) = (messages_max > 0, messages_max);
        if is_full && halves.publisher == *publisher {
            (is_kept, halves.newer, halves.older) = (false, 0, 0);
        } else if is_kept {
            let size = text.len() + REDIS_MESSAGE_COST_BYTES;
            if halves.since == 0 {
                halves.since = offset;
            }
            let is_heavy = halves.newer > 0 && halves.newer + size > half_bytes;
            if is_heavy {
                most = most.min(offset - halves.since + 1);
            }
            if is_heavy || offset - halves.since >= messages_max {
                (halves.since, halves.older, halves.newer) = (offset, halves.newer, 0);
            }
            halves.newer += size;
        }
        let mut bytes = (halves.newer + halves.older).to_string();
        if is_kept {
            let (kind, text) = (kind.clone(), text.clone());
            self.stream.push_back(Entry { offset, nonce, previous, kind, text });
            while self.stream.len() as u64 > most {
                self.stream.pop_front();
            }
        } else if is_full && !self.stream.is_empty() {
            self.stream.clear();
            "ended".clone_into(&mut bytes);
        }
        self.halves = Some(halves);
        self.offset = offset;
        self.texts.push(text.clone());
        let epoch = self.epoch.clone().expect("it has begun");
        (Sent { epoch, offset, nonce, previous }, bytes)
    }

    /// Another history. Keys live on.
    pub(super) fn begin(&mut self, epoch: String, nonce: u64) {
        let (empty_epoch, keys) = (self.empty_epoch.take(), std::mem::take(&mut self.keys));
        *self = Self { epoch: Some(epoch), nonce, empty_epoch, keys, ..Self::default() };
    }

    pub(super) fn stream_position(&self) -> Value {
        let Some(epoch) = self.epoch.clone() else { return Value::Null };
        words([&epoch, &self.offset.to_string(), &self.nonce.to_string(), &self.ended])
    }

    pub(super) fn read(&self, first: u64, count: usize) -> Value {
        if self.epoch.is_none() {
            return Value::Null;
        }
        let newest_first = self.stream.iter().rev().take_while(|one| one.offset >= first);
        let entries = newest_first.take(count).map(|one| {
            let previous = one.previous.to_string();
            let fields = words(["k", &one.kind, "d", &one.text, "p", &previous]);
            Value::Array(vec![format!("{}-{}", one.offset, one.nonce).into(), fields])
        });
        let Value::Array(mut answer) = self.stream_position() else { unreachable!("it is one") };
        answer.extend([Value::Integer(300_000), Value::Array(entries.collect())]);
        Value::Array(answer)
    }

    /// The state of the channel is lost, and nothing else.
    #[cfg(unix)]
    pub(super) fn lose_state(&mut self) {
        (self.epoch, self.offset, self.nonce) = (None, 0, 0);
    }

    /// The number of messages in the stream.
    #[cfg(unix)]
    pub(super) fn kept(&self) -> usize {
        self.stream.len()
    }

    /// The oldest offset that the stream has.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.stream.front().map(|entry| entry.offset)
    }
}

fn words<const N: usize>(words: [&str; N]) -> Value {
    Value::Array(words.map(Value::from).to_vec())
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a number")
}
