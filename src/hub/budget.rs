//! The memory that all logs, carries and outboxes of the process may hold together.
//!
//! One `Budget` is shared by the hubs of all shards, and by the holders of unfinished inbound
//! messages. It only counts: a hub that is over it cuts its own logs. It is touched when a chunk or
//! a buffer is allocated or freed, never per delivery, so that shards don't fight for its cache
//! line.
//!
//! Room is made before the limit is reached. The last eighth is kept free for clients that have to
//! leave: there may be thousands at once, they leave one after the other, and they may finish
//! reading what they have begun. Everything else is interrupted only when the limit itself is
//! passed.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::limits::{ENCODINGS_PART, HELD_MESSAGE_PART};

/// The part of the limit that is left free while there is time to make room: one in so many.
const RESERVE_PART: usize = 8;

/// A count of bytes with a limit. Cheap to share: `Arc<Budget>`.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    /// Above this, room is made bit by bit.
    target_bytes: usize,
    used_bytes: AtomicUsize,
    hubs: AtomicUsize,
    /// Payloads that are charged once for all their holders, by address and cost: the number of
    /// holders.
    joint: Mutex<HashMap<(usize, usize), usize>>,
}

impl Budget {
    /// A budget of `limit_bytes`, all of it unused.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            target_bytes: limit_bytes - limit_bytes / RESERVE_PART,
            used_bytes: AtomicUsize::new(0),
            hubs: AtomicUsize::new(0),
            joint: Mutex::default(),
        }
    }

    /// Counts `bytes` as used. It never refuses: the caller looks at [`Budget::over`] afterwards.
    pub fn charge(&self, bytes: usize) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns `bytes` that were charged.
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

    /// Whether so much is in use that room has to be made.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.excess() > 0
    }

    /// How many bytes are in use beyond that.
    pub(super) fn excess(&self) -> usize {
        self.used().saturating_sub(self.target_bytes)
    }

    /// Whether half of the part that is left free is used.
    pub(super) fn is_pressed(&self) -> bool {
        self.excess() > (self.limit_bytes - self.target_bytes) / 2
    }

    /// Whether a message of so many bytes can be held with room left for the next ones.
    fn can_hold(&self, payload_bytes: usize) -> bool {
        payload_bytes.saturating_mul(HELD_MESSAGE_PART) <= self.limit_bytes
    }

    /// Whether a message's encodings might take a large part of the budget, at `encodings_bytes` in
    /// each hub.
    fn are_long(&self, encodings_bytes: usize) -> bool {
        let hubs = self.hubs.load(Ordering::Relaxed);
        encodings_bytes.saturating_mul(hubs).saturating_mul(ENCODINGS_PART) > self.limit_bytes
    }

    /// Changes the number of holders of this payload.
    fn change_joint(&self, payload: &Bytes, cost: usize, change: impl FnOnce(&mut usize)) {
        let mut joint = self.joint.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (payload.as_ptr().addr(), cost);
        let holders = joint.entry(key).or_default();
        let before = *holders;
        change(holders);
        match (before, *holders) {
            (0, _) => self.charge(cost),
            (_, 0) => {
                self.release(cost);
                joint.remove(&key);
            }
            _ => {}
        }
    }

    /// The memory that each hub could use if all used the same.
    pub(super) fn fair_share(&self) -> usize {
        self.target_bytes / self.hubs.load(Ordering::Relaxed).max(1)
    }
}

/// A payload with several holders, charged once while there is at least one.
#[derive(Debug)]
pub(super) struct Joint {
    payload: Bytes,
    cost: usize,
    budget: Arc<Budget>,
}

impl Joint {
    pub(super) fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The bytes that are charged.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        self.budget.change_joint(&self.payload, self.cost, |holders| *holders -= 1);
    }
}

fn excess(bytes: usize, allowance: usize) -> usize {
    if bytes > allowance { bytes - allowance + allowance / 8 } else { 0 }
}

/// One hub's share of the budget. When it is dropped, it returns all that is still
/// charged.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Arc<Budget>,
    held_bytes: usize,
    /// Payloads that other logs may hold as well; not part of `held_bytes`.
    joint_bytes: usize,
    /// Bytes of other processes' hubs, which other hubs may hold as well; not part of `held_bytes`.
    moved_bytes: usize,
    /// The part of `held_bytes` in carries and outboxes, which no cut of a log frees.
    outbox_bytes: usize,
    /// The part of it that outboxes share.
    share_bytes: usize,
    /// The part of it for subscriptions.
    subscription_bytes: usize,
}

