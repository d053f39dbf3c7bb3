//! A shard gets as far as another one of its process, though what that one had does not arrive: it
//! is remembered, or can be read, or is told as missing. For a process that hands its clients over.

use super::{
    Delivery,
    repair::{Before, Hole},
};
use crate::{broker::Missed, broker::redis::pubsub::subscriptions::Place, position::Position};

impl Delivery {
    /// Delivers what is missing up to `place`, and reports what cannot be had.
    ///
    /// # Cancel safety
    /// May be dropped: then [`Self::pass_over_to`] is to follow.
    pub(crate) async fn read_to(&self, name: &str, place: &Place) {
        let Some((to, nonce, last)) = self.lag(name, place) else { return };
        let (from, before) = match last {
            Some((last, nonce)) if last.is_comparable(&to) => {
                (last.offset + 1, Before::Message(nonce))
            }
            Some((last, _)) if last.is_empty() => (1, self.before_first(name, self.now()).await),
            Some(_) => (1, Before::Epoch),
            // Its beginning is unknown.
            None => return,
        };
        let Position { epoch, offset } = to;
        let (last, next, sure) = (nonce, None, false);
        let hole = Hole { epoch, from, to: offset, before, last, next, sure };
        // Of two histories the rest is passed over.
        let _ = self.repair(&place.channel, name, hole).await;
    }

    /// Reports what is missing up to `place`, which counts as received then.
    pub(crate) fn pass_over_to(&self, name: &str, place: &Place) {
        let Some((Position { epoch, offset }, nonce, last)) = self.lag(name, place) else { return };
        let missed = match last {
            Some((last, _)) => {
                let is_same = *last.epoch == *epoch;
                let from = if is_same { last.offset + 1 } else { 1 };
                Missed { epoch: Some(epoch.clone()), from, to: Some(offset), sure: false }
            }
            None => Missed { epoch: None, from: 1, to: None, sure: false },
        };
        self.gap(&place.channel, missed);
        self.with_tracker(name, |tracker| tracker.advance(&epoch, offset, nonce, self.now()));
    }

    /// The position and nonce that `place` is ahead with, and those that were reached here.
    #[expect(clippy::type_complexity, reason = "two positions with their nonces")]
    fn lag(&self, name: &str, place: &Place) -> Option<(Position, u64, Option<(Position, u64)>)> {
        let (to, nonce) = place.tracker.newest()?;
        let last = self.with_tracker(name, |tracker| {
            let last = tracker.last().map(|(last, nonce)| (last.clone(), nonce));
            (!tracker.has_reached(to)).then_some(last)
        })??;
        Some((to.clone(), nonce, last))
    }
}
