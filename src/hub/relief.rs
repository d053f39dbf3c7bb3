//! Making room when everything that clients hold comes near the budget's limit.
//!
//! The client with the most unread bytes is given up first, and no client pays for another's.
//! Outboxes have an allowance, and so have their shared bytes: outboxes past it are cut before any
//! log, and outboxes within it are not touched for the sake of logs. In each group the first to be
//! given up are the clients from which nothing was taken for longest, then those that hold the
//! most. A hub within its share waits for hubs that are past theirs.
//!
//! Thousands of clients may have to be given up at once. While the budget's reserve lasts, a round
//! gives up a limited number, and the passes and ticks that follow give up the others; a client
//! that reads still gets the end of its begun frame, then its Close frame. Past the limit itself
//! everything is done at once, and closing clients are not waited for.

use std::{cmp::Reverse, io};

use super::{
    Event, Finish, Hub, Outlet, SlowPolicy, clients::WritingState, outbox::Outbox, sizes::Stock,
};
use crate::limits::{HOLDERS_PICKED_MAX, OUTBOX_STALE_TICKS, TRIM_LOOKS_MAX};

/// The clients that may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// Clients that are not closing yet, and, past the limit, also those that are.
    All,
    /// Clients that are closing.
    Leaving,
}

impl<O: Outlet> Hub<O> {
    /// Makes room while memory is short. Outboxes are cut to their allowance; then the largest log
    /// is cut first, from its oldest chunk on; and at last, while this hub holds more than its
    /// share, everything that clients have not taken goes (these clients are then closed, whatever
    /// the policy). True if the budget is within its limit afterwards.
    pub fn relieve(&mut self) -> bool {
        self.trim_waiting();
        self.make_room();
        !self.budget.over()
    }

