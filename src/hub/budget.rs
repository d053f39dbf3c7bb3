//! How much memory all logs, carries and outboxes of the process may hold together.
//!
//! One `Budget` is shared by the hubs of all shards (and by whoever holds unfinished inbound
//! messages). It only counts; who is over cuts its own logs. It is touched when a chunk or a
//! buffer is allocated or freed, never per delivery, so that shards don't fight for its line.
//!
//! Room is made before the limit is reached: the last eighth is for what is still held by those who
//! have to go, thousands at once maybe, while they go one after the other, and for the rest of what
//! they have begun to read. Only past the limit itself is everything else interrupted for it.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::limits::{FORMS_PART, HELD_MESSAGE_PART};

/// The part of the limit that is left free as long as there is time: one in so many.
const RESERVE_PART: usize = 8;

/// A count of bytes with a limit. Cheap to share: `Arc<Budget>`.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    /// Past this room is made, bit by bit.
    target_bytes: usize,
    used_bytes: AtomicUsize,
    hubs: AtomicUsize,
    /// Payloads that are charged once for all who hold them, by their place and length: how many
    /// do.
    joint: Mutex<HashMap<(usize, usize), usize>>,
}

impl Budget {
    /// A budget of `limit_bytes`, nothing of it used.
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

    /// Whether so much is in use that room is to be made.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.excess() > 0
    }

    /// How much is in use beyond that.
    pub(super) fn excess(&self) -> usize {
        self.used().saturating_sub(self.target_bytes)
    }

    /// Whether half of what is left free is used.
    pub(super) fn is_pressed(&self) -> bool {
        self.excess() > (self.limit_bytes - self.target_bytes) / 2
    }

    /// Whether a message of so many bytes can be held and room is left for what follows.
    fn can_hold(&self, payload_bytes: usize) -> bool {
        payload_bytes.saturating_mul(HELD_MESSAGE_PART) <= self.limit_bytes
    }

    /// Whether a message's forms might take a large part, if they take `forms_bytes` in each hub.
    fn are_long(&self, forms_bytes: usize) -> bool {
        let hubs = self.hubs.load(Ordering::Relaxed);
        forms_bytes.saturating_mul(hubs).saturating_mul(FORMS_PART) > self.limit_bytes
    }

    /// One more or one less holds this payload.
    fn change_joint(&self, payload: &Bytes, change: impl FnOnce(&mut usize)) {
        let mut joint = self.joint.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (payload.as_ptr().addr(), payload.len());
        let holders = joint.entry(key).or_default();
        let before = *holders;
        change(holders);
        match (before, *holders) {
            (0, _) => self.charge(payload.len()),
            (_, 0) => {
                self.release(payload.len());
                joint.remove(&key);
            }
            _ => {}
        }
    }

    /// What each hub could use if all used the same.
    pub(super) fn fair_share(&self) -> usize {
        self.target_bytes / self.hubs.load(Ordering::Relaxed).max(1)
    }
}

/// A payload that several hold, charged once as long as one of them does.
#[derive(Debug)]
pub(super) struct Joint {
    payload: Bytes,
    budget: Arc<Budget>,
}

impl Joint {
    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        self.budget.change_joint(&self.payload, |holders| *holders -= 1);
    }
}

fn excess(bytes: usize, allowance: usize) -> usize {
    if bytes > allowance { bytes - allowance + allowance / 8 } else { 0 }
}

/// One hub's account with the shared budget: what it still holds goes back when it is dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Arc<Budget>,
    held_bytes: usize,
    /// Payloads that other logs may hold, too: not a part of it.
    joint_bytes: usize,
    /// The part of it that is carries and outboxes: what no cut of a log gives back.
    outbox_bytes: usize,
    /// The part of it that outboxes share.
    share_bytes: usize,
    /// The part of it that subscriptions take.
    subscription_bytes: usize,
}

impl BudgetShare {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        budget.hubs.fetch_add(1, Ordering::Relaxed);
        Self {
            budget,
            held_bytes: 0,
            joint_bytes: 0,
            outbox_bytes: 0,
            share_bytes: 0,
            subscription_bytes: 0,
        }
    }

    /// Charges a payload, unless somebody holds it already.
    pub(super) fn join(&self, payload: &Bytes) -> Rc<Joint> {
        self.budget.change_joint(payload, |holders| *holders += 1);
        Rc::new(Joint { payload: payload.clone(), budget: Arc::clone(&self.budget) })
    }

    /// What a log holds together with others grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_joint(&mut self, before: usize, after: usize) {
        self.joint_bytes = self.joint_bytes + after - before;
    }

    /// Payloads that this hub's logs hold, each as often as it stands in one.
    pub(super) fn joint_bytes(&self) -> usize {
        self.joint_bytes
    }

    /// Whether a message whose forms take so many bytes here is better written while it is read.
    pub(super) fn are_long(&self, forms_bytes: usize) -> bool {
        self.budget.are_long(forms_bytes)
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

    /// What outboxes share grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_shares(&mut self, before: usize, after: usize) {
        self.share_bytes = self.share_bytes + after - before;
        self.resize(before, after);
    }

    /// What subscriptions take grew or shrank from `before` to `after` bytes.
    pub(super) fn resize_subscriptions(&mut self, before: usize, after: usize) {
        self.subscription_bytes = self.subscription_bytes + after - before;
        self.resize(before, after);
    }

    /// Whether they would take more than their part with `more` bytes: a quarter of this hub's
    /// share, so that logs have theirs.
    pub(super) fn subscriptions_exceed(&self, more: usize) -> bool {
        self.subscription_bytes + more > self.budget.fair_share() / 4
    }

    /// Whether a begun frame's rest of `bytes` may be put into an outbox. While the budget is
    /// over, outboxes get at most half of this hub's share: cutting logs makes room for them.
    pub(super) fn has_room_for_carry(&self, bytes: usize) -> bool {
        let held = self.outbox_bytes + self.share_bytes;
        !self.over() || held + bytes <= self.budget.fair_share() / 2
    }

    /// What outboxes may hold for themselves, and again what they may share, before they are the
    /// first to go when the budget is over: a quarter of this hub's share each. So at least half
    /// is left to logs, and nobody who is behind in one pays for answers that others don't read.
    fn outbox_allowance(&self) -> usize {
        self.budget.fair_share() / 4
    }

    /// How much outboxes hold for themselves beyond their allowance, and somewhat more, so that
    /// they are not looked at again for the next byte; 0: they are within it.
    pub(super) fn outbox_excess(&self) -> usize {
        excess(self.outbox_bytes, self.outbox_allowance())
    }

    /// The same for what they share, of which `owed` bytes are given back soon.
    pub(super) fn share_excess(&self, owed: usize) -> usize {
        excess(self.share_bytes - owed, self.outbox_allowance())
    }

    /// What is held in outboxes and shares.
    pub(super) fn outbox_parts(&self) -> (usize, usize) {
        (self.outbox_bytes, self.share_bytes)
    }

    /// Whether this hub is to make room while the budget is over: one that holds no more than its
    /// share first waits for those who do.
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

    /// Whether this hub holds more than its equal share of the whole.
    pub(super) fn over_fair_share(&self) -> bool {
        self.held_bytes + self.joint_bytes > self.budget.fair_share()
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

    #[test]
    fn a_budget_is_over_only_past_its_limit_and_a_dropped_account_gives_everything_back() {
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
