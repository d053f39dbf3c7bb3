//! Bytes of another hub that clients are still to get: frames of one of its logs, or what it held
//! for several clients.
//!
//! They come part by part, and the parts are shared by all hubs of the process to which clients of
//! that hub have come. Here they are as a log that gets nothing more: addressed by offsets, with
//! the places at which frames begin, so that none is torn apart, and freed from the oldest part on.

use std::{collections::VecDeque, rc::Rc, sync::Arc};

use bytes::Bytes;

use super::{
    LaidOut,
    budget::Joint,
    long::{Long, LongWindow},
};
use crate::channel::ChannelName;

/// A part of the bytes, for all hubs.
#[derive(Clone, Debug)]
pub(super) struct BodyPart {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The places, from `start`, at which frames begin.
    pub(super) starts: Arc<[u16]>,
    pub(super) content: PartContent,
}

#[derive(Clone, Debug)]
pub(super) enum PartContent {
    Bytes(Bytes),
    /// A whole frame that is written when it is read.
    Long(LaidOut),
}

impl PartContent {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Long(laid) => usize::try_from(laid.length()).expect("it can be addressed"),
        }
    }
}

/// The bytes as one hub has them: from the oldest part that a client still needs.
///
/// # Invariants
/// - Each reader is counted in the part that holds its next byte, and each reader that leaves among
///   the leaving ones as well; a reader at the end in none.
/// - Once all clients are there, the first part has a reader.
#[derive(Debug)]
pub(super) struct MovedLog {
    parts: VecDeque<MovedPart>,
    end: usize,
    /// The memory of the parts, which other hubs may have as well.
    weight: usize,
}

#[derive(Debug)]
struct MovedPart {
    start: usize,
    end: usize,
    starts: Arc<[u16]>,
    content: MovedContent,
    readers: usize,
    leaving: usize,
}

#[derive(Debug)]
enum MovedContent {
    Bytes(Rc<Joint>),
    Long(Long),
}

/// Bytes that a client gets once its logs no longer wait.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) channel: ChannelName,
    pub(super) share: u32,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A part of a log as it is recorded.
#[derive(Debug)]
pub(super) struct RecordedPart<'a> {
    pub(super) bytes: &'a [u8],
    /// The places in `bytes` at which frames begin.
    pub(super) starts: Vec<u16>,
    /// A whole frame instead.
    pub(super) long: Option<&'a Long>,
}

impl MovedLog {
    /// These parts. `join` charges bytes, and so many more that belong to them, once for all hubs.
    pub(super) fn new(parts: &[BodyPart], join: impl Fn(&Bytes, usize) -> Rc<Joint>) -> Self {
        let parts = parts.iter().cloned().map(|part| {
            let BodyPart { start, end, starts, content } = part;
            let content = match content {
                PartContent::Bytes(bytes) => {
                    MovedContent::Bytes(join(&bytes, size_of_val(&*starts)))
                }
                PartContent::Long(laid) => {
                    let joint = join(&laid.payload, 0);
                    MovedContent::Long(Long::new(laid, Some(joint)))
                }
            };
            MovedPart { start, end, starts, content, readers: 0, leaving: 0 }
        });
        let parts: VecDeque<MovedPart> = parts.collect();
        let weight = parts.iter().map(MovedPart::weight).sum();
        Self { end: parts.back().map_or(0, |part| part.end), parts, weight }
    }

    pub(super) fn len(&self) -> usize {
        self.end
    }

    /// The memory of the parts that are left.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The memory of those of them that are freed once the leaving readers have left.
    pub(super) fn owed(&self) -> usize {
        let is_owed = |part: &&MovedPart| part.readers == part.leaving;
        self.parts.iter().take_while(is_owed).map(MovedPart::weight).sum()
    }

    /// The end of the first part that somebody needs who is not leaving.
    pub(super) fn needed_to(&self) -> Option<usize> {
        self.parts.iter().find(|part| part.readers > part.leaving).map(|part| part.end)
    }

