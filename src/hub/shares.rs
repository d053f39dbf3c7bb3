//! Bytes that several clients are given by themselves, held once for all of them.
//!
//! A message of the history, or the rest of a frame whose log had to be cut: whoever is given it
//! keeps a place in it, not a copy. It is there, and charged, as long as somebody reads it: also
//! when the history that it came from has forgotten it.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;

use super::{Encoding, clients::small};
use crate::{channel::ChannelName, limits::SHARE_COST_BYTES, position::Position};

/// What shared bytes are, so that the next one who is given the same finds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A message of this channel at this position, in this encoding; of frames the payload, or
    /// header and payload: always the same in one encoding. The number tells it from another one
    /// that got the same position after a failover: where its payload is kept.
    Message(ChannelName, Position, Encoding, usize),
    /// Of the log of this serial the frame that ends at this offset.
    Frame(u64, u64),
}

#[derive(Debug)]
struct Shared {
    bytes: Bytes,
    source: Source,
    readers: usize,
}

impl Shared {
    fn cost(&self) -> usize {
        self.bytes.len() + SHARE_COST_BYTES
    }
}

/// All that is shared in a hub.
///
/// # Invariants
/// Each has readers, one for each outbox it stands in.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Slab<Shared>,
    by_source: HashMap<Source, u32>,
}

impl Shares {
    pub(super) fn find(&self, source: &Source) -> Option<u32> {
        self.by_source.get(source).copied()
    }

    pub(super) fn bytes(&self, share: u32) -> &Bytes {
        &self.all[share as usize].bytes
    }

    /// What each of its readers costs.
    pub(super) fn cost_per_reader(&self, share: u32) -> usize {
        let shared = &self.all[share as usize];
        shared.cost() / shared.readers.max(1)
    }

    /// Begins to share bytes, which somebody is about to join; what they cost.
    pub(super) fn insert(&mut self, source: Source, bytes: Bytes) -> (u32, usize) {
        let shared = Shared { bytes, source: source.clone(), readers: 0 };
        let cost = shared.cost();
        let share = small(self.all.insert(shared));
        self.by_source.insert(source, share);
        (share, cost)
    }

    /// One more reader.
    pub(super) fn join(&mut self, share: u32) {
        self.all[share as usize].readers += 1;
    }

    /// One reader less; what is given back if it was the last.
    pub(super) fn leave(&mut self, share: u32) -> usize {
        let shared = &mut self.all[share as usize];
        shared.readers -= 1;
        if shared.readers > 0 {
            return 0;
        }
        let gone = self.all.remove(share as usize);
        self.by_source.remove(&gone.source);
        gone.cost()
    }

    /// Readers of all, and what all cost; panics if an invariant is broken.
    pub(super) fn check(&self) -> (usize, usize) {
        assert_eq!(self.all.len(), self.by_source.len(), "each has a source of its own");
        assert!(self.all.iter().all(|(_, shared)| shared.readers > 0), "each is read");
        let sum = |of: fn(&Shared) -> usize| self.all.iter().map(|(_, shared)| of(shared)).sum();
        (sum(|shared| shared.readers), sum(Shared::cost))
    }
}
