//! The facts about one connection beside hyper's own: its stage, and since when.
//!
//! hyper does not tell when a connection is idle, when an answer has reached the kernel, or what
//! an upgrade was for. Three places write it down here instead: the service (a request begins, a
//! handshake is accepted), the answer's body (hyper has encoded it) and the stream ([`Watched`]:
//! bytes came, everything was flushed). The driver reads it. Single-threaded, no borrow is held.

mod watched;

use std::{cell::Cell, io, rc::Rc, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

pub(in crate::http) use self::watched::Watched;

use crate::{
    drain::Guard,
    http::connection::{
        handover::Handover,
        places::{Charge, Stage, Standing},
    },
    limits,
};

/// The recorded facts of one connection.
///
/// # Invariants
/// A guard is held from the first poll of a request's work until everything written is in the
/// kernel; while a request's body is unread it stays, since lingering still belongs to the answer.
pub(in crate::http) struct ConnectionState {
    standing: Rc<Standing>,
    idle_timeout: Duration,
    guard: Cell<Option<Guard>>,
    handover: Cell<Option<Handover>>,
    /// The handover begins with a head of its own, so hyper is to say nothing more.
    has_own_head: Cell<bool>,
    has_written: Cell<bool>,
    /// hyper's own answer to a head that it cannot read.
    refused: Cell<Option<StatusCode>>,
    has_seen_end: Cell<bool>,
    /// Something has come since the last request began.
    has_more_come: Cell<bool>,
    /// Bytes of an incomplete head.
    head_bytes: Cell<usize>,
    /// The most bytes that hyper's buffer and the stream have had to hold at once.
    read_bytes_max: Cell<usize>,
    /// For the answer that is being made, or is not in the kernel yet.
    charge: Cell<Option<Charge>>,
    /// The request is long work, which is in vain once the peer has broken the connection off.
    is_long: Cell<bool>,
    /// hyper will read another request after the answer that is being made; before any, too.
    is_kept_alive: Cell<bool>,
}

impl ConnectionState {
    pub(in crate::http) fn new(standing: Rc<Standing>, idle_timeout: Duration) -> Self {
        Self {
            standing,
            idle_timeout,
            guard: Cell::new(None),
            handover: Cell::new(None),
            has_own_head: Cell::new(false),
            has_written: Cell::new(false),
            refused: Cell::new(None),
            has_seen_end: Cell::new(false),
            has_more_come: Cell::new(false),
            head_bytes: Cell::new(0),
            read_bytes_max: Cell::new(0),
            charge: Cell::new(None),
            is_long: Cell::new(false),
            is_kept_alive: Cell::new(true),
        }
    }

    pub(in crate::http) fn stage(&self) -> Stage {
        self.standing.stage()
    }

    /// The place of this connection among others.
    pub(in crate::http) fn standing(&self) -> &Rc<Standing> {
        &self.standing
    }

    /// Whether the present stage has lasted too long.
    pub(in crate::http) fn is_overdue(&self) -> bool {
        self.due() <= self.standing.now()
    }

    /// When the present stage has lasted too long.
    pub(in crate::http) fn due(&self) -> Instant {
        let deadline = match self.stage() {
            Stage::Fresh | Stage::Head => limits::HTTP_HEAD_DEADLINE,
            Stage::Idle => self.idle_timeout,
            Stage::Busy => limits::HTTP_REQUEST_DEADLINE,
            Stage::Answering | Stage::Lingering | Stage::Leaving => limits::HTTP_ANSWER_DEADLINE,
        };
        let due = self.standing.since() + deadline;
        match self.standing.end_of_life() {
            Some(end) if self.stage() == Stage::Idle => due.min(end),
            _ => due,
        }
    }

    /// How long the connection stays when this answer is its last for now; `None`: it is the last
    /// of all.
    pub(in crate::http) fn stays_for(&self) -> Option<Duration> {
        let Some(end) = self.standing.end_of_life() else { return Some(self.idle_timeout) };
        let left = end.saturating_duration_since(self.standing.now());
        let is_near = left <= self.idle_timeout.min(limits::HTTP_LIFE_MARGIN);
        (!is_near).then(|| left.min(self.idle_timeout))
    }

    /// A request's headers are read. A guard that an earlier answer still holds serves on.
    pub(in crate::http) fn begin(&self, guard: Guard, has_body: bool) {
        self.guard.set(Some(self.guard.take().unwrap_or(guard)));
        self.head_bytes.set(0);
        self.is_long.set(false);
        self.is_kept_alive.set(false);
        self.standing.set_body_unread(has_body);
        self.enter(Stage::Busy);
    }

    /// Whether the request that begins had come together with the one before.
    pub(in crate::http) fn is_pipelined(&self) -> bool {
        !self.has_more_come.take()
    }

    /// The answer lets the peer send another request, as hyper will see, too.
    pub(in crate::http) fn answer_keeps_alive(&self) {
        self.is_kept_alive.set(true);
    }

    /// Whether the connection is to stop, and can do so here: nothing is owed to its peer.
    pub(in crate::http) fn stops(&self) -> bool {
        self.standing.is_suspending()
            && self.owes_nothing()
            && self.is_kept_alive.get()
            && self.refused.get().is_none()
    }

    /// The request's body has been read to its end.
    pub(in crate::http) fn body_was_read(&self) {
        self.standing.set_body_unread(false);
    }

    pub(in crate::http) fn is_body_unread(&self) -> bool {
        self.standing.is_body_unread()
    }

    /// A handshake is accepted: the answer being made is a 101, or none if there is a head.
    pub(in crate::http) fn hand_over(&self, handover: Handover) {
        self.has_own_head.set(handover.head.is_some());
        self.handover.set(Some(handover));
    }

    /// hyper is no longer needed: the next byte belongs to the handover. The answers to earlier
    /// requests are in the kernel, since hyper begins no request before.
    pub(in crate::http) fn is_ours(&self) -> bool {
        self.has_own_head.get()
    }

    pub(in crate::http) fn take_handover(&self) -> Option<Handover> {
        self.handover.take()
    }

    /// The request is worked on for long: that ends when the peer breaks the connection off.
    pub(in crate::http) fn works_for_long(&self) {
        self.is_long.set(true);
    }

    /// The answer is charged for, until it is sent.
    pub(in crate::http) fn answers_with(&self, charge: Charge) {
        self.charge.set(Some(charge));
    }

    /// Whether there is room for an answer whose body is so long.
    pub(in crate::http) fn has_room_to_answer(&self, bytes: usize) -> bool {
        let charge = self.charge.take();
        let charge = charge.or_else(|| {
            let mut charge = self.standing.charge();
            let is_free = bytes <= limits::HTTP_ANSWER_FREE_BYTES;
            (is_free || charge.add_answer(bytes)).then_some(charge)
        });
        let fits = charge.is_some();
        self.charge.set(charge);
        fits
    }

    /// hyper has taken the whole answer.
    pub(in crate::http) fn answer_is_encoded(&self) {
        self.enter(Stage::Answering);
        self.standing.has_moved();
    }

    /// The connection can no longer hold the drain open.
    pub(in crate::http) fn release(&self) {
        self.guard.set(None);
    }

    /// hyper's own answer, which has no body; nothing of it has been sent.
    pub(in crate::http) fn refused(&self) -> Option<StatusCode> {
        self.refused.get()
    }

    /// No request has begun, and all answers are in the kernel: what hyper writes now, it says by
    /// itself.
    fn owes_nothing(&self) -> bool {
        matches!(self.stage(), Stage::Fresh | Stage::Head | Stage::Idle)
    }

    /// Whether the peer may still be sending what will not be read, after an answer of ours.
    pub(in crate::http) fn wants_lingering(&self) -> bool {
        self.has_written.get() && !self.has_seen_end.get()
    }

    /// Something of ours is written past hyper.
    pub(in crate::http) fn write_by_hand(&self) {
        self.has_written.set(true);
    }

    fn bytes_came(&self, count: usize) {
        if count == 0 {
            return self.has_seen_end.set(true);
        }
        self.has_more_come.set(true);
        match self.stage() {
            Stage::Idle => self.enter(Stage::Head),
            Stage::Fresh | Stage::Head => {}
            _ => return self.standing.has_moved(),
        }
        self.head_bytes.set(self.head_bytes.get() + count);
    }

    fn everything_is_flushed(&self) {
        if self.stage() != Stage::Answering {
            return;
        }
        self.charge.take();
        // With an unread body it is not idle but about to be closed, after lingering.
        if !self.is_body_unread() {
            self.release();
            self.enter(Stage::Idle);
        }
    }

    /// hyper offers `room` bytes to read into. Its buffer keeps the size it has grown to, so the
    /// largest size counts.
    fn has_room_for(&self, room: usize) -> io::Result<()> {
        let read = self.head_bytes.get() + room;
        self.read_bytes_max.set(self.read_bytes_max.get().max(read));
        self.standing.hold_buffers(self.read_bytes_max.get())
    }

    pub(in crate::http) fn enter(&self, stage: Stage) {
        self.standing.enter(stage);
    }
}
