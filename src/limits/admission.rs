//! Bounds of admitting clients: how many channels are joined at a time, and how much is read for
//! them from Redis.
//!
//! Part of [`limits`](super): newcomers wait for each other, not the clients that are there.

use std::time::Duration;

use super::{CHANNELS_PER_CLIENT_MAX, REDIS_META_TTL};

/// Channels that clients with many of them join at a time in a shard; the others wait.
pub const JOIN_CHANNELS_AT_ONCE: usize = 4096;
/// A client with so many channels or fewer does not wait for clients with more, and has the same
/// room.
pub const JOIN_FEW_CHANNELS: usize = 16;
/// Channels of all clients that are joining them in a shard, or wait for it; past it 503, or the
/// error, `full`.
pub const JOIN_CHANNELS_PENDING_MAX: usize = 256 * 1024;
/// Their memory, in bytes; past it the same.
pub const JOIN_BYTES_PENDING_MAX: usize = 32 * 1024 * 1024;
/// The cost of a waiting channel besides its name.
pub const JOIN_CHANNEL_COST_BYTES: usize = 96;
/// To wait for a permit; then the same.
pub const JOIN_WAIT: Duration = Duration::from_secs(2);
/// Queries of a shard to the broker for clients that join; further ones wait.
pub const JOIN_QUERIES_MAX: usize = 512;
/// Clients of a shard that wait until it has reached their positions; past it 503 `behind`.
pub const AHEAD_WAITING_MAX: usize = 16 * 1024;
/// How much history a process reads from Redis on request, in bytes a second, once it has read as
/// much as it may keep; further requests wait, and those that wait too long are told what they
/// miss.
pub const HISTORY_READ_BYTES_PER_SECOND: usize = 32 * 1024 * 1024;
/// Between two looks at whether a history may be read.
pub const HISTORY_READ_PAUSE: Duration = Duration::from_millis(10);
/// The lifetime of the epoch of empty channels in Redis, renewed after half of it; the epoch before
/// counts until the next renewal.
pub const EMPTY_EPOCH_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// Between two reads of that epoch for queries about a channel's position.
pub const EMPTY_EPOCH_REREAD: Duration = Duration::from_secs(1);

const _: () = assert!(CHANNELS_PER_CLIENT_MAX <= JOIN_CHANNELS_AT_ONCE);
const _: () = assert!(JOIN_FEW_CHANNELS * 100 <= JOIN_CHANNELS_AT_ONCE);
const _: () = assert!(2 * EMPTY_EPOCH_TTL.as_millis() <= REDIS_META_TTL.as_millis());
