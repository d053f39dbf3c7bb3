//! How a log is cut when it, or all logs together, hold more than they may.
//!
//! The oldest chunks are freed. A client that still needs them, and merely has not been reached by
//! a pass, is written to first; a client whose outlet takes nothing is treated by the slow-consumer
//! policy. The rest of a frame that such a client has begun is kept aside, because a begun frame
//! must be finished.
//!
//! Clients that fall behind in one log often do so together. Each one costs microseconds in which
//! no other client is served. So a limited number is dealt with at once and the others with the
//! passes that follow; until then the log keeps the chunks that they need.

use std::io;

use super::{
    Event, Hub, Log, Outlet, SlowPolicy, Source,
    clients::WritingState,
    hole::{Cut, Hole},
    long::Long,
    shares::Body,
    sizes::Stock,
};
use crate::{limits::CARRY_COPY_BYTES_MAX, position::Missed};

impl Log {
    /// The kind and size of what may be freed beside the cut that waits; None: nothing.
    pub(super) fn stock(&self) -> Option<(Stock, usize)> {
        let bytes = self.bytes.cost() + self.bytes.joint_bytes() - self.owed;
        let stock = if self.bytes.len() == 0 {
            Stock::Spare
        } else if self.next_chunk_to_go().is_some() {
            Stock::Old
        } else {
            Stock::Newest
        };
        (bytes > 0).then_some((stock, bytes))
    }

    /// The end of the oldest chunk that no cut waits for, if the newest message does not need it.
    pub(super) fn next_chunk_to_go(&self) -> Option<u64> {
        let from = self.cut.map_or_else(|| self.bytes.tail(), |cut| cut.tail);
        self.bytes.chunk_end_after(from)
    }

    /// The positions of the frames `from..to`, where `to` is at most the newest frame. None if the
    /// log's position was never known.
    fn hole(&self, from: u64, to: u64) -> Option<Hole> {
        let after = |frames: u64| match frames.checked_sub(1) {
            Some(frame) => self.track.after(frame).or_else(|| self.baseline.clone()),
            None => self.baseline.clone(),
        };
        let (had, goes_on) = (after(from), after(to + 1)?);
        // The frame at which the client continues has the position after it, or none.
        let is_counted = after(to).as_ref() != Some(&goes_on);
        let last = goes_on.offset - u64::from(is_counted);
        let had = had.filter(|had| had.is_comparable(&goes_on));
        let first = had.map_or(1, |had| had.offset + 1);
        let missed = Missed {
            epoch: Some(goes_on.epoch),
            from: first,
            to: Some(last.max(first - 1)),
            sure: false,
        };
        Some(Hole { channel: self.name.clone(), missed })
    }
}

impl<O: Outlet> Hub<O> {
    /// Frees the chunks of `log` below `tail` as soon as the clients that lag there are dealt with:
    /// at once, or, if they are many, with the next passes.
    pub(super) fn cut_soon(&mut self, log: u32, tail: u64, policy: SlowPolicy) {
        let target = &mut self.logs[log as usize];
        let before = target.cut;
        if before.is_some_and(|before| before.tail >= tail) {
            return;
        }
        target.cut = Some(Cut { tail, policy });
        let serial = target.serial;
        self.note_size(log);
        if before.is_none() && !self.work_off_laggards(log, serial, &mut || true) {
            self.cuts.push_back((log, serial));
        }
    }

    /// Continues the cuts that wait. False if `goes_on`, which is asked after each client, said no.
    pub(super) fn cut_waiting(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        let mut has_time = true;
        while let Some(&(log, serial)) = self.cuts.front() {
            let ask = &mut || {
                has_time = goes_on();
                has_time
            };
            if self.is_log(log, serial) && !self.work_off_laggards(log, serial, ask) {
                return has_time;
            }
            self.cuts.pop_front();
        }
        true
    }

    /// Finishes the cut that has waited longest, however many clients lag there; false if none
    /// waits.
    pub(super) fn end_oldest_cut(&mut self) -> bool {
        let Some((log, serial)) = self.cuts.pop_front() else { return false };
        if self.is_log(log, serial)
            && let Some(Cut { tail, policy }) = self.logs[log as usize].cut
        {
            self.cut_while(log, tail, policy, &mut |_| true);
            self.end_cut(log, serial);
        }
        true
    }

