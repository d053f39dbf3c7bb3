//! Plain values: how much of a log is cut, and what a client misses because of that.
//!
//! The cutting itself, and the treatment of clients that lag, is in `cut`.

use super::policy::SlowPolicy;
use crate::{channel::ChannelName, position::Missed};

/// The messages that a client misses when it continues with its log's newest message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The channel.
    pub channel: ChannelName,
    /// Their offsets, if any: messages without an offset, and those that belong to the end of an
    /// earlier history, are missing without being named.
    pub missed: Missed,
}

/// How a log is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Bytes before this offset are not kept.
    pub(super) tail: u64,
    /// How clients are treated that lag behind it and take nothing.
    pub(super) policy: SlowPolicy,
}
