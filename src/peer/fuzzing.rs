//! Properties of what proxies, and clients before them, say about clients.

use std::net::{IpAddr, Ipv6Addr};

use super::{
    Announced, ClientAddress, TrustedProxies,
    proxy_header::{LOCAL_HEADER, ProxyHeader, read},
};
use crate::limits::PROXY_HEADER_BYTES_MAX;

/// The trusted proxy next to the server, and a client of it.
const PROXY: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [203, 0, 113, 9];

/// A client, whatever it writes, is known by the address that the nearest trusted proxy has seen. A
/// line of the input is a line of one of the headers: a byte that chooses, then its value.
pub(crate) fn forwarded(input: &[u8]) {
    let mut proxies = TrustedProxies::default();
    for network in ["10.0.0.0/8", "fd00::/8"] {
        proxies.add(network).expect("it is a network");
    }
    let [proxy, client] = [PROXY, CLIENT].map(|ip| ClientAddress::Ip(ip.into()));
    let lines = input.split(|&byte| byte == b'\n').filter_map(<[u8]>::split_first);
    let (of, parameters): (Vec<_>, Vec<_>) = lines.partition(|(choice, _)| **choice & 1 == 0);
    let own = |lines: Vec<(&u8, &[u8])>| lines.into_iter().map(|(_, line)| line.to_vec()).collect();
    let (of, parameters): (Vec<_>, Vec<_>) = (own(of), own(parameters));
    let find = |nearest, of: &[Vec<u8>], parameters: &[Vec<u8>]| {
        let [of, parameters] = [of, parameters].map(|lines| lines.iter().map(Vec::as_slice));
        proxies.client(nearest, of, parameters)
    };
    assert_eq!(find(client, &of, &parameters), client, "it is no proxy");
    let found = find(proxy, &of, &parameters);
    if let ClientAddress::Ip(ip) = found {
        assert_eq!(ip, ip.to_canonical());
    }
    assert_ne!(found, ClientAddress::Unix, "no text is a socket of this machine");
    // The address that the proxy adds is all that counts, in the last line or in one of its own.
    for (added, is_parameter) in [("203.0.113.9", false), ("for=203.0.113.9", true)] {
        for lines in with(if is_parameter { &parameters } else { &of }, added) {
            let found = match is_parameter {
                true => find(proxy, &[], &lines),
                false => find(proxy, &lines, &[]),
            };
            assert_eq!(found, client, "{lines:?}");
        }
    }
    // A client that the proxy cannot name has not what the proxy may.
    for lines in with(&of, "unknown") {
        assert_eq!(find(proxy, &lines, &[]), ClientAddress::Unnamed, "{lines:?}");
    }
    // Where the proxy writes one of the headers, the client's own other counts nowhere.
    for lines in with(&of, "203.0.113.9") {
        let found = find(proxy, &lines, &parameters);
        assert!([client, ClientAddress::Unnamed].contains(&found), "{found}");
    }
}

/// The lines with `added` to the last of them, and in a further one.
fn with(lines: &[Vec<u8>], added: &str) -> [Vec<Vec<u8>>; 2] {
    let (mut longer, mut more) = (lines.to_vec(), lines.to_vec());
    match longer.last_mut() {
        Some(last) => last.extend(format!(", {added}").into_bytes()),
        None => longer.push(added.into()),
    }
    more.push(added.into());
    [longer, more]
}

/// A PROXY header is the same however its bytes arrive and whatever follows it, within the bound;
/// and the client that it announced is announced again by both versions of the header.
pub(crate) fn proxy_headers(input: &[u8]) {
    let whole = read(input);
    let decided_at = match whole {
        Ok(ProxyHeader::Finished { length, announced }) => {
            assert!(length <= input.len().min(PROXY_HEADER_BYTES_MAX), "{length} bytes");
            write_again(announced);
            assert_eq!(read(&input[..length]), whole, "it needs what follows it");
            for follower in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\n", LOCAL_HEADER] {
                assert_eq!(read(&[&input[..length], follower].concat()), whole);
            }
            length
        }
        Ok(ProxyHeader::Unfinished) => {
            assert!(input.len() < PROXY_HEADER_BYTES_MAX, "more than a header is waited for");
            input.len() + 1
        }
        // Refused with the first bytes that allow it, and for the same reason ever after.
        Err(_) => {
            let refused = (0..=input.len()).find(|&len| read(&input[..len]).is_err());
            refused.expect("the whole is refused")
        }
    };
    for len in 0..=input.len() {
        let expected = if len < decided_at { Ok(ProxyHeader::Unfinished) } else { whole };
        assert_eq!(read(&input[..len]), expected, "{len} bytes of {}", input.len());
    }
}

/// Writes a header for what was read, in both versions, and reads it.
fn write_again(announced: Announced) {
    let headers = match announced {
        Announced::Nothing => vec![LOCAL_HEADER.to_vec()],
        Announced::Unknown => vec![b"PROXY UNKNOWN\r\n".to_vec(), version_2(0x00, &[])],
        Announced::Client(ClientAddress::Ip(ip)) => {
            assert_eq!(ip, ip.to_canonical());
            let (family, number, octets) = match ip {
                IpAddr::V4(ip) => ("TCP4", 0x11, ip.octets().to_vec()),
                IpAddr::V6(ip) => ("TCP6", 0x21, ip.octets().to_vec()),
            };
            let line = format!("PROXY {family} {ip} {ip} 65535 80\r\n").into_bytes();
            let block = [&*octets, &*octets, &[0xFF, 0xFF, 0, 80]].concat();
            // An IPv4 address may be written as an IPv6 address.
            let mapped = match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let mapped_block = [&mapped.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0; 4]];
            vec![line, version_2(number, &block), version_2(0x22, &mapped_block.concat())]
        }
        Announced::Client(other) => panic!("no header names {other}"),
    };
    for header in headers {
        let length = header.len();
        assert_eq!(read(&header), Ok(ProxyHeader::Finished { length, announced }));
    }
}

/// A header of version 2 for a client of the proxy.
fn version_2(family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("it is short").to_be_bytes();
    [&LOCAL_HEADER[..12], &[0x21, family], &len, block].concat()
}
