//! The bytes that wait for one client besides its logs: the rest of a begun frame, control frames,
//! its own output, the Close frame.
//!
//! An outbox is one buffer of complete frames, of which only the first may be partly sent, and
//! references to bytes given to several clients (`shares`). A client has one only while something
//! waits in it. It knows neither outlets nor logs; its caller charges the difference of
//! [`Outbox::cost`] to the budget after a change.

use std::io::IoSlice;

mod waiting;

pub(super) use self::waiting::Waiting;

use super::{long::LongWindow, shares::Shares};

/// The slices of one write from an outbox: bytes before a share, the share, and bytes after it.
pub(super) const OUTBOX_SLICES: usize = 3;

/// The waiting bytes of one client.
///
/// # Invariants
/// - `sent <= begun_end <= bytes.len()`; `bytes[..carry]` is the rest of a log's frame.
/// - A replaceable frame lies wholly in the unsent part.
/// - `shares` are in the order of their places, none before `sent`.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    carry: usize,
    /// The end in `bytes` of the frame that is partly sent; `sent` if there is none.
    begun_end: usize,
    shares: Vec<ShareRef>,
    replaceable: [Option<FrameSpan>; 2],
    /// The Close frame that is due once the logs have been written as far as `heads`.
    pub(super) ending: Option<PendingClose>,
    /// The client is closing: nothing will be added, and its shares will soon be released.
    is_leaving: bool,
    /// The hub's tick in which bytes were last taken from this outbox, or in which it began.
    pub(super) moved_at: u32,
}

/// Shared bytes among the client's own.
#[derive(Clone, Copy, Debug)]
struct ShareRef {
    share: u32,
    /// They are sent before this place in `bytes`.
    at: usize,
    sent: usize,
    length: usize,
    /// So many bytes before `at` are their frame's header.
    head: usize,
    /// They come from a log: the rest of a frame, or frames of a log that this hub did not write.
    is_of_log: bool,
}

/// A close that waits for the logs.
#[derive(Debug)]
pub(super) struct PendingClose {
    pub(super) frame: Box<[u8]>,
    /// How far each log is to be written, in the order of the client's places.
    pub(super) heads: Vec<u64>,
}

/// A frame of which only the latest is worth sending.
#[derive(Clone, Copy, Debug)]
pub(super) enum Replaceable {
    Ping,
    Pong,
}

#[derive(Clone, Copy, Debug)]
struct FrameSpan {
    start: usize,
    length: usize,
}

/// The progress made by [`Outbox::advance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Advanced {
    /// Bytes of logs.
    pub(super) carried: usize,
    /// Frames of logs that were completed.
    pub(super) frames: u64,
    /// The cost of shares that no client reads any more.
    pub(super) freed: usize,
}

impl Outbox {
    /// An empty outbox.
    pub(super) fn begun_at(tick: u32) -> Self {
        Self { moved_at: tick, ..Self::default() }
    }

    /// The memory to be charged; shared bytes are charged separately.
    pub(super) fn cost(&self) -> usize {
        let ending = self
            .ending
            .as_ref()
            .map_or(0, |ending| ending.frame.len() + ending.heads.capacity() * size_of::<u64>());
        let shares = self.shares.capacity() * size_of::<ShareRef>();
        size_of::<Self>() + self.bytes.capacity() + shares + ending
    }

