//! Writing to one client: from a log straight to the outlet, or everything that waits, in order.
//!
//! The order is: the begun frame, the outbox, the logs, and last the Close frame. A pass itself
//! writes to clients for which only log bytes are due (`deliver`); all other clients are written to
//! here.

use std::io::{self, IoSlice};

use super::{
    Hub, Key, Outlet, bytelog::ByteLog, clients::WritingState, long::LongWindow,
    outbox::OUTBOX_SLICES, tally::Pass,
};
use crate::{
    hub::Event,
    limits::{LONG_WINDOW_BYTES_MIN, WRITE_SLICES_MAX},
};

/// How much of the offered bytes an outlet took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    All,
    /// Not all of them: it is full.
    Less,
    /// A window of a message that is written while it is read: other clients have their turn before
    /// more is offered.
    Window,
    Failed(io::ErrorKind),
}

/// Writes `log` from `cursor` to `to`, as far as the outlet takes it, and moves the cursor.
pub(super) fn deliver<O: Outlet>(
    (log, window): (&ByteLog, &mut LongWindow),
    (outlet, shared): (&mut O, &mut O::Shared),
    cursor: &mut u64,
    to: u64,
    counted: &mut Counted,
    tally: &mut Pass,
) -> Taken {
    let from = *cursor;
    let mut had_window = false;
    let taken = loop {
        if *cursor == to {
            break Taken::All;
        }
        let (result, offered) = if let Some(bytes) = log.slice(*cursor, to) {
            (outlet.write_vectored(shared, &[IoSlice::new(bytes)]), bytes.len())
        } else if let Some((start, long)) = log.long_at(*cursor) {
            if std::mem::replace(&mut had_window, true) {
                break Taken::Window;
            }
            let bytes = window.bytes(long, *cursor - start, to - start);
            (outlet.write_vectored(shared, &[IoSlice::new(bytes)]), bytes.len())
        } else {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = log.gather(*cursor, to, &mut slices);
            let offered = slices[..count].iter().map(|slice| slice.len()).sum();
            (outlet.write_vectored(shared, &slices[..count]), offered)
        };
        match judge(result, offered) {
            WriteStep::Took(count) => {
                *cursor += count as u64;
                if count < offered {
                    break Taken::Less;
                }
            }
            WriteStep::Again => {}
            WriteStep::End(taken) => break taken,
        }
    };
    if from < *cursor {
        tally.bytes += *cursor - from;
        tally.deliveries += counted.frames(log, from, *cursor);
    }
    taken
}

/// The number of frames of one log that end between two offsets, as last looked up. In a pass
/// nearly all clients are at the same offsets, and the look-up takes longer than everything else
/// that a delivery does outside the kernel.
#[derive(Debug, Default)]
pub(super) struct Counted {
    from: u64,
    to: u64,
    frames: u64,
}

impl Counted {
    fn frames(&mut self, log: &ByteLog, from: u64, to: u64) -> u64 {
        if (from, to) != (self.from, self.to) {
            let frames = log.frames_ended(to) - log.frames_ended(from);
            *self = Self { from, to, frames };
        }
        self.frames
    }
}

enum WriteStep {
    Took(usize),
    Again,
    End(Taken),
}

fn judge(result: io::Result<usize>, offered: usize) -> WriteStep {
    match result {
        Ok(0) => WriteStep::End(Taken::Failed(io::ErrorKind::WriteZero)),
        Ok(count) => {
            assert!(count <= offered, "an outlet takes at most what it is offered");
            WriteStep::Took(count)
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => WriteStep::End(Taken::Less),
            io::ErrorKind::Interrupted => WriteStep::Again,
            kind => WriteStep::End(Taken::Failed(kind)),
        },
    }
}

impl<O: Outlet> Hub<O> {
    /// The outlet takes bytes again: writes the bytes that wait.
    pub fn writable(&mut self, key: Key) {
        if let Some(index) = self.clients.find(key)
            && self.clients.get(index).blocked
        {
            self.flush_client(index);
        }
    }

    /// Writes the frames that [`Hub::queue`] has gathered, unless the outlet is known to be full.
    pub fn flush(&mut self, key: Key) {
        if let Some(index) = self.clients.find(key) {
            self.flush_now(index);
        }
    }

    pub(super) fn flush_now(&mut self, index: u32) {
        if !self.clients.get(index).blocked {
            self.flush_client(index);
        }
        self.relieve_if_tight();
    }

    /// Writes everything that is due to a client until its outlet is full, without taking turns:
    /// called before the client is treated as slow.
    pub(super) fn flush_wholly(&mut self, index: u32) {
        let client = self.clients.get(index);
        if client.blocked && !client.takes_turns {
            return;
        }
        self.flush_client(index);
        while self.clients.get(index).takes_turns {
            self.flush_client(index);
        }
    }

    /// Writes the bytes that are due to a client, as far as its outlet takes them and its turn
    /// lasts.
    pub(super) fn flush_client(&mut self, index: u32) {
        if self.clients.get(index).state == WritingState::Over {
            return;
        }
        let taken = self.flush_steps(index);
        let key = self.clients.key(index);
        match taken {
            Taken::All => {
                self.set_busy(index, self.clients.get(index).held);
                let client = self.clients.get_mut(index);
                client.takes_turns = false;
                if std::mem::take(&mut client.blocked) || client.unflushed {
                    self.events.push(Event::Drained(key));
                }
                if client.state == WritingState::Close {
                    client.state = WritingState::Over;
                    self.events.push(Event::CloseSent(key));
                }
            }
            Taken::Less => self.block(index, false),
            Taken::Window => self.block(index, true),
            Taken::Failed(kind) => self.fail(index, kind),
        }
    }

