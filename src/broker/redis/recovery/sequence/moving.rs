//! A channel's place as plain data, for another process that goes on from there.

use serde::{Deserialize, Serialize};

use super::{Last, SequenceTracker};
use crate::{clock::Millis, position::Position};

/// A channel's place in its history, as one process has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrackerRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<LastRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<LastRecord>,
    #[serde(default)]
    is_interrupted: bool,
    #[serde(default)]
    is_open: bool,
    #[serde(default)]
    has_only_begun: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastRecord {
    position: Position,
    nonce: u64,
    age_ms: u64,
}

impl TrackerRecord {
    /// Whether this place is after `other`, which is of the same channel.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        match (&self.last, &other.last) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(last), Some(before)) if last.position.is_comparable(&before.position) => {
                last.position.offset > before.position.offset
            }
            (Some(last), Some(before)) if before.position.is_empty() => !last.position.is_empty(),
            (Some(_), Some(before)) => {
                self.retired.iter().any(|over| over.position.is_comparable(&before.position))
            }
        }
    }

    /// The newest message's position and nonce.
    pub(crate) fn newest(&self) -> Option<(&Position, u64)> {
        self.last.as_ref().map(|last| (&last.position, last.nonce))
    }
}

impl SequenceTracker {
    /// This place.
    pub(crate) fn record(&self, now: Millis) -> TrackerRecord {
        let record = |last: &Last| LastRecord {
            position: last.position.clone(),
            nonce: last.nonce,
            age_ms: now.0.saturating_sub(last.at.0),
        };
        TrackerRecord {
            last: self.last.as_ref().map(record),
            retired: self.retired.iter().map(record).collect(),
            is_interrupted: self.is_interrupted,
            is_open: self.is_open,
            has_only_begun: self.has_only_begun,
        }
    }

    /// The place that another process had got to.
    pub(crate) fn restore(record: &TrackerRecord, now: Millis) -> Self {
        let restore = |last: &LastRecord| Last {
            position: last.position.clone(),
            nonce: last.nonce,
            at: Millis(now.0.saturating_sub(last.age_ms)),
        };
        Self {
            last: record.last.as_ref().map(restore),
            retired: record.retired.iter().map(restore).collect(),
            is_interrupted: record.is_interrupted,
            is_open: record.is_open,
            has_only_begun: record.has_only_begun,
        }
    }

    /// Whether messages may be missing that nothing has shown yet.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// All that is published arrives from here on.
    pub(crate) fn hear(&mut self) {
        self.is_interrupted = false;
    }

    /// Whether a message surely came before this place, and has been here, as far as this place
    /// tells.
    pub(crate) fn is_past(&self, epoch: &str, offset: u64, nonce: u64) -> bool {
        let is_past = |it: &Last| {
            offset < it.position.offset || (offset == it.position.offset && nonce == it.nonce)
        };
        if let Some(over) = self.retired(epoch) {
            return is_past(over);
        }
        let last = self.last.as_ref().filter(|last| *last.position.epoch == *epoch);
        !self.is_open && last.is_some_and(is_past)
    }

    /// Whether this place is not before `to`.
    pub(crate) fn has_reached(&self, to: &Position) -> bool {
        match &self.last {
            Some(last) if last.position.is_comparable(to) => last.position.offset >= to.offset,
            _ => self.retired(&to.epoch).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::recordings::{self, through_bytes};

    fn at(tracker: &mut SequenceTracker, epoch: &str, offset: u64, at: u64) {
        tracker.advance(epoch, offset, offset * 10, Millis(at));
    }

    /// Another process goes on from the same place, whatever its clock says, and every later
    /// version reads what this one has written.
    #[test]
    fn a_place_is_the_same_in_another_process() {
        let mut tracker = SequenceTracker::default();
        at(&mut tracker, "a", 5, 1_000);
        at(&mut tracker, "b", 3, 2_000);
        tracker.interrupt();
        let record = tracker.record(Millis(5_000));
        let restored = SequenceTracker::restore(&through_bytes(&record), Millis(100_000));
        assert_eq!(restored.record(Millis(100_000)), record);
        assert_eq!(restored.last().map(|(_, nonce)| nonce), Some(30));
        recordings::check("broker/tracker", &record);
        assert_eq!(through_bytes(&TrackerRecord::default()), TrackerRecord::default());
    }

    #[test]
    fn places_follow_each_other() {
        let mut tracker = SequenceTracker::default();
        let mut before = tracker.record(Millis(0));
        for (epoch, offset) in [("empty-1", 0), ("a", 1), ("a", 5), ("b", 1)] {
            at(&mut tracker, epoch, offset, 0);
            let now = tracker.record(Millis(0));
            assert!(now.is_after(&before) && !before.is_after(&now) && !now.is_after(&now));
            before = now;
        }
        let reached = |text: &str| tracker.has_reached(&text.parse().unwrap());
        assert!(reached("b:1") && reached("a:7") && !reached("b:2") && !reached("c:1"));
        assert!(tracker.is_past("a", 5, 50) && tracker.is_past("a", 4, 7));
        assert!(!tracker.is_past("a", 5, 51) && !tracker.is_past("a", 6, 60));
        assert!(tracker.is_past("b", 1, 10) && !tracker.is_past("b", 2, 20));
        tracker.begin(&"b:4".parse().unwrap(), 40, Millis(0));
        assert!(!tracker.is_past("b", 4, 40), "it may still come");
    }
}
