//! Connections that have shown no request, by their address.
//!
//! An address that holds many places so is taken for a flood: its connections leave first, however
//! old those of others are. One look must not go through all addresses, so the few that hold many
//! are kept apart.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use crate::{admission::AddressKey, limits::HTTP_ADDRESS_SHARE};

/// How many such connections each address has.
pub(super) struct FreshByAddress {
    many: usize,
    counts: RefCell<HashMap<AddressKey, usize>>,
    /// The addresses that have `many` or more: at most [`HTTP_ADDRESS_SHARE`] of them, or half as
    /// many as there are places.
    crowds: RefCell<Vec<AddressKey>>,
}

impl FreshByAddress {
    /// For so many places.
    pub(super) fn among(places: usize) -> Self {
        let many = (places / HTTP_ADDRESS_SHARE).max(2);
        Self { many, counts: RefCell::default(), crowds: RefCell::default() }
    }

    pub(super) fn add(&self, address: AddressKey) {
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(address).or_default();
        *count += 1;
        if *count == self.many {
            self.crowds.borrow_mut().push(address);
        }
    }

    pub(super) fn remove(&self, address: AddressKey) {
        let mut counts = self.counts.borrow_mut();
        let Entry::Occupied(mut entry) = counts.entry(address) else { return };
        if *entry.get() == self.many {
            self.crowds.borrow_mut().retain(|other| *other != address);
        }
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    /// The address that has most, if it has many.
    pub(super) fn crowd(&self) -> Option<AddressKey> {
        let counts = self.counts.borrow();
        let count = |address: &AddressKey| counts.get(address).copied();
        self.crowds.borrow().iter().max_by_key(|address| count(address)).copied()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.counts.borrow().is_empty() && self.crowds.borrow().is_empty()
    }
}
