//! The payloads of long messages on their way to another process: each once for all hubs of this
//! one, whatever encodings they hold.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use super::number::small;

/// The payloads that the hubs of a process have recorded.
#[derive(Debug, Default)]
pub struct LongPayloads {
    /// The numbers, by address and length; each keeps its payload, so that no other one gets its
    /// address.
    all: Mutex<HashMap<(usize, usize), (u32, Bytes)>>,
}

impl LongPayloads {
    /// The number of a payload, and whether it is the first to be recorded with it.
    pub(super) fn number(&self, payload: &Bytes) -> (u32, bool) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let next = small(all.len());
        let key = (payload.as_ptr().addr(), payload.len());
        let &mut (number, _) = all.entry(key).or_insert_with(|| (next, payload.clone()));
        (number, number == next)
    }
}
