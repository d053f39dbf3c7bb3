//! Work that is due at certain times, done in slices.
//!
//! Thousands of clients that fell out together are due together: each costs tens of microseconds (a
//! Close frame, a reset, a descriptor), and no other is served while all of them have their turn.
//! So a tick only notes which are due, and the table's driver works them off between other things.

use crate::{clock::Millis, conn::table::ConnectionTable};

impl ConnectionTable {
    /// A whole tick in one go.
    #[cfg(test)]
    pub(super) fn on_tick(&mut self, now: Millis) {
        self.begin_tick(now);
        assert!(self.work_off(&mut || true), "nothing stops it");
    }

    /// Time has passed: memory is checked, and due work is prepared for
    /// [`ConnectionTable::work_off`].
    pub fn begin_tick(&mut self, now: Millis) {
        self.now = self.now.max(now);
        self.wheel.turn(self.now, &mut self.due);
        self.hub.tick();
        self.handle_hub_events();
        let held_bytes =
            self.hub.held_bytes() + self.hub.shared().held_bytes() + self.input.held_bytes();
        self.metrics.backlog_bytes.set(held_bytes as u64);
    }

    /// Does the work that is due: deadlines, pings, the paced closing. `keep_going` is asked before
    /// each client; once it says no, this stops where it is. False when stopped before the last.
    pub fn work_off(&mut self, keep_going: &mut dyn FnMut() -> bool) -> bool {
        while !self.due.is_empty() && keep_going() {
            // A place may have been taken by another client since: the one that is there knows.
            if let Some(index) = self.due.pop() {
                self.on_due(index);
            }
        }
        self.handle_hub_events();
        if !self.due.is_empty() {
            return false;
        }
        self.free_memory(keep_going);
        self.close_disconnected(keep_going) & self.pace(self.now, keep_going)
    }

    /// Whether publications should wait until a pass has made room.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.hub.is_pressed()
    }

    /// Clients that still have to leave for memory's sake do so as long as this slice lasts: passes
    /// do the same, and the next tick continues.
    fn free_memory(&mut self, keep_going: &mut dyn FnMut() -> bool) {
        while self.hub.owes_room() && keep_going() {
            self.hub.go_round();
            self.handle_hub_events();
        }
    }
}
