//! How much history a process reads from Redis on clients' behalf: pure.
//!
//! At once as much as it may keep, so that a process that starts gets all it needs; from then on so
//! much a second. A reading is begun when anything is allowed, and counts as large as the readings
//! before it until its size is known: many at once do not get around the limit. Readings for
//! messages that shards missed are not limited here: they are not a client's choice.

use crate::{clock::Millis, limits::HISTORY_READ_BYTES_PER_SECOND};

/// Bytes that may be read.
#[derive(Debug)]
pub(super) struct Allowance {
    most: i64,
    left: i64,
    at: Option<Millis>,
    /// The size of a reading, as far as is known.
    usual: i64,
}

/// How many readings the usual one is made of.
const READINGS: i64 = 8;

impl Allowance {
    /// At most `most` at once; one reading brings `largest` at most.
    pub(crate) fn new(most: usize, largest: usize) -> Self {
        let most = bytes(most).max(1);
        Self { most, left: most, at: None, usual: bytes(largest) / READINGS }
    }

    /// Whether a reading may begin.
    pub(super) fn is_open(&mut self, now: Millis) -> bool {
        let before = self.at.replace(now).unwrap_or(now);
        let passed_ms = i64::try_from((now - before).as_millis()).unwrap_or(i64::MAX);
        let gained = passed_ms.saturating_mul(HISTORY_READ_BYTES_PER_SECOND as i64 / 1000);
        self.left = self.left.saturating_add(gained).min(self.most);
        self.left > 0
    }

    /// A reading begins: the bytes reserved for it.
    pub(super) fn begin(&mut self) -> i64 {
        self.left = self.left.saturating_sub(self.usual);
        self.usual
    }

    /// It is over, and has brought so much.
    pub(super) fn end(&mut self, reserved: i64, brought: Option<usize>) {
        let brought = brought.map(bytes);
        self.left = self.left.saturating_add(reserved).saturating_sub(brought.unwrap_or(0));
        if let Some(brought) = brought {
            self.usual += (brought - self.usual) / READINGS;
        }
    }
}

fn bytes(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readings_use_the_allowance_and_time_restores_it() {
        let mut allowance = Allowance::new(1000, 0);
        let second = Duration::from_secs(1);
        assert!(allowance.is_open(Millis(0)));
        allowance.end(0, Some(1000 + 2 * HISTORY_READ_BYTES_PER_SECOND));
        assert!(!allowance.is_open(Millis(0)) && !allowance.is_open(Millis(0) + second));
        assert!(allowance.is_open(Millis(0) + 3 * second));
        allowance.end(0, Some(1000));
        assert!(!allowance.is_open(Millis(0) + 3 * second), "no more than that is saved");
    }

    /// Regression: all that began together were free.
    #[test]
    fn many_readings_at_once_are_as_many_as_may_be_kept() {
        let mut allowance = Allowance::new(32_000, 8_000);
        let now = Millis(0);
        let begin = |allowance: &mut Allowance| {
            let mut begun = Vec::new();
            while allowance.is_open(now) && begun.len() < 1_000 {
                begun.push(allowance.begin());
            }
            begun
        };
        let first = begin(&mut allowance);
        assert_eq!(first.len(), 32, "before anything is known, an eighth of the largest each");
        for reserved in first {
            allowance.end(reserved, Some(8_000));
        }
        // They were large, so fewer begin together from now on.
        let later = now + Duration::from_secs(100);
        assert!(allowance.is_open(later));
        let reserved = allowance.begin();
        assert!((7_000..=8_000).contains(&reserved), "{reserved}");
        allowance.end(reserved, None);
        for _ in 0..100 {
            let reserved = allowance.begin();
            allowance.end(reserved, Some(0));
        }
        assert!(allowance.begin() < 10, "and small ones do not hold each other up");
    }
}