    /// Whether `from` and `to` are in different parts.
    pub(super) fn is_in_other_part(&self, from: usize, to: usize) -> bool {
        self.place(from) != self.place(to)
    }

    /// A reader begins at `from`.
    pub(super) fn join(&mut self, from: usize) {
        let place = self.place(from);
        if let Some(part) = self.parts.get_mut(place) {
            part.readers += 1;
        }
    }

    /// The reader at `at` begins to leave.
    pub(super) fn begin_to_leave(&mut self, at: usize) {
        let place = self.place(at);
        if let Some(part) = self.parts.get_mut(place) {
            part.leaving += 1;
        }
    }

    /// A reader that was at `at` has left.
    pub(super) fn leave(&mut self, at: usize, is_leaving: bool) {
        let place = self.place(at);
        if let Some(part) = self.parts.get_mut(place) {
            part.readers -= 1;
            part.leaving -= usize::from(is_leaving);
        }
    }

    /// Frees the parts that nobody needs any more.
    pub(super) fn trim(&mut self) {
        while self.parts.front().is_some_and(|part| part.readers == 0) {
            let gone = self.parts.pop_front();
            self.weight -= gone.map_or(0, |part| part.weight());
        }
    }

    /// The part that holds `offset`; past the last one at the end.
    fn place(&self, offset: usize) -> usize {
        if self.parts.front().is_some_and(|part| offset < part.end) {
            return 0;
        }
        self.parts.partition_point(|part| part.end <= offset)
    }

    /// Some of the bytes from `from` on, which is below the end; those of a long frame are written
    /// into `window`.
    pub(super) fn bytes<'a>(&'a self, from: usize, window: &'a mut LongWindow) -> &'a [u8] {
        let part = &self.parts[self.place(from)];
        match &part.content {
            MovedContent::Bytes(joint) => &joint.payload()[from - part.start..],
            MovedContent::Long(long) => {
                window.bytes(long, (from - part.start) as u64, long.len() as u64)
            }
        }
    }

    /// The first place at or after `from` at which a frame begins, or the last one ends.
    pub(super) fn boundary_from(&self, from: usize) -> usize {
        let mut starts = self.parts.range(self.place(from)..).flat_map(MovedPart::frames);
        starts.find(|&start| start >= from).unwrap_or(self.end)
    }

    /// How many frames end after `from`, and at or before `to`.
    pub(super) fn ended(&self, from: usize, to: usize) -> usize {
        let parts = self.parts.range(self.place(from)..).take_while(|part| part.start <= to);
        let begun = parts.flat_map(MovedPart::frames);
        let ended = begun.filter(|&start| from < start && start <= to).count();
        ended + usize::from(from < to && to == self.end)
    }

    /// The part from `at` on, which is below the end, for another hub; a long frame is whole.
    pub(super) fn part(&self, at: usize) -> RecordedPart<'_> {
        let part = &self.parts[self.place(at)];
        match &part.content {
            MovedContent::Bytes(joint) => {
                let skipped = at - part.start;
                let starts = part.starts.iter().filter_map(|start| {
                    let start = usize::from(*start).checked_sub(skipped)?;
                    Some(u16::try_from(start).expect("it was further behind"))
                });
                let bytes = &joint.payload()[skipped..];
                RecordedPart { bytes, starts: starts.collect(), long: None }
            }
            MovedContent::Long(long) => {
                RecordedPart { bytes: &[], starts: part.starts.to_vec(), long: Some(long) }
            }
        }
    }

    /// Where the long frame around `offset` begins, if one is there.
    pub(super) fn long_start(&self, offset: usize) -> Option<usize> {
        let part = self.parts.get(self.place(offset))?;
        matches!(part.content, MovedContent::Long(_)).then_some(part.start)
    }
}

impl MovedPart {
    fn frames(&self) -> impl Iterator<Item = usize> {
        self.starts.iter().map(|&start| self.start + usize::from(start))
    }

    fn weight(&self) -> usize {
        match &self.content {
            MovedContent::Bytes(joint) => joint.cost(),
            MovedContent::Long(long) => long.payload_bytes(),
        }
    }
}
