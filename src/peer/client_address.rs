//! The address of a client, as rules, limits and logs know it.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The address of a client: without its port, which changes with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClientAddress {
    /// An address of the network; one of IPv4 never in IPv6 notation (RFC 4291 §2.5.5.2), if it was
    /// made by `From`.
    Ip(IpAddr),
    /// A program of this machine, connected by a Unix socket.
    Unix,
    /// A client of a trusted proxy, which does not name it so that it could be believed. All of
    /// these share whatever one address may have, and are in no network.
    Unnamed,
}

impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

impl fmt::Display for ClientAddress {
    /// `192.0.2.1`, `2001:db8::1`, `unix` or `unnamed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unnamed => f.write_str("unnamed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client has one address, whichever kind of socket took its connection.
    #[test]
    fn an_ipv4_client_has_its_ipv4_address() {
        for (socket, shown) in [
            ("192.0.2.1:80", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:81", "192.0.2.1"),
            ("[2001:db8::1]:82", "2001:db8::1"),
        ] {
            let socket: SocketAddr = socket.parse().unwrap();
            assert_eq!(ClientAddress::from(socket).to_string(), shown);
        }
        assert_eq!(ClientAddress::Unix.to_string(), "unix");
        assert_eq!(ClientAddress::Unnamed.to_string(), "unnamed");
    }
}
