//! The PROXY protocol: a proxy's word about its client before the client's first byte.
//!
//! Versions 1 and 2 of HAProxy's specification ("The PROXY protocol", 2020/03/05, §2.1 and §2.2),
//! without IO: bytes so far in, a header or "more" out. Other bytes are an error from the first
//! wrong one on, so that nobody waits for the rest. A crate for it exists (proxy-header 0.1) and
//! was not taken: it refuses LOCAL headers with an unknown family, which have to be accepted, and
//! takes ports with a sign and lines of any length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::{
    limits::PROXY_HEADER_BYTES_MAX,
    peer::{Announced, ClientAddress},
};

/// The beginning of version 2; none of HTTP or TLS begins so.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;
/// The beginning of version 1.
const V1_SIGNATURE: &[u8] = b"PROXY ";
/// The longest line of version 1, its end included (§2.1).
const V1_BYTES_MAX: usize = 107;

/// A connection of the server's own machine that speaks for itself: health checks.
pub const LOCAL_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The meaning of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The beginning of a header.
    Unfinished,
    /// A header, in the first bytes.
    Finished {
        /// How many bytes.
        length: usize,
        /// The client.
        announced: Announced,
    },
}

/// The bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoProxyHeader {
    /// They begin as something else.
    #[error("it does not begin with a PROXY header")]
    NoSignature,
    /// They are one that cannot be understood.
    #[error("its PROXY header is malformed")]
    Malformed,
    /// It is longer than [`PROXY_HEADER_BYTES_MAX`].
    #[error("its PROXY header is too long")]
    TooLong,
}

/// Reads the header with which `bytes` begin.
///
/// # Errors
/// When they do not begin with one, or it is malformed or too long.
pub fn read(bytes: &[u8]) -> Result<ProxyHeader, NoProxyHeader> {
    let begins_as = |signature: &[u8]| {
        let common = bytes.len().min(signature.len());
        bytes[..common] == signature[..common]
    };
    if begins_as(V2_SIGNATURE) {
        read_v2(bytes)
    } else if begins_as(V1_SIGNATURE) {
        read_v1(bytes)
    } else {
        Err(NoProxyHeader::NoSignature)
    }
}

fn read_v2(bytes: &[u8]) -> Result<ProxyHeader, NoProxyHeader> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED_BYTES) else {
        return Ok(ProxyHeader::Unfinished);
    };
    let (command, family) = (fixed[12], fixed[13]);
    if !matches!(command, 0x20 | 0x21) {
        return Err(NoProxyHeader::Malformed);
    }
    let block_bytes = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let length = V2_FIXED_BYTES + block_bytes;
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(NoProxyHeader::TooLong);
    }
    let Some(block) = rest.get(..block_bytes) else { return Ok(ProxyHeader::Unfinished) };
    // Further facts (TLV) after the addresses are skipped.
    let source = |ip_bytes: usize| {
        block.get(..2 * ip_bytes + 4).map(|_| &block[..ip_bytes]).ok_or(NoProxyHeader::Malformed)
    };
    let announced = match (command, family) {
        // The proxy speaks for itself; whatever else stands there is to be discarded.
        (0x20, _) => Announced::Nothing,
        (_, 0x11 | 0x12) => {
            let octets: [u8; 4] = source(4)?.try_into().expect("four bytes");
            announced(Ipv4Addr::from(octets).into())
        }
        (_, 0x21 | 0x22) => {
            let octets: [u8; 16] = source(16)?.try_into().expect("sixteen bytes");
            announced(Ipv6Addr::from(octets).into())
        }
        // Unspecified, or a Unix socket of the proxy's machine.
        (_, 0x00 | 0x31 | 0x32) => Announced::Unknown,
        _ => return Err(NoProxyHeader::Malformed),
    };
    Ok(ProxyHeader::Finished { length, announced })
}

fn read_v1(bytes: &[u8]) -> Result<ProxyHeader, NoProxyHeader> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        let is_whole = line.len() == V1_BYTES_MAX;
        return if is_whole { Err(NoProxyHeader::TooLong) } else { Ok(ProxyHeader::Unfinished) };
    };
    let text = std::str::from_utf8(&line[..end]).ok().and_then(|line| line.strip_suffix('\r'));
    let announced = text.and_then(announced_by_line).ok_or(NoProxyHeader::Malformed)?;
    Ok(ProxyHeader::Finished { length: end + 1, announced })
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT`, or `PROXY UNKNOWN` with anything after it.
fn announced_by_line(line: &str) -> Option<Announced> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Announced::Unknown);
    }
    let mut address = || {
        let address: IpAddr = words.next()?.parse().ok()?;
        (address.is_ipv4() == (family == "TCP4")).then_some(address)
    };
    let (source, _) = (address()?, address()?);
    let mut is_port = || {
        let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        words.next().is_some_and(|port| is_number(port) && port.parse::<u16>().is_ok())
    };
    let is_whole = matches!(family, "TCP4" | "TCP6") && is_port() && is_port();
    (is_whole && words.next().is_none()).then(|| announced(source))
}

fn announced(source: IpAddr) -> Announced {
    Announced::Client(ClientAddress::from(source))
}

#[cfg(test)]
mod tests;
