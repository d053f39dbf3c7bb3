//! What is asked of a channel, and where a client begins on it.
//!
//! Plain values that the handshake, the broker's side and the table hand to one another.

use crate::{
    broker::{Missed, Position, Since},
    channel::ChannelName,
};

/// A channel as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub channel: ChannelName,
    /// From where on; None: from now.
    pub since: Option<Since>,
}

/// What a client begins with on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which one.
    pub channel: ChannelName,
    /// It gets everything after this; None: nobody knows where the channel stands.
    pub from: Option<Position>,
    /// Up to here from the history, after it from the log; None: nothing from the history.
    pub to: Option<Position>,
    /// It asked for history.
    pub resumed: bool,
    /// What it asked for and will not get.
    pub missed: Option<Missed>,
}

/// Where the log of a client that has joined a channel stood then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// None: nobody knew.
    pub at: Option<Position>,
}
