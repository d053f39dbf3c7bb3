//! Accepted connections that bother the runtime only if they must.
//!
//! Most newcomers have sent their request by the time they are accepted, and their answer fits
//! into the kernel: registering them with the runtime, and taking them out again for the shard's
//! own epoll set, would be two system calls and an allocation for nothing. So a [`PlainStream`]
//! reads and writes its bare socket, and is registered when it would block for the first time.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::http::{
    self,
    owner::{self, Owner},
};

/// Bytes offered for a bare read: more than a handshake has, little enough to be cleared.
const BARE_READ_BYTES: usize = 2048;

/// A connection of the shard; its socket never blocks.
#[derive(Debug)]
pub(in crate::shard) enum PlainStream {
    /// Unknown to the runtime.
    Bare(std::net::TcpStream),
    /// Watched by the runtime.
    Registered(TcpStream),
    /// Lost while it was being registered.
    Lost,
}

impl PlainStream {
    /// The socket alone.
    ///
    /// # Errors
    /// When the runtime can't let go of it.
    pub(in crate::shard) fn into_std(self) -> io::Result<std::net::TcpStream> {
        match self {
            Self::Bare(stream) => Ok(stream),
            Self::Registered(stream) => stream.into_std(),
            Self::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Has the runtime watch it from now on. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime can't.
    pub(super) fn register(&mut self) -> io::Result<()> {
        let would_block = |_: &mut std::net::TcpStream| Err(io::ErrorKind::WouldBlock.into());
        match self.try_bare::<()>(would_block) {
            Ok(Poll::Ready(Err(error))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Tries `act` on the bare socket; when that would block, and ever after, returns the
    /// registered one instead.
    fn try_bare<T>(
        &mut self,
        act: impl FnOnce(&mut std::net::TcpStream) -> io::Result<T>,
    ) -> Result<Poll<io::Result<T>>, Pin<&mut TcpStream>> {
        if let Self::Bare(stream) = self {
            match act(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Ok(Poll::Ready(result)),
            }
            if let Self::Bare(stream) = std::mem::replace(self, Self::Lost) {
                match TcpStream::from_std(stream) {
                    Ok(stream) => *self = Self::Registered(stream),
                    Err(error) => return Ok(Poll::Ready(Err(error))),
                }
            }
        }
        match self {
            Self::Registered(stream) => Err(Pin::new(stream)),
            _ => Ok(Poll::Ready(Err(io::ErrorKind::NotConnected.into()))),
        }
    }
}

impl PlainStream {
    /// The next bytes, which stay in the stream; none at its end.
    pub(in crate::shard) fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.try_bare(|stream| stream.peek(bytes)) {
            Ok(done) => done,
            Err(registered) => registered.poll_peek(cx, &mut ReadBuf::new(bytes)),
        }
    }
}

impl http::Wire for PlainStream {
    fn owner(&self) -> Owner {
        match self {
            Self::Bare(stream) => owner::of(&stream.into()),
            Self::Registered(stream) => owner::of(&stream.into()),
            Self::Lost => Owner::Stranger,
        }
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A bare socket wakes nobody.
        match self.try_bare(|_| Err::<(), _>(io::ErrorKind::WouldBlock.into())) {
            Ok(lost) => lost.map(drop),
            Err(mut registered) => registered.poll_reset(cx),
        }
    }

    fn duplicate(&self) -> Option<io::Result<std::net::TcpStream>> {
        match self {
            Self::Bare(stream) => Some(stream.try_clone()),
            Self::Registered(stream) => stream.duplicate(),
            Self::Lost => None,
        }
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(BARE_READ_BYTES);
        match self.try_bare(|stream| stream.read(buffer.initialize_unfilled_to(room))) {
            Ok(done) => {
                buffer.advance(ready!(done)?);
                Poll::Ready(Ok(()))
            }
            Err(registered) => registered.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.try_bare(|stream| stream.write(bytes)) {
            Ok(done) => done,
            Err(registered) => registered.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.try_bare(|stream| stream.write_vectored(parts)) {
            Ok(done) => done,
            Err(registered) => registered.poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket buffers nothing on this side of the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.try_bare(|stream| stream.shutdown(std::net::Shutdown::Write)) {
            Ok(done) => done,
            Err(registered) => registered.poll_shutdown(cx),
        }
    }
}
