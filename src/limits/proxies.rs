//! Bounds of what proxies say about their clients.

/// Addresses of `X-Forwarded-For` or `Forwarded` that are looked at, from the right; past it the
/// client is unnamed.
pub const FORWARDED_HOPS_MAX: usize = 32;
/// A whole PROXY header, with the further facts that some proxies add (a certificate of the client
/// takes the most); past it the connection is closed.
pub const PROXY_HEADER_BYTES_MAX: usize = 8 * 1024;
/// Bytes of one look at it: most headers are shorter.
pub const PROXY_HEADER_LOOK_BYTES: usize = 512;
/// A network of IPv4 with a prefix of so many bits, or fewer, is wider than any provider's proxies.
pub const WIDE_PREFIX_BITS_V4: u8 = 8;
/// The same of IPv6.
pub const WIDE_PREFIX_BITS_V6: u8 = 16;
