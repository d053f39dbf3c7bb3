//! Messages that arrive while a process is handed over: they wait, in order.
//!
//! The old process' subscribers let nothing more through from some moment on, so that its clients'
//! places are known, but for what brings one shard as far as another. The new process' subscribers
//! let nothing through until those places are known. Past the bound the oldest go: their channels
//! are compared with Redis then. Nothing here does IO.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::{
    broker::Announcement,
    channel::ChannelName,
    limits::{ANNOUNCEMENT_COST_BYTES, HELD_BYTES_MAX, HELD_MESSAGE_COST_BYTES},
    position::Position,
};

/// A message that waits.
#[derive(Debug)]
pub(super) struct HeldMessage {
    pub(super) channel: ChannelName,
    /// Of the Redis channel.
    pub(super) name: String,
    pub(super) payload: Bytes,
}

/// One piece of what waits.
#[derive(Debug)]
pub(super) enum HeldPiece {
    Message(HeldMessage),
    Announcement(Announcement),
}

impl HeldPiece {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.payload.len() + HELD_MESSAGE_COST_BYTES,
            Self::Announcement(_) => ANNOUNCEMENT_COST_BYTES,
        }
    }
}

/// One subscriber's.
#[derive(Debug, Default)]
pub(super) struct Held {
    is_closed: bool,
    waiting: VecDeque<HeldPiece>,
    bytes: usize,
    /// Messages up to these positions are let through nevertheless, by the Redis channel's name.
    goals: HashMap<String, Position>,
}

impl Held {
    /// From here on nothing is let through.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// All is let through again; first all that waits.
    pub(super) fn open(&mut self) {
        (self.is_closed, self.goals) = (false, HashMap::new());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether what arrives has to wait, of no channel in particular.
    pub(super) fn holds(&self) -> bool {
        self.is_closed || !self.waiting.is_empty()
    }

    /// Messages of these channels are let through up to there.
    pub(super) fn set_goals(&mut self, goals: HashMap<String, Position>) {
        self.goals = goals;
    }

    /// Up to where messages of a channel are let through.
    pub(super) fn goal(&self, name: &str) -> Option<&Position> {
        self.goals.get(name)
    }

    /// The channels that have not got as far as they should.
    pub(super) fn goals(&self) -> impl Iterator<Item = (&String, &Position)> {
        self.goals.iter()
    }

    /// A piece waits; the Redis channels of those for which there is no room any more.
    pub(super) fn push(&mut self, piece: HeldPiece) -> Vec<String> {
        self.bytes += piece.bytes();
        self.waiting.push_back(piece);
        let mut dropped = Vec::new();
        while self.bytes > HELD_BYTES_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.bytes();
            if let HeldPiece::Message(message) = oldest {
                dropped.push(message.name);
            }
        }
        dropped
    }

    /// The next piece to be let through: the first one, or, while it is closed, the first message
    /// at `from` or later that leads its channel `towards` the goal; and its place.
    pub(super) fn next(
        &mut self,
        from: usize,
        towards: impl Fn(&HeldMessage, &Position) -> bool,
    ) -> Option<(usize, HeldPiece)> {
        let place = match self.is_closed {
            false => 0,
            true => {
                let is_through = |piece: &HeldPiece| match piece {
                    HeldPiece::Message(message) => {
                        self.goals.get(&message.name).is_some_and(|goal| towards(message, goal))
                    }
                    HeldPiece::Announcement(_) => false,
                };
                from + self.waiting.iter().skip(from).position(is_through)?
            }
        };
        let piece = self.waiting.remove(place)?;
        self.bytes -= piece.bytes();
        Some((place, piece))
    }

    /// Announcements that wait need not be carried out.
    pub(super) fn forget_announcements(&mut self) {
        self.waiting.retain(|piece| matches!(piece, HeldPiece::Message(_)));
        self.bytes = self.waiting.iter().map(HeldPiece::bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, bytes: usize) -> HeldPiece {
        let channel = ChannelName::default_channel();
        HeldPiece::Message(HeldMessage {
            channel,
            name: name.into(),
            payload: vec![0; bytes].into(),
        })
    }

    fn name(next: Option<(usize, HeldPiece)>) -> Option<String> {
        match next?.1 {
            HeldPiece::Message(message) => Some(message.name),
            HeldPiece::Announcement(_) => None,
        }
    }

    /// While it is closed only channels behind their goals get through.
    #[test]
    fn only_channels_behind_their_goals_get_through() {
        let mut held = Held::default();
        held.close();
        for name in ["a", "b", "a", "c"] {
            assert!(held.push(message(name, 1)).is_empty());
        }
        assert!(held.next(0, |_, _| true).is_none());
        held.set_goals(HashMap::from([("b".into(), "e:1".parse().unwrap())]));
        assert_eq!(name(held.next(0, |_, _| true)).as_deref(), Some("b"));
        assert!(held.next(0, |_, _| true).is_none() && held.goal("a").is_none());
        held.open();
        assert!(held.holds());
        let all: Vec<_> = std::iter::from_fn(|| name(held.next(0, |_, _| false))).collect();
        assert_eq!((all.concat().as_str(), held.holds(), held.bytes), ("aac", false, 0));
    }

    #[test]
    fn past_the_bound_the_oldest_go_and_are_named() {
        let mut held = Held::default();
        held.close();
        assert!(held.push(message("a", HELD_BYTES_MAX - HELD_MESSAGE_COST_BYTES)).is_empty());
        assert_eq!(held.push(message("b", 1)), ["a"]);
        held.open();
        assert_eq!(name(held.next(0, |_, _| false)).as_deref(), Some("b"));
    }
}
