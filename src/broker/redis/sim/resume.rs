//! A client that comes back, and the messages that it must be given.

use super::{SHARDS_EACH, World};
use crate::{
    broker::{Recovery, Since},
    limits::REPLAY_PIECE_BYTES,
};

impl World {
    /// A client comes back with a position that some client of this process once had.
    pub(super) async fn resume(&mut self, shard: usize) {
        let Some(to) = self.shards[shard].listener.at.clone() else { return };
        let first = shard - shard % SHARDS_EACH;
        let other = first + self.random.usize(0..SHARDS_EACH);
        let heard = &self.shards[other].listener.heard;
        let is_from_empty = !self.empty.is_empty() && self.random.u8(0..4) == 0;
        let (after, count) = if is_from_empty {
            self.empty[self.random.usize(0..self.empty.len())].clone()
        } else if heard.is_empty() {
            return;
        } else {
            (heard[self.random.usize(0..heard.len())].0.clone(), 0)
        };
        if after.is_comparable(&to) && after.offset > to.offset {
            return;
        }
        self.resumed += 1;
        let before = self.redis.failures.get();
        let since = Since::After(after.clone());
        let recoverer = self.shards[shard].subscriber.delivery.recoverer.clone();
        let recovery = recoverer.recover(&self.channel, &since, &to).await;
        let has_failed = self.redis.failures.get() > before;
        let Recovery { from, missed } = recovery;
        match &missed {
            None if is_from_empty => {
                assert_eq!((&from.epoch, from.offset), (&to.epoch, 0), "all of it");
                let is_whole = self.redis.goes_on_with(&to.epoch, count);
                assert!(to.is_empty() || is_whole, "something between {after} and {from} is lost");
            }
            None => assert_eq!(from, after, "nothing is missing"),
            Some(missed) if is_from_empty => {
                // Nothing has happened that could not be told from a loss.
                let failed = self.redis.failures.get() + self.redis.losses.get();
                let is_plain = failed + self.redis.rotations.get() == 0;
                let is_provable = is_plain && self.redis.empty_epochs.get() <= 2;
                let is_there = self.redis.certainly_has(&to.epoch, from.offset);
                assert!(!is_provable || from.offset > 0 && !is_there, "{missed:?} was told");
            }
            Some(missed) if after.is_comparable(&to) => {
                assert_eq!((missed.from, missed.to), (after.offset + 1, Some(from.offset)));
                let is_there = self.redis.certainly_has(&to.epoch, from.offset);
                assert!(has_failed || !is_there, "{missed:?} was told, and is there");
            }
            Some(_) => {}
        }
        let mut place = from;
        while place.offset < to.offset {
            let piece = recoverer
                .memory
                .piece(&self.channel, &place, to.offset, REPLAY_PIECE_BYTES)
                .unwrap_or_default();
            if piece.is_empty() {
                // Clients are told of that as a gap.
                break;
            }
            for one in piece {
                let position = one.position.expect("history has positions");
                assert_eq!((&position.epoch, position.offset), (&to.epoch, place.offset + 1));
                let text = String::from_utf8(one.data.to_vec()).unwrap();
                assert!(self.redis.has_said(&position.epoch, position.offset, &text));
                place = position.clone();
                self.resumed_with.push((position, text));
            }
        }
    }
}