    /// Some time has passed: memory charged by other hubs is noticed here.
    pub fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.laggards_left = self.laggards_per_pass;
        self.trim_waiting();
        let was_tight = std::mem::replace(&mut self.was_tight, self.budget.is_tight());
        if self.budget.is_to_pay() || was_tight {
            self.make_room();
        }
    }

    /// Whether clients still have to be given up to make room.
    #[must_use]
    pub fn owes_room(&self) -> bool {
        self.owes_room || !self.cuts.is_empty()
    }

    /// Whether that is so while little of the reserve is left: publishing should wait.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.owes_room() && self.budget.is_pressed()
    }

    /// Gives up another round of clients: to be called while [`Hub::owes_room`] if no pass does it.
    pub fn go_round(&mut self) {
        self.go_on(&mut || true);
    }

    /// The same; false when `goes_on`, which is asked after each client, said no.
    pub(super) fn go_on(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        self.laggards_left = self.laggards_per_pass;
        if !self.cut_waiting(goes_on) {
            return false;
        }
        if self.owes_room {
            self.make_room();
        }
        true
    }

    /// Frees the chunks that slow clients have caught up with, in logs that wait for a pass: in
    /// some of these logs now, in others the next time.
    fn trim_waiting(&mut self) {
        let mut looks_left = TRIM_LOOKS_MAX;
        for _ in 0..self.dirty.len() {
            self.trim_next = (self.trim_next + 1) % self.dirty.len();
            let (log, serial) = self.dirty.at(self.trim_next);
            if self.is_log(log, serial) {
                let subscriber_list = &self.logs[log as usize].subscriber_list;
                looks_left = looks_left.saturating_sub(subscriber_list.len());
                if let Some(smallest) = subscriber_list.smallest_cursor() {
                    self.trim(log, smallest);
                }
            }
            looks_left = looks_left.saturating_sub(1);
            if looks_left == 0 {
                return;
            }
        }
    }

    pub(super) fn relieve_if_tight(&mut self) {
        if self.budget.is_tight() && self.budget.is_to_pay() {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        self.owes_room = false;
        if self.budget.is_tight() && !self.shares.is_filling() {
            self.cut_outboxes_to_allowance();
            self.cut_logs();
            self.cut_outboxes_at_last();
        }
    }

    /// How much more has to be freed beyond the cuts that are under way.
    fn shortfall(&self) -> usize {
        let owed = self.owed_bytes + self.shares.owed_bytes() + self.shares.moved_owed_bytes();
        self.budget.excess().saturating_sub(owed)
    }

    fn cut_logs(&mut self) {
        loop {
            self.order_cuts();
            if !self.budget.over() || !self.end_oldest_cut() {
                return;
            }
        }
    }

    /// Decides which logs are cut and how far, the largest first; those of other hubs, as far as
    /// clients still need them, are among them.
    fn order_cuts(&mut self) {
        while self.shortfall() > 0 {
            let next = self.sizes.next_to_go();
            let bytes = match next {
                Some((Stock::Spare, _)) => usize::MAX,
                Some((Stock::Old, log)) => self.logs[log as usize].stock().map_or(0, |it| it.1),
                Some((Stock::Newest, _)) | None => 0,
            };
            if let Some((share, moved_bytes, to)) = self.shares.largest_moved()
                && moved_bytes > bytes
            {
                if !self.cut_moved(share, to) {
                    return;
                }
                continue;
            }
            let Some((stock, log)) = next else { return };
            let target = &self.logs[log as usize];
            let head = target.bytes.head();
            match stock {
                Stock::Spare => self.trim(log, head),
                Stock::Old => {
                    let tail = target.next_chunk_to_go().expect("it is filed by that");
                    self.cut_soon(log, tail, self.settings.slow);
                }
                Stock::Newest if self.budget.over_fair_share() => {
                    self.cut_soon(log, head, SlowPolicy::Close);
                }
                Stock::Newest => return,
            }
        }
    }

    /// Gives up the clients that need bytes of another hub's log before `to`, or as many as this
    /// round has left: false if there may be more.
    fn cut_moved(&mut self, share: u32, to: usize) -> bool {
        let is_behind =
            |hub: &Self, index| hub.place_in_share(share, index).is_some_and(|at| at < to);
        for index in
            self.indices_where(|hub, index| !hub.is_leaving(index) && is_behind(hub, index))
        {
            // Perhaps it merely was not written to.
            self.flush_wholly(index);
            if self.shortfall() == 0 {
                return true;
            }
            if !self.has_round_left() {
                self.owes_room = true;
                return false;
            }
            if is_behind(self, index) {
                let cost = self.clients.get(index).cost_of_leaving();
                self.laggards_left = self.laggards_left.saturating_sub(cost);
                self.give_up(index);
            }
        }
        true
    }

    /// Where a client is in a share.
    fn place_in_share(&self, share: u32, index: u32) -> Option<usize> {
        let outbox = self.clients.get(index).outbox.as_ref();
        let place = outbox.and_then(|outbox| outbox.place_in(share));
        place.or_else(|| {
            let behind = self.behind.get(&self.clients.key(index))?;
            behind.iter().find(|it| it.share == share).map(|it| it.from)
        })
    }

    fn is_leaving(&self, index: u32) -> bool {
        self.clients.get(index).outbox.as_ref().is_some_and(|outbox| outbox.is_leaving())
    }

    fn indices_where(&self, is_wanted: impl Fn(&Self, u32) -> bool) -> Vec<u32> {
        let all = self.clients.keys().filter_map(|key| self.clients.find(key));
        all.filter(|&index| is_wanted(self, index)).collect()
    }

    fn cut_outboxes_to_allowance(&mut self) {
        if let excess @ 1.. = self.budget.outbox_excess() {
            let (held, _) = self.budget.outbox_parts();
            self.give_up_largest(
                Whom::All,
                |_, outbox| outbox.cost(),
                |hub| hub.budget.outbox_parts().0 + excess <= held,
            );
        }
        if let excess @ 1.. = self.budget.share_excess(self.shares.owed_bytes()) {
            let kept = |hub: &Self| hub.budget.outbox_parts().1 - hub.shares.owed_bytes();
            let held = kept(self);
            self.give_up_largest(Whom::All, Self::shared_part, |hub| kept(hub) + excess <= held);
        }
        if self.budget.over() && self.budget.share_excess(0) > 0 {
            let is_enough = |hub: &Self| !hub.budget.over() || hub.budget.share_excess(0) == 0;
            self.give_up_largest(Whom::Leaving, Self::shared_part, is_enough);
        }
    }

    /// The outbox's part of its shares: all readers of a share count for an equal part of it.
    fn shared_part(&self, outbox: &Outbox) -> usize {
        outbox.shares().map(|share| self.shares.cost_per_reader(share)).sum()
    }

    /// No log is left to cut: if this hub is the cause, the rest is in outboxes.
    fn cut_outboxes_at_last(&mut self) {
        let is_enough = |hub: &Self| hub.shortfall() == 0 && !hub.budget.over();
        if !is_enough(self) && self.budget.over_fair_share() {
            self.give_up_largest(Whom::All, |_, outbox| outbox.cost(), is_enough);
        }
    }

    /// Gives clients up until `is_enough`, or as many as this round has left: first those from
    /// which nothing has been taken for long, and among them those that hold the most.
    fn give_up_largest(
        &mut self,
        whom: Whom,
        held: impl Fn(&Self, &Outbox) -> usize,
        is_enough: impl Fn(&Self) -> bool,
    ) {
        loop {
            if !self.has_round_left() {
                self.owes_room = true;
                return;
            }
            let holders = self.pick_holders(whom, &held);
            if holders.is_empty() {
                return;
            }
            for index in holders {
                // Perhaps it merely was not written to.
                self.flush_wholly(index);
                if is_enough(self) {
                    return;
                }
                if !self.has_round_left() {
                    self.owes_room = true;
                    return;
                }
                if self.clients.get(index).outbox.is_some() {
                    let cost = self.clients.get(index).cost_of_leaving();
                    self.laggards_left = self.laggards_left.saturating_sub(cost);
                    self.give_up(index);
                }
            }
        }
    }

    /// Whether one more client may be given up now. Past the limit nothing can wait.
    fn has_round_left(&self) -> bool {
        self.laggards_left > 0 || self.budget.over()
    }

    /// The clients that hold the most. One look at all clients finds many, so that each costs
    /// little.
    fn pick_holders(&self, whom: Whom, held: &impl Fn(&Self, &Outbox) -> usize) -> Vec<u32> {
        let with_leaving = whom == Whom::Leaving || self.budget.over();
        let holder = |key| {
            let index = self.clients.find(key)?;
            let client = self.clients.get(index);
            let outbox = client.outbox.as_ref()?;
            let is_leaving = client.state == WritingState::Close;
            if (is_leaving && !with_leaving) || (!is_leaving && whom == Whom::Leaving) {
                return None;
            }
            let is_stale = self.ticks.wrapping_sub(outbox.moved_at) >= OUTBOX_STALE_TICKS;
            let held = held(self, outbox);
            (held > 0).then_some(Reverse((is_stale, held, index)))
        };
        let mut holders: Vec<_> = self.clients.keys().filter_map(holder).collect();
        if holders.len() > HOLDERS_PICKED_MAX {
            holders.select_nth_unstable(HOLDERS_PICKED_MAX);
            holders.truncate(HOLDERS_PICKED_MAX);
        }
        holders.sort_unstable();
        holders.into_iter().map(|Reverse((.., index))| index).collect()
    }

    /// A client has left too much unread of its own output: it is closed after the frame that it
    /// has begun. A client that is closing already is not waited for any longer.
    pub(super) fn give_up(&mut self, index: u32) {
        let state = self.clients.get(index).state;
        if matches!(state, WritingState::Close | WritingState::Over) {
            return self.fail(index, io::ErrorKind::OutOfMemory);
        }
        if let Some(outbox) = &mut self.clients.get_mut(index).outbox {
            let before = outbox.cost();
            let freed = outbox.cut_short(&mut self.shares);
            self.budget.resize_outbox(before, outbox.cost());
            self.shares_left(freed);
        }
        if state == WritingState::Open {
            self.close_as_slow(index);
        } else {
            self.hurry_client(index);
            self.flush_later(index);
        }
    }

    /// Begins the close of an open client that is too slow.
    pub(super) fn close_as_slow(&mut self, index: u32) {
        let frame = std::mem::take(&mut self.settings.slow_close_frame);
        // Without frames the end of the stream is all there is to say.
        let place = self.clients.get(index).places.as_slice().first();
        let has_frames = place.is_none_or(|it| self.logs[it.log as usize].encoding.has_frames());
        let close_frame = if has_frames { &frame[..] } else { &[] };
        self.begin_close(index, close_frame, Finish::Frame);
        self.settings.slow_close_frame = frame;
        self.flush_later(index);
        self.events.push(Event::Slow(self.clients.key(index)));
    }
}
