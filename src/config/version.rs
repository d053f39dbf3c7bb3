//! The version of this wsbcast.

/// Version and commit, as `--version` shows them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("WSBCAST_COMMIT"), ")");
/// The commit this was built from, or `unknown`.
pub const COMMIT: &str = env!("WSBCAST_COMMIT");
