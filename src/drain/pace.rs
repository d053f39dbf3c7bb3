//! The pace at which a drain closes the clients that remain.
//!
//! Clients that are closed all at once would all reconnect at once. So the closes are spread evenly
//! over a window, and over the shards, which need not talk to each other for that. Pure functions
//! of the time.

use std::time::Duration;

/// One of several shares that close their clients over the same window. Their first closes are
/// spread as well, so that many shards with few clients each do not close them all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceShare {
    /// The share's index; the first one begins at once.
    pub index: usize,
    /// The number of shares.
    pub of: usize,
}

/// The part of a closing window in which clients are closed: its end is left for the last one's
/// answer, a tenth of it, 2 s at most.
#[must_use]
pub(super) fn closing_span(window: Duration) -> Duration {
    window.saturating_sub((window / 10).min(Duration::from_secs(2)))
}

/// How many of `total` clients should have been closed `elapsed` into a window: evenly paced over
/// the part in which clients are closed.
#[must_use]
pub fn paced(total: usize, elapsed: Duration, window: Duration, share: PaceShare) -> usize {
    let span = closing_span(window).as_micros();
    if span == 0 || elapsed.as_micros() >= span {
        return total;
    }
    let of = share.of.max(1) as u128;
    let due = total as u128 * elapsed.as_micros() * of / span;
    // Rounded up from the first instant on, for each later share a little later.
    let ahead = of.saturating_sub(share.index as u128);
    usize::try_from((due + ahead) / of).map_or(total, |due| due.min(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_paced_evenly_and_end_before_the_window() {
        let window = Duration::from_secs(10);
        let alone = PaceShare { index: 0, of: 1 };
        let paced = |total, elapsed, window| paced(total, elapsed, window, alone);
        assert_eq!(paced(1, Duration::ZERO, window), 1);
        let mut before = 0;
        for tenth in 0..=90 {
            let due = paced(900, Duration::from_millis(tenth * 100), window);
            assert!(due >= before && due - before <= 11, "{before} -> {due}");
            before = due;
        }
        assert_eq!(before, 900);
        assert_eq!(paced(5, Duration::ZERO, Duration::ZERO), 5);
    }

    /// Many shards with one client each close them one by one.
    #[test]
    fn many_small_shards_close_clients_one_by_one() {
        let window = Duration::from_secs(10);
        let closed_at = |millis| -> usize {
            let turns = (0..9).map(|index| PaceShare { index, of: 9 });
            turns.map(|turn| paced(1, Duration::from_millis(millis), window, turn)).sum()
        };
        let mut before = 0;
        for second in 0..=9 {
            let closed = closed_at(second * 1000);
            assert!(closed <= before + 1, "{closed} at {second} s");
            before = closed;
        }
        assert_eq!((closed_at(0), closed_at(4000), closed_at(9000)), (1, 5, 9));
    }
}
