//! The paced closing at the end of a drain, as far as it has got.
//!
//! Plain values; which clients are due, and what they are told, is the matter of `closing`.

use std::time::Duration;

use crate::{clock::Millis, drain::PaceShare, hub::Key};

/// The paced closing at the end of a drain.
#[derive(Debug)]
pub(in crate::conn) struct Paced {
    pub(in crate::conn) keys: Vec<Key>,
    pub(in crate::conn) closed: usize,
    pub(in crate::conn) started: Millis,
    pub(in crate::conn) window: Duration,
    pub(in crate::conn) retry_max: Duration,
    pub(in crate::conn) share: PaceShare,
}
