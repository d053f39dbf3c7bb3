//! Messages so long that their encodings together would take much of the budget: the log keeps the
//! payload, once for all encodings and shards, and each encoding is written while it is read.
//!
//! An encoding consists of pieces that can be written independently. A client has an offset in it
//! as in any other frame; the bytes there are written into the hub's one window, which all clients
//! at the same offset read. So the longest encoding costs no more than the message itself, and no
//! turn is longer than a window.

use std::{
    rc::Rc,
    sync::{Arc, Weak},
};

use bytes::Bytes;

use super::{budget::Joint, record::PayloadForm};
use crate::limits::LONG_WINDOW_BYTES_MIN;

/// An encoding of a message, in pieces.
pub trait Pieces: std::fmt::Debug + Send + Sync {
    /// Appends the piece of this number, from 0, to `into`: the same bytes each time.
    fn write(&self, number: usize, into: &mut Vec<u8>);

    /// The encoding for another version of the program, which has to write the same bytes: what is
    /// before the payload, the form of the payload, and what is behind it.
    fn record(&self) -> (Bytes, PayloadForm, Bytes);
}

/// A message in one encoding that is written when it is read.
#[derive(Clone, Debug)]
pub(super) struct Long {
    pieces: Arc<dyn Pieces>,
    /// The end of each piece.
    ends: Arc<[u64]>,
    payload: Payload,
}

/// How the payload is charged.
#[derive(Clone, Debug)]
enum Payload {
    /// Once for all its holders.
    Joint(Rc<Joint>),
    /// Each holder of the encoding is charged for it.
    Alone(Rc<Bytes>),
}

impl Long {
    pub(super) fn new(laid: LaidOut, joint: Option<Rc<Joint>>) -> Self {
        let payload = joint.map_or_else(|| Payload::Alone(Rc::new(laid.payload)), Payload::Joint);
        Self { pieces: laid.pieces, ends: laid.ends, payload }
    }

    /// The same encoding, for a holder that is charged for it.
    pub(super) fn alone(&self) -> Self {
        Self { payload: Payload::Alone(Rc::new(self.payload().clone())), ..self.clone() }
    }

    /// The length of the whole encoding.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.ends.last().copied().unwrap_or(0)).expect("it can be addressed")
    }

    /// The memory of the encoding alone.
    pub(super) fn cost(&self) -> usize {
        self.ends.len() * size_of::<u64>()
    }

    /// The payload, which other encodings hold as well.
    pub(super) fn payload_bytes(&self) -> usize {
        self.payload().len()
    }

    /// The same itself.
    pub(super) fn payload(&self) -> &Bytes {
        match &self.payload {
            Payload::Joint(joint) => joint.payload(),
            Payload::Alone(payload) => payload,
        }
    }

    /// How it is written.
    pub(super) fn pieces(&self) -> &dyn Pieces {
        &*self.pieces
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

/// How a message is written in one encoding.
#[derive(Clone, Debug)]
pub struct LaidOut {
    /// The writer of the pieces.
    pub pieces: Arc<dyn Pieces>,
    /// The end of each piece, from the encoding's beginning.
    pub ends: Arc<[u64]>,
    /// The payload from which it is written, kept while any encoding of it is read.
    pub payload: Bytes,
}

impl LaidOut {
    /// The length of the whole encoding.
    pub(super) fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// The part of a long message that was last written.
#[derive(Debug, Default)]
pub(super) struct LongWindow {
    of: Option<Weak<dyn Pieces>>,
    start: u64,
    bytes: Vec<u8>,
}

impl LongWindow {
    /// The bytes of `long` from `from` on: some of them, and at most up to `to`.
    pub(super) fn bytes(&mut self, long: &Long, from: u64, to: u64) -> &[u8] {
        let end = self.start + self.bytes.len() as u64;
        let is_same =
            self.of.as_ref().is_some_and(|of| Weak::ptr_eq(of, &Arc::downgrade(&long.pieces)));
        if !is_same || from < self.start || from >= end {
            let mut piece = long.piece_at(from);
            self.of = Some(Arc::downgrade(&long.pieces));
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
