//! The facts about one connection beside hyper's own: its stage, and since when.
//!
//! hyper does not tell when a connection is idle, when an answer has reached the kernel, or what
//! an upgrade was for. Three places write it down here instead: the service (a request begins, a
//! handshake is accepted), the answer's body (hyper has encoded it) and the stream ([`Watched`]:
//! bytes came, everything was flushed). The driver reads it. Single-threaded, no borrow is held.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    drain::Guard,
    http::connection::{
        handover::Handover,
        places::{Charge, Stage, Standing},
        wire::Wire,
    },
    limits,
};

/// An answer up to this is put together with its head before it is written: one copy and a send are
/// cheaper than a writev.
const WHOLE_ANSWER_BYTES: usize = 2048;

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
        self.standing.set_body_unread(has_body);
        self.enter(Stage::Busy);
    }

    /// Whether the request that begins had come together with the one before.
    pub(in crate::http) fn is_pipelined(&self) -> bool {
        !self.has_more_come.take()
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

/// A stream that writes down what happens to it.
pub(in crate::http) struct Watched<I> {
    stream: I,
    /// Read already, and to be read first.
    first: Bytes,
    state: Rc<ConnectionState>,
}

impl<I> Watched<I> {
    pub(in crate::http) fn new(stream: I, first: Bytes, state: Rc<ConnectionState>) -> Self {
        Self { stream, first, state }
    }

    /// Called before `count` bytes that begin with these are written; `Some`: they must not be
    /// written, since they are hyper's own answer.
    fn withheld(&self, bytes: &[u8], count: usize) -> Option<usize> {
        if self.state.owes_nothing() {
            self.state.refused.set(Some(status_of(bytes)));
            return Some(count);
        }
        self.state.has_written.set(true);
        None
    }

    fn written(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.state.standing.has_moved();
        }
    }

    /// The stream, unless hyper has left unread what was read before it came: then it is unknown
    /// where the peer's next bytes begin.
    pub(in crate::http) fn into_inner(self) -> Option<I> {
        self.first.is_empty().then_some(self.stream)
    }
}

impl<I: Wire> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            self.state.bytes_came(count);
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining();
        self.state.has_room_for(room)?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.state.has_room_for(room + self.stream.held_bytes())?;
        if let Poll::Ready(Ok(())) = result {
            self.state.bytes_came(buffer.filled().len() - before);
        }
        result
    }
}

impl<I: Wire> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(count) = self.withheld(bytes, bytes.len()) {
            return Poll::Ready(Ok(count));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(&result);
        self.state.has_room_for(self.stream.held_bytes())?;
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = parts.iter().map(|part| part.len()).sum();
        if let Some(count) = self.withheld(parts.first().map_or(&[], |part| part), count) {
            return Poll::Ready(Ok(count));
        }
        let mut whole = [0; WHOLE_ANSWER_BYTES];
        let result = match whole.get_mut(..count) {
            Some(whole) => {
                let mut rest = &mut *whole;
                for part in parts {
                    let (begin, end) = rest.split_at_mut(part.len());
                    begin.copy_from_slice(part);
                    rest = end;
                }
                Pin::new(&mut self.stream).poll_write(cx, whole)
            }
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, parts),
        };
        self.written(&result);
        self.state.has_room_for(self.stream.held_bytes())?;
        result
    }

    /// So hyper passes bodies on as they are: its buffer has heads alone.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes only when its own buffer is empty: all that was encoded is then written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper comes by here whenever it is polled.
        if self.state.stage() == Stage::Busy
            && self.state.is_long.get()
            && self.stream.poll_reset(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            self.state.everything_is_flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.refused().is_some() {
            // The words are still to come.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The status in the bytes of an answer of hyper's.
fn status_of(answer: &[u8]) -> StatusCode {
    let digits = answer.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3));
    digits.and_then(|digits| StatusCode::from_bytes(digits).ok()).unwrap_or(StatusCode::BAD_REQUEST)
}
