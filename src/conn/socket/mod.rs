//! A client's socket, and the one place that waits for all sockets of a shard.
//!
//! A client exists before its socket can be used: from its admission until the 101 is out, the
//! socket is `Pending` and takes nothing, so messages published meanwhile wait in the log. There
//! are two implementations of one interface: an epoll set of the shard's own on Unix, tasks on
//! Windows. Sockets that speak TLS are the same ones, kept elsewhere together with their sessions.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use crate::{
    hub::{Budget, Key, Outlet},
    tls::{Input, Session},
};

#[cfg(target_os = "linux")]
mod acknowledged;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as platform;
mod ready;
mod received;
mod tls;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as platform;

pub use platform::{Live, Poller, Registry};
pub use ready::Ready;
pub use received::Received;
pub use tls::{TlsClients, TlsNumber};

/// The outlet of a client.
#[derive(Debug)]
pub enum Socket {
    /// The handshake's answer is not out yet.
    Pending,
    /// Connected.
    Live(Live),
    /// Connected by TLS; the socket is in [`TlsClients`].
    Tls(TlsNumber),
}

impl Outlet for Socket {
    type Shared = TlsClients;

    fn shared(budget: &Arc<Budget>) -> TlsClients {
        TlsClients::new(budget.clone())
    }

    fn write_vectored(
        &mut self,
        tls: &mut TlsClients,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self {
            Self::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Self::Live(live) => live.write_vectored(slices),
            Self::Tls(number) => tls.write(number, slices),
        }
    }
}

impl Socket {
    /// Reads without blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read, now or yet.
    pub fn read(&mut self, tls: &mut TlsClients, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Self::Live(live) => live.read(buffer).map(|wire_bytes| match wire_bytes {
                0 => Received { input: Input::End, wire_bytes },
                count => Received { input: Input::Plaintext(count), wire_bytes },
            }),
            Self::Tls(number) => tls.read(number, buffer),
        }
    }

    fn live<'a>(&'a self, tls: &'a TlsClients) -> Option<&'a Live> {
        match self {
            Self::Pending => None,
            Self::Live(live) => Some(live),
            Self::Tls(number) => Some(tls.live(number)),
        }
    }

    /// Its session, if it speaks TLS.
    #[must_use]
    pub fn session<'a>(&self, tls: &'a TlsClients) -> Option<&'a Session> {
        match self {
            Self::Tls(number) => Some(tls.session(number)),
            Self::Pending | Self::Live(_) => None,
        }
    }

    /// Lets the system give the connection up when the peer has acknowledged nothing for
    /// `silence`. For clients that cannot be asked whether they are there.
    pub fn give_up_after(&self, tls: &TlsClients, silence: Duration) {
        if let Some(live) = self.live(tls) {
            live.give_up_after(silence);
        }
    }

    /// Another descriptor of the same socket, for another process; of plain sockets only.
    ///
    /// # Errors
    /// When the system has no descriptor left, or can hand none on.
    pub fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        match self {
            Self::Live(live) => live.duplicate(),
            Self::Pending | Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The other end, if the system says.
    #[must_use]
    pub fn peer_address(&self, tls: &TlsClients) -> Option<SocketAddr> {
        self.live(tls)?.peer_address()
    }

    /// How many bytes of all that was ever sent the other end has acknowledged, if the system says:
    /// as they were sent, which by TLS is more than what was said.
    #[must_use]
    pub fn acknowledged_bytes(&self, tls: &TlsClients) -> Option<u64> {
        self.live(tls)?.acknowledged_bytes()
    }

    /// The time since the other end's system has acknowledged anything, or said that it is there
    /// in any other way, if ours says.
    #[must_use]
    pub fn acknowledgement_age(&self, tls: &TlsClients) -> Option<Duration> {
        self.live(tls)?.acknowledgement_age()
    }

    /// Ends our side: the peer sees the end after all that was written.
    pub fn shutdown_write(&self, tls: &mut TlsClients) {
        if let Self::Tls(number) = self {
            tls.end(number);
        }
        if let Some(live) = self.live(tls) {
            live.shutdown_write();
        }
    }

    /// Throws away what the kernel still holds, once the socket is dropped.
    pub fn reset_on_drop(&self, tls: &TlsClients) {
        if let Some(live) = self.live(tls) {
            live.reset_on_drop();
        }
    }
}

impl Registry {
    /// Takes a connected, non-blocking stream over, with its session if it speaks TLS; it is
    /// watched for input from now on.
    ///
    /// # Errors
    /// When the epoll set refuses it.
    pub fn adopt(
        &self,
        stream: std::net::TcpStream,
        session: Option<Box<Session>>,
        key: Key,
        tls: &mut TlsClients,
    ) -> io::Result<Socket> {
        let live = self.register(stream, key)?;
        Ok(match session {
            None => Socket::Live(live),
            Some(session) => Socket::Tls(tls.insert(live, session)),
        })
    }

    /// Watches for input, and for room to write if `writable`. The state is checked again: a socket
    /// that is ready already is reported again.
    ///
    /// # Errors
    /// When the epoll set refuses it.
    pub fn watch(
        &self,
        socket: &mut Socket,
        tls: &mut TlsClients,
        key: Key,
        writable: bool,
    ) -> io::Result<()> {
        match socket {
            Socket::Pending => Ok(()),
            Socket::Live(live) => self.arm(live, key, writable),
            Socket::Tls(number) => self.arm(tls.live_mut(number), key, writable),
        }
    }

    /// No longer watches the socket, and drops it.
    pub fn forget(&self, socket: Socket, tls: &mut TlsClients) {
        match socket {
            Socket::Pending => {}
            Socket::Live(mut live) => self.deregister(&mut live),
            Socket::Tls(number) => self.deregister(&mut tls.remove(&number)),
        }
    }
}
