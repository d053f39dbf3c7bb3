//! Where a RESP3 frame ends: pure, and without recursion.
//!
//! The decoder calls itself for each array within an array and waits for any length that a server
//! announces: a lying server makes it overflow the stack, or fill the memory. So every byte from
//! Redis passes here first. The depth, number and length of a frame's elements are bounded before
//! any of it is decoded, and too large a frame is refused as soon as it is announced. Redis sends
//! neither attributes nor streamed frames to clients that did not ask for them: here they are
//! invalid.

use thiserror::Error;

use crate::limits::{
    REDIS_FRAME_BYTES_MAX, REDIS_FRAME_DEPTH_MAX, REDIS_FRAME_ELEMENTS_MAX, REDIS_LINE_BYTES_MAX,
};

/// The announced data is no frame, or larger than a frame may be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum BadFrame {
    #[error("a line that is none")]
    Line,
    #[error("a type or a length that is none")]
    Header,
    #[error("arrays within arrays, more than {REDIS_FRAME_DEPTH_MAX}")]
    Depth,
    #[error("more elements than {0}")]
    Elements(usize),
    #[error("more bytes than {0}")]
    Bytes(usize),
}

/// How much one frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) elements: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: REDIS_FRAME_BYTES_MAX, elements: REDIS_FRAME_ELEMENTS_MAX }
    }
}

/// The place in a frame up to which it has come.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    bounds: Bounds,
    at: usize,
    elements: usize,
    /// The number of missing elements of each array that has begun, the outermost first.
    open: Vec<usize>,
}

/// The element at a place.
enum Element {
    /// It ends there.
    Leaf(usize),
    /// So many more belong to it, from there on.
    Holds(usize, usize),
}

