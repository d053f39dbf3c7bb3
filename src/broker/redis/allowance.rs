//! How much of histories a process reads from Redis for those who ask for them: pure.
//!
//! As much at once as it may keep, so that a process that begins gets all it needs; from then on so
//! much a second. A reading is begun when anything is allowed, and paid for when it is known how
//! large it was. What shards miss is not asked for here: it is not theirs to choose.

use crate::{clock::Millis, limits::HISTORY_READ_BYTES_PER_SECOND};

/// Bytes that may be read.
#[derive(Debug)]
pub(super) struct Allowance {
    most: i64,
    left: i64,
    at: Option<Millis>,
}

impl Allowance {
    pub(super) fn new(most: usize) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX).max(1);
        Self { most, left: most, at: None }
    }

    /// Whether a reading may begin.
    pub(super) fn is_open(&mut self, now: Millis) -> bool {
        let before = self.at.replace(now).unwrap_or(now);
        let passed_ms = i64::try_from((now - before).as_millis()).unwrap_or(i64::MAX);
        let gained = passed_ms.saturating_mul(HISTORY_READ_BYTES_PER_SECOND as i64 / 1000);
        self.left = self.left.saturating_add(gained).min(self.most);
        self.left > 0
    }

    /// So much was read.
    pub(super) fn pay(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_read_is_paid_for_and_comes_back_with_time() {
        let mut allowance = Allowance::new(1000);
        let second = Duration::from_secs(1);
        assert!(allowance.is_open(Millis(0)));
        allowance.pay(1000 + 2 * HISTORY_READ_BYTES_PER_SECOND);
        assert!(!allowance.is_open(Millis(0)) && !allowance.is_open(Millis(0) + second));
        assert!(allowance.is_open(Millis(0) + 3 * second));
        allowance.pay(1000);
        assert!(!allowance.is_open(Millis(0) + 3 * second), "no more than that is saved");
    }
}
