//! The words that a service manager understands, by their meaning.

use std::time::Duration;

/// One thing that a service manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The start, or a reload, is complete.
    Ready,
    /// Files are being read again; [`Notice::Ready`] follows. With the time, which
    /// `Type=notify-reload` needs.
    Reloading,
    /// The server is about to end.
    Stopping,
    /// The state in words, for its operator.
    Status(String),
    /// This process is the main one of the service from now on.
    MainPid(u32),
    /// All shards live.
    Watchdog,
    /// The start or the end takes at least so long from now on. It never shortens what is left.
    ExtendTimeout(Duration),
}
