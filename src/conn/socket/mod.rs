//! A client's socket, and the one place that waits for all sockets of a shard.
//!
//! A client exists before its socket can be used: from its admission until the 101 is out, the
//! socket is `Pending` and takes nothing, so messages published meanwhile wait in the log. There
//! are two implementations of one interface: an epoll set of the shard's own on Unix, tasks on
//! Windows.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    time::Duration,
};

use crate::hub::{Key, Outlet};

#[cfg(target_os = "linux")]
mod acknowledged;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as platform;
mod ready;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as platform;

pub use platform::{Live, Poller, Registry};
pub use ready::Ready;

/// The outlet of a client.
#[derive(Debug)]
pub enum Socket {
    /// The handshake's answer is not out yet.
    Pending,
    /// Connected.
    Live(Live),
}

impl Outlet for Socket {
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Self::Live(live) => live.write_vectored(slices),
        }
    }
}

impl Socket {
    /// Reads without blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read, now or yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Self::Live(live) => live.read(buffer),
        }
    }

    /// Lets the system give the connection up when the peer has acknowledged nothing for
    /// `silence`. For clients that cannot be asked whether they are there.
    pub fn give_up_after(&self, silence: Duration) {
        if let Self::Live(live) = self {
            live.give_up_after(silence);
        }
    }

    /// The other end, if the system says.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Pending => None,
            Self::Live(live) => live.peer_address(),
        }
    }

    /// How many bytes of all that was ever sent the other end has acknowledged, if the system says.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> Option<u64> {
        match self {
            Self::Pending => None,
            Self::Live(live) => live.acknowledged_bytes(),
        }
    }

    /// Ends our side: the peer sees the end after all that was written.
    pub fn shutdown_write(&self) {
        if let Self::Live(live) = self {
            live.shutdown_write();
        }
    }

    /// Throws away what the kernel still holds, once the socket is dropped.
    pub fn reset_on_drop(&self) {
        if let Self::Live(live) = self {
            live.reset_on_drop();
        }
    }
}

impl Registry {
    /// Takes a connected, non-blocking stream over; it is watched for input from now on.
    ///
    /// # Errors
    /// When the epoll set refuses it.
    pub fn adopt(&self, stream: std::net::TcpStream, key: Key) -> io::Result<Socket> {
        Ok(Socket::Live(self.register(stream, key)?))
    }

    /// Watches for input, and for room to write if `writable`. The state is checked again: a socket
    /// that is ready already is reported again.
    ///
    /// # Errors
    /// When the epoll set refuses it.
    pub fn watch(&self, socket: &mut Socket, key: Key, writable: bool) -> io::Result<()> {
        match socket {
            Socket::Pending => Ok(()),
            Socket::Live(live) => self.arm(live, key, writable),
        }
    }

    /// No longer watches the socket, which is about to be dropped.
    pub fn forget(&self, socket: &mut Socket) {
        if let Socket::Live(live) = socket {
            self.deregister(live);
        }
    }
}
