//! What HTTP is spoken on: a stream that also tells whose it is, and whether it is broken off.

use std::task::{self, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::owner::{self, Owner};

/// What HTTP is spoken on.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whose the other end is; asked once at most, while it is connected.
    fn owner(&self) -> Owner;

    /// Ready once the other end is known to have broken the connection off: it wants no answer.
    /// One that has shut its sending side may still wait for it.
    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()>;
}

impl Wire for tokio::net::TcpStream {
    fn owner(&self) -> Owner {
        owner::of(&self.into())
    }

    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        // Readable is also one that has more to say, or nothing.
        match self.poll_read_ready(cx) {
            Poll::Ready(_) if matches!(self.take_error(), Ok(None)) => Poll::Pending,
            ready => ready.map(drop),
        }
    }
}
