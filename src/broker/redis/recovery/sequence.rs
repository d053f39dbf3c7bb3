//! Whether what arrives on a channel follows what arrived before: pure.
//!
//! Redis delivers at most once; a hole between two offsets is the only sign of a loss, and a
//! repeated offset the only sign of a repetition. Redis also forgets: an asynchronous failover
//! rolls a channel back, which then continues from an offset that was used before. Only nonces
//! distinguish these messages from the lost ones.

use std::{cmp::Ordering, collections::VecDeque};

use crate::{
    broker::redis::protocol::replies::Ended,
    clock::Millis,
    limits::{REDIS_META_TTL, REDIS_POSITION_TTL, RETIRED_EPOCHS_MAX},
    position::Position,
};

/// A channel's place in its history, as one shard has seen it.
#[derive(Debug, Default)]
pub(crate) struct SequenceTracker {
    last: Option<Last>,
    /// The newest of each epoch before this one, the latest last: what still arrives of them is
    /// late.
    retired: VecDeque<Last>,
    /// Something may have come since that did not arrive here, and be gone.
    is_interrupted: bool,
}

#[derive(Debug)]
struct Last {
    position: Position,
    nonce: u64,
    at: Millis,
}

/// The properties of a message besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
    pub(crate) nonce: u64,
    pub(crate) previous: u64,
}

/// The relation of a message to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It follows.
    Next,
    /// Messages before it are missing, from this offset on.
    Jump(u64),
    /// It is of the first history of a channel that nobody had published to, or of a later one:
    /// whether something is missing before it is to be found out.
    FirstEpoch,
    /// It is of another history: how the one before ended is not known.
    NewEpoch,
    /// It was here before.
    Duplicate,
    /// It is of a history that is over here; or Redis has gone back to it. `is_new`: it has not
    /// been here, as far as can be determined.
    Late { is_new: bool },
    /// Two messages share an offset, here or before: the history was rolled back.
    Diverged,
}

/// The relation of Redis' own position to the received messages, while nothing is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lag {
    /// All has arrived.
    None,
    /// Messages are missing, from this offset on.
    Behind(u64),
    /// The channel had no publications; whether it has now is to be found out.
    FirstEpoch,
    /// As [`Arrival::NewEpoch`].
    NewEpoch,
    /// As [`Arrival::Diverged`]. `is_new`: Redis has messages that have not been here, as far as
    /// can be determined.
    Diverged { is_new: bool },
    /// Redis is again in the epoch that this shard had before it stood at an empty position, and
    /// has got as far as it had, at least: messages are missing from this offset on, after the one
    /// with this nonce.
    Returned { from: u64, after: u64 },
}

impl SequenceTracker {
    /// Judges a message. The first one after a subscription is taken as it is: nothing tells what
    /// came before. `known`: the nonce of an earlier message, if anyone remembers it.
    pub(crate) fn judge(
        &self,
        stamp: &Stamp<'_>,
        now: Millis,
        known: impl FnOnce(u64) -> Option<u64>,
    ) -> Arrival {
        if let Some(over) = self.retired(stamp.epoch) {
            let Stamp { offset, nonce, .. } = *stamp;
            // A shard that cannot tell says that it is new: rather once too often than never.
            let is_new = match offset.cmp(&over.position.offset) {
                Ordering::Greater => true,
                Ordering::Equal => nonce != over.nonce,
                Ordering::Less => known(offset) != Some(nonce),
            };
            return Arrival::Late { is_new };
        }
        let Some(last) = &self.last else { return Arrival::Next };
        let newest = last.position.offset;
        if last.position.is_empty() {
            let is_first = stamp.offset == 1 && stamp.previous == 0 && !self.is_interrupted;
            return if is_first { Arrival::Next } else { Arrival::FirstEpoch };
        }
        if *last.position.epoch != *stamp.epoch {
            // Redis forgets a channel that nobody publishes to: then nothing was lost.
            let is_anew = stamp.offset == 1 && last.has_expired(now);
            return if is_anew { Arrival::Next } else { Arrival::NewEpoch };
        }
        let is_same = if stamp.offset == newest + 1 {
            stamp.previous == last.nonce
        } else if stamp.offset > newest {
            return Arrival::Jump(newest + 1);
        } else if stamp.offset == newest {
            stamp.nonce == last.nonce
        } else {
            known(stamp.offset).is_none_or(|nonce| nonce == stamp.nonce)
        };
        match is_same {
            false => Arrival::Diverged,
            true if stamp.offset > newest => Arrival::Next,
            true => Arrival::Duplicate,
        }
    }

