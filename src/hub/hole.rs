//! What of a log is to go, and what a client misses by that.
//!
//! Plain values; how a log is cut, and what those meet who lag behind, is the matter of `cut`.

use super::policy::SlowPolicy;
use crate::{channel::ChannelName, position::Missed};

/// What a client misses that goes on with its log's newest message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where.
    pub channel: ChannelName,
    /// Of these offsets, if any: what has none, or belongs to the end of an earlier history, is
    /// missing unnamed.
    pub missed: Missed,
}

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Nothing before this is to be kept.
    pub(super) tail: u64,
    /// What those meet who lag behind it and take nothing.
    pub(super) policy: SlowPolicy,
}
