//! Addresses of listeners: text in, an address that can be connected to out, or a reason.
//!
//! Addresses that the system would refuse with a number, or accept though no client can connect to
//! them, are refused here in words. Only the number of an interface is asked of the system.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::values::Expected;

/// Reads `ADDR:PORT`. An IPv4 address in IPv6 notation (RFC 4291 §2.5.5.2) is that IPv4 address:
/// IPv6 sockets here are IPv6 only.
pub(super) fn address(text: &str) -> Result<SocketAddr, Expected> {
    let mut address: SocketAddr = with_a_zone_number(text)?.parse().map_err(|_| {
        "expected ADDR:PORT, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000".to_owned()
    })?;
    address.set_ip(match address.ip() {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    });
    match address {
        _ if address.ip().is_multicast() => {
            Err("a multicast address, to which nobody can connect".to_owned())
        }
        SocketAddr::V4(v4) if *v4.ip() == Ipv4Addr::BROADCAST => {
            Err("the broadcast address, to which nobody can connect".to_owned())
        }
        SocketAddr::V6(v6) if is_link_local(*v6.ip()) && v6.scope_id() == 0 => Err(format!(
            "a link-local address needs its interface, such as [{}%eth0]:{}",
            v6.ip(),
            v6.port()
        )),
        _ => Ok(address),
    }
}

/// fe80::/10, RFC 4291 §2.4: the same on every interface.
fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// `[fe80::1%eth0]:8000` with the interface's number in place of its name (RFC 4007 §11).
fn with_a_zone_number(text: &str) -> Result<Cow<'_, str>, Expected> {
    let inside = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some(((ip, zone), port)) =
        inside.and_then(|(inside, port)| Some((inside.split_once('%')?, port)))
    else {
        return Ok(text.into());
    };
    if zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.into());
    }
    let number = interface_number(zone)
        .ok_or_else(|| format!("this machine has no network interface {zone:?}"))?;
    Ok(format!("[{ip}%{number}]{port}").into())
}

#[cfg(unix)]
fn interface_number(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Windows' own notation has the number.
#[cfg(not(unix))]
fn interface_number(_name: &str) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconnectable_addresses_are_refused_in_words() {
        for (text, word) in [
            ("224.0.0.1:1", "multicast"),
            ("[ff02::1]:1", "multicast"),
            ("[::ffff:239.1.1.1]:1", "multicast"),
            ("255.255.255.255:1", "broadcast"),
            ("[fe80::1]:1", "such as [fe80::1%eth0]:1"),
            ("[febf::1]:1", "link-local"),
            ("[fe80::1%no-such-interface]:1", "no network interface \"no-such-interface\""),
            ("[fe80::1%]:1", "expected ADDR:PORT"),
            ("[%lo]:1", "expected ADDR:PORT"),
            ("localhost:1", "expected ADDR:PORT"),
        ] {
            let told = address(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }

    #[test]
    fn an_address_is_what_it_stands_for() {
        for (text, meant) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:1", "[::1]:1"),
            ("[::]:1", "[::]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
            ("[::ffff:0.0.0.0]:1", "0.0.0.0:1"),
            ("[fec0::1]:1", "[fec0::1]:1"),
            ("[fe80::1%7]:1", "[fe80::1%7]:1"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), meant, "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_may_be_named() {
        let address = address("[fe80::1%lo]:8000").unwrap();
        assert!(matches!(address, SocketAddr::V6(v6) if v6.scope_id() == 1), "{address}");
    }
}
