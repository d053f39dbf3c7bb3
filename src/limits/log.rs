//! Bounds of the log: what waits to be written, how often a place speaks, what the end waits for.
//!
//! Part of [`limits`](super): a line that has no room is dropped and counted, and nothing waits.

use std::time::Duration;

/// Log lines that wait to be written; past it a line is dropped: `log_lines_dropped_total`.
pub const LOG_QUEUE_LINES_MAX: usize = 8192;
/// Their bytes; past it likewise.
pub const LOG_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Between two looks of the log's thread at what is still to be told.
pub const LOG_TICK: Duration = Duration::from_secs(1);
/// A place in the code whose lines others cause says one, then for this long only counts them.
pub const LOG_COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Channels of a client that a line names; of more it says that there are more.
pub const CHANNELS_NAMED: usize = 3;
/// What a stranger wrote is quoted up to this; the rest is left out.
pub const QUOTED_CHARS_MAX: usize = 200;
/// If it goes on, the line is said again after this.
pub const LOG_LINE_REPEAT: Duration = Duration::from_secs(60);
/// At the end of the process, for the lines that wait; then they are lost.
pub const LOG_FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// ...once a second signal has come, or a command that serves nothing has failed.
pub const LOG_FLUSH_DEADLINE_HURRIED: Duration = Duration::from_millis(100);
/// Between two looks whether they are written.
pub const LOG_FLUSH_POLL: Duration = Duration::from_millis(1);
/// Between two attempts to write where standard error does not block.
pub const LOG_WRITE_RETRY: Duration = Duration::from_millis(10);