    /// Compares with what Redis holds.
    pub(crate) fn compare(&self, held: &Position, nonce: u64) -> Lag {
        let Some(last) = &self.last else { return Lag::None };
        let newest = last.position.offset;
        if let Some(over) = self.retired(&held.epoch) {
            let is_ahead = held.offset > over.position.offset;
            let is_there = held.offset == over.position.offset && nonce == over.nonce;
            let was_before = self.retired.back().is_some_and(|it| it.position.is_comparable(held));
            if last.position.is_empty() && was_before && (is_ahead || is_there) {
                return Lag::Returned { from: over.position.offset + 1, after: over.nonce };
            }
            Lag::Diverged { is_new: is_ahead || nonce != over.nonce }
        } else if last.position.is_empty() {
            Lag::FirstEpoch
        } else if !last.position.is_comparable(held) {
            Lag::NewEpoch
        } else if held.offset > newest {
            Lag::Behind(newest + 1)
        } else if held.offset < newest || nonce != last.nonce {
            Lag::Diverged { is_new: nonce != last.nonce && held.offset > 0 }
        } else {
            Lag::None
        }
    }

    /// The newest message is this one now.
    pub(crate) fn advance(
        &mut self,
        epoch: &str,
        offset: u64,
        nonce: u64,
        now: Millis,
    ) -> Position {
        let epoch = match self.last.take() {
            Some(last) if *last.position.epoch == *epoch => last.position.epoch,
            // An empty position has no messages: none of them comes late.
            Some(last) if last.position.is_empty() => {
                self.retired.retain(|over| *over.position.epoch != *epoch);
                epoch.into()
            }
            Some(last) => {
                self.retired.retain(|over| *over.position.epoch != *epoch);
                self.retired.push_back(last);
                if self.retired.len() > RETIRED_EPOCHS_MAX {
                    self.retired.pop_front();
                }
                epoch.into()
            }
            None => epoch.into(),
        };
        self.is_interrupted = false;
        let position = Position { epoch, offset };
        self.last = Some(Last { position: position.clone(), nonce, at: now });
        position
    }

    /// Whether something surely was acknowledged that has not been here, of the histories that
    /// `ended` before the one that Redis is in now. `was_here`: whether an end before where this
    /// shard had got to is of the same history.
    pub(crate) fn lacks(&self, ended: &[Vec<Ended>], was_here: impl Fn(&Ended) -> bool) -> bool {
        let place = |epoch: &str| {
            let last = self.last.as_ref().filter(|last| *last.position.epoch == *epoch);
            last.or_else(|| self.retired(epoch))
        };
        let lacks = |end: &Ended| {
            let Position { epoch, offset } = &end.position;
            let Some(was) = place(epoch) else { return *offset > 0 };
            match offset.cmp(&was.position.offset) {
                Ordering::Greater => true,
                Ordering::Equal => end.nonce != was.nonce,
                Ordering::Less => *offset > 0 && !was_here(end),
            }
        };
        for at_once in ended {
            if at_once.iter().any(lacks) {
                return true;
            }
            if at_once.iter().any(|end| place(&end.position.epoch).is_some()) {
                // It was here then: what was over before that it knew, or need not know.
                return false;
            }
        }
        false
    }

    /// Not all that is published arrives here, for a while.
    pub(crate) fn interrupt(&mut self) {
        self.is_interrupted = true;
    }

    /// Where an epoch that is over here ended.
    fn retired(&self, epoch: &str) -> Option<&Last> {
        self.retired.iter().find(|over| *over.position.epoch == *epoch)
    }

    /// Whether anything is known of the channel's position.
    pub(crate) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    /// The newest message's position and nonce.
    pub(crate) fn last(&self) -> Option<(&Position, u64)> {
        self.last.as_ref().map(|last| (&last.position, last.nonce))
    }
}

impl Last {
    /// Whether Redis may have forgotten the channel by now.
    fn has_expired(&self, now: Millis) -> bool {
        let life = if self.position.offset == 0 { REDIS_POSITION_TTL } else { REDIS_META_TTL };
        now - self.at >= life
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of a history in which each nonce is ten times the offset.
    fn stamp(epoch: &str, offset: u64) -> Stamp<'_> {
        Stamp { epoch, offset, nonce: 10 * offset, previous: 10 * (offset - 1) }
    }

