//! Whether what arrives on a channel follows what arrived before: pure.
//!
//! Redis delivers at most once; a hole between two offsets is the only sign of a loss, and a
//! repeated offset the only sign of a repetition.

use std::sync::Arc;

/// A channel's place in its history, as one shard has seen it.
#[derive(Debug, Default)]
pub(super) struct Track {
    last: Option<(Arc<str>, u64)>,
}

/// What to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It follows: deliver it, under this epoch.
    Next(Arc<str>),
    /// Something before it is missing: tell, then deliver it.
    Gap(Arc<str>),
    /// It was here before: drop it.
    Duplicate,
}

impl Track {
    /// Judges a message and remembers it. The first one after a subscription is taken as it is:
    /// nothing tells what came before.
    pub(super) fn accept(&mut self, epoch: &str, offset: u64) -> Verdict {
        match &mut self.last {
            None => {
                let epoch = self.begin(epoch, offset);
                Verdict::Next(epoch)
            }
            Some((last_epoch, last_offset)) if **last_epoch == *epoch => {
                if offset <= *last_offset {
                    return Verdict::Duplicate;
                }
                let follows = offset == *last_offset + 1;
                *last_offset = offset;
                let epoch = last_epoch.clone();
                if follows { Verdict::Next(epoch) } else { Verdict::Gap(epoch) }
            }
            Some(_) => {
                let epoch = self.begin(epoch, offset);
                if offset == 1 { Verdict::Next(epoch) } else { Verdict::Gap(epoch) }
            }
        }
    }

    /// What Redis says the channel's newest message was at a moment by which all of them must
    /// have arrived: true if some did not. They are then taken as told of.
    pub(super) fn missed(&mut self, epoch: &str, offset: u64) -> bool {
        let missed = match &self.last {
            None => false,
            Some((last_epoch, last_offset)) if **last_epoch == *epoch => offset > *last_offset,
            Some(_) => true,
        };
        if missed {
            self.begin(epoch, offset);
        }
        missed
    }

    /// Whether anything has arrived yet.
    pub(super) fn has_begun(&self) -> bool {
        self.last.is_some()
    }

    fn begin(&mut self, epoch: &str, offset: u64) -> Arc<str> {
        let epoch: Arc<str> = epoch.into();
        self.last = Some((epoch.clone(), offset));
        epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(track: &mut Track, epoch: &str, offset: u64) -> &'static str {
        match track.accept(epoch, offset) {
            Verdict::Next(_) => "next",
            Verdict::Gap(_) => "gap",
            Verdict::Duplicate => "duplicate",
        }
    }

    #[test]
    fn holes_and_repetitions_are_noticed() {
        let mut track = Track::default();
        let seen: Vec<_> = [5, 6, 6, 5, 8, 9].map(|offset| judge(&mut track, "a", offset)).into();
        assert_eq!(seen, ["next", "next", "duplicate", "duplicate", "gap", "next"]);
    }

    #[test]
    fn a_new_epoch_begins_at_one_or_is_a_gap() {
        let mut track = Track::default();
        assert_eq!(judge(&mut track, "a", 7), "next");
        assert_eq!(judge(&mut track, "b", 1), "next");
        assert_eq!(judge(&mut track, "c", 2), "gap");
        assert_eq!(judge(&mut track, "c", 3), "next");
    }

    #[test]
    fn what_redis_had_and_never_came_is_missed_once() {
        let mut track = Track::default();
        assert!(!track.missed("a", 3), "nothing is known before the first message");
        assert_eq!(judge(&mut track, "a", 3), "next");
        assert!(!track.missed("a", 3) && !track.missed("a", 2));
        assert!(track.missed("a", 5) && !track.missed("a", 5));
        assert_eq!(judge(&mut track, "a", 6), "next");
        assert!(track.missed("b", 1));
    }
}
