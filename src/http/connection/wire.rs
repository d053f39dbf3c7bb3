//! The stream under HTTP, which also knows its owner, and whether the peer has broken it off.

use std::{
    io,
    net::TcpStream,
    task::{self, Poll},
};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::owner::{self, Owner};

/// The stream under HTTP.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// The owner of the other end; asked once at most, while it is connected.
    fn owner(&self) -> Owner;

    /// Ready once the other end is known to have broken the connection off, and wants no answer. A
    /// peer that has shut its sending side may still wait for one.
    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()>;

    /// The memory that it holds for bytes on their way, in bytes: beginnings of records, and rests.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Another descriptor of its socket; `None`: it can't go on in another process.
    fn duplicate(&self) -> Option<io::Result<TcpStream>> {
        None
    }
}

impl Wire for tokio::net::TcpStream {
    fn owner(&self) -> Owner {
        owner::of(&self.into())
    }

    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        // A peer that has more to say, or has shut its sending side, makes it readable as well.
        match self.poll_read_ready(cx) {
            Poll::Ready(_) if matches!(self.take_error(), Ok(None)) => Poll::Pending,
            ready => ready.map(drop),
        }
    }

    fn duplicate(&self) -> Option<io::Result<TcpStream>> {
        Some(SockRef::from(self).try_clone().map(TcpStream::from))
    }
}
