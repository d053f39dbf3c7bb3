//! Bounds of announcements, by which one process has all others do something.
//!
//! Part of [`limits`](super): whatever anyone announces, and however often, nothing grows.

use std::time::Duration;

/// A shard's count of the clients that an announcement concerns; one that takes longer is not
/// counted.
pub const ANNOUNCEMENT_ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// An announcement as it goes through Redis; a longer one counts as a stranger's, and is dropped.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 4 * 1024;
/// The cost of an announcement to a shard's mailbox: so many are carried out in a turn as fit into
/// [`APPEND_TURN_BYTES_MAX`](super::APPEND_TURN_BYTES_MAX).
pub const ANNOUNCEMENT_COST_BYTES: usize = 1024;
/// The time for each client of a shard that is to be closed and to come back, until there are so
/// many that [`DISCONNECT_WINDOW_MAX`] is shorter.
pub const DISCONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Time in which a shard closes all clients that are to come back.
pub const DISCONNECT_WINDOW_MAX: Duration = Duration::from_secs(60);
/// Bearers of tokens that are kept out at a time, in all processes on one Redis; past it 503
/// `bans_full`, and none is let in instead.
pub const BANS_MAX: usize = 10_000;
/// The same in the table of a process, which may hold as many of its own that others do not know,
/// as long as it has no Redis; past it one that others keep out is let in.
pub const BANS_HEARD_MAX: usize = 2 * BANS_MAX;
/// The bearers of whom Redis knows when there was the last command about them, so that an earlier
/// one that arrives late does not count; past it those of the earliest commands are forgotten.
pub const BAN_COMMANDS_MAX: usize = 2 * BANS_MAX;
/// The shortest time for which one is kept out.
pub const BAN_MIN: Duration = Duration::from_secs(1);
/// The longest time: past it a token should have expired.
pub const BAN_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Between two attempts to learn from Redis who is kept out.
pub const BANS_RETRY: Duration = Duration::from_secs(1);
/// Between two attempts to have others keep somebody out, when they keep out as many as may be.
pub const BANS_FULL_RETRY: Duration = Duration::from_secs(60);

const _: () = assert!(BANS_HEARD_MAX * ANNOUNCEMENT_COST_BYTES < super::MAILBOX_BYTES_MAX);
const _: () = assert!(super::TOKEN_TEXT_BYTES_MAX < ANNOUNCEMENT_BYTES_MAX);
const _: () = assert!(BAN_MAX.as_millis() < super::OFFSET_MAX as u128);
