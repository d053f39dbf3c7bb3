//! The version of this wsbcast.
//!
//! The build script hands in the commit. `--version`, the log and the metrics take both from here.

/// Version and commit, as `--version` shows them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("WSBCAST_COMMIT"), ")");
/// The commit this was built from, or `unknown`.
pub const COMMIT: &str = env!("WSBCAST_COMMIT");