    fn flush_steps(&mut self, index: u32) -> Taken {
        if let Some(begun) = self.clients.get(index).begun() {
            let client = self.clients.get(index);
            let others_first = client.held
                || client.outbox.as_ref().is_some_and(|outbox| outbox.unsent_bytes() > 0);
            let taken = self.deliver_place(index, begun, others_first);
            if taken != Taken::All {
                return taken;
            }
            if self.clients.get(index).state == WritingState::Close {
                self.unsubscribe_all(index);
            }
        }
        let taken = self.write_outbox(index);
        if taken != Taken::All {
            return taken;
        }
        let is_held = self.clients.get(index).held;
        let taken = match self.clients.get(index).state {
            WritingState::Open | WritingState::LogsThenClose if is_held => return Taken::All,
            WritingState::Open => self.write_logs(index),
            WritingState::LogsThenClose => self.write_logs_and_leave(index),
            WritingState::Close | WritingState::Over => return Taken::All,
        };
        if taken == Taken::All && self.clients.get(index).state == WritingState::LogsThenClose {
            self.move_ending(index);
            return self.write_outbox(index);
        }
        taken
    }

    fn write_logs(&mut self, index: u32) -> Taken {
        for position in 0..self.clients.get(index).places.as_slice().len() {
            let taken = self.deliver_place(index, position, false);
            if taken != Taken::All {
                return taken;
            }
        }
        Taken::All
    }

    /// Writes each log as far as the close requires, and leaves it.
    fn write_logs_and_leave(&mut self, index: u32) -> Taken {
        while !self.clients.get(index).places.as_slice().is_empty() {
            let taken = self.deliver_place(index, 0, false);
            if taken != Taken::All {
                return taken;
            }
            self.unsubscribe(index, 0);
        }
        Taken::All
    }

    /// Writes one of the client's logs: to the end of the begun frame, or as far as is due.
    fn deliver_place(&mut self, index: u32, position: usize, frame_only: bool) -> Taken {
        let client = self.clients.get_mut(index);
        let place = client.places.as_slice()[position];
        let log = &mut self.logs[place.log as usize];
        let due = log.due(log.subscriber_list.get(place.index as usize));
        let entry = log.subscriber_list.get_mut(place.index as usize);
        let before = entry.cursor;
        let to = if frame_only || client.state == WritingState::Close {
            log.bytes.boundary_from(before)
        } else {
            let ending = client.outbox.as_ref().and_then(|outbox| outbox.ending.as_ref());
            ending.map_or(due, |ending| ending.heads[position])
        };
        let (outlet, counted) = ((&mut client.outlet, &mut self.shared), &mut Counted::default());
        let source = (&log.bytes, &mut self.window);
        let taken = deliver(source, outlet, &mut entry.cursor, to, counted, &mut self.tally);
        let after = entry.cursor;
        client.set_begun((!log.bytes.is_boundary(after)).then_some(position));
        if log.bytes.is_in_oldest_chunk(before) && !log.bytes.is_in_oldest_chunk(after) {
            // The client may have been the last one to need the chunk.
            self.mark_dirty(place.log);
        }
        taken
    }

    fn write_outbox(&mut self, index: u32) -> Taken {
        let client = self.clients.get_mut(index);
        let Some(outbox) = client.outbox.as_mut() else { return Taken::All };
        let before = outbox.cost();
        let (mut freed, mut sent) = (0, 0);
        let taken = loop {
            if sent >= LONG_WINDOW_BYTES_MIN && outbox.unsent_bytes() > 0 {
                break Taken::Window;
            }
            let mut slices = [IoSlice::new(&[]); OUTBOX_SLICES];
            let count = outbox.gather(&self.shares, &mut self.window, &mut slices);
            if count == 0 {
                break Taken::All;
            }
            let offered = slices[..count].iter().map(|slice| slice.len()).sum();
            match judge(client.outlet.write_vectored(&mut self.shared, &slices[..count]), offered) {
                WriteStep::Took(count) => {
                    sent += count;
                    let advanced = outbox.advance(count, &mut self.shares);
                    outbox.moved_at = self.ticks;
                    self.tally.bytes += advanced.carried as u64;
                    self.tally.deliveries += advanced.frames;
                    freed += advanced.freed;
                    if count < offered {
                        break Taken::Less;
                    }
                }
                WriteStep::Again => {}
                WriteStep::End(taken) => break taken,
            }
        };
        let after = if outbox.is_done() {
            client.outbox = None;
            0
        } else {
            outbox.cost()
        };
        self.budget.resize_outbox(before, after);
        self.shares_left(freed);
        taken
    }

    /// More is due than the outlet took, or than it was offered in its turn (`takes_turns`):
    /// nothing is tried until [`Hub::writable`] is called. For an outlet that is not full, that
    /// call comes at once: the owner is told, and asks the socket anew.
    pub(super) fn block(&mut self, index: u32, takes_turns: bool) {
        let client = self.clients.get_mut(index);
        client.blocked = true;
        client.takes_turns = takes_turns;
        self.set_busy(index, true);
        self.events.push(Event::Blocked(self.clients.key(index)));
    }

    /// The outlet is broken: nothing more is written to it.
    pub(super) fn fail(&mut self, index: u32, kind: io::ErrorKind) {
        self.unsubscribe_all(index);
        self.drop_outbox(index);
        let client = self.clients.get_mut(index);
        client.state = WritingState::Over;
        client.blocked = false;
        client.takes_turns = false;
        self.events.push(Event::Failed(self.clients.key(index), kind));
    }
}
