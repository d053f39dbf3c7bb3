//! The part of a client's address by which it is counted.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Stands before an IPv4 address: multicast addresses of IPv6 begin so, and send nothing.
const V4_PREFIX: u64 = 0xffff_ffff_0000_0000;
/// Clients without a name: no address begins so, either.
const UNNAMED: u64 = 0xffff_fffe_0000_0000;

/// An IPv4 address, or the first 64 bits of an IPv6 address. An IPv6 address that stands for one of
/// IPv4 counts as this: else all of IPv4 behind a translator would be one, or one host many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddressKey(u64);

impl AddressKey {
    /// The one of all clients that have no name.
    pub(super) const UNNAMED: Self = Self(UNNAMED);
}

impl From<IpAddr> for AddressKey {
    fn from(ip: IpAddr) -> Self {
        let (v4, v6) = match ip.to_canonical() {
            IpAddr::V4(address) => (Some(address), Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(address) => (v4_behind(address), address),
        };
        match v4 {
            Some(address) => Self(V4_PREFIX | u64::from(Ipv4Addr::to_bits(address))),
            None => {
                let prefix = Ipv6Addr::to_bits(v6) >> 64;
                Self(u64::try_from(prefix).expect("64 bits are left of 128"))
            }
        }
    }
}

/// The IPv4 address of whoever has this one, where it is part of it and packets go there.
fn v4_behind(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        // IPv4 hosts behind a translator (RFC 6052 §2.1): all of them have one prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        // 6to4 (RFC 3056 §2): each IPv4 address has 65,536 prefixes.
        [0x2002, high, low, ..] => (high, low),
        // Teredo (RFC 4380 §4): all clients of a server have its prefix, and their own address,
        // inverted, at the end.
        [0x2001, 0, .., high, low] => (!high, !low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AddressKey {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_address_for_one_of_ipv4_counts_as_this() {
        for (address, same, other) in [
            ("192.0.2.1", "64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2"),
            ("192.0.2.1", "2002:c000:201::1", "2002:c000:202::1"),
            ("192.0.2.1", "2002:c000:201:ffff::1", "2002:c001:201:ffff::1"),
            ("192.0.2.45", "2001::4136:e378:8000:63bf:3fff:fdd2", "2001::3fff:fdd3"),
        ] {
            assert_eq!(key(same), key(address), "{same}");
            assert_ne!(key(other), key(address), "{other}");
        }
        // Prefixes that operators choose are like any others.
        assert_eq!(key("64:ff9b:1::192.0.2.1"), key("64:ff9b:1::192.0.2.2"));
        assert_ne!(key("64:ff9b::1:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("2001:1::3fff:fdfe"), key("192.0.2.1"));
    }

    #[test]
    fn an_ipv6_address_counts_by_its_first_64_bits() {
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
    }

    #[test]
    fn an_ipv4_address_counts_whole_in_either_notation() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("192.0.2.1"), key("::ffff:192.0.2.2"));
        assert_ne!(key("0.0.0.1"), key("::1"));
        assert!([key("0.0.0.0"), key("::")].iter().all(|key| *key != AddressKey::UNNAMED));
    }
}
