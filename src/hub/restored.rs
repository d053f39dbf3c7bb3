//! Plain data: the output of another hub's clients, as far as this hub has taken it over.

use bytes::Bytes;
use thiserror::Error;

use super::{
    record::{BodyRecord, ChannelRecord, ClientOutput, Piece, SharedPiece},
    shares::{Body, Frames, Source},
};
use crate::channel::ChannelName;

/// The output that several clients of another hub share.
#[derive(Debug)]
pub struct RestoredOutput {
    pub(super) channels: Vec<ChannelRecord>,
    pub(super) bodies: Vec<(Source, BodyRecord)>,
}

/// Bytes that a client gets once its logs no longer wait.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) channel: ChannelName,
    pub(super) share: u32,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A record does not fit itself, or what this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a client's record refers to what is not there")]
pub struct BadOutput;

impl BodyRecord {
    pub(super) fn to_body(&self, of_log: bool) -> Body {
        let bytes: Bytes = self.bytes.clone();
        if of_log {
            Body::Frames(Frames::new(bytes, self.boundaries.clone()))
        } else {
            Body::Bytes(bytes)
        }
    }
}

impl RestoredOutput {
    /// Whether all that `output` refers to is there.
    pub(super) fn check(&self, output: &ClientOutput) -> Result<(), BadOutput> {
        let is_there = |&SharedPiece { body, from, to, .. }: &SharedPiece| {
            let body = self.bodies.get(body as usize);
            from < to && body.is_some_and(|(_, body)| to <= body.bytes.len())
        };
        let is_good_piece = |piece: &Piece| match piece {
            Piece::Own(_) => true,
            Piece::Shared(piece) => is_there(piece),
        };
        let has_channel = |&number: &u32| (number as usize) < self.channels.len();
        let begun_bytes_max = match output.pieces.first() {
            Some(Piece::Own(bytes)) => bytes.len(),
            _ => 0,
        };
        let is_good = output.channels.iter().all(has_channel)
            && output.pieces.iter().all(is_good_piece)
            && output.behind.iter().all(|it| it.piece.of_log && is_there(&it.piece))
            && output.begun_bytes <= begun_bytes_max;
        if is_good { Ok(()) } else { Err(BadOutput) }
    }
}
