//! The bytes of one channel: ready-made frames in chunks, addressed by absolute offsets.
//!
//! Chunks start at 512 B and double up to 64 KiB, so that a quiet channel costs little; a frame may
//! span chunks. A long frame is a chunk of its own that holds no bytes: they are written when they
//! are read. The starts of frames are indexed, so that control frames, skipping and trimming, none
//! of which may tear a frame apart, can find the boundaries. A byte log knows no clients.

use std::{collections::VecDeque, io::IoSlice};

use super::{chunk::Chunk, long::Long, moved::RecordedPart};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_KEPT_BYTES_MAX, WRITE_SLICES_MAX};

// Frame starts are kept as 16-bit offsets inside their chunk.
const _: () = assert!(CHUNK_BYTES_MAX <= 1 << 16);
const _: () = assert!(CHUNK_BYTES_MIN.is_power_of_two() && CHUNK_BYTES_MAX.is_power_of_two());

/// A channel's bytes from `tail` to `head`.
///
/// # Invariants
/// - Chunks are contiguous: each starts where the one before ends; the last one ends at `head`.
/// - `head` is a frame boundary; `frames` counts the frames that end at or before it.
#[derive(Debug, Default)]
pub(super) struct ByteLog {
    chunks: VecDeque<Chunk>,
    head: u64,
    frames: u64,
    newest: u64,
    /// The memory of all chunks.
    cost: usize,
    /// The payloads of the long frames.
    joint: usize,
    /// The longest frame since the log was last empty.
    longest: usize,
}

impl ByteLog {
    /// Where the next frame will begin.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The oldest byte that is still there.
    pub(super) fn tail(&self) -> u64 {
        self.chunks.front().map_or(self.head, |chunk| chunk.start)
    }

