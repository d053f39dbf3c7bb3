//! The knowledge of a process by itself: its deliveries without Redis, and its use of Redis.
//!
//! Redis itself can't tell which publisher caused which part of it, so each process bounds the
//! additions of its own publishers. Pure: time comes in as a value.

use super::stream_quotas::{self, StreamQuotas, StreamShare};
use crate::{
    broker::{
        HistorySettings, Message, PublishError, PublisherClass,
        embedded::SlotsDone,
        idempotency::{Answers, Id, RememberedAnswer},
        quota::Window,
    },
    clock::Millis,
    limits::{
        CHANNELS_BEGUN_DAY_MAX, CHANNELS_BEGUN_MAX, CHANNELS_BEGUN_SPAN, IDEMPOTENCY_TTL,
        REDIS_META_TTL,
    },
    position::Position,
};

/// A process's own record of its deliveries without Redis, and with it.
#[derive(Debug)]
pub(crate) struct LocalState {
    pub(crate) slots: SlotsDone,
    /// The outcome of messages with a key that did not certainly go through Redis.
    answers: Answers<LocalOutcome>,
    /// Bytes of keys that Redis has from here.
    keys: Window,
    /// Channels that were begun from here.
    begun: Window,
    begun_in_a_day: Window,
    /// Histories that are kept in Redis for publishers of this process.
    streams: StreamQuotas,
}

impl LocalState {
    pub(crate) fn new(history: HistorySettings, keys_bytes_max: usize) -> Self {
        Self {
            streams: StreamQuotas::new(history),
            slots: SlotsDone::default(),
            answers: Answers::default(),
            keys: Window::new(keys_bytes_max, IDEMPOTENCY_TTL),
            begun: Window::new(CHANNELS_BEGUN_MAX, CHANNELS_BEGUN_SPAN),
            begun_in_a_day: Window::new(CHANNELS_BEGUN_DAY_MAX, REDIS_META_TTL),
        }
    }
}

/// The outcome of a message that Redis does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalOutcome {
    /// It was delivered here, and is never again. Said again when Redis is back, it goes there.
    Local,
    /// It may have gone through: here it must not be delivered as well.
    InDoubt,
}

/// The parts of a message that are too much for Redis now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotasFull {
    /// A key that it does not have yet.
    pub(crate) keys: bool,
    /// A channel without a publication so far.
    pub(super) channels: bool,
    /// The growth of its history.
    pub(crate) histories: bool,
}

/// The charges for a message before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charged {
    pub(crate) full: QuotasFull,
    /// It may be its channel's first, and counts as that.
    begins: bool,
    stream: stream_quotas::Charge,
}

impl QuotasFull {
    /// As the script takes it.
    pub(crate) fn words(self) -> String {
        let words = [("keys", self.keys), ("channels", self.channels)];
        let words = words.into_iter().chain([("histories", self.histories)]);
        words.filter(|(_, is_full)| *is_full).map(|(word, _)| word).collect::<Vec<_>>().join(" ")
    }
}

impl LocalState {
    pub(crate) fn local_outcome(&mut self, id: &Id, now: Millis) -> Option<LocalOutcome> {
        self.answers.first(id, now)
    }

    /// Charges a message that is about to be sent to Redis with its key.
    ///
    /// # Errors
    /// When its key could not be remembered here if that came to be necessary.
    pub(crate) fn charge(
        &mut self,
        message: &Message,
        id: Option<&Id>,
        now: Millis,
    ) -> Result<Charged, PublishError> {
        let Message { publisher, channel, data, .. } = message;
        let publisher = publisher.class();
        let may_begin =
            self.begun.fits(publisher, 1, now) && self.begun_in_a_day.fits(publisher, 1, now);
        let mut full = QuotasFull { keys: false, channels: !may_begin, histories: false };
        if let Some(id) = id {
            self.check_room(id, now)?;
            full.keys = !self.keys.fits(publisher, id.cost(), now);
            self.keys.take(publisher, id.cost(), now);
        }
        let begins = may_begin && !self.streams.has(channel);
        if begins {
            self.take_channel(publisher, now);
        }
        let stream = self.streams.charge(publisher, channel, data.len(), now);
        full.histories = stream.is_none();
        Ok(Charged { full, begins, stream: stream.unwrap_or_default() })
    }

