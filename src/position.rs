//! The position of a message in its channel, and the point after which a client wants messages.
//!
//! A client keeps its position, `EPOCH:OFFSET`, and presents it when it comes back. The epoch names
//! an unbroken history, and the offset counts in it; both are assigned by the sequencer, or by
//! Redis. This file has the values and their text only.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{EPOCH_BYTES_MAX, OFFSET_MAX};

/// The position of a clustered message in its channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position {
    /// `[A-Za-z0-9_-]{1,32}`; a new one is chosen when history was lost.
    pub epoch: Arc<str>,
    /// 1, 2, 3 … without holes, per channel and epoch; 0 before the first message. At most
    /// [`OFFSET_MAX`], which is checked wherever offsets come in.
    pub offset: u64,
}

/// The text is no position.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a position is EPOCH:OFFSET, as in a message's id or in Wsbcast-Position")]
pub struct InvalidPosition;

/// The point from which a channel's messages are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Since {
    /// All messages after this one.
    After(Position),
    /// The newest so many, and all that follow.
    Newest(usize),
}

/// The part of a channel's history that is available, up to some position, for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The messages after this one can be read.
    pub from: Position,
    /// The messages that were wanted and are not available.
    pub missed: Option<Missed>,
}

/// A hole in the messages that a client gets: between the earlier ones and those that follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The epoch of `from` and `to`; None: unknown, since the broker is out of reach.
    pub epoch: Option<Arc<str>>,
    /// The first missing offset. If the epoch is not that of the message before, the missing part
    /// of that earlier epoch is unknown.
    pub from: u64,
    /// The last missing offset; `from - 1` if none of this epoch is missing; None: unknown.
    pub to: Option<u64>,
    /// An acknowledged message is certainly missing, though perhaps it has none of these offsets.
    pub sure: bool,
}

impl Missed {
    /// Whether some message is certainly missing, and not only the unknown end of another epoch.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.sure || self.to.is_none_or(|to| to >= self.from)
    }
}

/// The beginning of the epoch of an empty position. Other epochs of a Redis are hexadecimal.
const EMPTY: &str = "empty-";

impl Position {
    /// The position of channels without any publication; `id` tells one such epoch from the next.
    #[must_use]
    pub fn empty(id: &str) -> Self {
        Self { epoch: format!("{EMPTY}{id}").into(), offset: 0 }
    }

    /// Whether this is the position of channels without any publication.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offset == 0 && is_empty_epoch(&self.epoch)
    }

    /// The position of the next message.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { epoch: self.epoch.clone(), offset: self.offset + 1 }
    }

    /// Whether `other` is in the same unbroken history.
    #[must_use]
    pub fn is_comparable(&self, other: &Self) -> bool {
        is_same_epoch(&self.epoch, &other.epoch)
    }
}

/// Whether two epochs are the same; usually they are the same allocation.
#[must_use]
pub fn is_same_epoch(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Whether an epoch is that of channels without any publication: it has no messages.
#[must_use]
pub fn is_empty_epoch(epoch: &str) -> bool {
    epoch.starts_with(EMPTY)
}

/// Whether `text` is `[A-Za-z0-9_-]{1,32}`.
#[must_use]
pub fn is_epoch(text: &str) -> bool {
    (1..=EPOCH_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// The offset written in `text`: only digits, at most [`OFFSET_MAX`].
#[must_use]
pub fn offset_in(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|offset| is_number && *offset <= OFFSET_MAX)
}

impl TryFrom<String> for Position {
    type Error = InvalidPosition;

    fn try_from(text: String) -> Result<Self, InvalidPosition> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        if !is_epoch(epoch) {
            return Err(InvalidPosition);
        }
        let offset = offset_in(offset).ok_or(InvalidPosition)?;
        Ok(Self { epoch: epoch.into(), offset })
    }
}

/// Numbers as strangers may write them, for tests of every place where they come in.
#[cfg(test)]
pub(crate) fn for_each_number(mut act: impl FnMut(&str, Option<u64>)) {
    let near = |edge: u64| edge.saturating_sub(2)..=edge.saturating_add(2);
    let edges = [0, 1 << 31, 1 << 32, OFFSET_MAX, i64::MAX as u64, u64::MAX];
    for number in edges.into_iter().flat_map(near) {
        act(&number.to_string(), (number <= OFFSET_MAX).then_some(number));
    }
    let mut random = fastrand::Rng::with_seed(14);
    for _ in 0..2_000 {
        let number = random.u64(..) >> random.u32(0..64);
        act(&number.to_string(), (number <= OFFSET_MAX).then_some(number));
    }
    let none = ["-1", "+1", "", " 1", "1 ", "1.0", "1e3", "0x10", "١", "18446744073709551616"];
    let long = "9".repeat(400);
    none.into_iter().chain([&*long]).for_each(|text| act(text, None));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_and_read_back() {
        for text in ["a:0", "A_z-9:42", "0123456789abcdef0123456789abcdef:9007199254740991"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
    }

    /// An offset is a number that every client can count on from.
    #[test]
    fn an_offset_leaves_room_to_count_on() {
        for_each_number(|text, offset| {
            assert_eq!(offset_in(text), offset, "{text:?}");
            let position = format!("e:{text}").parse::<Position>().ok();
            assert_eq!(position.map(|position| position.next().offset), offset.map(|it| it + 1));
        });
    }

    #[test]
    fn anything_else_is_no_position() {
        let bad = [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:-1",
            "a:+1",
            "a: 1",
            "a:1:1",
            "a b:1",
            "ä:1",
            "a:9007199254740992",
            "a:18446744073709551615",
            "a:18446744073709551616",
            "0123456789abcdef0123456789abcdef0:1",
        ];
        for text in bad {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text:?}");
        }
    }
}
