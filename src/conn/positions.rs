//! A client's requests for channels, and the positions at which it begins on them.
//!
//! Plain values that the handshake, the broker's side and the table hand to one another.

use crate::{
    broker::{Position, Since},
    channel::ChannelName,
};

/// A channel as a client requests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Its name.
    pub channel: ChannelName,
    /// The position to begin at; None: from now.
    pub since: Option<Since>,
}

/// Where the log of a client that has joined a channel stood then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// None: it was unknown.
    pub at: Option<Position>,
}