impl BudgetShare {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        budget.hubs.fetch_add(1, Ordering::Relaxed);
        Self {
            budget,
            held_bytes: 0,
            joint_bytes: 0,
            moved_bytes: 0,
            outbox_bytes: 0,
            share_bytes: 0,
            subscription_bytes: 0,
        }
    }

    /// Charges a payload and `more` bytes that belong to it, unless it is held and charged already.
    pub(super) fn join(&self, payload: &Bytes, more: usize) -> Rc<Joint> {
        let cost = payload.len() + more;
        self.budget.change_joint(payload, cost, |holders| *holders += 1);
        Rc::new(Joint { payload: payload.clone(), cost, budget: Arc::clone(&self.budget) })
    }

    /// So much of another hub's logs, which this process' hubs hold together, is left here.
    pub(super) fn set_moved(&mut self, bytes: usize) {
        self.moved_bytes = bytes;
    }

    #[cfg(test)]
    pub(super) fn moved_bytes(&self) -> usize {
        self.moved_bytes
    }

    /// The payloads that a log shares with others grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_joint(&mut self, before: usize, after: usize) {
        self.joint_bytes = self.joint_bytes + after - before;
    }

    /// The payloads that this hub's logs hold, each as often as it occurs in one.
    #[cfg(test)]
    pub(super) fn joint_bytes(&self) -> usize {
        self.joint_bytes
    }

    /// Whether a message whose encodings take so many bytes here is better written while it is
    /// read.
    pub(super) fn are_long(&self, encodings_bytes: usize) -> bool {
        self.budget.are_long(encodings_bytes)
    }

    /// Whether a message of so many bytes can be held at all.
    pub(super) fn can_hold(&self, payload_bytes: usize) -> bool {
        self.budget.can_hold(payload_bytes)
    }

    /// An outbox grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_outbox(&mut self, before: usize, after: usize) {
        self.outbox_bytes = self.outbox_bytes + after - before;
        self.resize(before, after);
    }

    /// The bytes shared by outboxes grew or shrank from `before` to `after`.
    pub(super) fn resize_shares(&mut self, before: usize, after: usize) {
        self.share_bytes = self.share_bytes + after - before;
        self.resize(before, after);
    }

    /// The bytes charged for subscriptions grew or shrank from `before` to `after`.
    pub(super) fn resize_subscriptions(&mut self, before: usize, after: usize) {
        self.subscription_bytes = self.subscription_bytes + after - before;
        self.resize(before, after);
    }

    /// Whether subscriptions would, with `more` bytes, take more than their part: a quarter of this
    /// hub's share, so that logs keep theirs.
    pub(super) fn subscriptions_exceed(&self, more: usize) -> bool {
        self.subscription_bytes + more > self.budget.fair_share() / 4
    }

    /// Whether the rest of a begun frame, of `bytes`, may be put into an outbox. While the budget
    /// is over, outboxes get at most half of this hub's share: cutting logs makes room for them.
    pub(super) fn has_room_for_carry(&self, bytes: usize) -> bool {
        let held = self.outbox_bytes + self.share_bytes;
        !self.over() || held + bytes <= self.budget.fair_share() / 2
    }

    /// How much outboxes may hold by themselves, and again as shared bytes, before they are cut
    /// first when the budget is over: a quarter of this hub's share each. So at least half is left
    /// to logs, and a client that is behind in a log does not pay for answers that other clients
    /// leave unread.
    fn outbox_allowance(&self) -> usize {
        self.budget.fair_share() / 4
    }

    /// How much outboxes hold by themselves beyond their allowance, plus a margin, so that they are
    /// not looked at again for the next byte; 0: they are within it.
    pub(super) fn outbox_excess(&self) -> usize {
        excess(self.outbox_bytes, self.outbox_allowance())
    }

    /// The same for the bytes they share, of which `owed` are freed soon.
    pub(super) fn share_excess(&self, owed: usize) -> usize {
        excess(self.share_bytes - owed, self.outbox_allowance())
    }

    /// The bytes held in outboxes, and those shared.
    pub(super) fn outbox_parts(&self) -> (usize, usize) {
        (self.outbox_bytes, self.share_bytes)
    }

    /// Whether this hub has to make room while the budget is over: a hub within its share first
    /// waits for those that are not.
    pub(super) fn is_to_pay(&self) -> bool {
        self.budget.hubs.load(Ordering::Relaxed) <= 1 || self.over_fair_share()
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

    pub(super) fn is_tight(&self) -> bool {
        self.budget.is_tight()
    }

    pub(super) fn excess(&self) -> usize {
        self.budget.excess()
    }

    pub(super) fn is_pressed(&self) -> bool {
        self.budget.is_pressed()
    }

    /// Whether this hub holds more than an equal share of the whole.
    pub(super) fn over_fair_share(&self) -> bool {
        self.held_bytes + self.joint_bytes + self.moved_bytes > self.budget.fair_share()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.release(self.held_bytes);
        self.budget.hubs.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A budget is over only past its limit and a dropped account gives everything back.
    #[test]
    fn a_dropped_budget_share_is_given_back() {
        let budget = Arc::new(Budget::new(100));
        let mut account = BudgetShare::new(Arc::clone(&budget));
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