    /// Does what [`Log::cut`] asks for, for as many clients as this round has left; false if there
    /// may be more.
    fn work_off_laggards(
        &mut self,
        log: u32,
        serial: u64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> bool {
        let target = &self.logs[log as usize];
        let cut = if self.budget.is_tight() {
            target.cut
        } else {
            // No client pays for room that has been made meanwhile.
            let tail = target.bytes.cut_to(self.settings.backlog_bytes);
            tail.map(|tail| Cut { tail, policy: self.settings.slow })
        };
        let Some(Cut { tail, policy }) = cut else {
            self.end_cut(log, serial);
            return true;
        };
        let mut left = self.laggards_left;
        let is_done = left > 0
            && self.cut_while(log, tail, policy, &mut |cost| {
                left = left.saturating_sub(cost);
                goes_on() && left > 0
            });
        self.laggards_left = left;
        if is_done {
            self.end_cut(log, serial);
        }
        is_done
    }

    fn end_cut(&mut self, log: u32, serial: u64) {
        if self.is_log(log, serial) {
            self.logs[log as usize].cut = None;
            self.note_size(log);
        }
    }

    /// Frees the chunks of `log` below `tail` once no client needs them. `goes_on` is asked after
    /// each client that lags, and told how many others its work is worth. Returns false, with
    /// nothing freed, if it said no.
    fn cut_while(
        &mut self,
        log: u32,
        tail: u64,
        policy: SlowPolicy,
        goes_on: &mut dyn FnMut(u32) -> bool,
    ) -> bool {
        let serial = self.logs[log as usize].serial;
        // From the end: an entry that a removal moves down has been looked at already.
        let mut place = self.logs[log as usize].subscriber_list.len();
        while place > 0 {
            place -= 1;
            let entry = *self.logs[log as usize].subscriber_list.get(place);
            if entry.cursor >= tail {
                continue;
            }
            let cost = self.clients.get(entry.client).cost_of_leaving();
            self.catch_up(entry.client, log, tail, policy);
            if !self.is_log(log, serial) {
                return true;
            }
            if !goes_on(cost) {
                return false;
            }
        }
        let target = &mut self.logs[log as usize];
        debug_assert!(target.subscriber_list.smallest_cursor() >= Some(tail));
        self.trim(log, tail);
        true
    }

    /// Frees whole chunks of a log below `offset`; of an empty log all of them, if memory is short.
    pub(super) fn trim(&mut self, log: u32, offset: u64) {
        let keep = !self.budget.is_tight();
        let target = &mut self.logs[log as usize];
        let before = target.bytes.joint_bytes();
        let freed = target.bytes.trim(offset, keep);
        self.budget.resize_joint(before, target.bytes.joint_bytes());
        if !target.track.is_short() {
            let ended = target.bytes.frames_ended(target.bytes.tail());
            target.track.forget_before(ended.saturating_sub(1));
        }
        self.budget.resize(freed, 0);
        self.note_size(log);
    }

    /// Gets one client to `new_tail` or further: by writing, or by the policy.
    fn catch_up(&mut self, index: u32, log: u32, new_tail: u64, policy: SlowPolicy) {
        self.part_now(index, log);
        self.flush_wholly(index);
        let Some(position) = self.clients.get(index).places.position(log) else { return };
        if self.cursor(index, position) >= new_tail {
            return;
        }
        if self.clients.get(index).begun() == Some(position) && !self.carry(index, position) {
            return self.fail(index, io::ErrorKind::OutOfMemory);
        }
        let key = self.clients.key(index);
        match (self.clients.get(index).state, policy) {
            (WritingState::Open, SlowPolicy::Close) => self.close_as_slow(index),
            (WritingState::Open, SlowPolicy::Skip) => {
                let (missed, hole) = self.skip(index, position);
                if missed > 0 {
                    self.events.push(Event::Skipped(key, missed, hole));
                }
            }
            (WritingState::LogsThenClose, _) => self.hurry_client(index),
            (WritingState::Close | WritingState::Over, _) => self.unsubscribe_all(index),
        }
    }

    /// Moves a cursor, which is at a boundary, to the newest message. Returns how many messages it
    /// passed over, and which.
    fn skip(&mut self, index: u32, position: usize) -> (u64, Option<Box<Hole>>) {
        let place = self.clients.get(index).places.as_slice()[position];
        let log = &mut self.logs[place.log as usize];
        let entry = log.subscriber_list.get_mut(place.index as usize);
        let newest = log.bytes.newest();
        let from = log.bytes.frames_ended(entry.cursor);
        let to = log.bytes.frames_ended(newest);
        entry.cursor = newest;
        let hole = (from < to && log.encoding.tells_gaps()).then(|| log.hole(from, to));
        (to - from, hole.flatten().map(Box::new))
    }

    /// Puts the rest of the begun frame at the front of the outbox: a copy if it is short, else a
    /// reference to one copy of the frame for all clients that have begun it. False if there is no
    /// room.
    pub(super) fn carry(&mut self, index: u32, position: usize) -> bool {
        let place = self.clients.get(index).places.as_slice()[position];
        let log = &self.logs[place.log as usize];
        let cursor = log.subscriber_list.get(place.index as usize).cursor;
        let end = log.bytes.boundary_from(cursor);
        let rest_bytes = usize::try_from(end - cursor).expect("it is in memory");
        let source = Source::Frame(log.serial, end);
        let is_short = rest_bytes <= CARRY_COPY_BYTES_MAX;
        let known = self.shares.find(&source).filter(|_| !is_short);
        let long = log.bytes.long_at(cursor).map(|(_, long)| long.alone());
        let needed = long.as_ref().map_or(rest_bytes, Long::payload_bytes);
        if known.is_none() && !self.budget.has_room_for_carry(needed) {
            return false;
        }
        if is_short {
            let rest = log.bytes.copy(cursor, end);
            self.edit_outbox(index, |outbox| outbox.carry(&rest));
        } else {
            // From the oldest byte on: the next client may have read less of it.
            let from = log.bytes.frame_start(cursor);
            let copy = || Body::Bytes(log.bytes.copy(from, end).into());
            let body = known.is_none().then(|| long.map_or_else(copy, Body::Long));
            let share = self.share(source, || body.expect("made if it is not known"));
            let length = self.shares.len(share);
            self.edit_outbox(index, |outbox| {
                outbox.carry_share(share, length - rest_bytes, length);
            });
            if self.clients.get(index).outbox.as_ref().is_some_and(|it| it.is_leaving()) {
                self.shares.begin_to_leave(share, length - rest_bytes);
            }
        }
        let log = &mut self.logs[place.log as usize];
        log.subscriber_list.get_mut(place.index as usize).cursor = end;
        self.clients.get_mut(index).set_begun(None);
        true
    }

    fn cursor(&self, index: u32, position: usize) -> u64 {
        let place = self.clients.get(index).places.as_slice()[position];
        self.logs[place.log as usize].subscriber_list.get(place.index as usize).cursor
    }
}
