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
            Announced::Nothing => self.peer.into(),
            Announced::Unknown => ClientAddress::Unnamed,
        }
    }

    /// Whether requests may name a client behind [`FarEnd::client`]: it is a trusted proxy itself,
    /// which a client without a name is not.
    #[must_use]
    pub fn may_forward(&self, trusted: &TrustedProxies) -> bool {
        trusted.trust(self.client())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy that announces nothing speaks for itself; a client that it does not name has neither
    /// its address nor its trust.
    #[test]
    fn a_client_that_is_not_told_is_not_its_proxy() {
        let mut trusted = TrustedProxies::default();
        trusted.add("10.0.0.0/8").unwrap();
        trusted.add("unix").unwrap();
        let proxy: SocketAddr = "10.0.0.1:4711".parse().unwrap();
        let client = |text: &str| Announced::Client(ClientAddress::Ip(text.parse().unwrap()));
        for (announced, shown, may_forward) in [
            (Announced::Nothing, "10.0.0.1", true),
            (client("10.0.0.2"), "10.0.0.2", true),
            (client("192.0.2.7"), "192.0.2.7", false),
            (Announced::Unknown, "unnamed", false),
        ] {
            let far_end = FarEnd { peer: proxy.into(), announced };
            assert_eq!(far_end.client().to_string(), shown);
            assert_eq!(far_end.may_forward(&trusted), may_forward, "{shown}");
        }
    }
}
