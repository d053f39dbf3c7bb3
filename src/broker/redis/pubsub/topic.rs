//! The kinds of messages that a process hears through Redis.

use crate::channel::ChannelName;

/// The kind of messages on a Redis channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Publications of ours.
    Channel(ChannelName),
    /// Messages of any program, as they are.
    Raw,
    /// Which process bridges the raw channel.
    Marks,
    /// Our own sign of life.
    Heartbeat,
    /// Announcements of other processes.
    Announcements,
}

impl Topic {
    /// The channel whose publications they are.
    pub(crate) fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Channel(channel) => Some(channel),
            Self::Raw | Self::Marks | Self::Heartbeat | Self::Announcements => None,
        }
    }
}
