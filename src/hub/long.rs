//! Messages that are so long that their forms together would take much of the budget: the log
//! keeps the payload, once for all forms and shards, and writes each form while it is read.
//!
//! A form is pieces, each of which can be written by itself. Who reads it stands at an offset in
//! it as in any other frame; the bytes there are written into the hub's one window, which all who
//! stand at the same place read. So the longest form costs no more than the message, and no turn
//! is longer than a window.

use std::rc::{Rc, Weak};

use super::budget::Joint;
use crate::limits::LONG_WINDOW_BYTES_MIN;

/// A form of a message, in pieces.
pub trait Pieces: std::fmt::Debug {
    /// Appends the piece of this number, from 0, to `into`: each time the same bytes.
    fn write(&self, number: usize, into: &mut Vec<u8>);
}

/// A message in one form, which is written when it is read.
#[derive(Clone, Debug)]
pub(super) struct Long {
    pieces: Rc<dyn Pieces>,
    /// Where each piece ends.
    ends: Rc<[u64]>,
    payload: Payload,
}

/// Who charges what it is written from.
#[derive(Clone, Debug)]
enum Payload {
    /// It is charged once for all who have it.
    Joint(Rc<Joint>),
    /// Whoever has the form charges these bytes alone.
    Alone(usize),
}

impl Long {
    pub(super) fn new(laid: LaidOut, joint: Option<Rc<Joint>>) -> Self {
        let payload = joint.map_or(Payload::Alone(laid.payload.len()), Payload::Joint);
        Self { pieces: laid.pieces, ends: laid.ends.into(), payload }
    }

    /// The same for somebody who charges it.
    pub(super) fn alone(&self) -> Self {
        Self { payload: Payload::Alone(self.payload_bytes()), ..self.clone() }
    }

    /// All its bytes.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.ends.last().copied().unwrap_or(0)).expect("it can be addressed")
    }

    /// What it takes by itself.
    pub(super) fn cost(&self) -> usize {
        self.ends.len() * size_of::<u64>()
    }

    /// The payload, which other forms keep, too.
    pub(super) fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::Joint(joint) => joint.bytes(),
            Payload::Alone(bytes) => *bytes,
        }
    }

    fn piece_at(&self, offset: u64) -> usize {
        self.ends.partition_point(|&end| end <= offset)
    }

    fn start_of(&self, piece: usize) -> u64 {
        piece.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Appends the bytes from `from` to `to`.
    pub(super) fn copy(&self, from: u64, to: u64, into: &mut Vec<u8>) {
        let first = self.piece_at(from);
        let (base, start) = (into.len(), self.start_of(first));
        let last = self.piece_at(to.saturating_sub(1)).min(self.ends.len() - 1);
        (first..=last).for_each(|piece| self.pieces.write(piece, into));
        into.truncate(base + place(to - start));
        into.drain(base..base + place(from - start));
    }
}

fn place(bytes: u64) -> usize {
    usize::try_from(bytes).expect("it can be addressed")
}

/// How a message is written in one form.
#[derive(Debug)]
pub struct LaidOut {
    /// What writes it.
    pub pieces: Rc<dyn Pieces>,
    /// Where each piece ends, from the form's beginning.
    pub ends: Vec<u64>,
    /// The payload that it is written from: kept as long as somebody reads any form.
    pub payload: bytes::Bytes,
}

/// The part of a long message that was written last.
#[derive(Debug, Default)]
pub(super) struct Window {
    of: Option<Weak<dyn Pieces>>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes of `long` from `from` on, some of them and at most up to `to`.
    pub(super) fn bytes(&mut self, long: &Long, from: u64, to: u64) -> &[u8] {
        let end = self.start + self.bytes.len() as u64;
        let is_same =
            self.of.as_ref().is_some_and(|of| Weak::ptr_eq(of, &Rc::downgrade(&long.pieces)));
        if !is_same || from < self.start || from >= end {
            let mut piece = long.piece_at(from);
            self.of = Some(Rc::downgrade(&long.pieces));
            self.start = long.start_of(piece);
            self.bytes.clear();
            while self.bytes.len() < LONG_WINDOW_BYTES_MIN && piece < long.ends.len() {
                long.pieces.write(piece, &mut self.bytes);
                piece += 1;
            }
        }
        let end = self.bytes.len().min(place(to - self.start));
        &self.bytes[place(from - self.start)..end]
    }
}
