//! A paced closing, as far as it has got.
//!
//! Plain values; `table/pacing.rs` decides which clients are due, and what they are sent.

use std::time::Duration;

use crate::{clock::Millis, drain::PaceShare, hub::Key};

/// Clients that are closed one after the other, and told to come back.
#[derive(Debug)]
pub(super) struct PacedClose {
    pub(super) keys: Vec<Key>,
    pub(super) closed: usize,
    pub(super) started: Millis,
    pub(super) window: Duration,
    pub(super) retry_max: Duration,
    pub(super) share: PaceShare,
}
