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
    pub(super) fn next<'b>(&mut self, room: &'b mut [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
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
}
