//! The share of one address, or of one client, in what a server does for all.
//!
//! One [`AddressLimits`] is shared by the shards of a process. It counts the clients of each
//! address exactly, and handshakes in a table of fixed size; an address is a whole IPv4 address or
//! the first 64 bits of an IPv6 address, since whoever has one has all of these. Nothing here
//! refuses, logs or counts for the metrics: that is left to the caller. Pure: the time is handed
//! in.

mod address_key;
mod address_limits;
mod client_counts;
mod rate;
mod rate_table;

pub use address_key::AddressKey;
pub use address_limits::{AddressLimitSettings, AddressLimits, Entered};
pub use client_counts::AddressGuard;
pub use rate::{Meter, Rate};
