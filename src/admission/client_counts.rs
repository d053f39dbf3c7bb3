//! The clients of each address, counted exactly.
//!
//! An address is here exactly as long as it has a client, so the table is no larger than the number
//! of clients, which has a limit of its own; nothing in it could be forgotten.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use super::address_key::AddressKey;
use crate::limits::ADDRESS_PARTS;

type Part = Mutex<HashMap<AddressKey, u32, RandomState>>;

/// The number of clients of each address.
#[derive(Debug)]
pub(super) struct ClientCounts {
    hasher: RandomState,
    parts: Box<[Part]>,
}

/// One client of an address, counted until this is dropped.
pub struct AddressGuard {
    counts: Arc<ClientCounts>,
    address: AddressKey,
}

impl AddressGuard {
    /// The address for which the client counts.
    #[must_use]
    pub fn counted(&self) -> AddressKey {
        self.address
    }
}

impl ClientCounts {
    pub(super) fn new() -> Self {
        let parts = std::iter::repeat_with(Part::default).take(ADDRESS_PARTS).collect();
        Self { hasher: RandomState::new(), parts }
    }

    /// Counts one more client, if there are fewer than `most`.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: AddressKey,
        most: Option<NonZeroU32>,
    ) -> Option<AddressGuard> {
        let mut part = self.part(address).lock().unwrap_or_else(PoisonError::into_inner);
        let count = match part.entry(address) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(0),
        };
        if most.is_some_and(|most| *count >= most.get()) {
            return None;
        }
        *count += 1;
        Some(AddressGuard { counts: self.clone(), address })
    }

    fn leave(&self, address: AddressKey) {
        let mut part = self.part(address).lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut entry) = part.entry(address) else { return };
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    fn part(&self, address: AddressKey) -> &Part {
        let hash = usize::try_from(self.hasher.hash_one(address) & 0xffff_ffff)
            .expect("32 bits are an index");
        &self.parts[hash % ADDRESS_PARTS]
    }

    #[cfg(test)]
    fn addresses(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().len()).sum()
    }
}

impl fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AddressGuard").field(&self.address).finish()
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        self.counts.leave(self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(number: u32) -> AddressKey {
        std::net::IpAddr::from(Ipv4Addr::from_bits(number)).into()
    }

    #[test]
    fn a_count_has_its_limit_and_leaves_no_trace() {
        let counts = Arc::new(ClientCounts::new());
        let most = NonZeroU32::new(3);
        let mut guards: Vec<_> = (0..3).map(|_| counts.enter(key(1), most).unwrap()).collect();
        assert!(counts.enter(key(1), most).is_none());
        let other = counts.enter(key(2), most).unwrap();
        guards.pop();
        let again = counts.enter(key(1), most);
        assert!(again.is_some() && counts.enter(key(1), most).is_none());
        assert!(counts.enter(key(1), None).is_some(), "without a bound it counts on");
        drop((guards, again, other));
        assert_eq!(counts.addresses(), 0);
    }

    /// However many threads come and go at once, the count is exact.
    #[test]
    fn counts_are_exact_across_threads() {
        let counts = Arc::new(ClientCounts::new());
        let most = NonZeroU32::new(5);
        let come_and_go = || {
            for _ in 0..2_000 {
                let guards: Vec<_> = (0..3).filter_map(|_| counts.enter(key(1), most)).collect();
                drop(guards);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come_and_go))));
        assert_eq!(counts.addresses(), 0);
        let guards: Vec<_> = (0..9).filter_map(|_| counts.enter(key(1), most)).collect();
        assert_eq!(guards.len(), 5);
    }
}
