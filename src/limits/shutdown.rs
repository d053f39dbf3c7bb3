//! Bounds of the process's end: signals, the drain, and the last waits.
//!
//! Part of [`limits`](super): the process ends within these, whatever hangs.

use std::time::Duration;

/// Signals this close to the last one count as the same.
pub const SIGNAL_MERGE: Duration = Duration::from_millis(300);
/// From the third signal to the end of the process, if the control thread does not end it.
pub const THIRD_SIGNAL_DEADLINE: Duration = Duration::from_secs(2);
/// From the second signal to the end of the process.
pub const FORCED_EXIT_DEADLINE: Duration = Duration::from_secs(1);
/// For the requests in progress once the last client has left.
pub const LAST_REQUESTS_DEADLINE: Duration = Duration::from_secs(1);
/// Longest part of a drain that an option or an operator may set.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Commands about the drain that wait for the control thread; past it 503.
pub const DRAIN_COMMANDS_WAITING_MAX: usize = 64;
/// For the control thread to do a command about the drain; then 504.
pub const DRAIN_COMMAND_DEADLINE: Duration = Duration::from_secs(5);
/// The seconds over which the rate is taken at which clients leave a drain.
pub const LEAVE_RATE_SECONDS: usize = 60;
/// Between two looks of a drain at its shards.
pub const SHARDS_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two progress lines of a drain.
pub const DRAIN_PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time for which a client closed by the drain is told to stay away.
pub const RESTART_RETRY_MAX: Duration = Duration::from_secs(30);
/// On a Windows close, logoff or shutdown event: the time over which clients are closed.
pub const CONSOLE_CLOSE_OVER: Duration = Duration::from_secs(4);
/// Clients that a drain's progress line names, of all shards together.
pub const HOLDERS_NAMED: usize = 5;
/// Clients of a shard among which the longest connected are searched for: some microseconds.
pub const HOLDERS_LOOKED_AT_MAX: usize = 10_000;
/// Between two such searches during a drain.
pub const HOLDERS_INTERVAL: Duration = Duration::from_secs(5);

const _: () = assert!(HOLDERS_INTERVAL.as_millis() < DRAIN_PROGRESS_INTERVAL.as_millis());
