//! The part of a client's address by which it is counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Stands before an IPv4 address: multicast addresses of IPv6 begin so, and send nothing.
const V4_PREFIX: u64 = 0xffff_ffff_0000_0000;
/// Clients without a name: no address begins so, either.
const UNNAMED: u64 = 0xffff_fffe_0000_0000;

/// An IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(u64);

impl AddressKey {
    /// The one of all clients that have no name.
    pub(super) const UNNAMED: Self = Self(UNNAMED);
}

impl From<IpAddr> for AddressKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(address) => Self(V4_PREFIX | u64::from(Ipv4Addr::to_bits(address))),
            IpAddr::V6(address) => {
                let prefix = Ipv6Addr::to_bits(address) >> 64;
                Self(u64::try_from(prefix).expect("64 bits are left of 128"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AddressKey {
        text.parse::<IpAddr>().unwrap().into()
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
        assert_ne!(key("0.0.0.1"), key("::1"));
        assert!([key("0.0.0.0"), key("::")].iter().all(|key| *key != AddressKey::UNNAMED));
    }
}
