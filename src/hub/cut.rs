//! What happens when a log, or all logs together, hold more than they may.
//!
//! The oldest chunks go. Whoever still needs them and has merely not been reached by a pass is
//! written to first; whoever cannot take it meets the slow-consumer policy. The rest of a frame
//! that such a client has begun is copied aside, because a frame once begun must be finished.

use std::io;

use super::{
    Event, Finish, Hub, Log, Outlet, SlowPolicy,
    clients::{State, small},
};
use crate::{channel::ChannelName, position::Missed};

/// What a client misses that goes on with its log's newest message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where.
    pub channel: ChannelName,
    /// Of these offsets, if any: what has none, or belongs to the end of an earlier history, is
    /// missing unnamed.
    pub missed: Missed,
}

impl Log {
    /// Frees whole chunks below `offset`, see [`super::bytelog::ByteLog::trim`].
    pub(super) fn trim(&mut self, offset: u64, keep: bool) -> usize {
        let freed = self.bytes.trim(offset, keep);
        if !self.track.is_short() {
            let ended = self.bytes.frames_ended(self.bytes.tail());
            self.track.forget_before(ended.saturating_sub(1));
        }
        freed
    }

    /// The positions of the frames `from..to`, the last but one at most. None if nobody has ever
    /// known where the log stands.
    fn hole(&self, from: u64, to: u64) -> Option<Hole> {
        let after = |frames: u64| match frames.checked_sub(1) {
            Some(frame) => self.track.after(frame).or_else(|| self.anchor.clone()),
            None => self.anchor.clone(),
        };
        let (had, goes_on) = (after(from), after(to + 1)?);
        // The frame that it goes on with has the position after it, or none.
        let is_counted = after(to).as_ref() != Some(&goes_on);
        let last = goes_on.offset - u64::from(is_counted);
        let had = had.filter(|had| had.is_comparable(&goes_on));
        let first = had.map_or(1, |had| had.offset + 1);
        let missed =
            Missed { epoch: Some(goes_on.epoch), from: first, to: Some(last.max(first - 1)) };
        Some(Hole { channel: self.name.clone(), missed })
    }
}

impl<O: Outlet> Hub<O> {
    /// Frees memory while the budget is over its limit: the largest log first, from its oldest
    /// chunk on, and, while this hub holds more than its share, at last everything that clients
    /// have not taken (these are then closed, whatever the policy). For a tick: what another hub
    /// has charged is noticed here. True if the budget is within its limit afterwards.
    pub fn relieve(&mut self) -> bool {
        self.exhausted = false;
        self.trim_waiting();
        self.relieve_if_over();
        !self.account.over()
    }

    /// Frees what slow clients have caught up with in logs that wait for a pass.
    fn trim_waiting(&mut self) {
        for &(log, serial) in &self.dirty {
            let log = self.logs.get_mut(log as usize).filter(|found| found.serial == serial);
            if let Some(log) = log
                && let Some(smallest) = log.roster.smallest_cursor()
            {
                let freed = log.trim(smallest, true);
                self.account.resize(freed, 0);
            }
        }
    }

    pub(super) fn relieve_if_over(&mut self) {
        if !self.account.over() {
            self.exhausted = false;
        }
        while self.account.over() && !self.exhausted {
            let Some((log, new_tail, policy)) = self.largest_to_cut() else {
                self.exhausted = true;
                return;
            };
            self.cut(log, new_tail, policy);
        }
    }

    /// After `log` has grown. If nothing else was left to cut the last time, only this one can
    /// help, so the others need not be looked at for every message.
    pub(super) fn relieve_after(&mut self, log: u32) {
        if !self.account.over() || !self.exhausted {
            return self.relieve_if_over();
        }
        let serial = self.logs.get(log as usize).map(|found| found.serial);
        while self.account.over()
            && let Some(found) = self.logs.get(log as usize)
            && Some(found.serial) == serial
            && let Some((new_tail, policy)) = self.next_cut(log)
        {
            self.cut(log, new_tail, policy);
        }
    }

    fn largest_to_cut(&mut self) -> Option<(u32, u64, SlowPolicy)> {
        self.drop_spare_chunks();
        let sizes = self.logs.iter().map(|(log, found)| (found.bytes.len(), log));
        let with_old =
            sizes.clone().filter(|&(_, log)| self.logs[log].bytes.oldest_chunk_end().is_some());
        let (_, log) = with_old.max().or_else(|| sizes.max())?;
        let log = small(log);
        self.next_cut(log).map(|(new_tail, policy)| (log, new_tail, policy))
    }

