//! Who makes room when all that clients hold is more than the budget.
//!
//! Whoever holds the most unread goes first, and nobody pays for a stranger: outboxes have an
//! allowance, and so has what they share; who is past it pays before any log is cut, and who is
//! within it is not touched for the logs' sake. In each part those go first of whom nothing was
//! taken for longest, then those who hold the most. Of several hubs one that holds no more than
//! its share waits for those who do.

use std::{cmp::Reverse, io};

use super::{
    Event, Finish, Hub, Outlet, SlowPolicy,
    clients::{State, small},
    outbox::Outbox,
};
use crate::limits::{OUTBOX_REST_BYTES_MAX, OUTBOX_STALE_TICKS};

impl<O: Outlet> Hub<O> {
    /// Frees memory while the budget is over its limit: what outboxes hold past their allowance,
    /// then the largest log first, from its oldest chunk on, and, while this hub holds more than
    /// its share, at last everything that clients have not taken (these are then closed, whatever
    /// the policy). True if the budget is within its limit afterwards.
    pub fn relieve(&mut self) -> bool {
        self.exhausted = false;
        self.trim_waiting();
        self.make_room();
        !self.account.over()
    }

    /// Some time has passed: what others have charged is noticed here.
    pub fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.exhausted = false;
        self.trim_waiting();
        let was_over = std::mem::replace(&mut self.was_over, self.account.over());
        if self.account.is_to_pay() || was_over {
            self.make_room();
        }
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
        } else if self.account.is_to_pay() {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        if !self.account.over() {
            return;
        }
        self.cut_outboxes_to_allowance();
        while self.account.over() && !self.exhausted {
            match self.largest_to_cut() {
                Some((log, new_tail, policy)) => self.cut(log, new_tail, policy),
                None => self.exhausted = true,
            }
        }
        self.cut_outboxes_at_last();
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
        self.cut_outboxes_at_last();
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

    fn cut_outboxes_to_allowance(&mut self) {
        if let excess @ 1.. = self.account.outbox_excess() {
            let (held, _) = self.account.outbox_parts();
            self.give_up_largest(
                |_, outbox| outbox.cost(),
                |hub| hub.account.outbox_parts().0 + excess <= held,
            );
        }
        if let excess @ 1.. = self.account.share_excess() {
            let (_, held) = self.account.outbox_parts();
            self.give_up_largest(
                // Of those who hold the same each holds its part.
                |hub, outbox| outbox.shares().map(|it| hub.shares.cost_per_reader(it)).sum(),
                |hub| hub.account.outbox_parts().1 + excess <= held,
            );
        }
    }

    /// No log is left to cut: what is over is in outboxes, if it is here.
    fn cut_outboxes_at_last(&mut self) {
        if self.account.over() && self.account.over_fair_share() {
            self.give_up_largest(|_, outbox| outbox.cost(), |hub| !hub.account.over());
        }
    }

    /// Gives clients up until `is_enough`: first those of whom nothing has been taken for long, of
    /// these first whoever holds the most.
    fn give_up_largest(
        &mut self,
        held: impl Fn(&Self, &Outbox) -> usize,
        is_enough: impl Fn(&Self) -> bool,
    ) {
        let mut holders = Vec::new();
        for key in self.clients.keys() {
            let Some(index) = self.clients.find(key) else { continue };
            let Some(outbox) = &self.clients.get(index).outbox else { continue };
            let is_stale = self.ticks.wrapping_sub(outbox.moved_at) >= OUTBOX_STALE_TICKS;
            let held = held(self, outbox);
            if held > 0 {
                holders.push((is_stale, held, index));
            }
        }
        holders.sort_unstable_by_key(|&holder| Reverse(holder));
        for (.., index) in holders {
            // It may merely not have been written to.
            if !self.clients.get(index).blocked {
                self.flush_client(index);
            }
            if is_enough(self) {
                return;
            }
            if self.clients.get(index).outbox.is_some() {
                self.give_up(index);
            }
        }
    }

    /// A client has left too much unread of what it alone is told: it is closed with the slow
    /// consumers' frame behind the frame that it has begun, or fails if that is too long to keep.
    pub(super) fn give_up(&mut self, index: u32) {
        let client = self.clients.get_mut(index);
        if client.state != State::Open {
            return self.fail(index, io::ErrorKind::OutOfMemory);
        }
        if let Some(outbox) = &mut client.outbox {
            let before = outbox.cost();
            let Some(freed) = outbox.cut_short(OUTBOX_REST_BYTES_MAX, &mut self.shares) else {
                return self.fail(index, io::ErrorKind::OutOfMemory);
            };
            self.account.resize_outbox(before, outbox.cost());
            self.account.resize_shares(freed, 0);
        }
        self.close_as_slow(index);
    }

    /// Begins the close of one that is open and too slow.
    pub(super) fn close_as_slow(&mut self, index: u32) {
        let frame = std::mem::take(&mut self.settings.slow_close_frame);
        // Where there are no frames the end says it all.
        let place = self.clients.get(index).places.as_slice().first();
        let has_frames = place.is_none_or(|it| self.logs[it.log as usize].encoding.has_frames());
        let farewell = if has_frames { &frame[..] } else { &[] };
        self.begin_close(index, farewell, Finish::Frame);
        self.settings.slow_close_frame = frame;
        self.flush_later(index);
        self.events.push(Event::Slow(self.clients.key(index)));
    }
}
