//! A sequencer that continues another process's: pure.
//!
//! Its time begins with the first part: ages and times that are left count from there, so nothing
//! is forgotten too early, and all of it as much too late as that part was on its way.

use super::{sequencer::Sequencer, slots::SlotsDone};
use crate::{
    broker::{
        Evicted, HistorySettings,
        history::{HistoriesEnd, StagedHistories},
        idempotency::Answers,
        record::{AnswerRecord, BrokerPart, SequencerRecord, TakeError},
    },
    clock::Millis,
    limits::PROCESS_EPOCH_BYTES_MAX,
    position::{Position, is_epoch},
};

/// A sequencer as far as it has arrived.
#[derive(Debug)]
pub(in crate::broker) struct SequencerTaking {
    /// When the first part arrived, and its moment in the other process.
    began: Option<(Millis, u64)>,
    histories: StagedHistories,
    answers: Answers<Position>,
    end: Option<SequencerRecord>,
}

impl SequencerTaking {
    /// Nothing has arrived. `settings` and `channels_max` are those of this process.
    pub(in crate::broker) fn new(settings: HistorySettings, channels_max: usize) -> Self {
        Self {
            began: None,
            histories: StagedHistories::new(settings, channels_max),
            answers: Answers::default(),
            end: None,
        }
    }

    /// The next part.
    ///
    /// # Errors
    /// When it is not a sequencer's; then nothing can be made of the rest.
    pub(in crate::broker) fn put(
        &mut self,
        part: BrokerPart,
        now: Millis,
    ) -> Result<(), TakeError> {
        if part.is_of_redis() {
            return Err(TakeError::OtherBroker);
        }
        let BrokerPart { at_ms, channels, answers, floors, sequencer, .. } = part;
        let (first, first_ms) = *self.began.get_or_insert((now, at_ms));
        let at = Millis(first.0.saturating_add(at_ms).saturating_sub(first_ms));
        for channel in channels {
            self.histories.put(channel.into(), at);
        }
        for answer in answers {
            self.answers.take_over(AnswerRecord::for_sequencer(answer)?, at);
        }
        self.histories.trim(floors);
        if sequencer.is_some() {
            self.end = sequencer;
        }
        Ok(())
    }

    /// The sequencer.
    ///
    /// # Errors
    /// When the last part is missing, or is none of ours.
    pub(in crate::broker) fn finish(self) -> Result<Sequencer, TakeError> {
        let end = self.end.ok_or(TakeError::Incomplete)?;
        let SequencerRecord { process_epoch, uses, evicted_messages, evicted_channels, slots } =
            end;
        if !is_epoch(&process_epoch) || process_epoch.len() > PROCESS_EPOCH_BYTES_MAX {
            return Err(TakeError::Epoch);
        }
        let evicted = Evicted { messages: evicted_messages, channels: evicted_channels };
        Ok(Sequencer {
            process_epoch,
            histories: self.histories.end(HistoriesEnd { uses, evicted }),
            answers: self.answers,
            slots: SlotsDone::of(slots.into_iter().map(Into::into)),
            is_over: false,
        })
    }
}

#[cfg(test)]
mod tests;
