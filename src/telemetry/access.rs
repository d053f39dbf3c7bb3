//! Lines about clients and requests, for operators who have asked for one each: `--access-log`.
//!
//! Strangers decide how many there are, so they are off by default. They share the queue of all
//! lines: past its bounds they are dropped and counted.

use tracing::{Level, enabled};

/// The target of these lines.
pub const ACCESS: &str = "access";

/// Whether they are wanted.
#[must_use]
pub fn access_is_logged() -> bool {
    enabled!(target: ACCESS, Level::INFO)
}

/// Logs such a line, if they are wanted: `access!(%address, status, "request")`.
macro_rules! access {
    ($($line:tt)+) => {
        tracing::info!(target: $crate::telemetry::ACCESS, $($line)+)
    };
}

pub(crate) use access;
