//! The stream under HTTP, which writes down what happens to it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ConnectionState;
use crate::http::connection::{places::Stage, wire::Wire};

/// An answer up to this is put together with its head before it is written: one copy and a send are
/// cheaper than a writev.
const WHOLE_ANSWER_BYTES: usize = 2048;

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

    /// The stream, and the bytes that were read before hyper came and that it has left unread.
    pub(in crate::http) fn into_parts(self) -> (I, Bytes) {
        (self.stream, self.first)
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

    /// hyper flushes only when its own buffer is empty: all that was encoded is then written. Where
    /// the connection stops, hyper must not take this for done: it would begin the next request at
    /// once if its bytes are there.
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
            if self.state.stops() {
                return Poll::Pending;
            }
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
