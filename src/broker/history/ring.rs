//! One channel's newest messages, in order and without a hole: pure.
//!
//! A client that comes back within this window is given the messages it missed. The ring also is
//! the channel's memory of its position: the last offset stays known when no message is kept any
//! more.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{
    limits::{HISTORY_COPY_BYTES_MAX, HISTORY_MESSAGE_COST_BYTES, RETIRED_EPOCHS_MAX},
    position::{Missed, Position, Recovery, Since, is_same_epoch},
    ws::Kind,
};

/// A message without its channel and position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct HistoryMessage {
    /// Text or binary.
    pub(in crate::broker) kind: Kind,
    /// The payload.
    pub(in crate::broker) data: Bytes,
    /// Tells this message from another one that got the same offset after a failover; 0 where
    /// that cannot happen.
    pub(in crate::broker) nonce: u64,
}

impl HistoryMessage {
    /// The cost of keeping it, however small its payload.
    pub(super) fn cost(&self) -> usize {
        self.data.len() + HISTORY_MESSAGE_COST_BYTES
    }

    /// The same in memory of its own: a view would keep the whole buffer that it was read into.
    fn compact(mut self) -> Self {
        if self.data.len() <= HISTORY_COPY_BYTES_MAX {
            self.data = Bytes::copy_from_slice(&self.data);
        }
        self
    }
}

/// A message and its place in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct StreamEntry {
    pub(in crate::broker) position: Position,
    /// The nonce of the message before it; 0 if it is the first.
    pub(in crate::broker) previous: u64,
    pub(in crate::broker) kept: HistoryMessage,
}

/// How much of a channel is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
}

/// The newest messages of a channel.
///
/// # Invariants
/// - `before` is the nonce of the message at `floor`, 0 if there is none or it is not known.
/// - The newest kept message has the offset `last`, the one before it `last - 1`, and so on.
/// - `bytes` is what the kept ones cost.
#[derive(Debug)]
pub(in crate::broker) struct Ring {
    epoch: Arc<str>,
    last: u64,
    kept: VecDeque<HistoryMessage>,
    bytes: usize,
    before: u64,
    complete: bool,
    /// Where the epochs before had got to, with the nonce of the last message; the newest last.
    replaced: Vec<(Position, u64)>,
}

impl Ring {
    /// Nothing kept, and `position` is the newest message's.
    pub(in crate::broker) fn new(position: Position) -> Self {
        Self::begin(position, 0, Vec::new())
    }

    /// The same where the newest message has a nonce, and the channel had other epochs here.
    pub(super) fn begin(position: Position, nonce: u64, replaced: Vec<(Position, u64)>) -> Self {
        Self {
            epoch: position.epoch,
            last: position.offset,
            kept: VecDeque::new(),
            bytes: 0,
            before: nonce,
            complete: false,
            replaced,
        }
    }

    /// The newest message's position.
    pub(in crate::broker) fn position(&self) -> Position {
        Position { epoch: self.epoch.clone(), offset: self.last }
    }

    /// The offset after which everything can be read.
    pub(in crate::broker) fn floor(&self) -> u64 {
        self.last - self.kept.len() as u64
    }

    /// The nonce of the newest message.
    pub(in crate::broker) fn nonce(&self) -> u64 {
        self.kept.back().map_or(self.before, |kept| kept.nonce)
    }

    /// The nonce of the message at `offset`, if it is known.
    pub(in crate::broker) fn nonce_at(&self, offset: u64) -> Option<u64> {
        if offset == self.floor() {
            return Some(self.before);
        }
        self.get(offset).map(|kept| kept.nonce)
    }

    /// Whether messages older than the floor are known to be nowhere else.
    pub(in crate::broker) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn set_complete(&mut self) {
        self.complete = true;
    }

    /// Whether `epoch` came before this one: what still arrives of it is late.
    pub(in crate::broker) fn has_replaced(&self, epoch: &Arc<str>) -> bool {
        self.replaced.iter().any(|(replaced, _)| is_same_epoch(&replaced.epoch, epoch))
    }

    /// The epochs that are over once the channel continues in `epoch`: their last positions, with
    /// the nonce of the last message; the newest last.
    pub(in crate::broker) fn replaced_by(&self, epoch: &Arc<str>) -> Vec<(Position, u64)> {
        let mut replaced = self.replaced.clone();
        let is_it = |one: &Position, epoch| is_same_epoch(&one.epoch, epoch);
        if !is_same_epoch(&self.epoch, epoch) {
            replaced.retain(|(one, _)| !is_it(one, epoch) && !is_it(one, &self.epoch));
            replaced.push((self.position(), self.nonce()));
        }
        let surplus = replaced.len().saturating_sub(RETIRED_EPOCHS_MAX);
        replaced.drain(..surplus);
        replaced
    }

