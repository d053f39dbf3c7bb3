//! The name of a channel, and patterns that cover several, valid by construction.
//!
//! A name goes into URLs, Redis keys and log lines, so it is checked once, on entry, and is a type
//! of its own from there on. Cloning is cheap: the text is shared between threads. Patterns are in
//! `pattern`: they say which channels a right or a rule is about.

mod pattern;

use std::{borrow::Borrow, fmt, sync::Arc};

pub use pattern::{ChannelPattern, ChannelPatterns, InvalidChannelPattern};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::CHANNEL_NAME_BYTES_MAX;

/// A channel's name: `[A-Za-z0-9_.:-]{1,128}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChannelName(Arc<str>);

/// The text is no channel name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a channel name is 1 to 128 characters of A-Z a-z 0-9 _ . : -")]
pub struct InvalidChannelName;

impl ChannelName {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is empty, longer than 128 bytes, or holds any other character.
    pub fn new(text: &str) -> Result<Self, InvalidChannelName> {
        let length_ok = (1..=CHANNEL_NAME_BYTES_MAX).contains(&text.len());
        if length_ok && text.bytes().all(is_name_byte) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidChannelName)
        }
    }

    /// The default channel, for clients and publishers that name none: `notifications`.
    #[must_use]
    pub fn default_channel() -> Self {
        Self("notifications".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte)
}

impl TryFrom<String> for ChannelName {
    type Error = InvalidChannelName;

    fn try_from(text: String) -> Result<Self, InvalidChannelName> {
        Self::new(&text)
    }
}

impl From<ChannelName> for String {
    fn from(name: ChannelName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are checked at both ends of the length and for every ascii character.
    #[test]
    fn names_are_checked_at_both_ends_of_their_length() {
        assert_eq!(ChannelName::new(""), Err(InvalidChannelName));
        assert!(ChannelName::new(&"a".repeat(128)).is_ok());
        assert!(ChannelName::new(&"a".repeat(129)).is_err());
        for byte in 0..128_u8 {
            let text = char::from(byte).to_string();
            let allowed = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
            assert_eq!(ChannelName::new(&text).is_ok(), allowed, "{text:?}");
        }
        assert!(ChannelName::new("ä").is_err());
    }
}
