//! Why a token gives no rights, in words for its bearer.
//!
//! A hint may quote a claim of a token whose signature is good, cleaned and cut, and says what is
//! expected; it never holds the token, a part of it, or a key.

use std::time::Duration;

use thiserror::Error;

use crate::{limits::TOKEN_QUOTE_CHARS_MAX, metrics::TokenResult};

/// A token that gives no rights. Its text is the hint for the bearer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// The text is no signed JWT of a form that is accepted.
    #[error("the token {0}")]
    Malformed(&'static str),
    /// No key here is for the token's algorithm.
    #[error("no key of this server is for the token's algorithm, {0}")]
    Algorithm(Quoted),
    /// Keys are known by their ids, and none has the token's.
    #[error("unknown key id {0}")]
    UnknownKey(Quoted),
    /// The signature is that of no key here.
    #[error("the signature is not that of a key of this server")]
    Signature,
    /// The token was good until some time ago.
    #[error("expired {} ago", Span(*.0))]
    Expired(Duration),
    /// The token will be good in some time.
    #[error("not valid before {} from now", Span(*.0))]
    NotYet(Duration),
    /// The token is another issuer's.
    #[error("issuer is {0}, which is not accepted here")]
    Issuer(Quoted),
    /// The token is for somebody else.
    #[error("audience is {0}, which this server is not")]
    Audience(Quoted),
    /// A claim is missing, of the wrong type or too long.
    #[error("{0}")]
    Claim(String),
    /// The token is good, and an operator keeps its bearer out for a while.
    #[error("the bearer of this token was disconnected and is not let in for now")]
    KeptOut,
    /// There is no key of the issuer's to check any token with: none could be had, or all are too
    /// old.
    #[error("the keys to check tokens with are out of reach; try again later")]
    KeysUnavailable,
    /// No key here is the token's, and whether the issuer has a newer one can't be known.
    #[error("no known key is the token's, and newer ones are out of reach; try again later")]
    KeyUnavailable,
}

impl TokenError {
    /// Words for the bearer.
    #[must_use]
    pub fn hint(&self) -> String {
        self.to_string()
    }

    /// The word for the metric.
    #[must_use]
    pub fn result(&self) -> TokenResult {
        match self {
            Self::Malformed(_) => TokenResult::Malformed,
            Self::Algorithm(_) => TokenResult::Algorithm,
            Self::UnknownKey(_) => TokenResult::UnknownKey,
            Self::Signature => TokenResult::Signature,
            Self::Expired(_) => TokenResult::Expired,
            Self::NotYet(_) => TokenResult::NotYetValid,
            Self::Issuer(_) => TokenResult::Issuer,
            Self::Audience(_) => TokenResult::Audience,
            Self::Claim(_) => TokenResult::Claim,
            Self::KeptOut => TokenResult::KeptOut,
            Self::KeysUnavailable | Self::KeyUnavailable => TokenResult::KeysUnavailable,
        }
    }

    /// Whether the server, not the token, is at fault: answered 503, so that no client throws a
    /// good token away.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::KeysUnavailable | Self::KeyUnavailable)
    }

    /// Whether it counts against those that show it. A token whose key can't be known does: other
    /// tokens are served, and it has cost as much as a forged one, which it may be.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        !matches!(self, Self::KeysUnavailable)
    }

    /// Whether the token is as good as any other, and its bearer is not wanted: another one of the
    /// same bearer would be refused, too.
    #[must_use]
    pub fn is_kept_out(&self) -> bool {
        matches!(self, Self::KeptOut)
    }
}

/// A text from a token that may be shown: visible characters, [`TOKEN_QUOTE_CHARS_MAX`] at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(Box<str>);

impl Quoted {
    /// Cleans `text` and cuts it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(format!("\"{}\"", visible(text, TOKEN_QUOTE_CHARS_MAX)).into())
    }
}

/// `text` without characters that a terminal would obey, cut after `chars_max`.
pub(super) fn visible(text: &str, chars_max: usize) -> String {
    let visible =
        |c: char| if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() { c } else { '?' };
    let mut shown: String = text.chars().take(chars_max).map(visible).collect();
    if text.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}

impl std::fmt::Display for Quoted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A duration as a person says it: its largest unit only.
struct Span(Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_secs() {
            secs @ 0..60 => write!(f, "{} s", secs.max(1)),
            secs @ 60..3600 => write!(f, "{} min", secs / 60),
            secs @ 3600..172_800 => write!(f, "{} h", secs / 3600),
            secs => write!(f, "{} days", secs / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_say_how_long_ago() {
        for (secs, words) in [(0, "1 s"), (59, "59 s"), (180, "3 min"), (7300, "2 h")] {
            let hint = TokenError::Expired(Duration::from_secs(secs)).hint();
            assert_eq!(hint, format!("expired {words} ago"));
        }
        let hint = TokenError::NotYet(Duration::from_secs(400_000)).hint();
        assert_eq!(hint, "not valid before 4 days from now");
    }

    #[test]
    fn a_quote_is_short_and_clean() {
        assert_eq!(Quoted::new("shop, älter").to_string(), "\"shop, älter\"");
        assert_eq!(Quoted::new("a\r\n\u{202e}\u{1b}[1mb").to_string(), "\"a????[1mb\"");
        let long = Quoted::new(&"x".repeat(10_000)).to_string();
        assert_eq!(long.chars().count(), TOKEN_QUOTE_CHARS_MAX + 3);
        assert!(long.ends_with("x…\""));
    }
}
