//! The memory of HTTP connections, in bytes of each part of their budget.
//!
//! Plain counts; `memory` decides which connection makes room when there is too little.

use std::cell::Cell;

use tokio::sync::{Notify, Semaphore};

/// A part of the budget.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Input,
    Work,
}

/// Bytes of each part.
#[derive(Debug, Default)]
pub(super) struct Bytes([Cell<usize>; 2]);

/// The budget.
pub(super) struct Memory {
    pub(super) held: Bytes,
    pub(super) freed: Notify,
    /// Requests wait for it in line.
    pub(super) line: Semaphore,
}

impl Default for Memory {
    fn default() -> Self {
        Self { held: Bytes::default(), freed: Notify::new(), line: Semaphore::new(1) }
    }
}

impl Bytes {
    pub(super) fn of(&self, part: Part) -> usize {
        self.0[part as usize].get()
    }

    pub(super) fn add(&self, part: Part, bytes: usize) {
        self.0[part as usize].set(self.of(part) + bytes);
    }

    pub(super) fn sub(&self, part: Part, bytes: usize) {
        self.0[part as usize].set(self.of(part) - bytes);
    }
}
