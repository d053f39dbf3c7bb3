//! Announcements: tasks for every shard of every process of the cluster, as plain data.
//!
//! Nothing here says how an announcement gets there (`announcer`, `redis`), or what a shard does
//! about it (`conn`).

use thiserror::Error;

use crate::{channel::ChannelName, metrics::Scope};

/// Something to be done by every shard of every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Clients are to be closed.
    Disconnect(Disconnection),
}

/// Clients that are to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnection {
    /// Which clients.
    pub selector: Selector,
    /// They are to come back: 1012, spread over time. Else 4403.
    pub may_return: bool,
}

/// The property by which clients are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// They are subscribed to this channel.
    Channel(ChannelName),
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
}
