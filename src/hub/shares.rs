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
    moved::MovedLog,
    number::small,
    sizes::{LogSizes, Stock},
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
    /// The body of this number, of another hub of this number.
    Moved(u32, u32),
}

/// The shared bytes themselves.
#[derive(Debug)]
pub(super) enum Body {
    Bytes(Bytes),
    /// A whole frame that is written when it is read.
    Long(Long),
    /// Bytes of another hub.
    Moved(MovedLog),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Long(long) => long.len(),
            Self::Moved(log) => log.len(),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            // It keeps the payload even when no log holds it any more.
            Self::Long(long) => long.cost() + long.payload_bytes(),
            // It is charged once for all hubs that have it.
            Self::Moved(_) => 0,
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

    /// The memory of bytes from another hub.
    fn moved(&self) -> Moved {
        match &self.body {
            Body::Moved(log) => Moved { weight: log.weight(), owed: log.owed() },
            Body::Bytes(_) | Body::Long(_) => Moved::default(),
        }
    }
}

/// Memory of bytes from other hubs, and the part of it that closing readers will free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    weight: usize,
    owed: usize,
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
    /// All bytes of other hubs.
    moved: Moved,
    /// The shares that hold some, by what is not owed.
    moved_sizes: LogSizes,
    /// Clients of other hubs are still coming: nothing is trimmed that they may need.
    is_filling: bool,
}

impl Shares {
    pub(super) fn find(&self, source: &Source) -> Option<u32> {
        self.by_source.get(source).copied()
    }

    pub(super) fn len(&self, share: u32) -> usize {
        self.all[share as usize].body.len()
    }

    /// The bytes from `from` on, or some of them; those of a long frame are written into `window`.
    pub(super) fn bytes<'a>(
        &'a self,
        share: u32,
        from: usize,
        window: &'a mut LongWindow,
    ) -> &'a [u8] {
        match &self.all[share as usize].body {
            Body::Bytes(bytes) => &bytes[from..],
            Body::Long(long) => window.bytes(long, from as u64, long.len() as u64),
            Body::Moved(log) => log.bytes(from, window),
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
            Body::Moved(log) => log.boundary_from(from),
            body => body.len(),
        }
    }

    /// How many frames of a log end with the bytes from `from` to `to`.
    pub(super) fn frames_ended(&self, share: u32, from: usize, to: usize) -> u64 {
        match self.body(share) {
            Body::Moved(log) => log.ended(from, to) as u64,
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

    /// The memory of bytes from other hubs, which is charged once for all hubs that have them.
    pub(super) fn moved_bytes(&self) -> usize {
        self.moved.weight
    }

    /// The part of it that is freed as soon as closing readers have left.
    pub(super) fn moved_owed_bytes(&self) -> usize {
        self.moved.owed
    }

    /// One of the shares with the most bytes from another hub, how many it has, and up to where its
    /// oldest part goes that somebody needs who is not closing.
    pub(super) fn largest_moved(&self) -> Option<(u32, usize, usize)> {
        let (_, share) = self.moved_sizes.next_to_go()?;
        let Body::Moved(log) = self.body(share) else { return None };
        Some((share, log.weight() - log.owed(), log.needed_to()?))
    }

    /// Clients of other hubs come, or all of them are there.
    pub(super) fn set_filling(&mut self, is_filling: bool) {
        self.is_filling = is_filling;
        if !is_filling {
            let all: Vec<u32> = self.all.iter().map(|(share, _)| small(share)).collect();
            all.into_iter().for_each(|share| self.change(share, |_| ()));
        }
    }

    /// Whether they come.
    pub(super) fn is_filling(&self) -> bool {
        self.is_filling
    }

    /// Begins to share bytes with a first reader, at `from`; returns their cost.
    pub(super) fn insert(&mut self, source: Source, body: Body, from: usize) -> (u32, usize) {
        let shared = SharedBody { body, source: source.clone(), readers: 0, leaving: 0 };
        let cost = shared.cost();
        // Without readers all of it is owed.
        self.owed_bytes += shared.owed();
        self.moved.weight += shared.moved().weight;
        self.moved.owed += shared.moved().owed;
        let share = small(self.all.insert(shared));
        self.by_source.insert(source, share);
        self.join(share, from);
        (share, cost)
    }

    /// One more reader, at `from`.
    pub(super) fn join(&mut self, share: u32, from: usize) {
        self.change(share, |shared| {
            shared.readers += 1;
            if let Body::Moved(log) = &mut shared.body {
                log.join(from);
            }
        });
    }

    /// One of the readers, which is at `at`, begins to close.
    pub(super) fn begin_to_leave(&mut self, share: u32, at: usize) {
        self.change(share, |shared| {
            shared.leaving += 1;
            if let Body::Moved(log) = &mut shared.body {
                log.begin_to_leave(at);
            }
        });
    }

    /// A reader has got from `from` to `to`; `leaving` says whether it is closing.
    pub(super) fn advance(&mut self, share: u32, from: usize, to: usize, leaving: bool) {
        if let Body::Moved(log) = self.body(share)
            && log.is_in_other_part(from, to)
        {
            self.change(share, |shared| {
                let Body::Moved(log) = &mut shared.body else { return };
                log.leave(from, leaving);
                log.join(to);
                if leaving {
                    log.begin_to_leave(to);
                }
            });
        }
    }

    /// One reader fewer, which is at `at`; `leaving` says whether it was closing. Returns the
    /// memory freed if it was the last.
    pub(super) fn leave(&mut self, share: u32, at: usize, leaving: bool) -> usize {
        self.change(share, |shared| {
            shared.readers -= 1;
            shared.leaving -= usize::from(leaving);
            if let Body::Moved(log) = &mut shared.body {
                log.leave(at, leaving);
            }
        });
        if self.all[share as usize].readers > 0 {
            return 0;
        }
        let gone = self.all.remove(share as usize);
        self.owed_bytes -= gone.owed();
        self.moved.weight -= gone.moved().weight;
        self.moved.owed -= gone.moved().owed;
        if matches!(gone.body, Body::Moved(_)) {
            self.moved_sizes.file(share, None);
        }
        self.by_source.remove(&gone.source);
        gone.cost()
    }

    fn change(&mut self, share: u32, change: impl FnOnce(&mut SharedBody)) {
        let shared = &mut self.all[share as usize];
        self.owed_bytes -= shared.owed();
        let before = shared.moved();
        change(shared);
        self.owed_bytes += shared.owed();
        if let Body::Moved(log) = &mut shared.body {
            if !self.is_filling {
                log.trim();
            }
            let after = shared.moved();
            self.moved.weight = self.moved.weight + after.weight - before.weight;
            self.moved.owed = self.moved.owed + after.owed - before.owed;
            let kept = after.weight - after.owed;
            self.moved_sizes.file(share, (kept > 0).then_some((Stock::Old, kept)));
        }
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
        assert_eq!(sum(|shared| shared.moved().weight), self.moved.weight, "also of other hubs");
        assert_eq!(sum(|shared| shared.moved().owed), self.moved.owed, "also of other hubs");
        (sum(|shared| shared.readers), sum(|shared| shared.leaving), sum(SharedBody::cost))
    }
}
