//! The other end of a connection, as the system names it.

use std::{
    fmt,
    net::{SocketAddr, TcpStream},
};

use socket2::SockRef;

use crate::peer::ClientAddress;

/// The other end of a connection: the client itself, or a proxy in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An address of the network.
    Ip(SocketAddr),
    /// A program of this machine, connected by a Unix socket.
    Unix,
}

impl PeerAddress {
    /// The other end of `stream`, which may be a Unix socket in spite of its type; `None` if it is
    /// gone.
    #[must_use]
    pub fn of(stream: &TcpStream) -> Option<Self> {
        let address = SockRef::from(stream).peer_addr().ok()?;
        if address.is_unix() { Some(Self::Unix) } else { address.as_socket().map(Self::Ip) }
    }

    /// Whether it is on this machine, as far as the address tells.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<PeerAddress> for ClientAddress {
    fn from(peer: PeerAddress) -> Self {
        match peer {
            PeerAddress::Ip(address) => address.into(),
            PeerAddress::Unix => Self::Unix,
        }
    }
}

impl fmt::Display for PeerAddress {
    /// `192.0.2.1:4711`, `[2001:db8::1]:4711` or `unix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
