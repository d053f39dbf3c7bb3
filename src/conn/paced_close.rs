//! The paced closing at the end of a drain, as far as it has got.
//!
//! Plain values; `table/closing.rs` decides which clients are due, and what they are sent.

use std::time::Duration;

use crate::{clock::Millis, drain::PaceShare, hub::Key};

/// The paced closing at the end of a drain.
#[derive(Debug)]
pub(super) struct PacedClose {
    pub(super) keys: Vec<Key>,
    pub(super) closed: usize,
    pub(super) started: Millis,
    pub(super) window: Duration,
    pub(super) retry_max: Duration,
    pub(super) share: PaceShare,
}
