//! Patterns of channels: a channel's name, or a prefix that ends in `*`; `*` alone is all.
//!
//! A list is kept in its shortest form, sorted: it never holds what another of its patterns covers,
//! so the question whether a channel is covered takes two binary searches, however long the list.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ChannelName, is_name_byte};
use crate::limits::CHANNEL_NAME_BYTES_MAX;

/// One pattern: text that [`ChannelName`] accepts, or such text, possibly none, and a `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ChannelPattern {
    /// This channel.
    Name(ChannelName),
    /// All channels whose names begin so.
    Prefix(Box<str>),
}

/// The text is no pattern.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a pattern is a channel's name, or the beginning of one and a *; names are {InvalidName}")]
pub struct InvalidChannelPattern;

/// The part of the message that is about names.
struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 to {CHANNEL_NAME_BYTES_MAX} characters of A-Z a-z 0-9 _ . : -")
    }
}

impl ChannelPattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is neither a channel's name nor a prefix of one that ends in `*`.
    pub fn new(text: &str) -> Result<Self, InvalidChannelPattern> {
        match text.strip_suffix('*') {
            Some(prefix)
                if prefix.len() <= CHANNEL_NAME_BYTES_MAX && prefix.bytes().all(is_name_byte) =>
            {
                Ok(Self::Prefix(prefix.into()))
            }
            Some(_) => Err(InvalidChannelPattern),
            None => ChannelName::new(text).map(Self::Name).map_err(|_| InvalidChannelPattern),
        }
    }

    /// Whether the channel named `channel` is one of those.
    #[must_use]
    pub fn covers(&self, channel: &str) -> bool {
        match self {
            Self::Name(name) => name.as_str() == channel,
            Self::Prefix(prefix) => channel.starts_with(&**prefix),
        }
    }
}

impl FromStr for ChannelPattern {
    type Err = InvalidChannelPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for ChannelPattern {
    type Error = InvalidChannelPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<ChannelPattern> for String {
    fn from(pattern: ChannelPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for ChannelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// The channels that any of several patterns covers; none by default.
///
/// Two lists that cover the same channels by the same names and prefixes are equal, in whatever
/// order they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ChannelPattern>", into = "Vec<ChannelPattern>")]
pub struct ChannelPatterns {
    /// Sorted; none begins with a prefix of the list.
    names: Box<[ChannelName]>,
    /// Sorted; none begins with another.
    prefixes: Box<[Box<str>]>,
}

impl ChannelPatterns {
    /// The pattern `*`.
    #[must_use]
    pub fn all() -> Self {
        [ChannelPattern::Prefix("".into())].into_iter().collect()
    }

    /// Whether the channel named `channel` is covered.
    #[must_use]
    pub fn covers(&self, channel: &str) -> bool {
        has_prefix_of(&self.prefixes, channel)
            || self.names.binary_search_by(|name| name.as_str().cmp(channel)).is_ok()
    }

    /// Whether no channel is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty()
    }

    /// The patterns, in their shortest form: prefixes, then names, each sorted.
    pub fn iter(&self) -> impl Iterator<Item = ChannelPattern> + '_ {
        let prefixes = self.prefixes.iter().cloned().map(ChannelPattern::Prefix);
        prefixes.chain(self.names.iter().cloned().map(ChannelPattern::Name))
    }

    /// The memory that they take beside their own struct.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        // A name has two counters beside its text.
        let names = self.names.iter().map(|name| name.as_str().len() + 2 * size_of::<usize>());
        let prefixes = self.prefixes.iter().map(|prefix| prefix.len());
        let text: usize = names.chain(prefixes).sum();
        text + size_of_val(&*self.names) + size_of_val(&*self.prefixes)
    }
}

/// Whether `text` begins with one of `prefixes`, which are sorted and of which none begins with
/// another: then it can only be the last that is not greater.
fn has_prefix_of(prefixes: &[Box<str>], text: &str) -> bool {
    let after = prefixes.partition_point(|prefix| **prefix <= *text);
    prefixes[..after].last().is_some_and(|prefix| text.starts_with(&**prefix))
}

impl FromIterator<ChannelPattern> for ChannelPatterns {
    fn from_iter<I: IntoIterator<Item = ChannelPattern>>(patterns: I) -> Self {
        let (mut names, mut prefixes) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                ChannelPattern::Name(name) => names.push(name),
                ChannelPattern::Prefix(prefix) => prefixes.push(prefix),
            }
        }
        prefixes.sort_unstable();
        // Sorted, a prefix comes right before all that begin with it.
        prefixes.dedup_by(|longer, shorter| longer.starts_with(&**shorter));
        names.retain(|name| !has_prefix_of(&prefixes, name.as_str()));
        names.sort_unstable();
        names.dedup();
        Self { names: names.into(), prefixes: prefixes.into() }
    }
}

