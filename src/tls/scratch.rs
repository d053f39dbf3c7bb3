//! The buffer of a thread in which records are read, made and written.
//!
//! It is used from one call to the next and keeps nothing between them, so one serves all
//! connections of a thread.

use crate::limits::TLS_SCRATCH_BYTES;

/// A thread's buffer for records.
#[derive(Debug)]
pub struct Scratch(pub(super) Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; TLS_SCRATCH_BYTES].into())
    }
}
