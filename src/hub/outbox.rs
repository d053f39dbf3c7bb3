//! What waits for one client besides its logs: the rest of a begun frame, control frames, its
//! own output, the Close frame.
//!
//! One buffer of complete frames, of which only the first may be partly sent. A client has an
//! outbox only while something waits in it. It knows neither outlets nor logs; whoever changes
//! it charges the difference of [`Outbox::cost`] to the budget.

/// The waiting bytes of one client.
///
/// # Invariants
/// - `sent <= bytes.len()`; `bytes[..carry]` is the rest of a log's frame.
/// - A replaceable frame lies wholly in the part that was not sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    carry: usize,
    replaceable: [Option<Span>; 2],
    /// The Close frame that is due once the logs have been written as far as `heads`.
    pub(super) ending: Option<Ending>,
}

/// A close that lets the logs go first.
#[derive(Debug)]
pub(super) struct Ending {
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
struct Span {
    start: usize,
    length: usize,
}

impl Outbox {
    /// Memory that the budget counts.
    pub(super) fn cost(&self) -> usize {
        let ending = self.ending.as_ref();
        self.bytes.capacity() + ending.map_or(0, |ending| ending.frame.len())
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Appends complete frames.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        self.compact();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Appends `frame`, or puts it in the place of the last one of its kind if that one has not
    /// been begun: however many are asked for, one waits.
    pub(super) fn replace(&mut self, kind: Replaceable, frame: &[u8]) {
        self.compact();
        let span = match self.replaceable[kind as usize] {
            Some(Span { start, length }) => {
                self.bytes.splice(start..start + length, frame.iter().copied());
                for other in self.replaceable.iter_mut().flatten() {
                    if other.start > start {
                        other.start = other.start + frame.len() - length;
                    }
                }
                Span { start, length: frame.len() }
            }
            None => {
                self.bytes.extend_from_slice(frame);
                Span { start: self.bytes.len() - frame.len(), length: frame.len() }
            }
        };
        self.replaceable[kind as usize] = Some(span);
    }

    /// Puts the rest of a begun log frame before everything else.
    pub(super) fn carry(&mut self, rest: &[u8]) {
        assert!(self.sent == 0 && self.carry == 0, "one frame is begun at a time");
        self.bytes.splice(0..0, rest.iter().copied());
        self.carry = rest.len();
        for span in self.replaceable.iter_mut().flatten() {
            span.start += rest.len();
        }
    }

    /// `count` bytes were taken. Returns how many of them belonged to a log, and whether the
    /// log's frame ended with them.
    pub(super) fn advance(&mut self, count: usize) -> (usize, bool) {
        let carried = self.carry.saturating_sub(self.sent).min(count);
        self.sent += count;
        for place in &mut self.replaceable {
            if place.is_some_and(|span| span.start < self.sent) {
                *place = None;
            }
        }
        let frame_ended = carried > 0 && self.sent >= self.carry;
        if self.sent == self.bytes.len() {
            self.bytes = Vec::new();
            self.sent = 0;
            self.carry = 0;
        }
        (carried, frame_ended)
    }

    /// Nothing waits, now or later.
    pub(super) fn is_done(&self) -> bool {
        self.unsent().is_empty() && self.ending.is_none()
    }

    /// Frees the sent part once it is the larger one.
    fn compact(&mut self) {
        if self.sent * 2 <= self.bytes.len() || self.sent < self.carry {
            return;
        }
        self.bytes.drain(..self.sent);
        for span in self.replaceable.iter_mut().flatten() {
            span.start -= self.sent;
        }
        self.sent = 0;
        self.carry = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pongs_not_yet_begun_only_the_last_waits_and_a_begun_one_is_left_alone() {
        let mut outbox = Outbox::default();
        outbox.push(&[b"aa"]);
        outbox.replace(Replaceable::Pong, b"p1");
        outbox.replace(Replaceable::Ping, b"i");
        outbox.push(&[b"bb"]);
        outbox.replace(Replaceable::Pong, b"pong2");
        outbox.replace(Replaceable::Ping, b"ii");
        assert_eq!(outbox.unsent(), b"aapong2iibb");
        outbox.advance(3);
        outbox.replace(Replaceable::Pong, b"p3");
        assert_eq!(outbox.unsent(), b"ong2iibbp3");
        outbox.advance(6);
        outbox.replace(Replaceable::Pong, b"p4");
        assert_eq!(outbox.unsent(), b"bbp4");
    }

    #[test]
    fn a_carry_goes_before_what_waits_and_is_counted_apart() {
        let mut outbox = Outbox::default();
        outbox.replace(Replaceable::Pong, b"p1");
        outbox.carry(b"rest");
        outbox.replace(Replaceable::Pong, b"p2");
        assert_eq!(outbox.unsent(), b"restp2");
        assert_eq!(outbox.advance(3), (3, false));
        assert_eq!(outbox.advance(2), (1, true));
        assert_eq!(outbox.advance(1), (0, false));
        assert!(outbox.is_done());
    }
}
