//! What is known of one connection beside what hyper knows: where it stands, and since when.
//!
//! hyper does not tell when a connection is idle, when an answer has reached the kernel, or what
//! an upgrade was for. Three places write it down here instead: the service (a request begins, a
//! handshake is accepted), the answer's body (hyper has encoded it) and the stream ([`Watched`]:
//! bytes came, everything was flushed). The driver reads it. Single-threaded, no borrow is held.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::upgrade::Handover;
use crate::{drain::Guard, limits};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Accepted; the first request is not complete.
    Fresh,
    /// Between two requests; nothing of the next one has come.
    Idle,
    /// Bytes of the next request have come.
    Head,
    /// A request is being worked on.
    Busy,
    /// An answer is encoded and not yet all in the kernel.
    Answering,
}

/// The note.
///
/// # Invariants
/// A guard is held from the first poll of a request's work until everything written is in the
/// kernel; while a request's body is unread it stays, since lingering still belongs to the answer.
pub(super) struct Note {
    stage: Cell<Stage>,
    since: Cell<Instant>,
    guard: Cell<Option<Guard>>,
    handover: Cell<Option<Handover>>,
    /// The handover begins with a head of its own, so hyper is to say nothing more.
    has_own_head: Cell<bool>,
    is_body_unread: Cell<bool>,
    has_written: Cell<bool>,
    has_seen_end: Cell<bool>,
}

impl Note {
    /// Of a connection that was accepted then.
    pub(super) fn new(accepted: Instant) -> Self {
        Self {
            stage: Cell::new(Stage::Fresh),
            since: Cell::new(accepted),
            guard: Cell::new(None),
            handover: Cell::new(None),
            has_own_head: Cell::new(false),
            is_body_unread: Cell::new(false),
            has_written: Cell::new(false),
            has_seen_end: Cell::new(false),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When the present stage has lasted too long.
    pub(super) fn due(&self) -> Instant {
        let deadline = match self.stage.get() {
            Stage::Fresh | Stage::Head => limits::HTTP_HEAD_DEADLINE,
            Stage::Idle => limits::HTTP_IDLE_DEADLINE,
            Stage::Busy => limits::HTTP_REQUEST_DEADLINE,
            Stage::Answering => limits::HTTP_ANSWER_DEADLINE,
        };
        self.since.get() + deadline
    }

    /// A request's headers are read. A guard that an earlier answer still holds serves on.
    pub(super) fn begin(&self, guard: Guard, has_body: bool) {
        self.guard.set(Some(self.guard.take().unwrap_or(guard)));
        self.is_body_unread.set(has_body);
        self.enter(Stage::Busy);
    }

    /// The request's body has been read to its end.
    pub(super) fn body_was_read(&self) {
        self.is_body_unread.set(false);
    }

    pub(super) fn is_body_unread(&self) -> bool {
        self.is_body_unread.get()
    }

    /// A handshake is accepted: the answer being made is a 101, or none if there is a head.
    pub(super) fn hand_over(&self, handover: Handover) {
        self.has_own_head.set(handover.head.is_some());
        self.handover.set(Some(handover));
    }

    /// hyper is no longer needed: the next byte is the handover's own. What was answered to earlier
    /// requests is in the kernel, since hyper begins none before.
    pub(super) fn is_ours(&self) -> bool {
        self.has_own_head.get()
    }

    pub(super) fn take_handover(&self) -> Option<Handover> {
        self.handover.take()
    }

    /// hyper has taken the whole answer into its buffer.
    pub(super) fn answer_is_encoded(&self) {
        self.enter(Stage::Answering);
    }

    /// The connection can no longer hold the drain open.
    pub(super) fn release(&self) {
        self.guard.set(None);
    }

    /// Whether the peer may still be sending what nobody will read, after an answer of ours.
    pub(super) fn wants_lingering(&self) -> bool {
        self.has_written.get() && !self.has_seen_end.get()
    }

    fn bytes_came(&self, count: usize) {
        if count == 0 {
            self.has_seen_end.set(true);
        } else if self.stage.get() == Stage::Idle {
            self.enter(Stage::Head);
        }
    }

    fn everything_is_flushed(&self) {
        // With an unread body it is not idle but about to be closed, after lingering.
        if self.stage.get() == Stage::Answering && !self.is_body_unread.get() {
            self.release();
            self.enter(Stage::Idle);
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.set(stage);
        self.since.set(Instant::now());
    }
}

/// A stream that writes down what happens to it.
pub(super) struct Watched<I> {
    stream: I,
    /// Read already, and to be read first.
    first: Bytes,
    note: Rc<Note>,
}

impl<I> Watched<I> {
    pub(super) fn new(stream: I, first: Bytes, note: Rc<Note>) -> Self {
        Self { stream, first, note }
    }

    pub(super) fn into_inner(self) -> I {
        assert!(self.first.is_empty(), "hyper's first read takes all that was read before it");
        self.stream
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first.split_to(count));
            self.note.bytes_came(count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(())) = result {
            self.note.bytes_came(buffer.filled().len() - before);
        }
        result
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note.has_written.set(true);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    // Not vectored: answers are small, and one copy and a send are cheaper than a writev.

    /// hyper flushes only when its own buffer is empty: all that was encoded is then written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            self.note.everything_is_flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
