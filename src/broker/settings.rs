//! The operator's settings for the broker.
//!
//! Plain values, checked where they are used ([`super::Shared::new`] refuses a bad URL); this
//! file must not know how any of them is carried out.

use std::sync::Arc;

use thiserror::Error;

use super::HistorySettings;
use crate::{bans::Bans, tls::PairFiles};

/// The broker's settings.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// None: the embedded broker, this process alone.
    pub redis: Option<RedisSettings>,
    /// The treatment of publications while Redis is out of reach.
    pub on_loss: OnLoss,
    /// The history of each channel that is kept for clients that come back.
    pub history: HistorySettings,
}

/// Where Redis is and how it is used.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://` (and their TLS variants).
    pub url: String,
    /// Files for TLS; by default the system's authorities, and no certificate of a client.
    pub tls: RedisTls,
    /// The subscribers.
    pub subscribers: Subscribers,
    /// Publishing clients per handle; at least one.
    pub pool: usize,
    /// The prefix of all our keys and channels; no braces.
    pub prefix: String,
    /// The Redis channel whose messages go as they are to the default channel; None: off.
    pub raw_channel: Option<String>,
    /// A larger message on the raw channel is dropped and counted.
    pub max_broadcast_bytes: usize,
    /// The process's table of bearers that are kept out, which is to agree with that of others;
    /// None where tokens do not count.
    pub bans: Option<Arc<Bans>>,
    /// Bytes of idempotency keys that the process adds within their life.
    pub keys_bytes_max: usize,
}

/// The files for TLS towards Redis and its sentinels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// The authorities that are trusted in place of the system's, PEM.
    pub authorities: Option<String>,
    /// The certificate that is shown, and its key.
    pub client: Option<PairFiles>,
}

/// How often a publication leaves Redis for one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribers {
    /// Once for each shard that has clients of the channel: no thread waits for another.
    PerShard,
    /// Once: the first shard subscribes for all and hands on.
    PerProcess,
}

/// The treatment of publications while Redis is configured but out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// Deliver to this process's clients and say so.
    Local,
    /// Answer [`super::PublishError::BrokerLost`].
    Reject,
}

/// The owner of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleOwner {
    /// A shard: publishes, and receives through the sink of this index.
    Shard(usize),
    /// The control thread: publishes only.
    Control,
}

/// The settings cannot work, whatever Redis does.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSettings {
    /// No Redis could be reached by this URL.
    #[error("no Redis URL (redis://, rediss://, redis-cluster://, redis-sentinel://): {0}")]
    Url(String),
    /// The prefix would break the hash tag in key names.
    #[error("the Redis prefix must not be empty and must not hold braces")]
    Prefix,
    /// The raw channel is one of our own.
    #[error("the raw Redis channel must not start with the prefix `{0}:`")]
    RawChannel(String),
}
