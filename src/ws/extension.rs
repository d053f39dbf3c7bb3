//! permessage-deflate's negotiation: RFC 7692 §7.1, in the grammar of RFC 6455 §9.1.
//!
//! The first acceptable offer is answered, always with both `no_context_takeover`s: every message
//! is then independent, so that one compressed copy serves all clients of a window size and no
//! client owns a compressor's state. An offer that can't be kept, or is malformed, is passed over,
//! and the connection continues without it. Nothing is compressed here.

use std::{borrow::Cow, num::NonZeroU8};

use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

const NAME: &[u8] = b"permessage-deflate";

/// The size of the window in which a compressor looks for repetitions: its binary logarithm,
/// 9 to 15. RFC 7692 also knows 8, which zlib and its kin can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct WindowBits(NonZeroU8);

/// No window has that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window has 9 to 15 bits")]
pub struct InvalidWindowBits;

impl TryFrom<u8> for WindowBits {
    type Error = InvalidWindowBits;

    fn try_from(bits: u8) -> Result<Self, InvalidWindowBits> {
        Self::new(bits).ok_or(InvalidWindowBits)
    }
}

impl From<WindowBits> for u8 {
    fn from(window: WindowBits) -> Self {
        window.get()
    }
}

impl WindowBits {
    const BITS_MIN: u8 = 9;
    const BITS_MAX: u8 = 15;

    /// The number of sizes.
    pub const COUNT: usize = (Self::BITS_MAX - Self::BITS_MIN + 1) as usize;
    /// The size used when the client asks for no smaller one.
    pub const MAX: Self = Self(NonZeroU8::new(Self::BITS_MAX).expect("15 is not 0"));

    /// A window of `bits`, if a compressor can have it.
    #[must_use]
    pub fn new(bits: u8) -> Option<Self> {
        let possible = (Self::BITS_MIN..=Self::BITS_MAX).contains(&bits);
        NonZeroU8::new(bits).filter(|_| possible).map(Self)
    }

    /// The binary logarithm of the size.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0.get()
    }

    /// The index among all sizes, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.get() - Self::BITS_MIN)
    }
}

/// The agreement of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The window with which the server's messages are compressed.
    pub window: WindowBits,
    /// The client has asked for the window, so the answer names it.
    named: bool,
}

impl Agreement {
    /// The answer's `Sec-WebSocket-Extensions`. `client_max_window_bits` is never in it: the
    /// server inflates with the largest window, whatever the client compresses with.
    #[must_use]
    pub fn answer(self) -> HeaderValue {
        const BASE: &str =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        if !self.named {
            return HeaderValue::from_static(BASE);
        }
        let bits = self.window.get();
        HeaderValue::try_from(format!("{BASE}; server_max_window_bits={bits}"))
            .expect("a number is valid in a header")
    }
}

/// The agreement to answer the offers in a handshake's `Sec-WebSocket-Extensions` lines with;
/// `None`: no offer is acceptable.
#[must_use]
pub fn negotiate(headers: &HeaderMap) -> Option<Agreement> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    lines.map(HeaderValue::as_bytes).find_map(first_acceptable)
}

/// The first acceptable offer of a line; after the first violation of the grammar, nothing in the
/// line counts.
fn first_acceptable(line: &[u8]) -> Option<Agreement> {
    let mut text = HeaderText(line);
    loop {
        // A list may have empty elements.
        while text.eat(b',') {}
        let name = text.token()?;
        let mut offer = Offer::default();
        while text.eat(b';') {
            let parameter = text.token()?;
            let value = if text.eat(b'=') { Some(text.value()?) } else { None };
            offer.take(parameter, value.as_deref());
        }
        if name == NAME && !offer.declined {
            let window = offer.server_window.unwrap_or(WindowBits::MAX);
            return Some(Agreement { window, named: offer.server_window.is_some() });
        }
        if !text.eat(b',') {
            return None;
        }
    }
}

/// One offer's parameters, as far as they are read.
#[derive(Debug, Default)]
struct Offer {
    /// The parameters seen, as bits: none may come twice.
    seen: u8,
    server_window: Option<WindowBits>,
    declined: bool,
}