    /// How many frames were ever appended.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes from tail to head.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.head - self.tail()).expect("the log is in memory")
    }

    /// Memory held by the chunks, without the payloads of long frames.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The payloads of long frames, which other logs may hold as well.
    pub(super) fn joint_bytes(&self) -> usize {
        self.joint
    }

    /// The memory that [`ByteLog::trim`] to `offset` frees, unless a small chunk is kept or other
    /// logs hold a long frame's payload.
    pub(super) fn weight_below(&self, offset: u64) -> usize {
        if offset == self.head {
            return self.cost + self.joint;
        }
        self.chunks.iter().take_while(|it| it.end() <= offset).map(Chunk::weight).sum()
    }

    /// The start of the newest frame; `head` while there has been none.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Appends one frame, given in parts. Returns the memory held by the changed chunks: (before,
    /// after).
    pub(super) fn append(&mut self, parts: [&[u8]; 2]) -> (usize, usize) {
        let (mut before, mut after) = (0, 0);
        let total = parts[0].len() + parts[1].len();
        before += self.drop_spare(total.min(CHUNK_BYTES_MAX));
        self.newest = self.head;
        self.longest = self.longest.max(total);
        let mut marked = false;
        let mut left = total;
        for mut part in parts {
            while !part.is_empty() {
                if self.room() == 0 {
                    after += self.grow(left, marked);
                }
                let head = self.head;
                let chunk = self.chunks.back_mut().expect("there is room in the last chunk");
                if !marked {
                    let cost = chunk.cost();
                    chunk.starts.push(u16::try_from(head - chunk.start).expect("asserted above"));
                    before += cost;
                    after += chunk.cost();
                    marked = true;
                }
                let taken = part.len().min(chunk.bytes.capacity() - chunk.bytes.len());
                chunk.bytes.extend_from_slice(&part[..taken]);
                part = &part[taken..];
                left -= taken;
                self.head += taken as u64;
            }
        }
        self.frames += 1;
        self.cost = self.cost + after - before;
        (before, after)
    }

    /// Appends one frame that is written when it is read. Returns the same as [`ByteLog::append`].
    pub(super) fn append_long(&mut self, long: Long) -> (usize, usize) {
        let before = self.drop_spare(usize::MAX);
        self.newest = self.head;
        self.longest = self.longest.max(long.len());
        self.joint += long.payload_bytes();
        let chunk = Chunk {
            start: self.head,
            bytes: Vec::new(),
            long: Some(long),
            starts: vec![0],
            frames_before: self.frames,
        };
        self.head = chunk.end();
        self.frames += 1;
        let after = chunk.cost();
        self.chunks.push_back(chunk);
        self.cost = self.cost + after - before;
        (before, after)
    }

    /// Drops the last chunk if it is empty and too small for `wanted`. Returns the memory freed.
    fn drop_spare(&mut self, wanted: usize) -> usize {
        let is_spare = |it: &Chunk| it.end() == it.start && it.bytes.capacity() < wanted;
        if !self.chunks.back().is_some_and(is_spare) {
            return 0;
        }
        self.chunks.pop_back().map_or(0, |chunk| chunk.cost())
    }

    fn room(&self) -> usize {
        self.chunks.back().map_or(0, |chunk| chunk.bytes.capacity() - chunk.bytes.len())
    }

    /// Adds a chunk for `wanted` bytes (or as much as a chunk may hold); returns its cost.
    fn grow(&mut self, wanted: usize, in_frame: bool) -> usize {
        let doubled = self.chunks.back().map_or(0, |chunk| chunk.bytes.capacity() * 2);
        let capacity = wanted.max(doubled).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        if self.chunks.capacity() == 0 {
            // Most channels are quiet; one chunk is all they ever need.
            self.chunks.reserve_exact(1);
        }
        let chunk = Chunk {
            start: self.head,
            bytes: Vec::with_capacity(capacity.next_power_of_two()),
            long: None,
            starts: Vec::new(),
            frames_before: self.frames + u64::from(in_frame),
        };
        let cost = chunk.cost();
        self.chunks.push_back(chunk);
        cost
    }

    /// The chunk that holds `offset`, which is below `head`.
    fn chunk_index(&self, offset: u64) -> usize {
        debug_assert!((self.tail()..self.head).contains(&offset));
        let last = self.chunks.len() - 1;
        if self.chunks[last].start <= offset {
            last
        } else {
            self.chunks.partition_point(|chunk| chunk.start <= offset) - 1
        }
    }

    /// Whether a frame starts, or the last frame ends, at `offset`.
    pub(super) fn is_boundary(&self, offset: u64) -> bool {
        if offset == self.head {
            return true;
        }
        let chunk = &self.chunks[self.chunk_index(offset)];
        let place = chunk.place(offset);
        chunk.starts.binary_search_by(|&start| usize::from(start).cmp(&place)).is_ok()
    }

    /// The first boundary at or after `offset`.
    pub(super) fn boundary_from(&self, offset: u64) -> u64 {
        if offset == self.head {
            return offset;
        }
        let first = self.chunk_index(offset);
        let place = self.chunks[first].place(offset);
        for (index, chunk) in self.chunks.iter().enumerate().skip(first) {
            let from = if index == first {
                chunk.starts.partition_point(|&start| usize::from(start) < place)
            } else {
                0
            };
            if let Some(&start) = chunk.starts.get(from) {
                return chunk.start + u64::from(start);
            }
        }
        self.head
    }

    /// The start of the frame around `offset`, which is below `head`; if that start has been
    /// trimmed, the oldest byte that is left.
    pub(super) fn frame_start(&self, offset: u64) -> u64 {
        for chunk in self.chunks.iter().take(self.chunk_index(offset) + 1).rev() {
            let place = usize::try_from(offset - chunk.start).unwrap_or(usize::MAX);
            let until = chunk.starts.partition_point(|&start| usize::from(start) <= place);
            if let Some(&start) = chunk.starts[..until].last() {
                return chunk.start + u64::from(start);
            }
        }
        self.tail()
    }

    /// How many frames, of all ever appended, end at or before `offset`.
    pub(super) fn frames_ended(&self, offset: u64) -> u64 {
        if offset == self.head {
            return self.frames;
        }
        let chunk = &self.chunks[self.chunk_index(offset)];
        // The last frame that starts at or before `offset` ends after it.
        chunk.frames_before + chunk.starts_up_to(offset) as u64 - 1
    }

    /// The long frame around `offset`, which is below `head`, and where it starts.
    pub(super) fn long_at(&self, offset: u64) -> Option<(u64, &Long)> {
        let chunk = &self.chunks[self.chunk_index(offset)];
        Some((chunk.start, chunk.long.as_ref()?))
    }

    /// Puts the bytes from `from`, which is in no long frame, to `to` into `slices`: as many as
    /// fit, and up to the next long frame. Returns the number of slices.
    pub(super) fn gather<'a>(&'a self, from: u64, to: u64, slices: &mut Slices<'a>) -> usize {
        let first = self.chunk_index(from);
        let mut count = 0;
        for chunk in self.chunks.iter().skip(first).take(WRITE_SLICES_MAX) {
            if chunk.start >= to || chunk.long.is_some() {
                break;
            }
            let begin = chunk.place(from.max(chunk.start));
            let end = chunk.place(to.min(chunk.end()));
            slices[count] = IoSlice::new(&chunk.bytes[begin..end]);
            count += 1;
            // An outlet may keep the last byte for itself. If that were a frame's first one, the
            // client would seem to be between two frames.
            let is_begun = chunk.starts.last().is_some_and(|&start| usize::from(start) + 1 == end);
            if count == WRITE_SLICES_MAX && is_begun && begin + 1 < end {
                slices[count - 1] = IoSlice::new(&chunk.bytes[begin..end - 1]);
            }
        }
        count
    }

    /// The bytes from `from` to `to` if one slice holds them all: the usual case.
    pub(super) fn slice(&self, from: u64, to: u64) -> Option<&[u8]> {
        let is_it = |chunk: &&Chunk| chunk.start <= from && chunk.long.is_none();
        let chunk = self.chunks.back().filter(is_it)?;
        Some(&chunk.bytes[chunk.place(from)..chunk.place(to)])
    }

    /// Copies the bytes from `from` to `to`.
    pub(super) fn copy(&self, from: u64, to: u64) -> Vec<u8> {
        let mut copied = Vec::with_capacity(usize::try_from(to - from).expect("it is in memory"));
        if from < to {
            for chunk in self.chunks.iter().skip(self.chunk_index(from)) {
                if chunk.start >= to {
                    break;
                }
                let (begin, end) = (from.max(chunk.start), to.min(chunk.end()));
                match &chunk.long {
                    Some(long) => long.copy(begin - chunk.start, end - chunk.start, &mut copied),
                    None => {
                        let bytes = &chunk.bytes[chunk.place(begin)..chunk.place(end)];
                        copied.extend_from_slice(bytes);
                    }
                }
            }
        }
        copied
    }

    /// The bytes from `at` on, which is below `head`, up to the end of their chunk, for another
    /// process; a long frame is whole.
    pub(super) fn part(&self, at: u64) -> RecordedPart<'_> {
        let chunk = &self.chunks[self.chunk_index(at)];
        let skipped = chunk.place(at);
        let starts = chunk.starts.iter().filter_map(|start| {
            let start = usize::from(*start).checked_sub(skipped)?;
            Some(u16::try_from(start).expect("it was further behind"))
        });
        let starts = starts.collect();
        match &chunk.long {
            Some(long) => RecordedPart { bytes: &[], starts, long: Some(long) },
            None => RecordedPart { bytes: &chunk.bytes[skipped..], starts, long: None },
        }
    }

    /// Frees whole chunks below `offset`. If the whole log is below it and `keep` is set, one small
    /// chunk is kept for the next messages. Returns the memory freed.
    pub(super) fn trim(&mut self, offset: u64, keep: bool) -> usize {
        let mut freed = 0;
        while self.chunks.len() > 1 && self.chunks[0].end() <= offset {
            freed += self.drop_oldest();
        }
        if offset == self.head
            && let Some(chunk) = self.chunks.front_mut()
            && chunk.end() == offset
        {
            self.longest = 0;
            if keep && chunk.long.is_none() && chunk.bytes.capacity() <= CHUNK_KEPT_BYTES_MAX {
                chunk.bytes.clear();
                chunk.starts.clear();
                chunk.start = self.head;
                chunk.frames_before = self.frames;
            } else {
                freed += self.drop_oldest();
            }
        }
        self.cost -= freed;
        freed
    }

    fn drop_oldest(&mut self) -> usize {
        let Some(chunk) = self.chunks.pop_front() else { return 0 };
        self.joint -= chunk.weight() - chunk.cost();
        chunk.cost()
    }

    /// Whether `offset` is in the chunk that is freed first.
    pub(super) fn is_in_oldest_chunk(&self, offset: u64) -> bool {
        self.chunks.front().is_some_and(|chunk| (chunk.start..chunk.end()).contains(&offset))
    }

    /// The end of the oldest chunk that is not wholly below `offset`, if that chunk can be freed
    /// without touching the newest frame.
    pub(super) fn chunk_end_after(&self, offset: u64) -> Option<u64> {
        let place = self.chunks.partition_point(|chunk| chunk.end() <= offset);
        self.chunks.get(place).map(Chunk::end).filter(|&end| end <= self.newest)
    }

    /// Where to trim so that at most `bytes` remain, or two of the longest frames, with the newest
    /// frame left whole; none if nothing can be freed. A message may take seven times its payload
    /// in some encodings, and a client that is given one message while it reads another is not
    /// slow.
    pub(super) fn cut_to(&self, bytes: usize) -> Option<u64> {
        let bytes = bytes.max(2 * self.longest);
        if self.len() <= bytes {
            return None;
        }
        let mut cut = None;
        for chunk in &self.chunks {
            if chunk.end() > self.newest {
                break;
            }
            cut = Some(chunk.end());
            if self.head - chunk.end() <= bytes as u64 {
                break;
            }
        }
        cut
    }

    /// Panics if an invariant is broken.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut offset = self.tail();
        let cost: usize = self.chunks.iter().map(Chunk::cost).sum();
        assert_eq!(self.cost, cost, "the cost is known");
        let weight: usize = self.chunks.iter().map(Chunk::weight).sum();
        assert_eq!(self.cost + self.joint, weight, "what is held with others is known");
        for chunk in &self.chunks {
            assert_eq!(chunk.start, offset, "chunks are contiguous");
            assert!(chunk.starts.is_sorted(), "frame starts rise");
            offset = chunk.end();
        }
        assert_eq!(offset, self.head, "the last chunk ends at the head");
        assert!(self.newest <= self.head, "the newest frame is in the log");
    }
}

/// Room for one vectored write.
pub(super) type Slices<'a> = [IoSlice<'a>; WRITE_SLICES_MAX];
