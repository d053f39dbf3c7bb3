//! Bounds of the broker's state on its way to another process.
//!
//! Part of [`limits`](super).

use std::time::Duration;

/// A part of the state in memory, and one message more: so much is collected while publishers wait.
pub const HANDOVER_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Messages, channels and keys in such a part.
pub const HANDOVER_CHUNK_ITEMS_MAX: usize = 1_000;
/// The assumed size of a channel's names and numbers in such a part.
pub const HANDOVER_ITEM_COST_BYTES: usize = 512;
/// Bytes of histories that a new process holds beyond those that it may keep until the old one has
/// told what it evicted during the hand-over; past it the largest give their oldest messages.
pub const HANDOVER_SLACK_BYTES: usize = 64 * 1024 * 1024;
/// The same for channels; past it one is forgotten as if there had been no room for it before.
pub const HANDOVER_SLACK_CHANNELS: usize = 65_536;
/// Channels in a part that tells only how far back each can be read.
pub const HANDOVER_FLOORS_MAX: usize = 32 * 1024;
/// Messages that arrive at one of a process' subscribers while it lets nothing through; past it
/// the oldest are looked for in Redis afterwards.
pub const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A message's cost there besides its payload.
pub const HELD_MESSAGE_COST_BYTES: usize = 256;
/// For a shard that has not got as far as another one, and is not brought there by what arrives.
pub const LEVEL_REST: Duration = Duration::from_millis(100);
/// For the subscribers of a process that gives its clients away to have all that was published
/// before.
pub const LEVEL_DEADLINE: Duration = Duration::from_millis(400);

/// The epoch of a process: with the number of the channels that were forgotten it is still one.
pub const PROCESS_EPOCH_BYTES_MAX: usize = 16;

const _: () = assert!(PROCESS_EPOCH_BYTES_MAX < super::EPOCH_BYTES_MAX);
