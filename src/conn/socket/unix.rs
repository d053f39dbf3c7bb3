//! Clients' sockets on Unix: an epoll set (or kqueue) of the shard's own.
//!
//! After the upgrade a socket leaves the runtime and is registered in a `mio::Poll` that the
//! shard owns; the runtime watches that one descriptor. So an idle client costs no task, no waker
//! and no buffer. Registration is edge-triggered: a reader that is told "readable" reads until the
//! socket would block, and re-arming re-checks the state.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    os::fd::AsFd as _,
    time::Duration,
};

use mio::{Events, Interest, Token};
use tokio::io::unix::AsyncFd;

use super::ready::Ready;
use crate::hub::Key;

/// Readiness events taken at a time.
const EVENTS_MAX: usize = 512;

/// A connected client's socket.
#[derive(Debug)]
pub struct Live(mio::net::TcpStream);

impl Live {
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // A send, not a writev: a tenth of the kernel's work for a small message is writev's own.
        match slices {
            [one] => self.send(one),
            several => self.0.write_vectored(several),
        }
    }

    #[cfg(target_os = "linux")]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use rustix::net::{SendFlags, send};
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use std::io::Write as _;
        self.0.write(bytes)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn give_up_after(&self, silence: Duration) {
        // Best effort: without it the kernel takes a quarter of an hour.
        let _ = socket2::SockRef::from(&self.0).set_tcp_user_timeout(Some(silence));
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn give_up_after(&self, _silence: Duration) {
        // No such option; the system's own patience ends, too.
    }

    pub(super) fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        Ok(self.0.as_fd().try_clone_to_owned()?.into())
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }

    #[cfg(target_os = "linux")]
    pub(super) fn acknowledged_bytes(&self) -> Option<u64> {
        super::acknowledged::bytes(&self.0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn acknowledged_bytes(&self) -> Option<u64> {
        None
    }

    #[cfg(target_os = "linux")]
    pub(super) fn acknowledgement_age(&self) -> Option<Duration> {
        super::acknowledged::age(&self.0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn acknowledgement_age(&self) -> Option<Duration> {
        None
    }

    pub(super) fn shutdown_write(&self) {
        // Fails only when the peer is gone already, which the next read tells.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    pub(super) fn reset_on_drop(&self) {
        // Best effort: without it the kernel keeps unsent bytes for a peer that takes none.
        let _ = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

/// The door to the epoll set for the owner of the sockets.
#[derive(Debug)]
pub struct Registry(mio::Registry);

impl Registry {
    pub(super) fn register(&self, stream: std::net::TcpStream, key: Key) -> io::Result<Live> {
        let mut stream = mio::net::TcpStream::from_std(stream);
        self.0.register(&mut stream, token(key), Interest::READABLE)?;
        Ok(Live(stream))
    }

    pub(super) fn arm(&self, live: &mut Live, key: Key, writable: bool) -> io::Result<()> {
        let interest =
            if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.0.reregister(&mut live.0, token(key), interest)
    }

    pub(super) fn deregister(&self, live: &mut Live) {
        // Closing the descriptor removes it in any case.
        let _ = self.0.deregister(&mut live.0);
    }
}

/// A token carries the key; a stale one is refused by the hub.
fn token(key: Key) -> Token {
    Token(usize::try_from(key.to_u64()).expect("wsbcast runs on 64-bit machines"))
}

/// The epoll set, watched by the runtime.
#[derive(Debug)]
pub struct Poller {
    poll: AsyncFd<mio::Poll>,
    events: Events,
}

impl Poller {
    /// An empty set, and the door to it. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<(Self, Registry)> {
        let poll = mio::Poll::new()?;
        let registry = Registry(poll.registry().try_clone()?);
        #[expect(deprecated, reason = "sound here: Poll owns its descriptor as long as it lives")]
        let poll = AsyncFd::new(poll)?;
        Ok((Self { poll, events: Events::with_capacity(EVENTS_MAX) }, registry))
    }

    /// Waits until some sockets are ready, and appends them to `into`.
    ///
    /// # Cancel safety
    /// May be dropped: nothing is taken before it resolves.
    ///
    /// # Errors
    /// When the epoll set itself fails, which is the end of the shard.
    pub async fn ready(&mut self, into: &mut Vec<Ready>) -> io::Result<()> {
        loop {
            let mut guard = self.poll.readable_mut().await?;
            let polled = guard.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO));
            match polled {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut count = 0;
            for event in &self.events {
                count += 1;
                into.push(Ready {
                    key: Key::from_u64(event.token().0 as u64),
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable() || event.is_write_closed(),
                    ended: event.is_read_closed() || event.is_error(),
                });
            }
            // A full batch may have left some behind, and no new edge would report them.
            if count < EVENTS_MAX {
                guard.clear_ready();
            }
            if count > 0 {
                return Ok(());
            }
        }
    }
}
