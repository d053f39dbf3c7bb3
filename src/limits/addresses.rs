//! Bounds of what one address, or one client, may ask for: windows, tables, times to come back.
//!
//! Part of [`limits`](super): how much within a window is said by options; here stands how long the
//! window is and how many addresses are remembered.

use std::{ops::RangeInclusive, time::Duration};

/// The whole allowance of an address or a client comes back within this time: a burst is ten times
/// what is allowed in a second.
pub const RATE_BURST: Duration = Duration::from_secs(10);
/// Input of a client that costs as much of its allowance as a message, bytes.
pub const COMMAND_BYTES: usize = 4096;
/// The time after which a client may come back that has said too much; one is drawn.
pub const RATE_LIMITED_RETRY_MS: RangeInclusive<u64> = 5_000..=30_000;
/// Networks in a list of them; more are refused at the start.
pub const NETWORKS_MAX: usize = 1000;
/// Parts of a table of addresses, each with a lock of its own.
pub const ADDRESS_PARTS: usize = 64;
/// Sets of each part of a table of allowances.
pub const RATE_SETS_PER_PART: usize = 128;
/// Addresses of one set; when another one comes, the one that has used least is forgotten.
pub const RATE_WAYS: usize = 8;
/// The seconds after which a client may come back whose address has all the clients it may have;
/// one of them is drawn.
pub const ADDRESS_FULL_RETRY_SECS: RangeInclusive<u32> = 5..=30;

const _: () = assert!(ADDRESS_PARTS.is_power_of_two() && RATE_SETS_PER_PART.is_power_of_two());
