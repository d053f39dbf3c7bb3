//! Encodings in pieces, as the hub asks for them; the pieces that were written are counted.

use std::{cell::Cell, sync::Arc};

use bytes::Bytes;

use crate::hub::{LaidOut, LongRecord, PayloadForm, Pieces};

/// The length of a piece; the last one is shorter.
pub(super) const PIECE_BYTES: usize = 10_000;

thread_local! {
    /// Pieces so far.
    pub(super) static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Pieced(Bytes);

impl Pieces for Pieced {
    fn write(&self, number: usize, into: &mut Vec<u8>) {
        WRITTEN.set(WRITTEN.get() + 1);
        into.extend_from_slice(self.0.chunks(PIECE_BYTES).nth(number).unwrap());
    }

    fn record(&self) -> (Bytes, PayloadForm, Bytes) {
        (self.0.clone(), PayloadForm::AsItIs, Bytes::new())
    }
}

/// An encoding of `payload`.
pub(super) fn laid_out(encoded: Vec<u8>, payload: &Bytes) -> LaidOut {
    let ends = encoded.chunks(PIECE_BYTES).scan(0, |end, piece| {
        *end += piece.len() as u64;
        Some(*end)
    });
    let ends = ends.collect();
    LaidOut { ends, payload: payload.clone(), pieces: Arc::new(Pieced(encoded.into())) }
}

/// An encoding that another hub has laid out.
pub(super) fn lay_out_again(record: &LongRecord, payload: &Bytes) -> LaidOut {
    laid_out(record.opening.to_vec(), payload)
}