    /// How far `log` is to be cut next, and what its slow consumers meet.
    fn next_cut(&self, log: u32) -> Option<(u64, SlowPolicy)> {
        let bytes = &self.logs[log as usize].bytes;
        if let Some(new_tail) = bytes.oldest_chunk_end() {
            return Some((new_tail, self.settings.slow));
        }
        let last_resort = bytes.len() > 0 && self.account.over_fair_share();
        last_resort.then(|| (bytes.head(), SlowPolicy::Close))
    }

    /// Frees the chunks that logs keep though everyone has everything.
    fn drop_spare_chunks(&mut self) {
        for (_, log) in &mut self.logs {
            if log.bytes.len() == 0 {
                let freed = log.bytes.trim(log.bytes.head(), false);
                self.account.resize(freed, 0);
            }
        }
    }

    /// Frees the chunks of `log` below `new_tail`; nobody needs them afterwards.
    pub(super) fn cut(&mut self, log: u32, new_tail: u64, policy: SlowPolicy) {
        let serial = self.logs[log as usize].serial;
        // From the end: what a removal moves into a hole has been looked at already.
        let mut place = self.logs[log as usize].roster.len();
        while place > 0 {
            place -= 1;
            let entry = *self.logs[log as usize].roster.get(place);
            if entry.cursor >= new_tail {
                continue;
            }
            self.catch_up(entry.client, log, new_tail, policy);
            if self.logs.get(log as usize).is_none_or(|found| found.serial != serial) {
                return;
            }
        }
        let target = &mut self.logs[log as usize];
        debug_assert!(target.roster.smallest_cursor() >= Some(new_tail));
        let freed = target.trim(new_tail, !self.account.over());
        self.account.resize(freed, 0);
    }

    /// Gets one client to `new_tail` or further: by writing, or by the policy.
    fn catch_up(&mut self, index: u32, log: u32, new_tail: u64, policy: SlowPolicy) {
        if !self.clients.get(index).blocked {
            self.flush_client(index);
            let Some(position) = self.clients.get(index).places.position(log) else { return };
            if self.cursor(index, position) >= new_tail {
                return;
            }
        }
        let position = self.clients.get(index).places.position(log);
        let position = position.expect("it was found in this log");
        if self.clients.get(index).begun() == Some(position) && !self.carry(index, position) {
            return self.fail(index, io::ErrorKind::OutOfMemory);
        }
        let key = self.clients.key(index);
        match (self.clients.get(index).state, policy) {
            (State::Open, SlowPolicy::Close) => {
                let frame = std::mem::take(&mut self.settings.slow_close_frame);
                // Where there are no frames the end says it all.
                let has_frames = self.logs[log as usize].encoding.has_frames();
                let farewell = if has_frames { &frame[..] } else { &[] };
                self.begin_close(index, farewell, Finish::Frame);
                self.settings.slow_close_frame = frame;
                self.events.push(Event::Slow(key));
            }
            (State::Open, SlowPolicy::Skip) => {
                let (missed, hole) = self.skip(index, position);
                if missed > 0 {
                    self.events.push(Event::Skipped(key, missed, hole));
                }
            }
            (State::LogsThenClose, _) => self.hurry_client(index),
            (State::Close | State::Over, _) => self.unsubscribe_all(index),
        }
    }

    /// Moves a cursor, which is at a boundary, to the newest message; how many it passed over, and
    /// which.
    fn skip(&mut self, index: u32, position: usize) -> (u64, Option<Box<Hole>>) {
        let place = self.clients.get(index).places.as_slice()[position];
        let log = &mut self.logs[place.log as usize];
        let entry = log.roster.get_mut(place.index as usize);
        let newest = log.bytes.newest();
        let from = log.bytes.frames_ended(entry.cursor);
        let to = log.bytes.frames_ended(newest);
        entry.cursor = newest;
        let hole = (from < to && log.encoding.tells_gaps()).then(|| log.hole(from, to));
        (to - from, hole.flatten().map(Box::new))
    }

    /// Copies the rest of the begun frame to the front of the outbox. False if there is no room.
    pub(super) fn carry(&mut self, index: u32, position: usize) -> bool {
        let place = self.clients.get(index).places.as_slice()[position];
        let log = &mut self.logs[place.log as usize];
        let entry = log.roster.get_mut(place.index as usize);
        let end = log.bytes.boundary_from(entry.cursor);
        let rest_bytes = usize::try_from(end - entry.cursor).expect("it is in memory");
        if !self.account.has_room_for_carry(rest_bytes) {
            return false;
        }
        let rest = log.bytes.copy(entry.cursor, end);
        entry.cursor = end;
        self.clients.get_mut(index).set_begun(None);
        self.edit_outbox(index, |outbox| outbox.carry(&rest));
        true
    }

    fn cursor(&self, index: u32, position: usize) -> u64 {
        let place = self.clients.get(index).places.as_slice()[position];
        self.logs[place.log as usize].roster.get(place.index as usize).cursor
    }
}
