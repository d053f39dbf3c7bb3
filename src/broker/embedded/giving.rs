//! A sequencer on its way to another process, while it goes on: pure.
//!
//! It is read a bounded part at a time, and never notes anything for this: what happens after a
//! part was read is in a later one. So a hand-over costs publishers only the moments in which parts
//! are collected, and one that is given up leaves nothing behind.

use super::sequencer::Sequencer;
use crate::{
    broker::{
        history::{HistoriesWalk, PartBounds},
        idempotency::AnswersWalk,
        record::{AnswerRecord, BrokerPart, SequencerRecord, millis},
    },
    clock::Millis,
    limits::HANDOVER_FLOORS_MAX,
};

/// How far a sequencer was given.
#[derive(Debug)]
pub(in crate::broker) struct SequencerGiving {
    began: Millis,
    bounds: PartBounds,
    answers: AnswersWalk,
    histories: HistoriesWalk,
    stage: Stage,
}

/// The next thing to be given in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Answers,
    Channels,
    /// Nothing: the next round brings what came since.
    Over,
}

impl SequencerGiving {
    /// The hand-over begins.
    pub(in crate::broker) fn new(bounds: PartBounds, now: Millis) -> Self {
        Self {
            began: now,
            bounds,
            answers: AnswersWalk::default(),
            histories: HistoriesWalk::default(),
            stage: Stage::Answers,
        }
    }

    /// The next part; None at the end of a round. The first round brings all, and further ones what
    /// has changed since.
    pub(in crate::broker) fn next(
        &mut self,
        sequencer: &Sequencer,
        now: Millis,
    ) -> Option<BrokerPart> {
        if self.stage == Stage::Answers {
            let part = self.answers(sequencer, now);
            if part.is_some() {
                return part;
            }
            self.stage = Stage::Channels;
        }
        let part = if self.stage == Stage::Channels { self.channels(sequencer, now) } else { None };
        if part.is_none() {
            self.stage = Stage::Answers;
        } else if self.histories.is_at_end() {
            self.stage = Stage::Over;
        }
        part
    }

    /// All that is left, as of this moment: what is published later is not in it.
    pub(in crate::broker) fn finish(
        mut self,
        sequencer: &Sequencer,
        now: Millis,
    ) -> Vec<BrokerPart> {
        let mut parts = Vec::new();
        while let Some(part) = self.answers(sequencer, now) {
            parts.push(part);
        }
        while let Some(part) = self.channels(sequencer, now) {
            parts.push(part);
        }
        let floors = sequencer.histories.floors();
        let floors = floors.chunks(HANDOVER_FLOORS_MAX);
        parts.extend(floors.map(|some| BrokerPart { floors: some.to_vec(), ..self.part(now) }));
        let evicted = sequencer.histories.evicted();
        let sequencer = SequencerRecord {
            process_epoch: sequencer.process_epoch.clone(),
            uses: sequencer.histories.uses(),
            evicted_messages: evicted.messages,
            evicted_channels: evicted.channels,
            slots: sequencer.slots.all().map(Into::into).collect(),
        };
        parts.push(BrokerPart { sequencer: Some(sequencer), ..self.part(now) });
        parts
    }

    fn answers(&mut self, sequencer: &Sequencer, now: Millis) -> Option<BrokerPart> {
        let answers = self.answers.next(&sequencer.answers, self.bounds.items_max, now);
        let answers: Vec<_> = answers.into_iter().map(AnswerRecord::of_sequencer).collect();
        (!answers.is_empty()).then(|| BrokerPart { answers, ..self.part(now) })
    }

    fn channels(&mut self, sequencer: &Sequencer, now: Millis) -> Option<BrokerPart> {
        let channels = self.histories.next(&sequencer.histories, self.bounds, now);
        let channels: Vec<_> = channels.into_iter().map(Into::into).collect();
        (!channels.is_empty()).then(|| BrokerPart { channels, ..self.part(now) })
    }

    fn part(&self, now: Millis) -> BrokerPart {
        BrokerPart { at_ms: millis(now - self.began), ..BrokerPart::default() }
    }
}