    /// How many messages are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The message that follows the newest.
    pub(super) fn push(&mut self, kept: HistoryMessage, bounds: Bounds) {
        self.last += 1;
        if bounds.messages_max == 0 || kept.cost() > bounds.bytes_max {
            self.clear();
            self.before = kept.nonce;
            return;
        }
        self.bytes += kept.cost();
        self.kept.push_back(kept.compact());
        while self.kept.len() > bounds.messages_max || self.bytes > bounds.bytes_max {
            self.drop_oldest();
        }
    }

    /// Messages that end right before the oldest kept one, as many of the newest as there is room
    /// for; each with the nonce of the one before it.
    pub(super) fn prepend(&mut self, older: Vec<(u64, HistoryMessage)>, bounds: Bounds) {
        for (before, kept) in older.into_iter().rev() {
            let bytes = self.bytes + kept.cost();
            let is_full = self.kept.len() >= bounds.messages_max || bytes > bounds.bytes_max;
            if is_full || self.floor() == 0 {
                return;
            }
            self.bytes = bytes;
            self.before = before;
            self.kept.push_front(kept.compact());
        }
    }

    /// Forgets the oldest.
    fn drop_oldest(&mut self) {
        let oldest = self.kept.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, HistoryMessage::cost);
        self.before = oldest.as_ref().map_or(self.before, |oldest| oldest.nonce);
    }

    /// Goes on after `offset`, which is later than the newest: the messages in between are not
    /// there.
    pub(super) fn advance(&mut self, offset: u64) {
        self.clear();
        self.last = offset;
    }

    /// Forgets the messages up to `floor`, as others did to make room.
    pub(super) fn trim(&mut self, floor: u64) {
        while self.floor() < floor && !self.kept.is_empty() {
            self.evict_oldest();
        }
    }

    /// Forgets the oldest to make room for others: elsewhere it may still be.
    pub(super) fn evict_oldest(&mut self) {
        self.drop_oldest();
        self.complete = false;
        // Empty places must not keep the memory that was freed.
        if self.kept.capacity() / 4 > self.kept.len() {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    /// Forgets all messages, not the position.
    pub(super) fn clear(&mut self) {
        self.before = self.nonce();
        self.complete = false;
        self.kept = VecDeque::new();
        self.bytes = 0;
    }

    /// The message at `offset`.
    pub(in crate::broker) fn get(&self, offset: u64) -> Option<&HistoryMessage> {
        let place = offset.checked_sub(self.floor() + 1)?;
        self.kept.get(usize::try_from(place).ok()?)
    }

    /// The messages that are available up to `to` for a request since `since`.
    pub(in crate::broker) fn recovery(&self, since: &Since, to: &Position) -> Recovery {
        let at = |offset| Position { epoch: to.epoch.clone(), offset };
        let is_kept = is_same_epoch(&self.epoch, &to.epoch);
        let floor = if is_kept { self.floor().min(to.offset) } else { to.offset };
        match since {
            Since::Newest(count) => {
                let wanted = to.offset.saturating_sub(*count as u64);
                Recovery { from: at(wanted.max(floor)), missed: None }
            }
            Since::After(after) if after.is_comparable(to) && after.offset <= to.offset => {
                let missed = (after.offset < floor).then(|| Missed {
                    epoch: Some(to.epoch.clone()),
                    from: after.offset + 1,
                    to: Some(floor),
                    sure: false,
                });
                Recovery { from: at(after.offset.max(floor)), missed }
            }
            // A position of another history, or of a future that this one does not have.
            Since::After(_) => {
                let missed =
                    Missed { epoch: Some(to.epoch.clone()), from: 1, to: Some(floor), sure: false };
                Recovery { from: at(floor), missed: Some(missed) }
            }
        }
    }

    /// The messages after `after`, up to `to`: as many as fit into `bytes_max` of payload, one at
    /// least. None if the first of them is not there.
    pub(super) fn piece(
        &self,
        after: u64,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<HistoryMessage>> {
        let to = to.min(self.last);
        let first = after.checked_sub(self.floor())?;
        let count = usize::try_from(to.checked_sub(after)?).ok()?;
        let mut bytes = 0;
        let fits = |kept: &&HistoryMessage| {
            let is_first = bytes == 0;
            bytes += kept.cost();
            is_first || bytes <= bytes_max
        };
        let wanted = self.kept.iter().skip(usize::try_from(first).ok()?).take(count);
        Some(wanted.take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds { messages_max: 3, bytes_max: usize::MAX };

    fn kept(text: &'static str) -> HistoryMessage {
        HistoryMessage { kind: Kind::Text, data: Bytes::from_static(text.as_bytes()), nonce: 0 }
    }

    fn ring(last: u64) -> Ring {
        Ring::new(Position { epoch: "e".into(), offset: last })
    }

    fn texts(ring: &Ring, after: u64, to: u64, bytes_max: usize) -> Option<Vec<String>> {
        let text = |kept: HistoryMessage| String::from_utf8(kept.data.to_vec()).unwrap();
        Some(ring.piece(after, to, bytes_max)?.into_iter().map(text).collect())
    }

    #[test]
    fn the_newest_messages_are_kept_and_read_in_order() {
        let mut ring = ring(10);
        for text in ["a", "b", "c", "d"] {
            ring.push(kept(text), WIDE);
        }
        assert_eq!((ring.position().offset, ring.floor()), (14, 11));
        assert_eq!(texts(&ring, 11, 14, usize::MAX).unwrap(), ["b", "c", "d"]);
        assert_eq!(texts(&ring, 12, 13, usize::MAX).unwrap(), ["c"]);
        assert_eq!(texts(&ring, 14, 14, usize::MAX).unwrap(), [""; 0]);
        assert_eq!(texts(&ring, 10, 14, usize::MAX), None, "the first of them is gone");
        assert_eq!(texts(&ring, 11, 14, 0).unwrap(), ["b"], "one at least");
        assert_eq!(ring.get(12).unwrap().data, "b");
        assert_eq!((ring.get(11), ring.get(15)), (None, None));
    }

    #[test]
    fn bytes_are_bounded_and_counted() {
        let cost = kept("x").cost();
        let bounds = Bounds { messages_max: 100, bytes_max: 2 * cost };
        let mut ring = ring(0);
        for _ in 0..5 {
            ring.push(kept("x"), bounds);
            assert!(ring.bytes() <= 2 * cost);
        }
        assert_eq!(ring.floor(), 3);
        ring.push(
            kept("larger than all of it may be, and therefore not kept"),
            Bounds { bytes_max: cost, ..bounds },
        );
        assert_eq!((ring.bytes(), ring.floor(), ring.position().offset), (0, 6, 6));
        assert_eq!(texts(&ring, 5, 6, usize::MAX), None);
    }

    /// Older messages are put before the others as far as there is room.
    #[test]
    fn older_messages_go_before_as_room_allows() {
        let mut ring = ring(5);
        ring.push(kept("f"), WIDE);
        let older = ["c", "d", "e"].into_iter().enumerate();
        ring.prepend(older.map(|(before, text)| (before as u64, kept(text))).collect(), WIDE);
        assert_eq!(ring.nonce_at(3), Some(1), "the one before the oldest");
        assert_eq!(texts(&ring, 3, 6, usize::MAX).unwrap(), ["d", "e", "f"]);
        assert_eq!(ring.floor(), 3);
    }

    /// A recovery begins at the requested position, or says which messages are missing.
    #[test]
    fn a_recovery_begins_at_the_position_asked_for() {
        let mut ring = ring(10);
        for text in ["k", "l", "m", "n"] {
            ring.push(kept(text), WIDE);
        }
        let at = |text: &str| text.parse::<Position>().unwrap();
        let recover = |since: Since, to: &str| {
            let Recovery { from, missed } = ring.recovery(&since, &at(to));
            (from.to_string(), missed.map(|missed| (missed.from, missed.to.unwrap())))
        };
        let after = |text: &str| Since::After(at(text));
        assert_eq!(recover(after("e:12"), "e:14"), ("e:12".into(), None));
        assert_eq!(recover(after("e:11"), "e:14"), ("e:11".into(), None));
        assert_eq!(recover(after("e:14"), "e:14"), ("e:14".into(), None));
        assert_eq!(recover(after("e:8"), "e:14"), ("e:11".into(), Some((9, 11))));
        assert_eq!(recover(after("e:15"), "e:14"), ("e:11".into(), Some((1, 11))));
        assert_eq!(recover(after("other:12"), "e:14"), ("e:11".into(), Some((1, 11))));
        assert_eq!(recover(after("e:3"), "e:5"), ("e:5".into(), Some((4, 5))));
        assert_eq!(recover(after("old:3"), "old:5"), ("old:5".into(), Some((4, 5))));
        assert_eq!(recover(Since::Newest(2), "e:14"), ("e:12".into(), None));
        assert_eq!(recover(Since::Newest(9), "e:14"), ("e:11".into(), None));
    }

    /// A history without room for any message keeps only the position.
    #[test]
    fn without_room_only_the_position_is_kept() {
        let mut ring = ring(0);
        ring.push(kept("a"), Bounds { messages_max: 0, bytes_max: usize::MAX });
        assert_eq!((ring.position().offset, ring.bytes()), (1, 0));
    }
}
