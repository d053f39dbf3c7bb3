//! One hand-over at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Where a process takes its turn before it hands over.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    is_taken: Arc<AtomicBool>,
}

/// The right to hand over, given back when it is dropped. It is held from the moment at which an
/// upgrade is asked for until nothing of the old process is left.
#[derive(Debug)]
pub struct Turn {
    is_taken: Arc<AtomicBool>,
}

impl Turns {
    /// The turn; `None` while somebody else has it: the answer is then
    /// [`Busy`](super::RefusedFor::Busy).
    #[must_use]
    pub fn take(&self) -> Option<Turn> {
        let was_taken = self.is_taken.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Turn { is_taken: self.is_taken.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.is_taken.store(false, Ordering::Release);
    }
}
