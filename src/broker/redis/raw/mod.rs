//! The raw channel: what foreign programs publish there gets a place in the default channel, from
//! one process of all, the one that holds the lease.

pub(super) mod bridge;
mod lease;
