//! A list of networks, as operators write them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    limits::{WIDE_PREFIX_BITS_V4, WIDE_PREFIX_BITS_V6},
    peer::ClientAddress,
};

/// The bits of an IPv6 address before the IPv4 address that it stands for (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_BITS: u8 = 96;

/// Networks; by default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// A text that names no network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidNetwork {
    /// It is neither an address nor a network.
    #[error("expected a network such as 10.0.0.0/8 or 2001:db8::/32, or one address")]
    NotANetwork,
    /// It may mean one address, or the network around it.
    #[error("has bits behind its prefix: write {0} for the network, or {1} for the one address")]
    BitsBehindPrefix(IpNet, IpAddr),
}

impl Networks {
    /// Adds the network that `text` names.
    ///
    /// # Errors
    /// When it names none, or has bits behind its prefix.
    pub fn add(&mut self, text: &str) -> Result<(), InvalidNetwork> {
        let network = match text.parse::<IpNet>() {
            Ok(network) => canonical(network),
            Err(_) => {
                let address = text.parse::<IpAddr>().map_err(|_| InvalidNetwork::NotANetwork)?;
                address.to_canonical().into()
            }
        };
        if network.addr() != network.network() {
            return Err(InvalidNetwork::BitsBehindPrefix(network.trunc(), network.addr()));
        }
        self.0.push(network);
        Ok(())
    }

    /// Those that are too wide to be somebody's own: they are neither private nor as narrow as any
    /// provider's.
    pub fn wide(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter().filter(|network| match network {
            IpNet::V4(v4) => {
                let is_own = v4.addr().is_private() || v4.addr().is_loopback();
                v4.prefix_len() < WIDE_PREFIX_BITS_V4
                    || v4.prefix_len() == WIDE_PREFIX_BITS_V4 && !is_own
            }
            IpNet::V6(v6) => v6.prefix_len() <= WIDE_PREFIX_BITS_V6 && !v6.addr().is_unique_local(),
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `client` is in one of them; a client without an address is in none.
    #[must_use]
    pub fn contain(&self, client: ClientAddress) -> bool {
        match client {
            ClientAddress::Ip(ip) => {
                let ip = ip.to_canonical();
                self.0.iter().any(|network| network.contains(&ip))
            }
            ClientAddress::Unix | ClientAddress::Unnamed => false,
        }
    }
}

/// A network of IPv4 addresses in IPv6 notation is one of IPv4 addresses, as its members are.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_PREFIX_BITS)) {
        (Some(v4), Some(prefix_bits)) => {
            IpNet::new(v4.into(), prefix_bits).expect("at most 128 - 96 bits")
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let mut networks = Networks::default();
        texts.iter().for_each(|text| networks.add(text).unwrap());
        networks
    }

    fn contain(networks: &Networks, address: &str) -> bool {
        networks.contain(ClientAddress::Ip(address.parse().unwrap()))
    }

    #[test]
    fn members_are_found_in_either_notation() {
        let networks =
            networks(&["10.0.0.0/8", "::ffff:192.0.2.0/120", "2001:db8::/32", "fd00::7"]);
        for inside in ["10.255.0.1", "::ffff:10.0.0.1", "192.0.2.255", "2001:db8:7::", "fd00::7"] {
            assert!(contain(&networks, inside), "{inside}");
        }
        for outside in ["11.0.0.1", "::10.0.0.1", "192.0.3.0", "2001:db9::", "fd00::8"] {
            assert!(!contain(&networks, outside), "{outside}");
        }
        assert!(!networks.contain(ClientAddress::Unix));
        assert!(!self::networks(&["0.0.0.0/0", "::/0"]).contain(ClientAddress::Unnamed));
        assert!(!contain(&Networks::default(), "10.0.0.1"));
    }

    #[test]
    fn a_wide_network_is_neither_private_nor_a_providers() {
        let wide = |text: &str| networks(&[text]).wide().count() == 1;
        for text in [
            "0.0.0.0/0",
            "::/0",
            "128.0.0.0/1",
            "8.0.0.0/8",
            "10.0.0.0/7",
            "::ffff:0:0/96",
            "2000::/3",
        ] {
            assert!(wide(text), "{text}");
        }
        for text in [
            "10.0.0.0/8",
            "127.0.0.0/8",
            "104.16.0.0/13",
            "192.168.0.0/16",
            "fc00::/7",
            "2a06:98c0::/29",
        ] {
            assert!(!wide(text), "{text}");
        }
    }

    /// All addresses of IPv6 do not contain those of IPv4, whose sockets are others.
    #[test]
    fn a_network_around_mapped_addresses_is_of_ipv6_alone() {
        let all = networks(&["::/0"]);
        assert!(contain(&all, "2001:db8::1") && !contain(&all, "192.0.2.1"));
    }

    #[test]
    fn a_text_with_two_meanings_is_refused_with_both() {
        for (text, told) in [
            ("10.0.0.1/8", "write 10.0.0.0/8 for the network, or 10.0.0.1 for the one address"),
            ("::ffff:10.0.0.1/104", "write 10.0.0.0/8 for the network"),
            ("2001:db8::1/64", "write 2001:db8::/64 for the network"),
            ("10.0.0.0/33", "expected a network"),
            ("10.0.0", "expected a network"),
            ("localhost", "expected a network"),
            ("", "expected a network"),
        ] {
            let error = Networks::default().add(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(contain(&networks(&["10.0.0.1/32"]), "10.0.0.1"));
    }
}
