//! Whether what arrives on a channel follows what arrived before: pure.
//!
//! Redis delivers at most once; a hole between two offsets is the only sign of a loss, and a
//! repeated offset the only sign of a repetition. Redis also forgets: an asynchronous failover
//! rolls a channel back, which then continues from an offset that was used before. Only nonces
//! distinguish these messages from the lost ones.

pub(crate) mod moving;

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
    /// Nothing has arrived yet: what was on its way when the position was asked for may still.
    is_open: bool,
    /// Nothing has arrived since [`Self::begin`].
    has_only_begun: bool,
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
    /// It was on its way when the position was asked for that this shard begins with.
    Early,
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
        if self.is_open && stamp.offset <= newest {
            return Arrival::Early;
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
        (self.is_interrupted, self.is_open, self.has_only_begun) = (false, false, false);
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

    /// Begins at a position that was asked for while all that is published was arriving already:
    /// what is not after it may still come.
    pub(crate) fn begin(&mut self, position: &Position, nonce: u64, now: Millis) {
        self.advance(&position.epoch, position.offset, nonce, now);
        (self.is_open, self.has_only_begun) = (true, true);
    }

    /// The position of [`Self::begin`], if nothing has arrived since.
    pub(crate) fn begun_at(&self) -> Option<Position> {
        let last = self.last.as_ref().filter(|_| self.has_only_begun);
        last.map(|last| last.position.clone())
    }

    /// Not all that is published arrives here, for a while.
    pub(crate) fn interrupt(&mut self) {
        (self.is_interrupted, self.is_open) = (true, false);
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
mod tests;
