//! What those who come may cost a shard and Redis: how many are settled at a time, and how much is
//! found out for them. Kept apart only since it belongs together.

use std::time::Duration;

use super::{CHANNELS_PER_CLIENT_MAX, REDIS_META_TTL};

/// Channels that a shard settles at a time for those who come with many; the others wait.
pub const SETTLING_TURN_CHANNELS: usize = 4096;
/// Who comes with so many or fewer does not wait for those with more, and has the same room.
pub const SETTLING_FEW_CHANNELS: usize = 16;
/// Channels of all who are settled in a shard, or wait for it; past it 503, or the error, `full`.
pub const SETTLING_CHANNELS_MAX: usize = 256 * 1024;
/// What these hold, in bytes; past it likewise.
pub const SETTLING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a channel that waits costs besides its name.
pub const SETTLING_CHANNEL_COST_BYTES: usize = 96;
/// For a turn; then likewise.
pub const SETTLING_WAIT: Duration = Duration::from_secs(2);
/// Questions that a shard has put to the broker for those who are settled; further ones wait.
pub const SETTLING_ASKED_MAX: usize = 512;
/// Clients of a shard that wait until it has got as far as they are; past it 503 `behind`.
pub const AHEAD_WAITING_MAX: usize = 16 * 1024;
/// What a process reads of histories from Redis for those who ask for them, in bytes a second, once
/// it has read as much as it may keep; further ones wait, and are told what they miss if too long.
pub const HISTORY_READ_BYTES_PER_SECOND: usize = 32 * 1024 * 1024;
/// Between two looks at whether one may be read.
pub const HISTORY_READ_PAUSE: Duration = Duration::from_millis(10);
/// The epoch of empty channels in Redis, renewed after half of this; the one before counts until
/// the next renewal.
pub const EMPTY_EPOCH_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// Between two looks at it for those who ask where a channel stands.
pub const EMPTY_EPOCH_REREAD: Duration = Duration::from_secs(1);

const _: () = assert!(CHANNELS_PER_CLIENT_MAX <= SETTLING_TURN_CHANNELS);
const _: () = assert!(SETTLING_FEW_CHANNELS * 100 <= SETTLING_TURN_CHANNELS);
const _: () = assert!(2 * EMPTY_EPOCH_TTL.as_millis() <= REDIS_META_TTL.as_millis());
