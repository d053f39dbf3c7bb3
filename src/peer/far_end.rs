//! The other end of a connection, with what it has announced before it spoke HTTP.

use std::net::SocketAddr;

use crate::peer::{ClientAddress, PeerAddress, TrustedProxies};

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarEnd {
    /// Its address.
    pub peer: PeerAddress,
    /// The client that it has announced.
    pub announced: Announced,
}

/// The client that a proxy announces for a whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// None is announced: the other end speaks for itself.
    Nothing,
    /// The client has this address.
    Client(ClientAddress),
    /// There is a client, and its address is not known.
    Unknown,
}

impl FarEnd {
    /// The client of the connection, as far as it is known without a request.
    #[must_use]
    pub fn client(&self) -> ClientAddress {
        match self.announced {
            Announced::Client(client) => client,
            Announced::Nothing | Announced::Unknown => self.peer.into(),
        }
    }

    /// Whether requests may name a client behind [`FarEnd::client`]: it is a trusted proxy itself.
    #[must_use]
    pub fn may_forward(&self, trusted: &TrustedProxies) -> bool {
        self.announced != Announced::Unknown && trusted.trust(self.client())
    }
}

impl From<PeerAddress> for FarEnd {
    fn from(peer: PeerAddress) -> Self {
        Self { peer, announced: Announced::Nothing }
    }
}

impl From<SocketAddr> for FarEnd {
    fn from(address: SocketAddr) -> Self {
        PeerAddress::from(address).into()
    }
}