    /// It was not added to Redis after all, nor was its key.
    pub(crate) fn give_back(&mut self, message: &Message, id: Option<&Id>, charged: Charged) {
        if let Some(id) = id {
            self.keys.give_back(id.publisher.class(), id.cost());
        }
        if charged.begins {
            self.give_back_channel(message.publisher.class());
        }
        self.streams.refund(message.publisher.class(), &message.channel, charged.stream);
    }

    /// It may be in Redis: so all of it counts, and with its key it is not delivered here as well.
    pub(crate) fn in_doubt(
        &mut self,
        message: &Message,
        id: Option<&Id>,
        charged: Charged,
        now: Millis,
    ) {
        if let Some(id) = id {
            self.remember(id.clone(), LocalOutcome::InDoubt, now);
        }
        self.streams.keep_in_doubt(message.publisher.class(), &message.channel, charged.stream);
    }

    fn take_channel(&mut self, publisher: PublisherClass, now: Millis) {
        self.begun.take(publisher, 1, now);
        self.begun_in_a_day.take(publisher, 1, now);
    }

    fn give_back_channel(&mut self, publisher: PublisherClass) {
        self.begun.give_back(publisher, 1);
        self.begun_in_a_day.give_back(publisher, 1);
    }

    /// A message is in Redis: the first of its channel counts, and its stream has so many `bytes`.
    pub(crate) fn published(
        &mut self,
        message: &Message,
        position: &Position,
        bytes: usize,
        charged: Charged,
        now: Millis,
    ) {
        let Message { publisher, channel, data, .. } = message;
        let publisher = publisher.class();
        self.streams.settle((publisher, channel, data.len()), charged.stream, bytes, now);
        match (position.offset == 1, charged.begins) {
            (true, false) => self.take_channel(publisher, now),
            (false, true) => self.give_back_channel(publisher),
            _ => {}
        }
    }

    /// Whether a key can be remembered here.
    ///
    /// # Errors
    /// When it can't.
    pub(crate) fn check_room(&mut self, id: &Id, now: Millis) -> Result<(), PublishError> {
        let fits = self.answers.has_room(id, now) || self.answers.first(id, now).is_some();
        if fits { Ok(()) } else { Err(PublishError::KeysFull) }
    }

    /// The same bounds, and nothing known.
    pub(in crate::broker::redis) fn empty_like(&self) -> Self {
        Self::new(self.streams.settings(), self.keys.max())
    }

    /// The answers by which messages are recognised.
    pub(super) fn answers(&self) -> &Answers<LocalOutcome> {
        &self.answers
    }

    /// The use of streams.
    pub(super) fn streams(&self) -> &StreamQuotas {
        &self.streams
    }

    /// Keys; channels begun lately, and within a day.
    pub(super) fn windows(&self) -> [&Window; 3] {
        [&self.keys, &self.begun, &self.begun_in_a_day]
    }

    /// The same to be changed.
    pub(super) fn windows_mut(&mut self) -> [&mut Window; 3] {
        [&mut self.keys, &mut self.begun, &mut self.begun_in_a_day]
    }

    /// Takes over an answer of another process, as it was `at` that moment.
    pub(super) fn take_over_answer(&mut self, answer: RememberedAnswer<LocalOutcome>, at: Millis) {
        self.answers.take_over(answer, at);
    }

    /// Takes over the use of a stream by the publishers of another process.
    pub(super) fn take_over_stream(&mut self, share: StreamShare, at: Millis) {
        self.streams.take_over(share, at);
    }

    pub(crate) fn remember(&mut self, id: Id, outcome: LocalOutcome, now: Millis) {
        self.answers.remember(id, outcome, now);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::{
            IdempotencyKey,
            Principal::{self, Anonymous, Api},
        },
        channel::ChannelName,
        limits::IDEMPOTENCY_KEYS_REDIS_BYTES_MAX,
        ws::Kind,
    };

    fn local_state() -> LocalState {
        let ttl = std::time::Duration::from_secs(300);
        let bytes = usize::MAX / 100;
        let history =
            HistorySettings { messages_max: 10, bytes_max: bytes, total_bytes_max: bytes, ttl };
        LocalState::new(history, IDEMPOTENCY_KEYS_REDIS_BYTES_MAX)
    }

    fn message(publisher: Principal, key: Option<&str>) -> Message {
        Message {
            publisher,
            channel: ChannelName::new("a").unwrap(),
            kind: Kind::Text,
            data: Bytes::new(),
            key: key.map(|key| IdempotencyKey::new(key).unwrap()),
        }
    }

