//! Keys by which a publisher may say the same thing twice: pure.
//!
//! A publisher that got no answer repeats its request with the same key, and gets the first one's
//! answer if that one went through. This is the memory of one process: the only one for the
//! embedded broker, and that of local deliveries while Redis is out of reach.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Principal, quota::Quota};
use crate::{
    channel::ChannelName,
    clock::Millis,
    limits::{
        IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_KEY_COST_BYTES, IDEMPOTENCY_KEYS_BYTES_MAX,
        IDEMPOTENCY_TTL,
    },
};

/// The publisher's name for one message, so that it is published once however often it is sent: 1
/// to 128 visible ASCII characters. Cloning is cheap: the text is shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(Arc<str>);

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

impl TryFrom<String> for IdempotencyKey {
    type Error = InvalidIdempotencyKey;

    fn try_from(text: String) -> Result<Self, InvalidIdempotencyKey> {
        Self::new(&text)
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.as_str().to_owned()
    }
}

/// A key with its publisher and channel: two publishers, or two channels, never share a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) publisher: Principal,
    pub(super) channel: ChannelName,
    pub(super) key: IdempotencyKey,
}

impl Id {
    /// The cost of remembering it, here or in Redis.
    pub(super) fn cost(&self) -> usize {
        self.channel.as_str().len() + self.key.as_str().len() + IDEMPOTENCY_KEY_COST_BYTES
    }
}

/// The first answers to what was published with a key, for [`IDEMPOTENCY_TTL`]. None is forgotten
/// before: callers ask whether there is room before they add one.
///
/// # Invariants
/// `answers` and `order` hold the same keys, and `bytes` is their cost.
#[derive(Debug)]
pub(super) struct Answers<T> {
    answers: HashMap<Id, T>,
    /// Until when each is remembered.
    order: VecDeque<(Millis, Id)>,
    /// So many were forgotten.
    forgotten: u64,
    /// So often an answer took the place of another one.
    replaced: u64,
    bytes: Quota,
    ttl: Duration,
}

/// How far the answers of a process were given to another one.
///
/// Later answers come last, and none changes, unless it is replaced: then all are given again.
#[derive(Debug, Default)]
pub(super) struct AnswersWalk {
    /// The number of the next answer: the first ever is 0.
    next: u64,
    replaced: u64,
}

/// An answer on its way to another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RememberedAnswer<T> {
    pub(super) id: Id,
    pub(super) answer: T,
    /// It is remembered for so long from now on.
    pub(super) left: Duration,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            order: VecDeque::new(),
            forgotten: 0,
            replaced: 0,
            bytes: Quota::new(IDEMPOTENCY_KEYS_BYTES_MAX),
            ttl: IDEMPOTENCY_TTL,
        }
    }
}

impl<T: Clone> Answers<T> {
    /// The first answer to what was published as `id`, if it is remembered.
    pub(super) fn first(&mut self, id: &Id, now: Millis) -> Option<T> {
        self.expire(now);
        if self.answers.is_empty() {
            return None;
        }
        self.answers.get(id).cloned()
    }

    /// Whether the answer to `id`, which is not remembered, could be.
    pub(super) fn has_room(&mut self, id: &Id, now: Millis) -> bool {
        self.expire(now);
        self.bytes.fits(id.publisher.class(), id.cost())
    }

    /// Remembers the first answer. Messages that were under way when there was room may be more
    /// than fit: their answers are remembered all the same.
    pub(super) fn remember(&mut self, id: Id, answer: T, now: Millis) {
        self.remember_until(id, answer, now + self.ttl);
    }

    fn remember_until(&mut self, id: Id, answer: T, until: Millis) {
        if self.answers.insert(id.clone(), answer).is_none() {
            self.bytes.take(id.publisher.class(), id.cost());
            self.order.push_back((until, id));
        } else {
            self.replaced += 1;
        }
    }

