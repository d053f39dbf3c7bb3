//! The operator's settings for clients. Each choice is one type, from the option to its use.

use super::{client_rates::ClientRateSettings, keepalive::KeepaliveSettings};
use crate::channel::ChannelPatterns;

/// The rules that apply to all clients.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Longest message of a client, bytes; past it 1009.
    pub message_bytes_max: usize,
    /// The channels that may be listened to without a credential.
    pub public_channels: ChannelPatterns,
    /// The treatment of clients' own messages.
    pub client_publish: ClientPublish,
    /// Longest message that a client may publish, bytes.
    pub broadcast_bytes_max: usize,
    /// Shorter messages are not compressed.
    pub compression_threshold_bytes: usize,
    /// The treatment of a client without a subprotocol whose history is gone.
    pub resume_miss: ResumeMiss,
    /// Sent first to each new client.
    pub greeting: Option<String>,
    /// How much one client may say.
    pub rates: ClientRateSettings,
    /// Pings.
    pub keepalive: KeepaliveSettings,
}

/// The treatment of a client's own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPublish {
    /// Counted and dropped.
    Off,
    /// Published unchanged to the client's first channel.
    Broadcast,
}

impl ClientPublish {
    /// Whether clients' own messages are published.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::Broadcast
    }
}

/// The treatment of a client that cannot be told which messages it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeMiss {
    /// It is closed with 1013.
    Close,
    /// It goes on with what there is.
    Continue,
}