impl Offer {
    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (bit, good) = match name {
            b"server_no_context_takeover" => (1, value.is_none()),
            b"client_no_context_takeover" => (2, value.is_none()),
            b"server_max_window_bits" => {
                self.server_window = value.and_then(bits).and_then(WindowBits::new);
                (4, self.server_window.is_some())
            }
            // Without a value it only says that the client would obey an answer.
            b"client_max_window_bits" => (8, value.is_none_or(|value| bits(value).is_some())),
            _ => (0, false),
        };
        self.declined |= !good || self.seen & bit != 0;
        self.seen |= bit;
    }
}

/// A number of bits as RFC 7692 writes it: 8 to 15 without leading zeros.
fn bits(value: &[u8]) -> Option<u8> {
    match *value {
        [digit @ (b'8' | b'9')] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The rest of a header line.
struct HeaderText<'a>(&'a [u8]);

impl<'a> HeaderText<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// Takes `byte` if it comes next.
    fn eat(&mut self, byte: u8) -> bool {
        self.skip_space();
        let Some(rest) = self.0.strip_prefix(&[byte]) else { return false };
        self.0 = rest;
        true
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        self.skip_space();
        let end = self.0.iter().position(|&byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, or a quoted string whose content is a token.
    fn value(&mut self) -> Option<Cow<'a, [u8]>> {
        if !self.eat(b'"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => break,
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    value.push(escaped);
                }
                byte => value.push(byte),
            }
        }
        let is_token = !value.is_empty() && value.iter().copied().all(is_token);
        is_token.then_some(Cow::Owned(value))
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answer(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let agreement = negotiate(&headers)?;
        Some(agreement.answer().to_str().unwrap().to_owned())
    }

    /// The offers of browsers and libraries are answered without context takeover.
    #[test]
    fn common_deflate_offers_are_answered() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate;client_no_context_takeover;server_no_context_takeover",
            " permessage-deflate ;\tclient_max_window_bits = \"10\" ",
            "x-webkit-deflate-frame, permessage-deflate",
            ",, permessage-deflate,,",
        ] {
            assert_eq!(answer(&[offer]).as_deref(), Some(PLAIN), "{offer}");
        }
    }

    /// A window that is asked for is named and one that cannot be had is declined.
    #[test]
    fn a_window_size_is_named_or_declined() {
        for bits in 9..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let expected = format!("{PLAIN}; server_max_window_bits={bits}");
            assert_eq!(answer(&[&offer]), Some(expected));
        }
        assert_eq!(answer(&["permessage-deflate; server_max_window_bits=8"]), None);
        let quoted = "permessage-deflate; server_max_window_bits=\"1\\0\"";
        assert_eq!(answer(&[quoted]), Some(format!("{PLAIN}; server_max_window_bits=10")));
    }

    /// The first offer that can be kept is answered over all lines.
    #[test]
    fn the_first_offer_that_can_be_kept_is_answered() {
        let window = Some(format!("{PLAIN}; server_max_window_bits=12"));
        let bad = "permessage-deflate; server_max_window_bits=8";
        let good = "permessage-deflate; server_max_window_bits=12";
        assert_eq!(answer(&[&format!("{bad}, {good}, permessage-deflate")]), window);
        assert_eq!(answer(&["foo; bar=\"a, permessage-deflate\"", bad, good]), window);
        assert_eq!(answer(&["broken;;", good]), window);
    }

    #[test]
    fn an_unsound_offer_is_declined() {
        for offer in [
            "",
            ",",
            "foo",
            "Permessage-Deflate",
            "permessage-deflate2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover=\"\"",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=\"9",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=0",
            "permessage-deflate;",
            "permessage-deflate; \u{e9}",
        ] {
            assert_eq!(answer(&[offer]), None, "{offer}");
        }
        assert_eq!(answer(&[]), None);
    }

    #[test]
    fn no_line_makes_it_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        let pieces = [
            "permessage-deflate",
            ";",
            ",",
            "=",
            "\"",
            "\\",
            " ",
            "server_max_window_bits",
            "9",
            "client_max_window_bits",
            "\t",
            "é",
        ];
        for _ in 0..20_000 {
            let count = random.usize(0..9);
            let line: String = (0..count).map(|_| pieces[random.usize(0..pieces.len())]).collect();
            let _ = answer(&[&line]);
        }
    }
}
