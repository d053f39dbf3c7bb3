//! Bounds of what proxies say about their clients.

/// Addresses of `X-Forwarded-For` or `Forwarded` that are looked at, from the right; past it the
/// last one of them is the client.
pub const FORWARDED_HOPS_MAX: usize = 32;