impl Scanner {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// The length of the frame that `input` begins with, once it is all there; until then `input`
    /// only grows.
    ///
    /// # Errors
    /// When it is no frame, or will be larger than allowed.
    pub(super) fn end_of_frame(&mut self, input: &[u8]) -> Result<Option<usize>, BadFrame> {
        while let Some(element) = self.element(input)? {
            let (end, holds) = match element {
                Element::Leaf(end) => (end, 0),
                Element::Holds(end, count) => (end, count),
            };
            self.elements += 1;
            self.at = end;
            if holds > 0 {
                if self.open.len() == REDIS_FRAME_DEPTH_MAX {
                    return Err(BadFrame::Depth);
                }
                self.open.push(holds);
                continue;
            }
            while let Some(missing) = self.open.last_mut() {
                *missing -= 1;
                if *missing > 0 {
                    break;
                }
                self.open.pop();
            }
            if self.open.is_empty() {
                *self = Self::new(self.bounds);
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The next one; None: it is not all there.
    fn element(&self, input: &[u8]) -> Result<Option<Element>, BadFrame> {
        let rest = input.get(self.at..).unwrap_or_default();
        let Some((&kind, line)) = rest.split_first() else { return Ok(None) };
        if !b"+-:_,#($!=*~>%".contains(&kind) {
            return Err(BadFrame::Header);
        }
        let line = &line[..line.len().min(REDIS_LINE_BYTES_MAX)];
        let Some(length) = line.windows(2).position(|pair| pair == b"\r\n") else {
            let is_endless = line.len() == REDIS_LINE_BYTES_MAX;
            return if is_endless { Err(BadFrame::Line) } else { Ok(None) };
        };
        let end = self.at + 1 + length + 2;
        let number = || number_in(&line[..length]);
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.leaf(end, input),
            b'$' | b'!' | b'=' => {
                let end = number()?.checked_add(end + 2).ok_or(BadFrame::Header)?;
                self.leaf(end, input)
            }
            b'*' | b'~' | b'>' => self.holds(end, number()?).map(Some),
            b'%' => self.holds(end, number()?.saturating_mul(2)).map(Some),
            _ => Err(BadFrame::Header),
        }
    }

    fn leaf(&self, end: usize, input: &[u8]) -> Result<Option<Element>, BadFrame> {
        if end > self.bounds.bytes {
            return Err(BadFrame::Bytes(self.bounds.bytes));
        }
        Ok((end <= input.len()).then_some(Element::Leaf(end)))
    }

    fn holds(&self, end: usize, count: usize) -> Result<Element, BadFrame> {
        // With all that is still to come.
        let missing: usize = self.open.iter().sum();
        if count > self.bounds.elements.saturating_sub(self.elements + missing) {
            return Err(BadFrame::Elements(self.bounds.elements));
        }
        if end > self.bounds.bytes {
            return Err(BadFrame::Bytes(self.bounds.bytes));
        }
        Ok(Element::Holds(end, count))
    }
}

/// A length: up to 18 digits and nothing else.
fn number_in(line: &[u8]) -> Result<usize, BadFrame> {
    let is_number = (1..=18).contains(&line.len()) && line.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(line).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(BadFrame::Header)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use redis_protocol::resp3::decode::complete::decode_bytes_mut;

    use super::*;

    fn scan(input: &[u8]) -> Result<Option<usize>, BadFrame> {
        Scanner::default().end_of_frame(input)
    }

    const FRAMES: [&str; 12] = [
        "+OK\r\n",
        "-ERR no\r\n",
        ":-7\r\n",
        "_\r\n",
        ",1.5\r\n",
        "#t\r\n",
        "$5\r\na\r\nbc\r\n",
        "$0\r\n\r\n",
        "=7\r\ntxt:abc\r\n",
        "*0\r\n",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n",
        "*3\r\n*2\r\n:1\r\n*1\r\n_\r\n%1\r\n+a\r\n*0\r\n:3\r\n",
    ];

    /// A frame ends where the decoder says, however it comes.
    #[test]
    fn a_frame_ends_where_the_decoder_says() {
        for frame in FRAMES {
            let both = format!("{frame}:1\r\n");
            let mut input = BytesMut::from(both.as_str());
            let (_, length, _) = decode_bytes_mut(&mut input).unwrap().unwrap();
            assert_eq!(scan(both.as_bytes()), Ok(Some(length)), "{frame:?}");
            let mut scanner = Scanner::default();
            for cut in 0..length {
                assert_eq!(scanner.end_of_frame(&both.as_bytes()[..cut]), Ok(None), "{frame:?}");
            }
            assert_eq!(scanner.end_of_frame(both.as_bytes()), Ok(Some(length)));
            assert_eq!(scanner.end_of_frame(b":1\r\n"), Ok(Some(4)), "and the next one");
        }
    }

    /// A frame that would be too much is refused as soon as it is announced.
    #[test]
    fn an_announced_excess_is_refused() {
        let nested = |kind: &str| kind.repeat(10_000);
        for endless in ["*1\r\n", ">1\r\n", "~1\r\n", "%1\r\n", "*2\r\n:1\r\n"] {
            assert_eq!(scan(nested(endless).as_bytes()), Err(BadFrame::Depth), "{endless:?}");
        }
        for long in ["$999999999999\r\n", "=999999999999\r\n", "!70000000\r\n"] {
            assert!(matches!(scan(long.as_bytes()), Err(BadFrame::Bytes(_))), "{long:?}");
        }
        for many in ["*999999999\r\n", "%999999999\r\n", "*2\r\n*500000\r\n"] {
            assert!(matches!(scan(many.as_bytes()), Err(BadFrame::Elements(_))), "{many:?}");
        }
        let line = format!("+{}", "a".repeat(REDIS_LINE_BYTES_MAX));
        assert_eq!(scan(line.as_bytes()), Err(BadFrame::Line));
        let bounds = Bounds { bytes: 100, elements: 100 };
        let many = format!("*40\r\n{}", ":1\r\n".repeat(40));
        let refused = Scanner::new(bounds).end_of_frame(many.as_bytes());
        assert_eq!(refused, Err(BadFrame::Bytes(100)));
    }

    #[test]
    fn anything_but_a_frame_is_none() {
        let bad = [
            "hello\r\n",
            "$\r\n",
            "$-1\r\n",
            "*-1\r\n",
            "$?\r\n",
            "*?\r\n",
            "|1\r\n+a\r\n+b\r\n",
            "$+1\r\na\r\n",
            "*99999999999999999999\r\n",
            "\r\n",
            "$1a\r\n",
            "HELLO 3\r\n",
            ";4\r\n",
        ];
        for bad in bad {
            assert_eq!(scan(bad.as_bytes()), Err(BadFrame::Header), "{bad:?}");
        }
    }

    /// Random bytes never reach the decoder as more than they are.
    #[test]
    fn random_bytes_never_reach_the_decoder_as_more() {
        let mut random = fastrand::Rng::with_seed(40);
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..random.usize(1..12) {
                let piece = FRAMES[random.usize(..FRAMES.len())].as_bytes();
                let cut = random.usize(..=piece.len());
                bytes.extend_from_slice(&piece[..cut]);
            }
            let place = random.usize(..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(place) {
                *byte = random.u8(..);
            }
            let Ok(Some(end)) = scan(&bytes) else { continue };
            let mut frame = BytesMut::from(&bytes[..end]);
            // No frame, or the whole of it.
            if let Ok(decoded) = decode_bytes_mut(&mut frame) {
                assert_eq!(decoded.map(|(_, length, _)| length), Some(end), "{bytes:?}");
            }
        }
    }
}
