//! An allowance that comes back with time: so many a second, and ten times as many at once.
//!
//! The state of one holder is a moment, the one at which all that it has taken will have come back
//! (the generic cell rate algorithm). So it is plain data of eight bytes, needs no timer, and the
//! default is an allowance that is whole.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{clock::Millis, limits::RATE_BURST};

const NANOS_PER_SEC: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// How much is allowed in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one comes back.
    interval_ns: u64,
}

/// How much one holder has taken: the moment at which all of it is back, in nanoseconds of the
/// server's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Meter(u64);

impl Meter {
    /// The time until the allowance is whole, in nanoseconds.
    #[must_use]
    pub fn whole_in_ns(self, now: Millis) -> u64 {
        self.0.saturating_sub(nanos(now))
    }

    /// The state of a holder whose allowance is whole after so many nanoseconds.
    #[must_use]
    pub fn whole_after(left_ns: u64, now: Millis) -> Self {
        Self(nanos(now).saturating_add(left_ns))
    }
}

impl Rate {
    /// An allowance of `count` a second.
    #[must_use]
    pub fn per_second(count: NonZeroU32) -> Self {
        Self { interval_ns: (NANOS_PER_SEC / u64::from(count.get())).max(1) }
    }

    /// Takes `cost` if at least one is left; more than is left may be taken, and is paid later.
    ///
    /// # Errors
    /// When none is left: after this time there is.
    pub fn take(self, meter: &mut Meter, cost: u32, now: Millis) -> Result<(), Duration> {
        self.check(*meter, now)?;
        meter.0 = self.after(*meter, cost, now);
        Ok(())
    }

    /// Whether one is left.
    ///
    /// # Errors
    /// When none is: after this time there is.
    pub fn check(self, meter: Meter, now: Millis) -> Result<(), Duration> {
        let with_one_more = self.after(meter, 1, now);
        match with_one_more.saturating_sub(nanos(now).saturating_add(burst_ns())) {
            0 => Ok(()),
            wait_ns => Err(Duration::from_nanos(wait_ns)),
        }
    }

    /// Takes `cost` even if none is left, up to a debt as large as the allowance.
    pub fn charge(self, meter: &mut Meter, cost: u32, now: Millis) {
        let most = nanos(now).saturating_add(2 * burst_ns());
        meter.0 = self.after(*meter, cost, now).min(most);
    }

    /// Charges `amount` of something of which `whole` cost one.
    pub fn charge_part(self, meter: &mut Meter, amount: usize, whole: usize, now: Millis) {
        let amount = u64::try_from(amount).unwrap_or(u64::MAX);
        let whole = u64::try_from(whole.max(1)).unwrap_or(u64::MAX);
        let cost_ns = self.interval_ns.saturating_mul(amount) / whole;
        let most = nanos(now).saturating_add(2 * burst_ns());
        meter.0 = meter.0.max(nanos(now)).saturating_add(cost_ns).min(most);
    }

    /// Whether more was charged than there was.
    #[must_use]
    pub fn is_in_debt(self, meter: Meter, now: Millis) -> bool {
        meter.0 > nanos(now).saturating_add(burst_ns())
    }

    fn after(self, meter: Meter, cost: u32, now: Millis) -> u64 {
        let cost_ns = self.interval_ns.saturating_mul(cost.into());
        meter.0.max(nanos(now)).saturating_add(cost_ns)
    }
}

fn nanos(now: Millis) -> u64 {
    now.0.saturating_mul(NANOS_PER_MILLI)
}

const fn burst_ns() -> u64 {
    RATE_BURST.as_secs() * NANOS_PER_SEC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32) -> Rate {
        Rate::per_second(NonZeroU32::new(count).unwrap())
    }

    /// The number that is granted at `now` in one go.
    fn granted(rate: Rate, meter: &mut Meter, now: Millis) -> u32 {
        (0..).find(|_| rate.take(meter, 1, now).is_err()).unwrap()
    }

    #[test]
    fn a_burst_is_ten_seconds_worth_and_comes_back_evenly() {
        for count in [1, 3, 50, 10_000] {
            let (rate, meter) = (rate(count), &mut Meter::default());
            let start = Millis(123_456);
            assert_eq!(granted(rate, meter, start), 10 * count, "{count}");
            assert_eq!(granted(rate, meter, start + Duration::from_secs(1)), count, "{count}");
            let later = start + Duration::from_secs(100);
            assert_eq!(granted(rate, meter, later), 10 * count, "{count}: no more than a burst");
        }
    }

    #[test]
    fn a_refusal_says_when_one_is_left() {
        let (rate, meter) = (rate(4), &mut Meter::default());
        let now = Millis(5_000);
        granted(rate, meter, now);
        let wait = rate.take(meter, 1, now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(250));
        assert!(rate.check(*meter, now + (wait - Duration::from_millis(1))).is_err());
        assert_eq!(rate.take(meter, 1, now + wait), Ok(()));
    }

    /// A cost above the allowance is granted once, and paid for before the next.
    #[test]
    fn a_large_cost_is_paid_later() {
        let (rate, meter) = (rate(2), &mut Meter::default());
        assert_eq!(rate.take(meter, 100, Millis(0)), Ok(()));
        assert_eq!(rate.take(meter, 1, Millis(0)), Err(Duration::from_millis(40_500)));
    }

    /// A charge that is not asked for leaves a bounded debt.
    #[test]
    fn a_debt_is_bounded() {
        let (rate, meter) = (rate(1), &mut Meter::default());
        for _ in 0..1_000 {
            rate.charge(meter, 2, Millis(0));
        }
        assert_eq!(rate.check(*meter, Millis(0)), Err(Duration::from_secs(11)));
    }
}
