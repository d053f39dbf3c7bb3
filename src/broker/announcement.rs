//! Announcements: tasks for every shard of every process of the cluster, as plain data.
//!
//! Nothing here says how an announcement gets there (`announcer`, `redis`), or what a shard does
//! about it (`conn`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{bans::Bearer, channel::ChannelName, metrics::Scope};

/// Something to be done by every shard of every process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announcement {
    /// Clients are to be closed.
    Disconnect(Disconnection),
}

/// Clients that are to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disconnection {
    /// Which clients.
    pub selector: Selector,
    /// They are to come back: 1012, spread over time. Else 4403.
    pub may_return: bool,
    /// For so long no bearer that is selected is let in; a channel keeps nobody out, nor does a
    /// disconnection after which they are to come back.
    pub banned_for: Option<Duration>,
}

impl Disconnection {
    /// The bearer that it keeps out, and for how long.
    #[must_use]
    pub fn ban(&self) -> Option<(&Bearer, Duration)> {
        match &self.selector {
            Selector::Bearer(bearer) => Some((bearer, self.banned_for?)),
            Selector::Channel(_) => None,
        }
    }
}

/// The property by which clients are selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// They are subscribed to this channel.
    Channel(ChannelName),
    /// They have shown a token of this bearer's.
    Bearer(Bearer),
}

/// The immediate outcome of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Clients of this process that are concerned.
    pub clients: usize,
    /// Whether the other processes were told.
    pub scope: Scope,
}

/// Why nothing was announced.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AnnounceError {
    /// A shard's mailbox is full. Answer 503.
    #[error("a shard of this process is too far behind")]
    ShardStalled,
    /// As many subjects and tokens are kept out as may be: [`crate::limits::BANS_MAX`]. Answer
    /// 503.
    #[error("too many subjects and tokens are kept out")]
    BansFull,
}