    fn judge(tracker: &SequenceTracker, stamp: &Stamp<'_>) -> Arrival {
        tracker.judge(stamp, Millis(0), |offset| Some(10 * offset))
    }

    /// Judges and takes messages.
    fn take(tracker: &mut SequenceTracker, stamp: &Stamp<'_>) -> Arrival {
        let arrival = judge(tracker, stamp);
        if matches!(arrival, Arrival::Next | Arrival::Jump(_) | Arrival::NewEpoch) {
            tracker.advance(stamp.epoch, stamp.offset, stamp.nonce, Millis(0));
        }
        arrival
    }

    #[test]
    fn holes_and_repetitions_are_noticed() {
        use Arrival::{Duplicate, Jump, Next};
        let mut tracker = SequenceTracker::default();
        let seen = [5, 6, 6, 5, 8, 9].map(|offset| take(&mut tracker, &stamp("a", offset)));
        assert_eq!(seen, [Next, Next, Duplicate, Duplicate, Jump(7), Next]);
    }

    #[test]
    fn an_epochs_end_is_unknown_when_another_begins() {
        let mut tracker = SequenceTracker::default();
        assert_eq!(take(&mut tracker, &stamp("a", 7)), Arrival::Next);
        assert_eq!(take(&mut tracker, &stamp("b", 1)), Arrival::NewEpoch);
        assert_eq!(take(&mut tracker, &stamp("b", 2)), Arrival::Next);
        assert_eq!(take(&mut tracker, &stamp("a", 8)), Arrival::Late { is_new: true });
        assert_eq!(take(&mut tracker, &stamp("a", 7)), Arrival::Late { is_new: false });
        assert_eq!(take(&mut tracker, &stamp("c", 3)), Arrival::NewEpoch);
        assert_eq!(take(&mut tracker, &stamp("a", 8)), Arrival::Late { is_new: true }, "still");
    }

    /// The first message of a channel follows its empty position unless some may be gone.
    #[test]
    fn a_first_message_follows_its_empty_position() {
        use Arrival::{FirstEpoch, Next};
        let mut tracker = SequenceTracker::default();
        tracker.advance("empty-a", 0, 0, Millis(0));
        assert_eq!(judge(&tracker, &stamp("b", 1)), Next);
        assert_eq!(judge(&tracker, &stamp("b", 2)), FirstEpoch);
        let later = Stamp { previous: 7, ..stamp("b", 1) };
        assert_eq!(judge(&tracker, &later), FirstEpoch, "there was a history before");
        tracker.interrupt();
        assert_eq!(judge(&tracker, &stamp("b", 1)), FirstEpoch);
        let held = Position { epoch: "b".into(), offset: 1 };
        assert_eq!(tracker.compare(&held, 10), Lag::FirstEpoch);
        assert_eq!(take(&mut tracker, &stamp("b", 1)), FirstEpoch);
        tracker.advance("b", 1, 10, Millis(0));
        assert_eq!(take(&mut tracker, &stamp("b", 2)), Next);
    }

