//! Bounds of what the service manager is told, such as systemd.
//!
//! Part of [`limits`](super): kept by `service_manager/` and `server/supervision.rs`.

use std::time::Duration;

/// Between two looks at what is to be told; shorter for a watchdog that needs it.
pub const NOTIFY_LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// The look is at least so many times as frequent as the watchdog's limit: a feed, due after half
/// of it, is never late by more than such a part.
pub const NOTIFY_LOOKS_PER_WATCHDOG: u32 = 10;
/// Between two states of the same stage in words: each wakes the manager and all who watch it.
pub const NOTIFY_STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// The time that is asked for while the server starts, or drains after a signal. A process that
/// hangs is ended after this, or after the time that its unit gives it if that is later.
pub const NOTIFY_EXTENSION: Duration = Duration::from_secs(30);
/// Between two such requests.
pub const NOTIFY_EXTENSION_INTERVAL: Duration = Duration::from_secs(5);

const _: () = assert!(NOTIFY_EXTENSION_INTERVAL.as_secs() * 3 <= NOTIFY_EXTENSION.as_secs());