impl From<Vec<ChannelPattern>> for ChannelPatterns {
    fn from(patterns: Vec<ChannelPattern>) -> Self {
        patterns.into_iter().collect()
    }
}

impl From<ChannelPatterns> for Vec<ChannelPattern> {
    fn from(patterns: ChannelPatterns) -> Self {
        patterns.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(patterns: &[&str]) -> ChannelPatterns {
        patterns.iter().map(|pattern| ChannelPattern::new(pattern).unwrap()).collect()
    }

    #[test]
    fn a_pattern_is_a_name_or_a_prefix() {
        for text in ["a", "*", "news.*", "user:7:*", "-"] {
            assert_eq!(ChannelPattern::new(text).unwrap().to_string(), text);
        }
        let (longest, longer) = ("a".repeat(128), "a".repeat(129));
        assert!(ChannelPattern::new(&longest).is_ok());
        assert!(ChannelPattern::new(&format!("{longest}*")).is_ok());
        for text in ["", "**", "a*b", "*a", "a b", "ä*", &longer, &format!("{longer}*")] {
            assert_eq!(ChannelPattern::new(text), Err(InvalidChannelPattern), "{text:?}");
        }
    }

    #[test]
    fn a_list_covers_names_and_prefixes() {
        let patterns = list(&["news.*", "b", "user:7:*"]);
        for channel in ["news.", "news.eu", "b", "user:7:x"] {
            assert!(patterns.covers(channel), "{channel}");
        }
        for channel in ["news", "bb", "a", "", "user:77", "user:7", "z"] {
            assert!(!patterns.covers(channel), "{channel}");
        }
        assert!(ChannelPatterns::all().covers("anything"));
        assert!(!ChannelPatterns::default().covers("anything"));
        assert!(ChannelPatterns::default().is_empty() && !patterns.is_empty());
    }

    #[test]
    fn a_list_holds_nothing_twice() {
        let patterns = list(&["ab*", "a*", "b", "abc", "b", "ax", "a*"]);
        assert_eq!(patterns, list(&["b", "a*"]));
        assert_eq!(serde_json::to_string(&patterns).unwrap(), r#"["a*","b"]"#);
        let read: ChannelPatterns = serde_json::from_str(r#"["b","a*"]"#).unwrap();
        assert_eq!(read, patterns);
        assert!(serde_json::from_str::<ChannelPatterns>(r#"["b c"]"#).is_err());
        assert!(patterns.heap_bytes() > 0);
    }

    proptest! {
        /// The list in its shortest form covers what its patterns cover one by one.
        #[test]
        fn a_list_covers_as_its_patterns_do(
            patterns in proptest::collection::vec("[ab.]{0,3}\\*|[ab.]{1,4}", 0..8),
            channel in "[ab.]{1,5}",
        ) {
            let single: Vec<_> =
                patterns.iter().map(|text| ChannelPattern::new(text).unwrap()).collect();
            let expected = single.iter().any(|pattern| pattern.covers(&channel));
            let patterns: ChannelPatterns = single.into_iter().collect();
            prop_assert_eq!(patterns.covers(&channel), expected);
        }
    }
}
