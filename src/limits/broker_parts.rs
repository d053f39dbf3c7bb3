//! Bounds of the broker's state on its way to another process.
//!
//! Part of [`limits`](super).

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
/// The epoch of a process: with the number of the channels that were forgotten it is still one.
pub const PROCESS_EPOCH_BYTES_MAX: usize = 16;

const _: () = assert!(PROCESS_EPOCH_BYTES_MAX < super::EPOCH_BYTES_MAX);