    /// Takes over what another process remembered at `at`, by this process's clock. The answers of
    /// one process come in their order, before others.
    pub(super) fn take_over(&mut self, remembered: RememberedAnswer<T>, at: Millis) {
        // Or the end of an earlier answer would be that of this one to the same key.
        self.expire(at);
        let RememberedAnswer { id, answer, left } = remembered;
        self.remember_until(id, answer, at + left.min(self.ttl));
    }

    fn expire(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(until, _)| *until <= now)
            && let Some((_, id)) = self.order.pop_front()
        {
            self.forgotten += 1;
            self.answers.remove(&id);
            self.bytes.give_back(id.publisher.class(), id.cost());
        }
    }
}

impl AnswersWalk {
    /// The next answers, at most `max`; none if all were given.
    pub(super) fn next<T: Clone>(
        &mut self,
        answers: &Answers<T>,
        max: usize,
        now: Millis,
    ) -> Vec<RememberedAnswer<T>> {
        if self.replaced != answers.replaced {
            *self = Self { next: 0, replaced: answers.replaced };
        }
        let first = self.next.max(answers.forgotten);
        let place = usize::try_from(first - answers.forgotten).unwrap_or(usize::MAX);
        let place = place.min(answers.order.len());
        let given = answers.order.range(place..).take(max);
        let answer = |(until, id): &(Millis, Id)| {
            let answer = answers.answers.get(id).cloned()?;
            Some(RememberedAnswer { id: id.clone(), answer, left: *until - now })
        };
        let given: Vec<_> = given.filter_map(answer).collect();
        self.next = first + given.len() as u64;
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Principal::{Anonymous, Api};

    fn id(publisher: Principal, channel: &str, key: &str) -> Id {
        let channel = ChannelName::new(channel).unwrap();
        Id { publisher, channel, key: IdempotencyKey::new(key).unwrap() }
    }

    #[test]
    fn keys_are_checked() {
        assert!(IdempotencyKey::new(&"k".repeat(128)).is_ok());
        for bad in ["", "a b", "ä", "a\n", &"k".repeat(129)] {
            assert_eq!(IdempotencyKey::new(bad), Err(InvalidIdempotencyKey), "{bad:?}");
        }
    }

    /// The first answer is remembered by publisher channel and key for its time.
    #[test]
    fn the_first_answer_is_remembered() {
        let mut answers = Answers::default();
        let first = id(Api, "a", "k");
        answers.remember(first.clone(), 1, Millis(0));
        assert_eq!(answers.first(&first, Millis(1)), Some(1));
        for other in [id(Anonymous, "a", "k"), id(Api, "b", "k"), id(Api, "a", "l")] {
            assert_eq!(answers.first(&other, Millis(1)), None);
        }
        let end = Millis(0) + IDEMPOTENCY_TTL;
        assert_eq!(answers.first(&first, Millis(end.0 - 1)), Some(1));
        assert_eq!(answers.first(&first, end), None);
        assert!(answers.order.is_empty() && answers.bytes.all() == 0);
    }

    /// No key is forgotten before its time, and a key without room is refused.
    #[test]
    fn no_key_is_forgotten_before_its_time() {
        let mut answers = Answers::default();
        let key = |publisher, number: usize| id(publisher, "a", &number.to_string());
        let mut count = 0;
        while answers.has_room(&key(Anonymous, count), Millis(0)) {
            answers.remember(key(Anonymous, count), count, Millis(0));
            count += 1;
        }
        assert!(count > 65_536, "{count}");
        assert!((0..count).all(|n| answers.first(&key(Anonymous, n), Millis(1)) == Some(n)));
        assert!(answers.bytes.all() <= IDEMPOTENCY_KEYS_BYTES_MAX);
        // A publisher that used up its share did not use up those of others.
        assert!(answers.has_room(&key(Api, 0), Millis(1)));
        let end = Millis(0) + IDEMPOTENCY_TTL;
        assert!(answers.has_room(&key(Anonymous, count), end));
        assert_eq!((answers.order.len(), answers.bytes.all()), (0, 0));
    }
}
