//! A part of a log: bytes of frames, or one long frame, which is written when it is read.
//!
//! A chunk knows where its frames start and how many came before them, so that an offset is turned
//! into a frame's number without a look at other chunks. The order of chunks is the log's.

use super::long::Long;

/// Frames, or parts of frames, that follow each other.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Absolute offset of the first byte.
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    /// A whole frame instead of `bytes`.
    pub(super) long: Option<Long>,
    /// Offsets in `bytes` at which frames start.
    pub(super) starts: Vec<u16>,
    /// Frames that started before this chunk.
    pub(super) frames_before: u64,
}

impl Chunk {
    pub(super) fn end(&self) -> u64 {
        self.start + self.long.as_ref().map_or(self.bytes.len(), Long::len) as u64
    }

    /// The memory of the chunk alone.
    pub(super) fn cost(&self) -> usize {
        let long = self.long.as_ref().map_or(0, Long::cost);
        self.bytes.capacity() + self.starts.capacity() * size_of::<u16>() + long
    }

    /// The same with the payload that it shares with other logs.
    pub(super) fn weight(&self) -> usize {
        self.cost() + self.long.as_ref().map_or(0, Long::payload_bytes)
    }

    pub(super) fn place(&self, offset: u64) -> usize {
        usize::try_from(offset - self.start).expect("a chunk is smaller than the address space")
    }

    /// The number of frames that start at or before `offset`, which is in this chunk.
    pub(super) fn starts_up_to(&self, offset: u64) -> usize {
        let place = self.place(offset);
        self.starts.partition_point(|&start| usize::from(start) <= place)
    }
}
