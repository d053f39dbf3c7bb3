//! Keys by which a publisher may say the same thing twice: pure.
//!
//! Whoever got no answer repeats its request with the same key, and gets the first one's answer
//! if that one went through. This is the memory of one process: all there is for the embedded
//! broker, and what was delivered locally with Redis out of reach.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use thiserror::Error;

use crate::{
    channel::ChannelName,
    clock::Millis,
    limits::{IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_TTL},
};

/// What a publisher calls one message, so that it is published once however often it is sent:
/// 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

/// The text is no key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an idempotency key is 1 to 128 visible ASCII characters")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is empty, too long, or holds spaces or anything but ASCII.
    pub fn new(text: &str) -> Result<Self, InvalidIdempotencyKey> {
        let length_ok = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
        if length_ok && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

type Id = (ChannelName, IdempotencyKey);

/// The first answers to what was published with a key, for [`IDEMPOTENCY_TTL`].
///
/// # Invariants
/// `answers` and `order` hold the same keys, at most [`IDEMPOTENCY_KEYS_MAX`].
#[derive(Debug)]
pub(super) struct Answers<T> {
    answers: HashMap<Id, T>,
    order: VecDeque<(Millis, Id)>,
    ttl: Duration,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), ttl: IDEMPOTENCY_TTL }
    }
}

impl<T: Clone> Answers<T> {
    /// The first answer to what was published to `channel` with `key`, if it is remembered.
    pub(super) fn first(
        &mut self,
        channel: &ChannelName,
        key: &IdempotencyKey,
        now: Millis,
    ) -> Option<T> {
        self.expire(now);
        if self.answers.is_empty() {
            return None;
        }
        self.answers.get(&(channel.clone(), key.clone())).cloned()
    }

    /// Remembers the first answer.
    pub(super) fn remember(
        &mut self,
        channel: &ChannelName,
        key: &IdempotencyKey,
        answer: T,
        now: Millis,
    ) {
        let id = (channel.clone(), key.clone());
        if self.answers.insert(id.clone(), answer).is_none() {
            self.order.push_back((now, id));
        }
        if self.order.len() > IDEMPOTENCY_KEYS_MAX {
            self.forget_oldest();
        }
    }

    fn expire(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(since, _)| now - *since >= self.ttl) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.answers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text).unwrap()
    }

    #[test]
    fn keys_are_checked() {
        assert!(IdempotencyKey::new(&"k".repeat(128)).is_ok());
        for bad in ["", "a b", "ä", "a\n", &"k".repeat(129)] {
            assert_eq!(IdempotencyKey::new(bad), Err(InvalidIdempotencyKey), "{bad:?}");
        }
    }

    #[test]
    fn the_first_answer_is_remembered_by_channel_and_key_for_its_time() {
        let mut answers = Answers::default();
        answers.remember(&channel("a"), &key("k"), 1, Millis(0));
        assert_eq!(answers.first(&channel("a"), &key("k"), Millis(1)), Some(1));
        assert_eq!(answers.first(&channel("b"), &key("k"), Millis(1)), None);
        assert_eq!(answers.first(&channel("a"), &key("l"), Millis(1)), None);
        let end = Millis(0) + IDEMPOTENCY_TTL;
        assert_eq!(answers.first(&channel("a"), &key("k"), Millis(end.0 - 1)), Some(1));
        assert_eq!(answers.first(&channel("a"), &key("k"), end), None);
        assert!(answers.order.is_empty());
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut answers = Answers::default();
        for number in 0..=IDEMPOTENCY_KEYS_MAX {
            answers.remember(&channel("a"), &key(&number.to_string()), number, Millis(0));
        }
        assert_eq!(answers.order.len(), IDEMPOTENCY_KEYS_MAX);
        assert_eq!(answers.answers.len(), IDEMPOTENCY_KEYS_MAX);
        assert_eq!(answers.first(&channel("a"), &key("0"), Millis(0)), None);
        assert_eq!(answers.first(&channel("a"), &key("1"), Millis(0)), Some(1));
    }
}
