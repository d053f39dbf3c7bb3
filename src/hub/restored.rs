//! Plain data: the output of another hub's clients, as far as this process has taken it over.
//!
//! It belongs to no hub: the clients of one may go on in several. All of it has to be there before
//! the first of them.

use std::collections::HashMap;

use bytes::Bytes;
use thiserror::Error;

use super::{
    LaidOut,
    moved::{BodyPart, PartContent},
    record::{
        BodyRecord, ChannelRecord, ClientOutput, HubRecord, LongRecord, PayloadRecord, Piece,
        SharedPiece,
    },
};
use crate::limits::CHUNK_BYTES_MAX;

/// The output that several clients of another hub share, as it comes.
#[derive(Debug, Default)]
pub struct OutputTaking {
    channels: Vec<ChannelRecord>,
    bodies: Vec<Vec<BodyRecord>>,
}

/// The payloads of another process' long messages, as they come.
#[derive(Debug, Default)]
pub struct PayloadsTaking {
    all: HashMap<u32, Vec<u8>>,
}

/// The output that several clients of another hub share.
#[derive(Debug)]
pub struct RestoredOutput {
    /// Distinguishes it from that of other hubs.
    pub(super) number: u32,
    pub(super) channels: Vec<ChannelRecord>,
    pub(super) bodies: Vec<Vec<BodyPart>>,
}

/// A record does not fit itself, or what this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a client's record refers to what is not there")]
pub struct BadOutput;

impl PayloadsTaking {
    /// All have come.
    #[must_use]
    pub fn finish(self) -> HashMap<u32, Bytes> {
        self.all.into_iter().map(|(number, bytes)| (number, bytes.into())).collect()
    }
}

impl OutputTaking {
    /// The next piece.
    ///
    /// # Errors
    /// When it is not the next one, or not written as pieces are.
    pub fn put(
        &mut self,
        record: HubRecord,
        payloads: &mut PayloadsTaking,
    ) -> Result<(), BadOutput> {
        let HubRecord { channels, payloads: parts, bodies } = record;
        self.channels.extend(channels);
        for PayloadRecord { number, bytes } in parts {
            payloads.all.entry(number).or_default().extend_from_slice(&bytes);
        }
        for part in bodies {
            let is_good = part.bytes.len() <= CHUNK_BYTES_MAX
                && part.long.is_some() == part.bytes.is_empty()
                && part.starts.is_sorted()
                && part.starts.last().is_none_or(|&it| usize::from(it) < part.bytes.len().max(1));
            let number = part.number as usize;
            let is_good = is_good && (part.skipped == 0 || number == self.bodies.len());
            if !is_good || number > self.bodies.len() {
                return Err(BadOutput);
            }
            if number == self.bodies.len() {
                self.bodies.push(Vec::new());
            }
            self.bodies[number].push(part);
        }
        Ok(())
    }

    /// All has come, also of other hubs: `payloads` are the process'. `number` distinguishes this
    /// hub from the others, and `lay_out` writes long messages.
    ///
    /// # Errors
    /// When a payload is not there, or a long message is longer or shorter here.
    pub fn finish(
        self,
        number: u32,
        payloads: &HashMap<u32, Bytes>,
        lay_out: &dyn Fn(&LongRecord, &Bytes) -> LaidOut,
    ) -> Result<RestoredOutput, BadOutput> {
        let bodies = self.bodies.into_iter().map(|parts| {
            let mut end = 0;
            let parts =
                parts.into_iter().map(|BodyRecord { skipped, bytes, starts, long, .. }| {
                    let start = usize::try_from(skipped).ok().and_then(|it| it.checked_add(end));
                    let start = start.ok_or(BadOutput)?;
                    let content = match long {
                        None => PartContent::Bytes(bytes),
                        Some(long) => PartContent::Long(laid_out(&long, payloads, lay_out)?),
                    };
                    end = start.checked_add(content.len()).ok_or(BadOutput)?;
                    Ok(BodyPart { start, end, starts: starts.into(), content })
                });
            parts.collect()
        });
        let bodies = bodies.collect::<Result<_, _>>()?;
        Ok(RestoredOutput { number, channels: self.channels, bodies })
    }
}

fn laid_out(
    long: &LongRecord,
    payloads: &HashMap<u32, Bytes>,
    lay_out: &dyn Fn(&LongRecord, &Bytes) -> LaidOut,
) -> Result<LaidOut, BadOutput> {
    let laid = lay_out(long, payloads.get(&long.payload).ok_or(BadOutput)?);
    if laid.length() == long.length && long.length > 0 { Ok(laid) } else { Err(BadOutput) }
}

impl RestoredOutput {
    /// Whether all that `output` refers to is there.
    pub(super) fn check(&self, output: &ClientOutput) -> Result<(), BadOutput> {
        let is_there = |&SharedPiece { body, from, to, .. }: &SharedPiece| {
            let body = self.bodies.get(body as usize);
            let ends = body.and_then(|parts| Some((parts.first()?.start, parts.last()?.end)));
            from < to && ends.is_some_and(|(start, end)| start <= from && to <= end)
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
