//! The pass: every log with news is written to every subscriber that can take it.
//!
//! A delivery is one write and a cursor that moves: no hashing, no allocation, nothing shared with
//! other threads. Messages published while a pass runs go out with the next one in a single write,
//! so the busier the server, the fewer system calls per message. A pass stops when its caller says
//! that time is up, and the next pass continues there, with the next log: no channel waits until
//! another's clients have all been visited.

use super::{
    Hub, Outlet,
    clients::Key,
    flush::{Counted, Taken, deliver},
    tally::Pass,
};
use crate::limits;

/// Tests pause a pass between any two clients.
const CLIENTS_PER_LOOK: u32 = if cfg!(test) { 1 } else { limits::PASS_CLIENTS_PER_LOOK };

/// Counts clients, and the bytes written for them, between two looks at the clock.
struct Slice<'a> {
    keep_going: &'a mut dyn FnMut() -> bool,
    visited: u32,
    /// The bytes written at the last look.
    looked_at_bytes: u64,
}

impl Slice<'_> {
    /// Counts one more client; false when time is up.
    fn goes_on(&mut self) -> bool {
        self.visited += 1;
        if self.visited < CLIENTS_PER_LOOK {
            return true;
        }
        self.visited = 0;
        (self.keep_going)()
    }

    /// The same after `bytes` have been written in all: the kernel copies them, which takes time.
    fn goes_on_after(&mut self, bytes: u64) -> bool {
        if bytes - self.looked_at_bytes >= limits::PASS_BYTES_PER_LOOK {
            self.looked_at_bytes = bytes;
            self.visited = CLIENTS_PER_LOOK;
        }
        self.goes_on()
    }
}

impl<O: Outlet> Hub<O> {
    /// Writes the published messages and the queued frames. `keep_going` is asked now and then;
    /// once it says no, the pass stops where it is.
    pub fn pass(&mut self, keep_going: &mut dyn FnMut() -> bool) -> Pass {
        let mut slice = Slice { keep_going, visited: 0, looked_at_bytes: self.tally.bytes };
        if self.go_on(&mut || slice.goes_on())
            && self.close_parting(&mut || slice.goes_on())
            && self.flush_queued(&mut || slice.goes_on())
            && self.flush_patient(&mut || slice.goes_on())
        {
            self.pass_logs(&mut slice);
        }
        self.relieve_if_tight();
        Pass { more: self.has_work(), ..std::mem::take(&mut self.tally) }
    }

    /// Writes the outboxes filled since the last call; false when stopped before the last.
    pub(super) fn flush_queued(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        while let Some(key) = self.unflushed.pop() {
            self.flush_noted(key);
            if !goes_on() {
                return false;
            }
        }
        true
    }

    /// Writes outboxes that were filled together with many others.
    fn flush_patient(&mut self, goes_on: &mut dyn FnMut() -> bool) -> bool {
        while let Some(key) = self.patient.pop() {
            self.flush_noted(key);
            if !goes_on() {
                return false;
            }
        }
        true
    }

    fn flush_noted(&mut self, key: Key) {
        let Some(index) = self.clients.find(key) else { return };
        let client = self.clients.get(index);
        if !client.blocked && client.outbox.is_some() {
            self.flush_client(index);
        }
        self.clients.get_mut(index).unflushed = false;
    }

    fn pass_logs(&mut self, slice: &mut Slice<'_>) {
        while let Some((log, serial)) = self.dirty.first() {
            if self.is_log(log, serial) && !self.pass_log(log, serial, slice) {
                self.dirty.give_way();
                return;
            }
            self.tally.swept |= self.dirty.done();
            if self.is_log(log, serial) {
                self.end_pass(log);
            }
        }
    }

    pub(super) fn is_log(&self, log: u32, serial: u64) -> bool {
        self.logs.get(log as usize).is_some_and(|found| found.serial == serial)
    }

    /// Visits the subscribers of one log; false when stopped before the last.
    fn pass_log(&mut self, number: u32, serial: u64, slice: &mut Slice<'_>) -> bool {
        let log = &mut self.logs[number as usize];
        if log.subscriber_list.begin_pass() {
            log.again = false;
        }
        let mut counted = Counted::default();
        loop {
            let log = &mut self.logs[number as usize];
            let Some(place) = log.subscriber_list.next_unvisited() else { return true };
            let due = log.due(log.subscriber_list.get(place));
            let entry = log.subscriber_list.get_mut(place);
            if !entry.busy && entry.cursor < due {
                let index = entry.client;
                let outlet = (&mut self.clients.get_mut(index).outlet, &mut self.shared);
                let tally = &mut self.tally;
                let source = (&log.bytes, &mut self.window);
                match deliver(source, outlet, &mut entry.cursor, due, &mut counted, tally) {
                    Taken::All => {}
                    Taken::Less => self.block_in(index, number, false),
                    Taken::Window => self.block_in(index, number, true),
                    Taken::Failed(kind) => {
                        self.fail(index, kind);
                        if !self.is_log(number, serial) {
                            return true;
                        }
                        continue;
                    }
                }
            }
            self.logs[number as usize].subscriber_list.mark_visited();
            if !slice.goes_on_after(self.tally.bytes) {
                return false;
            }
        }
    }

    /// A client has blocked in the log `number`, maybe in the middle of a frame.
    fn block_in(&mut self, index: u32, number: u32, takes_turns: bool) {
        let client = self.clients.get_mut(index);
        let position = client.places.position(number).expect("it was found in this log");
        let entry = client.places.as_slice()[position].index as usize;
        let log = &self.logs[number as usize];
        let amid = !log.bytes.is_boundary(log.subscriber_list.get(entry).cursor);
        client.set_begun(amid.then_some(position));
        self.block(index, takes_turns);
    }

    /// Every subscriber was visited: frees the bytes that all have taken, and asks for another pass
    /// if one is due.
    fn end_pass(&mut self, number: u32) {
        if let Some(smallest) = self.logs[number as usize].subscriber_list.end_pass() {
            self.trim(number, smallest);
        }
        let log = &mut self.logs[number as usize];
        log.queued = false;
        if std::mem::take(&mut log.again) {
            self.mark_dirty(number);
        }
    }

    /// Whether `key` names a client that waits for its outlet to become writable.
    #[must_use]
    pub fn is_blocked(&self, key: Key) -> bool {
        self.clients.find(key).is_some_and(|index| self.clients.get(index).blocked)
    }
}