    /// The client's own waiting bytes.
    pub(super) fn own_bytes(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// All waiting bytes.
    pub(super) fn unsent_bytes(&self) -> usize {
        let shared = self.shares.iter().map(|share| share.length - share.sent);
        self.own_bytes() + shared.sum::<usize>()
    }

    /// All waiting bytes except those that come from logs.
    pub(super) fn told_bytes(&self) -> usize {
        let of_logs = self.shares.iter().filter(|share| share.is_of_log);
        let carried: usize = of_logs.map(|share| share.length - share.sent).sum();
        self.unsent_bytes() - carried - self.carry.saturating_sub(self.sent)
    }

    /// Whether nothing of it has been sent.
    pub(super) fn is_untouched(&self) -> bool {
        self.sent == 0 && self.begun_end == 0 && self.shares.iter().all(|share| share.sent == 0)
    }

    /// The client's shares.
    pub(super) fn shares(&self) -> impl Iterator<Item = u32> {
        self.shares.iter().map(|share| share.share)
    }

    /// Where the client is in a share.
    pub(super) fn place_in(&self, share: u32) -> Option<usize> {
        self.shares.iter().find(|it| it.share == share).map(|it| it.sent)
    }

    /// Gathers the bytes to be written next; returns the number of slices.
    pub(super) fn gather<'a>(
        &'a self,
        shares: &'a Shares,
        window: &'a mut LongWindow,
        slices: &mut [IoSlice<'a>; OUTBOX_SLICES],
    ) -> usize {
        let end_of = |number: usize| self.shares.get(number).map_or(self.bytes.len(), |s| s.at);
        let first = self.shares.first();
        let shared = first.map_or(&[][..], |s| {
            let bytes = shares.bytes(s.share, s.sent, window);
            &bytes[..bytes.len().min(s.length - s.sent)]
        });
        let is_whole = |s: &&ShareRef| s.sent + shared.len() == s.length;
        let behind = first.filter(is_whole).map_or(&[][..], |s| &self.bytes[s.at..end_of(1)]);
        let mut count = 0;
        for part in [&self.bytes[self.sent..end_of(0)], shared, behind] {
            if !part.is_empty() {
                slices[count] = IoSlice::new(part);
                count += 1;
            }
        }
        count
    }

    /// Appends complete frames.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        self.compact();
        self.reserve(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Appends shared bytes after their frame's header, which may itself be shared.
    pub(super) fn push_share(&mut self, head: &[u8], share: u32, length: usize) {
        self.push(&[head]);
        let (at, head) = (self.bytes.len(), head.len());
        self.shares.reserve_exact(1);
        self.shares.push(ShareRef { share, at, sent: 0, length, head, is_of_log: false });
    }

    /// Appends `frame`, or replaces the last one of its kind if that one has not been begun:
    /// however many are asked for, one waits.
    pub(super) fn replace(&mut self, kind: Replaceable, frame: &[u8]) {
        self.compact();
        self.reserve(frame.len());
        let span = match self.replaceable[kind as usize] {
            Some(FrameSpan { start, length }) => {
                self.bytes.splice(start..start + length, frame.iter().copied());
                for other in self.replaceable.iter_mut().flatten() {
                    if other.start > start {
                        other.start = other.start + frame.len() - length;
                    }
                }
                for share in self.shares.iter_mut().filter(|share| share.at > start) {
                    share.at = share.at + frame.len() - length;
                }
                FrameSpan { start, length: frame.len() }
            }
            None => {
                self.bytes.extend_from_slice(frame);
                FrameSpan { start: self.bytes.len() - frame.len(), length: frame.len() }
            }
        };
        self.replaceable[kind as usize] = Some(span);
    }

    /// Appends shared bytes from `sent` to `length`; of a log's frames they may begin amid one if
    /// nothing waits before them.
    pub(super) fn push_part(
        &mut self,
        share: u32,
        sent: usize,
        length: usize,
        head: usize,
        is_of_log: bool,
    ) {
        let at = self.bytes.len();
        self.shares.reserve_exact(1);
        self.shares.push(ShareRef { share, at, sent, length, head, is_of_log });
    }

    /// The first of the client's own bytes, which were just pushed, are the end of a frame.
    pub(super) fn set_begun(&mut self, bytes: usize) {
        self.begun_end = self.begun_end.max(self.sent + bytes);
    }

    /// Puts the rest of a begun log frame in front of everything else.
    pub(super) fn carry(&mut self, rest: &[u8]) {
        assert!(self.is_untouched() && self.carry == 0, "one frame is begun at a time");
        self.reserve(rest.len());
        self.bytes.splice(0..0, rest.iter().copied());
        self.carry = rest.len();
        self.begun_end = rest.len();
        for span in self.replaceable.iter_mut().flatten() {
            span.start += rest.len();
        }
        for share in &mut self.shares {
            share.at += rest.len();
        }
    }

    /// The same for a frame shared with other clients, of which `sent` bytes are out.
    pub(super) fn carry_share(&mut self, share: u32, sent: usize, length: usize) {
        assert!(self.is_untouched() && self.carry == 0, "one frame is begun at a time");
        let begun = ShareRef { share, at: 0, sent, length, head: 0, is_of_log: true };
        self.shares.reserve_exact(1);
        self.shares.insert(0, begun);
    }

    /// `count` bytes were taken.
    pub(super) fn advance(&mut self, mut count: usize, shares: &mut Shares) -> Advanced {
        let mut advanced = Advanced::default();
        loop {
            let end = self.shares.first().map_or(self.bytes.len(), |share| share.at);
            let own = count.min(end - self.sent);
            let carried = self.carry.saturating_sub(self.sent).min(own);
            advanced.carried += carried;
            self.sent += own;
            advanced.frames += u64::from(carried > 0 && self.sent >= self.carry);
            count -= own;
            let Some(share) = self.shares.first_mut().filter(|share| share.at == self.sent) else {
                break;
            };
            let taken = count.min(share.length - share.sent);
            let before = share.sent;
            share.sent += taken;
            count -= taken;
            if share.is_of_log {
                advanced.carried += taken;
                advanced.frames += shares.frames_ended(share.share, before, share.sent);
            }
            shares.advance(share.share, before, share.sent, self.is_leaving);
            if share.sent < share.length {
                break;
            }
            advanced.freed += shares.leave(share.share, share.sent, self.is_leaving);
            self.shares.remove(0);
        }
        for place in &mut self.replaceable {
            if place.is_some_and(|span| span.start < self.sent) {
                *place = None;
            }
        }
        while self.begun_end < self.sent {
            self.begun_end = self.frame_end(self.begun_end);
        }
        self.compact();
        advanced
    }

    /// The end of the frame that begins at `start`, among the client's own bytes.
    fn frame_end(&self, start: usize) -> usize {
        let frame = &self.bytes[start..];
        let (head, length) = match frame {
            [_, 126, high, low, ..] => (4, u64::from(u16::from_be_bytes([*high, *low]))),
            [_, 127, rest @ ..] if rest.len() >= 8 => {
                (10, rest[..8].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)))
            }
            [_, length, ..] => (2, u64::from(*length)),
            _ => return self.bytes.len(),
        };
        if self.shares.iter().any(|share| share.head == head && share.at == start + head) {
            return start + head;
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        start.saturating_add(head).saturating_add(length).min(self.bytes.len())
    }

    /// Whether nothing waits, now or later.
    pub(super) fn is_done(&self) -> bool {
        self.own_bytes() == 0 && self.shares.is_empty() && self.ending.is_none()
    }

    /// Discards everything but the end of the frame that is partly sent. Returns the memory of
    /// shares that this frees.
    pub(super) fn cut_short(&mut self, shares: &mut Shares) -> usize {
        if let Some(first) = self.shares.first_mut() {
            first.length = shares.frame_end(first.share, first.sent).min(first.length);
        }
        let is_begun = |share: &&ShareRef| {
            share.length > share.sent
                && (share.sent > 0
                    || share.is_of_log
                    || (share.head > 0 && self.sent + share.head > share.at))
        };
        let begun = self.shares.first().filter(is_begun).copied();
        // A frame ends with its shared bytes.
        self.bytes.truncate(begun.map_or(self.begun_end, |share| share.at));
        self.bytes.shrink_to_fit();
        self.replaceable = [None, None];
        let unbegun = self.shares.drain(usize::from(begun.is_some())..);
        unbegun.map(|it| shares.leave(it.share, it.sent, self.is_leaving)).sum()
    }

    /// The client is closing.
    pub(super) fn begin_to_leave(&mut self, shares: &mut Shares) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.shares.iter().for_each(|it| shares.begin_to_leave(it.share, it.sent));
        }
    }

    /// Whether [`Outbox::begin_to_leave`] was called.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Releases all shares, which tears the frames apart. Returns the memory freed.
    pub(super) fn leave_shares(&mut self, shares: &mut Shares) -> usize {
        let left = std::mem::take(&mut self.shares);
        left.iter().map(|it| shares.leave(it.share, it.sent, self.is_leaving)).sum()
    }

    /// Makes room for `more` bytes, without doubling as a vector would by itself: most of the
    /// waiting bytes wait for slow clients.
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            let spare = if self.bytes.is_empty() { 0 } else { (needed / 8).max(64) };
            self.bytes.reserve_exact(more + spare);
        }
    }

    /// Frees the sent part once it is the larger one.
    fn compact(&mut self) {
        if self.sent * 2 <= self.bytes.len() || self.sent < self.carry {
            return;
        }
        if self.sent == self.bytes.len() {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..self.sent);
            self.bytes.shrink_to(self.bytes.len() + 64);
        }
        for span in self.replaceable.iter_mut().flatten() {
            span.start -= self.sent;
        }
        for share in &mut self.shares {
            share.at -= self.sent;
        }
        self.begun_end -= self.sent;
        self.sent = 0;
        self.carry = 0;
    }
}

#[cfg(test)]
mod tests;
