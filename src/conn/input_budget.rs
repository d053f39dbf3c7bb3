//! The part of the process's budget that clients' own messages hold, counted for this shard.
//!
//! Every byte charged goes through here, so that the metric and the budget can't differ. The caller
//! decides what to do when memory is short.

use std::sync::Arc;

use crate::hub::Budget;

/// One shard's account for input.
#[derive(Debug)]
pub(super) struct InputBudget {
    budget: Arc<Budget>,
    held_bytes: usize,
}

impl InputBudget {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held_bytes: 0 }
    }

    pub(super) fn charge(&mut self, bytes: usize) {
        self.held_bytes += bytes;
        self.budget.charge(bytes);
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
        self.budget.release(bytes);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn is_tight(&self) -> bool {
        self.budget.is_tight()
    }
}
