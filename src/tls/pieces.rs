//! Where a session's plaintext goes, and where the content of its records comes from.
//!
//! Both ends are the caller's: a buffer that may be too small, and slices of a log in any number.

use std::io::IoSlice;

/// Where plaintext goes: a buffer, and what does not fit into it.
pub(super) struct Output<'a> {
    into: &'a mut [u8],
    pub(super) filled: usize,
    pub(super) spilled: Vec<u8>,
}

impl<'a> Output<'a> {
    pub(super) fn new(into: &'a mut [u8]) -> Self {
        Self { into, filled: 0, spilled: Vec::new() }
    }

    pub(super) fn put(&mut self, plaintext: &[u8]) {
        let count = plaintext.len().min(self.into.len() - self.filled);
        let (fitting, rest) = plaintext.split_at(count);
        self.into[self.filled..self.filled + count].copy_from_slice(fitting);
        self.filled += count;
        self.spilled.extend_from_slice(rest);
    }
}

/// Where content comes from: slices, and how much of them is used up.
pub(super) struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    at: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        Self { slices, at: 0 }
    }

    /// The next bytes, as many as `room` has: as they are where one slice has them, or gathered.
    /// Content that is cut here ends on no frame's first byte: a taker that is told of all bytes
    /// but that one would be between two frames, and might go on with another frame.
    pub(super) fn next<'b>(&mut self, room: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        let bound = self.bound(room.len());
        let room = &mut room[..bound];
        let mut filled = 0;
        while let Some((first, others)) = self.slices.split_first() {
            let rest: &'a [u8] = &first[self.at..];
            let count = rest.len().min(room.len() - filled);
            let is_used_up = count == rest.len();
            if filled == 0 && (!is_used_up || others.is_empty()) {
                self.at += count;
                if is_used_up {
                    (self.at, self.slices) = (0, others);
                }
                return &rest[..count];
            }
            room[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            if !is_used_up {
                self.at += count;
                break;
            }
            (self.at, self.slices) = (0, others);
        }
        &room[..filled]
    }

    /// How much of `room` is filled, if there is enough. To leave one byte away is enough, whether
    /// it begins a frame or only looks like that: a byte with bit 7 set never follows the first one
    /// of a WebSocket frame, as servers mask nothing, and no event begins with the end of a line.
    fn bound(&self, room: usize) -> usize {
        let is_cut = room > 1 && self.byte_at(room).is_some();
        let may_begin = |last| begins_frame(last) || self.byte_at(room - 2) == Some(b'\n');
        if is_cut && self.byte_at(room - 1).is_some_and(may_begin) { room - 1 } else { room }
    }

    fn byte_at(&self, mut index: usize) -> Option<u8> {
        let mut at = self.at;
        for slice in self.slices {
            let rest = &slice[at..];
            if let Some(byte) = rest.get(index) {
                return Some(*byte);
            }
            (at, index) = (0, index - rest.len());
        }
        None
    }
}

/// Whether a server's frame of RFC 6455 §5.2 can begin so: a whole message of text or binary data,
/// compressed (RFC 7692 §6) or not, or a control frame. Event streams have no such byte: there the
/// end of a line comes before all that can begin.
fn begins_frame(byte: u8) -> bool {
    matches!(byte, 0x81 | 0x82 | 0x88 | 0x89 | 0x8a | 0xc1 | 0xc2)
}
