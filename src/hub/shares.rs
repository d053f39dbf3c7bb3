//! Bytes that several clients are given individually, held once for all of them.
//!
//! Such bytes are a message of the history, or the rest of a frame whose log had to be cut. Each
//! client keeps an offset into them, not a copy. They are kept, and charged, while a client reads
//! them, even after the history has forgotten them.

use std::collections::HashMap;

use bytes::Bytes;
use slab::Slab;

use super::{
    Encoding,
    long::{Long, LongWindow},
    number::small,
};
use crate::{channel::ChannelName, limits::SHARE_COST_BYTES, position::Position};

/// The identity of shared bytes, by which the next client that is given the same finds them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A message of this channel at this position in this encoding: the payload of its frame, or
    /// header and payload, always the same in one encoding. The number, the address of the payload,
    /// distinguishes it from another message that got the same position after a failover.
    Message(ChannelName, Position, Encoding, usize),
    /// The frame that ends at this offset, in the log of this serial.
    Frame(u64, u64),
    /// Frames that another hub wrote.
    Frames(u64),
}

/// The shared bytes themselves.
#[derive(Debug)]
pub(super) enum Body {
    Bytes(Bytes),
    /// A whole frame that is written when it is read.
    Long(Long),
    /// Frames of a log that another hub wrote.
    Frames(Frames),
}

/// Frames that follow each other; the first one may lack its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    bytes: Bytes,
    /// The places at which a frame begins or ends, in order.
    boundaries: Box<[u64]>,
}

impl Frames {
    /// Frames with these boundaries, of which those outside of the bytes are left out.
    pub(super) fn new(bytes: Bytes, mut boundaries: Vec<u64>) -> Self {
        boundaries.retain(|&place| place <= bytes.len() as u64);
        boundaries.sort_unstable();
        Self { bytes, boundaries: boundaries.into() }
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn boundaries(&self) -> &[u64] {
        &self.boundaries
    }

    /// The first boundary at or after `from`.
    fn boundary_from(&self, from: usize) -> usize {
        let place = self.boundaries.partition_point(|&place| place < from as u64);
        let boundary = self.boundaries.get(place).and_then(|&place| usize::try_from(place).ok());
        boundary.unwrap_or(self.bytes.len())
    }

    /// How many frames end after `from`, and at or before `to`.
    fn ended(&self, from: usize, to: usize) -> usize {
        let up_to = |end: usize| self.boundaries.partition_point(|&place| place <= end as u64);
        up_to(to) - up_to(from)
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Long(long) => long.len(),
            Self::Frames(frames) => frames.bytes.len(),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            // It keeps the payload even when no log holds it any more.
            Self::Long(long) => long.cost() + long.payload_bytes(),
            Self::Frames(frames) => frames.bytes.len() + size_of_val(&*frames.boundaries),
        }
    }
}

#[derive(Debug)]
struct SharedBody {
    body: Body,
    source: Source,
    readers: usize,
    /// So many of the readers are closing: they will leave soon in any case.
    leaving: usize,
}

impl SharedBody {
    fn cost(&self) -> usize {
        self.body.cost() + SHARE_COST_BYTES
    }

    /// The memory that is freed when the closing readers have left.
    fn owed(&self) -> usize {
        if self.readers == self.leaving { self.cost() } else { 0 }
    }
}

/// All shared bytes of a hub.
///
/// # Invariants
/// Each share has one reader per outbox that refers to it, and no more closing readers than
/// readers.
#[derive(Debug, Default)]
pub(super) struct Shares {
    all: Slab<SharedBody>,
    by_source: HashMap<Source, u32>,
    owed_bytes: usize,
}

impl Shares {
    pub(super) fn find(&self, source: &Source) -> Option<u32> {
        self.by_source.get(source).copied()
    }

    pub(super) fn len(&self, share: u32) -> usize {
        self.all[share as usize].body.len()
    }

    /// The bytes from `from` on; of a long frame some of them, written into `window`.
    pub(super) fn bytes<'a>(
        &'a self,
        share: u32,
        from: usize,
        window: &'a mut LongWindow,
    ) -> &'a [u8] {
        match &self.all[share as usize].body {
            Body::Bytes(bytes) => &bytes[from..],
            Body::Long(long) => window.bytes(long, from as u64, long.len() as u64),
            Body::Frames(frames) => &frames.bytes[from..],
        }
    }

    /// The body of a share.
    pub(super) fn body(&self, share: u32) -> &Body {
        &self.all[share as usize].body
    }

    /// The end of the frame of which the bytes before `from` are out; of frames of a log `from`
    /// itself if it is between two of them.
    pub(super) fn frame_end(&self, share: u32, from: usize) -> usize {
        match self.body(share) {
            Body::Frames(frames) => frames.boundary_from(from),
            body => body.len(),
        }
    }

    /// How many frames of a log end with the bytes from `from` to `to`.
    pub(super) fn frames_ended(&self, share: u32, from: usize, to: usize) -> u64 {
        match self.body(share) {
            Body::Frames(frames) => frames.ended(from, to) as u64,
            body => u64::from(to == body.len() && from < to),
        }
    }

    /// The cost of a share for each of its readers.
    pub(super) fn cost_per_reader(&self, share: u32) -> usize {
        let shared = &self.all[share as usize];
        shared.cost() / shared.readers.max(1)
    }

    /// The memory that is freed as soon as all closing readers have left.
    pub(super) fn owed_bytes(&self) -> usize {
        self.owed_bytes
    }

    /// Begins to share bytes with a first reader; returns their cost.
    pub(super) fn insert(&mut self, source: Source, body: Body) -> (u32, usize) {
        let shared = SharedBody { body, source: source.clone(), readers: 1, leaving: 0 };
        let cost = shared.cost();
        let share = small(self.all.insert(shared));
        self.by_source.insert(source, share);
        (share, cost)
    }

    /// One more reader.
    pub(super) fn join(&mut self, share: u32) {
        self.change(share, |shared| shared.readers += 1);
    }

    /// One of the readers begins to close.
    pub(super) fn begin_to_leave(&mut self, share: u32) {
        self.change(share, |shared| shared.leaving += 1);
    }

    /// One reader fewer; `leaving` says whether it was closing. Returns the memory freed if it was
    /// the last.
    pub(super) fn leave(&mut self, share: u32, leaving: bool) -> usize {
        self.change(share, |shared| {
            shared.readers -= 1;
            shared.leaving -= usize::from(leaving);
        });
        if self.all[share as usize].readers > 0 {
            return 0;
        }
        let gone = self.all.remove(share as usize);
        self.owed_bytes -= gone.owed();
        self.by_source.remove(&gone.source);
        gone.cost()
    }

    fn change(&mut self, share: u32, change: impl FnOnce(&mut SharedBody)) {
        let shared = &mut self.all[share as usize];
        self.owed_bytes -= shared.owed();
        change(shared);
        self.owed_bytes += shared.owed();
    }

    /// The numbers of readers and of closing readers, and the cost of all shares. Panics if an
    /// invariant is broken.
    #[cfg(test)]
    pub(super) fn check(&self) -> (usize, usize, usize) {
        assert_eq!(self.all.len(), self.by_source.len(), "each has a source of its own");
        assert!(self.all.iter().all(|(_, shared)| shared.readers > 0), "each is read");
        let sum =
            |of: fn(&SharedBody) -> usize| self.all.iter().map(|(_, shared)| of(shared)).sum();
        assert_eq!(sum(SharedBody::owed), self.owed_bytes, "what leaves soon is known");
        (sum(|shared| shared.readers), sum(|shared| shared.leaving), sum(SharedBody::cost))
    }
}