    /// A channel that Redis has forgotten in time begins anew without a loss.
    #[test]
    fn an_expired_channel_begins_anew_without_a_loss() {
        let mut tracker = SequenceTracker::default();
        let judge_after = |tracker: &SequenceTracker, life, offset| {
            tracker.judge(&stamp("b", offset), Millis(0) + life, |_| None)
        };
        tracker.advance("a", 0, 0, Millis(0));
        assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 1), Arrival::Next);
        assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 2), Arrival::NewEpoch);
        tracker.advance("a", 1, 10, Millis(0));
        assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 1), Arrival::NewEpoch);
        assert_eq!(judge_after(&tracker, REDIS_META_TTL, 1), Arrival::Next);
    }

    #[test]
    fn a_rollback_shows_wherever_the_history_is_met_again() {
        let mut tracker = SequenceTracker::default();
        tracker.advance("a", 5, 50, Millis(0));
        let other = |offset, previous, nonce| Stamp { epoch: "a", offset, previous, nonce };
        assert_eq!(judge(&tracker, &other(4, 30, 41)), Arrival::Diverged, "an earlier one's place");
        assert_eq!(judge(&tracker, &other(5, 41, 51)), Arrival::Diverged, "our newest one's place");
        assert_eq!(judge(&tracker, &other(6, 51, 60)), Arrival::Diverged, "after another one");
        assert_eq!(judge(&tracker, &other(6, 50, 61)), Arrival::Next);
        let unknown = tracker.judge(&other(4, 30, 41), Millis(0), |_| None);
        assert_eq!(unknown, Arrival::Duplicate, "nobody can tell");
    }

    #[test]
    fn the_content_of_redis_tells_what_is_missing() {
        let mut tracker = SequenceTracker::default();
        let held = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
        assert_eq!(tracker.compare(&held("a", 3), 30), Lag::None, "nothing is known before");
        tracker.advance("a", 3, 30, Millis(0));
        assert_eq!(tracker.compare(&held("a", 3), 30), Lag::None);
        assert_eq!(tracker.compare(&held("a", 5), 50), Lag::Behind(4));
        assert_eq!(tracker.compare(&held("a", 2), 20), Lag::Diverged { is_new: true });
        assert_eq!(tracker.compare(&held("a", 3), 31), Lag::Diverged { is_new: true });
        assert_eq!(tracker.compare(&held("b", 0), 0), Lag::NewEpoch);
        tracker.advance("b", 0, 0, Millis(0));
        assert_eq!(
            tracker.compare(&held("a", 4), 40),
            Lag::Diverged { is_new: true },
            "that one was over"
        );
        assert_eq!(tracker.compare(&held("a", 3), 30), Lag::Diverged { is_new: false });
    }

    fn end(epoch: &str, offset: u64, nonce: u64) -> Ended {
        Ended { position: Position { epoch: epoch.into(), offset }, nonce }
    }

    /// A process that lacks the end of an ended history knows so.
    #[test]
    fn a_lost_end_of_an_ended_history_is_known() {
        let mut tracker = SequenceTracker::default();
        tracker.advance("a", 5, 50, Millis(0));
        let lacks =
            |tracker: &SequenceTracker, ended: &[Vec<Ended>]| tracker.lacks(ended, |_| false);
        assert!(!lacks(&tracker, &[]));
        assert!(!lacks(&tracker, &[vec![end("a", 5, 50)]]));
        assert!(lacks(&tracker, &[vec![end("a", 6, 60)]]));
        assert!(lacks(&tracker, &[vec![end("a", 5, 51)]]), "another branch of it");
        assert!(lacks(&tracker, &[vec![end("a", 4, 41)]]));
        assert!(!tracker.lacks(&[vec![end("a", 4, 40)]], |_| true), "that was rolled back to");
        assert!(lacks(&tracker, &[vec![end("a", 5, 50), end("b", 1, 10)]]), "b was beside it");
        assert!(lacks(&tracker, &[vec![end("b", 1, 10)], vec![end("a", 5, 50)]]), "b came after");
        assert!(!lacks(&tracker, &[vec![end("b", 0, 7)], vec![end("a", 5, 50)]]));
        assert!(!lacks(&tracker, &[vec![end("a", 5, 50)], vec![end("b", 9, 90)]]), "b was before");
        tracker.advance("empty-c", 0, 0, Millis(0));
        assert!(lacks(&tracker, &[vec![end("a", 6, 60)]]), "it was at a before");
    }

    #[test]
    fn an_empty_position_keeps_the_place_before_it() {
        let mut tracker = SequenceTracker::default();
        let held = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
        tracker.advance("a", 5, 50, Millis(0));
        tracker.advance("empty-b", 0, 0, Millis(0));
        let returned = Lag::Returned { from: 6, after: 50 };
        assert_eq!(tracker.compare(&held("a", 7), 70), returned);
        assert_eq!(tracker.compare(&held("a", 5), 50), returned);
        assert_eq!(tracker.compare(&held("a", 5), 51), Lag::Diverged { is_new: true });
        assert_eq!(tracker.compare(&held("a", 4), 40), Lag::Diverged { is_new: true });
        tracker.advance("a", 7, 70, Millis(0));
        assert_eq!(judge(&tracker, &stamp("a", 8)), Arrival::Next, "it is not over any more");
        tracker.advance("c", 1, 10, Millis(0));
        tracker.advance("empty-d", 0, 0, Millis(0));
        assert_eq!(
            tracker.compare(&held("a", 9), 90),
            Lag::Diverged { is_new: true },
            "c was since"
        );
    }
}
