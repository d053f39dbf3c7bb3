//! The knowledge of a process by itself, on its way to another one: pure.
//!
//! Redis has the channels, their histories and most keys, and tells them to whoever asks. This is
//! the rest: the outcome of messages that Redis does not know of, the periodic slots that were
//! taken care of, and what publishers have used of their shares of Redis.

use super::state::LocalState;
use crate::{
    broker::{
        embedded::SlotsDone,
        history::PartBounds,
        idempotency::AnswersWalk,
        record::{AnswerRecord, BrokerPart, LocalRecord, StreamRecord, TakeError, millis},
    },
    clock::Millis,
};

/// How far the knowledge of a process was given.
#[derive(Debug)]
pub(in crate::broker) struct LocalGiving {
    began: Millis,
    bounds: PartBounds,
    answers: AnswersWalk,
    /// All streams used up to this turn were given.
    turn: u64,
    is_at_end: bool,
}

/// The knowledge of another process as far as it has arrived.
#[derive(Debug)]
pub(in crate::broker) struct LocalTaking {
    /// When the first part arrived, and its moment in the other process.
    began: Option<(Millis, u64)>,
    state: LocalState,
    end: Option<(Millis, LocalRecord)>,
}

impl LocalGiving {
    /// The hand-over begins.
    pub(in crate::broker) fn new(bounds: PartBounds, now: Millis) -> Self {
        Self { began: now, bounds, answers: AnswersWalk::default(), turn: 0, is_at_end: false }
    }

    /// The next part; None at the end of a round. The first round brings all, and further ones what
    /// has changed since.
    pub(in crate::broker) fn next(
        &mut self,
        local: &LocalState,
        now: Millis,
    ) -> Option<BrokerPart> {
        if std::mem::take(&mut self.is_at_end) {
            return None;
        }
        let part = self.part(local, now)?;
        let few = part.answers.len().max(part.streams.len()) < self.bounds.items_max;
        self.is_at_end = few && !part.streams.is_empty();
        Some(part)
    }

    /// All that is left, as of this moment; `clock_ahead_ms`: by how much Redis' clock is ahead of
    /// the machine's.
    pub(in crate::broker) fn finish(
        mut self,
        local: &LocalState,
        clock_ahead_ms: i64,
        now: Millis,
    ) -> Vec<BrokerPart> {
        let mut parts = Vec::new();
        while let Some(part) = self.part(local, now) {
            parts.push(part);
        }
        let [keys, begun, begun_in_a_day] = local.windows().map(|window| window.record(now));
        let local = LocalRecord {
            slots: local.slots.all().map(Into::into).collect(),
            keys: keys.into_iter().map(Into::into).collect(),
            begun: begun.into_iter().map(Into::into).collect(),
            begun_in_a_day: begun_in_a_day.into_iter().map(Into::into).collect(),
            clock_ahead_ms,
        };
        parts.push(BrokerPart { local: Some(local), ..self.empty(now) });
        parts
    }

    /// Answers, and when there are no more of them, streams.
    fn part(&mut self, local: &LocalState, now: Millis) -> Option<BrokerPart> {
        let answers = self.answers.next(local.answers(), self.bounds.items_max, now);
        let answers: Vec<_> = answers.into_iter().map(AnswerRecord::of_process).collect();
        if !answers.is_empty() {
            return Some(BrokerPart { answers, ..self.empty(now) });
        }
        let (turn, streams) = local.streams().used_after(self.turn, self.bounds.items_max, now);
        self.turn = turn;
        let streams: Vec<_> = streams.into_iter().map(StreamRecord::from).collect();
        (!streams.is_empty()).then(|| BrokerPart { streams, ..self.empty(now) })
    }

    /// A part of this moment with nothing in it.
    pub(in crate::broker) fn empty(&self, now: Millis) -> BrokerPart {
        BrokerPart { at_ms: millis(now - self.began), ..BrokerPart::default() }
    }
}

impl LocalTaking {
    /// Nothing has arrived. `state` has the bounds of this process, and nothing in it.
    pub(in crate::broker) fn new(state: LocalState) -> Self {
        Self { began: None, state, end: None }
    }

    /// The next part.
    ///
    /// # Errors
    /// When it is none of a process with Redis; then nothing can be made of the rest.
    pub(in crate::broker) fn put(
        &mut self,
        part: BrokerPart,
        now: Millis,
    ) -> Result<(), TakeError> {
        let BrokerPart { at_ms, answers, streams, local, channels, sequencer, .. } = part;
        if sequencer.is_some() || !channels.is_empty() {
            return Err(TakeError::OtherBroker);
        }
        let (first, first_ms) = *self.began.get_or_insert((now, at_ms));
        let at = Millis(first.0.saturating_add(at_ms).saturating_sub(first_ms));
        for answer in answers {
            self.state.take_over_answer(AnswerRecord::for_process(answer)?, at);
        }
        for stream in streams {
            self.state.take_over_stream(stream.into(), at);
        }
        if let Some(local) = local {
            self.end = Some((at, local));
        }
        Ok(())
    }

    /// The state of this process, and by how much Redis' clock is ahead of the machine's, in
    /// milliseconds.
    ///
    /// # Errors
    /// When the last part is missing.
    pub(in crate::broker) fn finish(self) -> Result<(LocalState, i64), TakeError> {
        let Self { mut state, end, .. } = self;
        let (at, end) = end.ok_or(TakeError::Incomplete)?;
        let LocalRecord { slots, keys, begun, begun_in_a_day, clock_ahead_ms } = end;
        state.slots = SlotsDone::of(slots.into_iter().map(Into::into));
        for (window, parts) in state.windows_mut().into_iter().zip([keys, begun, begun_in_a_day]) {
            window.restore(parts.into_iter().map(Into::into).collect(), at);
        }
        Ok((state, clock_ahead_ms))
    }
}

#[cfg(test)]
mod tests;
