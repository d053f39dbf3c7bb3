//! Bounds of the memory that publishers cause in this process and in Redis.
//!
//! Part of [`limits`](super): a bound is for all publishers together, and says how much of it one
//! may use.

use std::time::Duration;

/// How long an idempotency key's answer is remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(5 * 60);
/// Longest idempotency key; past it 400.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// The cost of remembering a key besides its text and its channel's name: in the process two tables
/// that may be half empty, in Redis a key of its own.
pub const IDEMPOTENCY_KEY_COST_BYTES: usize = 256;
/// Keys that a process remembers by itself, in bytes; past it, and past three quarters of it for
/// one publisher, a message with a new key is answered 503 `keys_full`, counted as such among
/// `publish_failures_total`.
pub const IDEMPOTENCY_KEYS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Keys that a process adds to Redis within [`IDEMPOTENCY_TTL`], in bytes; past it the same.
pub const IDEMPOTENCY_KEYS_REDIS_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Channels without publications that a process begins in Redis within [`CHANNELS_BEGUN_SPAN`];
/// past it, and past three quarters of it for one publisher, a message to a new channel is answered
/// 503 `channels_full`, counted as such. The first message of a history takes 4.4 KB of Redis, so
/// they take 290 MB.
pub const CHANNELS_BEGUN_MAX: usize = 65_536;
/// Histories that a process keeps in Redis for its publishers are bounded by so many times
/// `--history-total`, and by three quarters of that for one publisher. Past it a message reaches
/// all clients but is not kept, and the history of its channel ends, if it is the same publisher's:
/// `history_evicted_channels_total`. Messages from the raw channel's bridge and the periodic
/// notices do not count: they are in one channel, whose history has bounds of its own.
pub const REDIS_HISTORIES_FACTOR: usize = 4;
/// The memory of a stream with its first message.
pub const REDIS_STREAM_COST_BYTES: usize = 4400;
/// The cost of a message in it besides its payload, as in the histories here.
pub const REDIS_MESSAGE_COST_BYTES: usize = 128;
/// The time for which [`CHANNELS_BEGUN_MAX`] counts.
pub const CHANNELS_BEGUN_SPAN: Duration = Duration::from_secs(5 * 60);
/// The same within [`super::REDIS_META_TTL`], for which Redis remembers a channel's position; past
/// it the same. Each takes 250 B, so they take 1 GB.
pub const CHANNELS_BEGUN_DAY_MAX: usize = 4 * 1024 * 1024;
