//! A shard's listening socket, whose connections are unknown to the runtime.

use std::{io, net::SocketAddr};

#[cfg(unix)]
use tokio::io::unix::AsyncFd;

use super::plain::PlainStream;

#[cfg(unix)]
/// A listening socket watched by the runtime, whose connections are not.
#[derive(Debug)]
pub(in crate::shard) struct Listener(AsyncFd<mio::net::TcpListener>);

#[cfg(unix)]
impl Listener {
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    pub(in crate::shard) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let listener = mio::net::TcpListener::from_std(listener);
        #[expect(deprecated, reason = "sound here: it owns its descriptor as long as it lives")]
        AsyncFd::new(listener).map(Self)
    }

    /// Waits for a connection.
    ///
    /// # Cancel safety
    /// May be dropped: no connection is taken before it resolves.
    ///
    /// # Errors
    /// The error with which accepting fails; trying again is right.
    pub(in crate::shard) async fn accept(&self) -> io::Result<(PlainStream, SocketAddr)> {
        loop {
            let mut guard = self.0.readable().await?;
            // One system call: it comes out non-blocking, and closed on exec.
            if let Ok(accepted) = guard.try_io(|listener| listener.get_ref().accept()) {
                return accepted.map(|(stream, peer)| (PlainStream::Bare(stream.into()), peer));
            }
        }
    }
}

#[cfg(not(unix))]
/// A listening socket; elsewhere one thread accepts for all, so this is for completeness.
#[derive(Debug)]
pub(in crate::shard) struct Listener(tokio::net::TcpListener);

#[cfg(not(unix))]
impl Listener {
    pub(in crate::shard) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        tokio::net::TcpListener::from_std(listener).map(Self)
    }

    pub(in crate::shard) async fn accept(&self) -> io::Result<(PlainStream, SocketAddr)> {
        self.0.accept().await.map(|(stream, peer)| (PlainStream::Registered(stream), peer))
    }
}
