//! The allowances of addresses, in a table of fixed size.
//!
//! An address has its place in one set of eight. When a ninth comes, the one that has used least is
//! forgotten, and begins anew when it comes back: so a flood of addresses makes each other
//! forgotten, and never the one that has used most. Which set that is depends on a random key of
//! the process, so nobody can choose addresses that fall into the set of another one. Sixty-four
//! locks stand between the shards, each held for a few comparisons.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    address_key::AddressKey,
    rate::{Meter, Rate},
};
use crate::{
    clock::Millis,
    limits::{ADDRESS_PARTS, RATE_SETS_PER_PART, RATE_WAYS},
};

/// An address, and what it has used. The default is a place that nobody has.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    address: AddressKey,
    meter: Meter,
}

type Part = Mutex<Box<[[Slot; RATE_WAYS]]>>;

/// The allowances of addresses at one rate.
#[derive(Debug)]
pub(super) struct RateTable {
    rate: Rate,
    hasher: RandomState,
    parts: Box<[Part]>,
}

impl RateTable {
    /// Nobody has used anything.
    pub(super) fn new(rate: Rate) -> Self {
        let part = || Mutex::new(vec![<[Slot; RATE_WAYS]>::default(); RATE_SETS_PER_PART].into());
        let parts = std::iter::repeat_with(part).take(ADDRESS_PARTS).collect();
        Self { rate, hasher: RandomState::new(), parts }
    }

    /// [`Rate::take`] of one.
    pub(super) fn take(&self, address: AddressKey, now: Millis) -> Result<(), Duration> {
        self.with(address, |meter| self.rate.take(meter, 1, now))
    }

    /// [`Rate::check`]; an address that is not in the table gets no place in it.
    pub(super) fn check(&self, address: AddressKey, now: Millis) -> Result<(), Duration> {
        let (part, set) = self.place(address);
        let sets = part.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sets[set].iter().find(|slot| slot.address == address);
        known.map_or(Ok(()), |slot| self.rate.check(slot.meter, now))
    }

    /// [`Rate::charge`].
    pub(super) fn charge(&self, address: AddressKey, cost: u32, now: Millis) {
        self.with(address, |meter| self.rate.charge(meter, cost, now));
    }

    fn with<T>(&self, address: AddressKey, use_it: impl FnOnce(&mut Meter) -> T) -> T {
        let (part, set) = self.place(address);
        let mut sets = part.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut sets[set];
        if let Some(slot) = slots.iter_mut().find(|slot| slot.address == address) {
            return use_it(&mut slot.meter);
        }
        let least = slots.iter_mut().min_by_key(|slot| slot.meter).expect("a set has places");
        *least = Slot { address, meter: Meter::default() };
        use_it(&mut least.meter)
    }

    fn place(&self, address: AddressKey) -> (&Part, usize) {
        let hash = usize::try_from(self.hasher.hash_one(address) & 0xffff_ffff)
            .expect("32 bits are an index");
        (&self.parts[hash % ADDRESS_PARTS], hash / ADDRESS_PARTS % RATE_SETS_PER_PART)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU32};

    use super::*;

    fn table(per_second: u32) -> RateTable {
        RateTable::new(Rate::per_second(NonZeroU32::new(per_second).unwrap()))
    }

    fn key(number: u32) -> AddressKey {
        std::net::IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn addresses_have_allowances_of_their_own() {
        let table = table(1);
        let now = Millis(1);
        for number in 0..100 {
            let granted = (0..).find(|_| table.take(key(number), now).is_err()).unwrap();
            assert_eq!(granted, 10, "{number}");
            assert!(table.check(key(number), now).is_err());
        }
        assert_eq!(table.check(key(100), now), Ok(()));
    }

    /// A flood of addresses does not make the one forgotten that has used most.
    #[test]
    fn a_flood_forgets_no_address_that_has_used_much() {
        let table = table(1);
        let now = Millis(1);
        while table.take(key(0), now).is_ok() {}
        for number in 1..200_000 {
            table.take(key(number), now).unwrap_or_default();
        }
        assert!(table.check(key(0), now).is_err());
    }

    /// Two tables put addresses into different sets: a set that is chosen for one is none in the
    /// other.
    #[test]
    fn sets_differ_from_process_to_process() {
        let (one, other) = (table(1), table(1));
        let place = |table: &RateTable, number| table.place(key(number)).1;
        let same = (0..1_000).filter(|&number| place(&one, number) == place(&other, number));
        let same = same.count();
        assert!(same < 100, "{same} of 1,000 addresses are in sets of the same number");
    }
}
