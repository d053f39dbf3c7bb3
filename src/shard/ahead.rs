//! Clients that have got further elsewhere than this shard: they wait until it is there.
//!
//! By channel and offset, so that a message wakes those clients alone that wait for it: one that
//! claims to be far ahead costs nothing meanwhile. Bounded, and each wait ends by its own deadline.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    broker::Position, channel::ChannelName, limits::AHEAD_WAITING_MAX, position::is_same_epoch,
};

/// The waiting clients of a shard.
#[derive(Debug, Default)]
pub(super) struct Ahead(RefCell<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    by_channel: HashMap<ChannelName, Waiting>,
    count: usize,
    next: u64,
}

/// The waiting clients of a channel, at least one.
#[derive(Debug)]
struct Waiting {
    epoch: Arc<str>,
    /// By the offset and a number of its own.
    by_offset: BTreeMap<(u64, u64), oneshot::Sender<()>>,
}

/// A place among the clients that wait; given up when dropped.
pub(super) struct Waiter<'a> {
    ahead: &'a Ahead,
    channel: &'a ChannelName,
    key: (u64, u64),
    reached: oneshot::Receiver<()>,
}

impl Waiter<'_> {
    /// Resolves when the shard may be there.
    ///
    /// # Cancel safety
    /// May be dropped: the place is given up.
    pub(super) async fn reached(mut self) {
        // Sent or dropped: it is to be looked at.
        let _ = (&mut self.reached).await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let state = &mut *self.ahead.0.borrow_mut();
        if let Some(waiting) = state.by_channel.get_mut(self.channel)
            && waiting.by_offset.remove(&self.key).is_some()
        {
            state.count -= 1;
            if waiting.by_offset.is_empty() {
                state.by_channel.remove(self.channel);
            }
        }
    }
}

impl Ahead {
    /// Waits until `channel` has got as far as `to`. None if too many wait.
    pub(super) fn wait<'a>(
        &'a self,
        channel: &'a ChannelName,
        to: &Position,
    ) -> Option<Waiter<'a>> {
        let state = &mut *self.0.borrow_mut();
        if state.count >= AHEAD_WAITING_MAX {
            return None;
        }
        let begin = || Waiting { epoch: to.epoch.clone(), by_offset: BTreeMap::new() };
        let waiting = state.by_channel.entry(channel.clone()).or_insert_with(begin);
        if !is_same_epoch(&waiting.epoch, &to.epoch) {
            // Clients at another epoch look again.
            state.count -= waiting.by_offset.len();
            *waiting = begin();
        }
        let (sender, reached) = oneshot::channel();
        state.next += 1;
        let key = (to.offset, state.next);
        waiting.by_offset.insert(key, sender);
        state.count += 1;
        Some(Waiter { ahead: self, channel, key, reached })
    }

    /// `channel` has got to `position`.
    pub(super) fn appended(&self, channel: &ChannelName, position: &Position) {
        let state = &mut *self.0.borrow_mut();
        if state.count == 0 {
            return;
        }
        let Some(waiting) = state.by_channel.get_mut(channel) else { return };
        let later = if is_same_epoch(&waiting.epoch, &position.epoch) {
            waiting.by_offset.split_off(&(position.offset.saturating_add(1), 0))
        } else {
            BTreeMap::new()
        };
        let there = std::mem::replace(&mut waiting.by_offset, later);
        state.count -= there.len();
        if waiting.by_offset.is_empty() {
            state.by_channel.remove(channel);
        }
        for (_, waiter) in there {
            // An error means that the client no longer waits.
            let _ = waiter.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt as _;

    use super::*;

    fn at(epoch: &str, offset: u64) -> Position {
        Position { epoch: epoch.into(), offset }
    }

    #[test]
    fn a_message_wakes_those_alone_who_wait_for_it() {
        let (ahead, a) = (Ahead::default(), ChannelName::new("a").unwrap());
        let wait = |offset| Box::pin(ahead.wait(&a, &at("e", offset)).unwrap().reached());
        let (mut near, mut far) = (wait(5), wait(1_000_000));
        ahead.appended(&ChannelName::new("b").unwrap(), &at("e", 9));
        ahead.appended(&a, &at("e", 4));
        assert!((&mut near).now_or_never().is_none());
        ahead.appended(&a, &at("e", 5));
        assert!(near.now_or_never().is_some() && (&mut far).now_or_never().is_none());
        ahead.appended(&a, &at("other", 1));
        assert!(far.now_or_never().is_some(), "that one will never come");
        let state = ahead.0.borrow();
        assert_eq!((state.count, state.by_channel.len()), (0, 0));
    }

    #[test]
    fn waiters_are_bounded_and_leaving_makes_room() {
        let (ahead, a) = (Ahead::default(), ChannelName::new("a").unwrap());
        let mut waiters: Vec<_> =
            (0..).map_while(|offset| ahead.wait(&a, &at("e", offset))).collect();
        assert_eq!(waiters.len(), AHEAD_WAITING_MAX);
        waiters.pop();
        assert!(ahead.wait(&a, &at("e", 1)).is_some());
        drop(waiters);
        assert_eq!(ahead.0.borrow().count, 0);
    }
}