    /// A publisher adds so many keys to Redis and what was not added does not count.
    #[test]
    fn keys_that_were_not_added_do_not_count() {
        let (mut local_state, now) = (local_state(), Millis(0));
        let charge = |local_state: &mut LocalState, publisher, key: &str, now| {
            let message = message(publisher, Some(key));
            local_state.charge(&message, message.id().as_ref(), now).unwrap().full.keys
        };
        let once = message(Api, Some("again"));
        let id = once.id().unwrap();
        for _ in 0..1000 {
            let charged = local_state.charge(&once, Some(&id), now).unwrap();
            assert!(!charged.full.keys);
            local_state.give_back(&once, Some(&id), charged);
        }
        let mut added = 0;
        assert!(local_state.keys.fits(
            PublisherClass::Api,
            IDEMPOTENCY_KEYS_REDIS_BYTES_MAX / 4 * 3,
            now
        ));
        while !charge(&mut local_state, Anonymous, "other", now) {
            added += id.cost();
        }
        assert!(added <= IDEMPOTENCY_KEYS_REDIS_BYTES_MAX / 4 * 3, "{added}");
        assert!(
            !charge(&mut local_state, Api, "other", now),
            "what one has used up, others have not"
        );
        let later = now + 2 * IDEMPOTENCY_TTL;
        assert!(!charge(&mut local_state, Anonymous, "other", later));
    }

    /// A publisher begins a limited number of channels, and continues with those it has.
    #[test]
    fn a_publisher_begins_a_bounded_number_of_channels() {
        let (mut local_state, now) = (local_state(), Millis(0));
        let at = |offset| Position { epoch: "e".into(), offset };
        let anonymous = message(Anonymous, None);
        let is_full = |local_state: &mut LocalState, message: &Message, now| {
            let charged = local_state.charge(message, None, now).unwrap();
            local_state.give_back(message, None, charged);
            charged.full.channels
        };
        for _ in 0..CHANNELS_BEGUN_MAX / 4 * 3 {
            for offset in [1, 2] {
                let charged = local_state.charge(&anonymous, None, now).unwrap();
                assert!(!charged.full.channels || offset == 2);
                local_state.published(&anonymous, &at(offset), 0, charged, now);
            }
        }
        assert!(is_full(&mut local_state, &anonymous, now));
        assert!(!is_full(&mut local_state, &message(Api, None), now));
        assert!(!is_full(&mut local_state, &anonymous, now + 2 * CHANNELS_BEGUN_SPAN));
    }

    /// A channel counts as begun while its first message is on its way and when it is in doubt.
    /// Regression: a channel counted when Redis had answered, and not at all if it did not.
    #[test]
    fn a_channel_counts_as_begun_from_its_first_send() {
        let (mut local_state, now) = (local_state(), Millis(0));
        let anonymous = message(Anonymous, None);
        let mut charged = Vec::new();
        loop {
            let next = local_state.charge(&anonymous, None, now).unwrap();
            if next.full.channels {
                local_state.give_back(&anonymous, None, next);
                break;
            }
            charged.push(next);
        }
        assert_eq!(charged.len(), CHANNELS_BEGUN_MAX / 4 * 3);
        for one in &charged[1..] {
            local_state.in_doubt(&anonymous, None, *one, now);
        }
        assert!(local_state.charge(&anonymous, None, now).unwrap().full.channels);
        local_state.give_back(&anonymous, None, charged[0]);
        assert!(!local_state.charge(&anonymous, None, now).unwrap().full.channels);
    }

    #[test]
    fn a_publisher_begins_so_many_channels_in_a_day() {
        let mut local_state = local_state();
        let (api, first) = (message(Api, None), Position { epoch: "e".into(), offset: 1 });
        let mut begun = 0;
        for minutes in 0..24 * 60 {
            let now = Millis(minutes * 60_000);
            loop {
                let charged = local_state.charge(&api, None, now).unwrap();
                if charged.full.channels {
                    local_state.give_back(&api, None, charged);
                    break;
                }
                local_state.published(&api, &first, 0, charged, now);
                begun += 1;
            }
        }
        assert_eq!(begun, CHANNELS_BEGUN_DAY_MAX / 4 * 3);
    }
}
