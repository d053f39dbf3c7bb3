//! Accepted connections, plain or by TLS, as HTTP reads and writes them.
//!
//! After HTTP the socket leaves, and its session with it: clients of the table need no runtime.

mod listener;
mod plain;
mod tls;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    http::{self, owner::Owner},
    tls::Session,
};

pub(super) use self::{
    listener::Listener,
    plain::PlainStream,
    tls::{TlsAcceptor, TlsStream, Uncounted},
};

/// A connection of the shard.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(PlainStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// The socket, and the session if there is one.
    ///
    /// # Errors
    /// When the runtime can't let go of it.
    pub(super) fn into_parts(self) -> io::Result<(std::net::TcpStream, Option<Box<Session>>)> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?, None)),
            Self::Tls(stream) => {
                let (stream, session) = stream.into_parts();
                Ok((stream.into_std()?, Some(session)))
            }
        }
    }
}

impl http::Wire for Stream {
    fn owner(&self) -> Owner {
        match self {
            Self::Plain(stream) => stream.owner(),
            Self::Tls(stream) => stream.owner(),
        }
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_reset(cx),
            Self::Tls(stream) => stream.poll_reset(cx),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(stream) => stream.held_bytes(),
        }
    }

    /// A session of TLS can't go on in another process.
    fn duplicate(&self) -> Option<io::Result<std::net::TcpStream>> {
        match self {
            Self::Plain(stream) => stream.duplicate(),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
