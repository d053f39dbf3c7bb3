//! How much memory all logs, carries and outboxes of the process may hold together.
//!
//! One `Budget` is shared by the hubs of all shards (and by whoever holds unfinished inbound
//! messages). It only counts; who is over cuts its own logs. It is touched when a chunk or a
//! buffer is allocated or freed, never per delivery, so that shards don't fight for its line.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of bytes with a limit. Cheap to share: `Arc<Budget>`.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    hubs: AtomicUsize,
}

impl Budget {
    /// A budget of `limit_bytes`, nothing of it used.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, used_bytes: AtomicUsize::new(0), hubs: AtomicUsize::new(0) }
    }

    /// Counts `bytes` as used. Never refuses: the caller looks at [`Budget::over`] afterwards.
    pub fn charge(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was charged.
    pub fn release(&self, bytes: usize) {
        let before = self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more was released than charged");
    }

    /// Bytes in use now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether more is in use than allowed.
    #[must_use]
    pub fn over(&self) -> bool {
        self.used() > self.limit_bytes
    }

    /// What each hub could use if all used the same.
    pub(super) fn fair_share(&self) -> usize {
        self.limit_bytes / self.hubs.load(Ordering::Relaxed).max(1)
    }
}

/// One hub's account with the shared budget: what it still holds goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    budget: std::sync::Arc<Budget>,
    held_bytes: usize,
    /// The part of it that is carries and outboxes: what no cut of a log gives back.
    outbox_bytes: usize,
}

impl Account {
    pub(super) fn new(budget: std::sync::Arc<Budget>) -> Self {
        budget.hubs.fetch_add(1, Ordering::Relaxed);
        Self { budget, held_bytes: 0, outbox_bytes: 0 }
    }

    /// An outbox grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_outbox(&mut self, before: usize, after: usize) {
        self.outbox_bytes = self.outbox_bytes + after - before;
        self.resize(before, after);
    }

    /// Whether a begun frame's rest of `bytes` may be put into an outbox. While the budget is
    /// over, outboxes get at most half of this hub's share: cutting logs makes room for them.
    pub(super) fn has_room_for_carry(&self, bytes: usize) -> bool {
        !self.over() || self.outbox_bytes + bytes <= self.budget.fair_share() / 2
    }

    /// A log grew or shrank from `before` to `after` bytes.
    pub(super) fn resize(&mut self, before: usize, after: usize) {
        if after > before {
            self.budget.charge(after - before);
        } else if after < before {
            self.budget.release(before - after);
        }
        self.held_bytes = self.held_bytes + after - before;
    }

    pub(super) fn over(&self) -> bool {
        self.budget.over()
    }

    /// Whether this hub holds more than its equal share of the whole.
    pub(super) fn over_fair_share(&self) -> bool {
        self.held_bytes > self.budget.fair_share()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.release(self.held_bytes);
        self.budget.hubs.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_budget_is_over_only_past_its_limit_and_a_dropped_account_gives_everything_back() {
        let budget = Arc::new(Budget::new(100));
        let mut account = Account::new(Arc::clone(&budget));
        account.resize(0, 100);
        assert!(!budget.over());
        account.resize(10, 11);
        assert!(budget.over() && account.over());
        account.resize(11, 1);
        assert_eq!(budget.used(), 91);
        drop(account);
        assert_eq!(budget.used(), 0);
    }
}
