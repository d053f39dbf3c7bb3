//! Bounds of the log: lines that wait, how often a call site logs, and the wait at the end.
//!
//! Part of [`limits`](super): a line that has no room is dropped and counted, and nothing waits.

use std::time::Duration;

/// Log lines that wait to be written; past it a line is dropped: `log_lines_dropped_total`.
pub const LOG_QUEUE_LINES_MAX: usize = 8192;
/// Their bytes; past it the same.
pub const LOG_QUEUE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Between two looks of the log's thread at counts that are still to be logged.
pub const LOG_TICK: Duration = Duration::from_secs(1);
/// A call site whose lines others cause logs one, then for this long only counts.
pub const LOG_COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Channels of a client that a line names; further ones are only hinted at.
pub const CHANNELS_NAMED: usize = 3;
/// Characters of foreign text that a line quotes; the rest is left out.
pub const QUOTED_CHARS_MAX: usize = 200;
/// A line that goes on being caused is logged again after this.
pub const LOG_LINE_REPEAT: Duration = Duration::from_secs(60);
/// At the end of the process, for the lines that wait; then they are lost.
pub const LOG_FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// The same after a second signal, or after a failed command that serves nothing.
pub const LOG_FLUSH_DEADLINE_HURRIED: Duration = Duration::from_millis(100);
/// Between two looks at whether they are written.
pub const LOG_FLUSH_POLL: Duration = Duration::from_millis(1);
/// Between two attempts to write where standard error does not block.
pub const LOG_WRITE_RETRY: Duration = Duration::from_millis(10);
