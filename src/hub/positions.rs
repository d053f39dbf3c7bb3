//! The positions of logs in their channels' histories, and clients that are given history first.
//!
//! A log knows the position of its newest message, so a client that joins at the head of the log
//! knows after which position it gets everything. While a client is given earlier messages, it is
//! held: its logs wait, with their usual bounds. The source of the history is not known here.

use super::{
    Hub, Outlet,
    clients::{Key, WritingState},
};
use crate::position::Position;

impl<O: Outlet> Hub<O> {
    /// The position of the newest message in the logs of `channel`. None: the channel has no
    /// subscriber here, or nothing is known yet.
    #[must_use]
    pub fn position(&self, channel: &str) -> Option<&Position> {
        self.logs[self.log_of(channel)? as usize].last.as_ref()
    }

    /// The position after which a client gets everything on `channel`, for a client that joined
    /// while [`Hub::position`] was not known. `baseline` is a position after which every message is
    /// certain to arrive here; messages at or before it are dropped if they still arrive, unless
    /// something has arrived already.
    pub fn start(
        &mut self,
        key: Key,
        channel: &str,
        baseline: Option<&Position>,
    ) -> Option<Position> {
        let first = self.log_of(channel)?;
        if let Some(baseline) = baseline
            && self.logs[first as usize].last.is_none()
        {
            let mut next = Some(first);
            while let Some(log) = next {
                let target = &mut self.logs[log as usize];
                target.baseline = Some(baseline.clone());
                target.last = Some(baseline.clone());
                next = target.sibling;
            }
        }
        let places = &self.clients.get(self.clients.find(key)?).places;
        let mut logs = self.chain(Some(first));
        let (_, own) = logs.find(|(log, _)| places.position(*log).is_some())?;
        own.baseline.clone()
    }

    /// Moves a client that has not begun to read `channel` to the head of its log. Returns the
    /// position there; None also if the client is closing.
    pub fn join_at_head(&mut self, key: Key, channel: &str) -> Option<Position> {
        let index = self.clients.find(key)?;
        let client = self.clients.get(index);
        // The output of a closing client is fixed.
        if client.state != WritingState::Open {
            return None;
        }
        let position = self.place_in(client, channel)?;
        let place = client.places.as_slice()[position];
        let is_amid = client.begun() == Some(position);
        let log = &mut self.logs[place.log as usize];
        if !is_amid {
            log.subscriber_list.get_mut(place.index as usize).cursor = log.bytes.head();
        }
        let position = log.last.clone();
        if !is_amid {
            self.drop_behind(index, Some(channel));
        }
        position
    }

    /// Lets a client's logs wait until [`Hub::release`]. Its own output is still written.
    pub fn hold(&mut self, key: Key) {
        let Some(index) = self.clients.find(key) else { return };
        if self.clients.get(index).state == WritingState::Open {
            self.clients.get_mut(index).held = true;
            self.set_busy(index, true);
        }
    }

    /// Lets the client's logs be written again, after its own output.
    pub fn release(&mut self, key: Key) {
        let Some(index) = self.clients.find(key) else { return };
        if std::mem::take(&mut self.clients.get_mut(index).held) {
            self.release_behind(index);
            self.flush_now(index);
        }
    }

    /// Records the position of a message that is about to be appended to the chain that begins with
    /// `first`. False if it is not new there.
    pub(super) fn advance(&mut self, first: u32, position: &Position) -> bool {
        let known = self.logs[first as usize].last.as_ref();
        let is_old = known
            .is_some_and(|last| last.is_comparable(position) && position.offset <= last.offset);
        if is_old {
            return false;
        }
        let mut next = Some(first);
        while let Some(log) = next {
            let target = &mut self.logs[log as usize];
            next = target.sibling;
            match &mut target.last {
                Some(last) if last.is_comparable(position) => last.offset = position.offset,
                last => *last = Some(position.clone()),
            }
            if target.baseline.is_none() {
                let offset = position.offset.saturating_sub(1);
                target.baseline = Some(Position { epoch: position.epoch.clone(), offset });
            }
        }
        true
    }
}
