//! The operator's settings for Redis, checked once: they can be neither wrong nor changed any more.

use std::sync::Arc;

use fred::prelude::Config;

use super::{
    net::{frames::Bounds, options},
    protocol::{names::Names, scripts::Scripts},
};
use crate::{
    bans::Bans,
    broker::{HistorySettings, InvalidSettings, RedisSettings, Subscribers, epoch},
    limits::REDIS_ELEMENTS_PER_MESSAGE,
    telemetry::seldom,
};

/// The process's settings, and what follows from them alone.
#[derive(Debug)]
pub(super) struct ProcessSettings {
    /// Where the URL leads, and by which credentials.
    pub(super) config: Config,
    /// Connections for commands of each handle; to each primary, in a cluster.
    pub(super) pool: usize,
    pub(super) names: Names,
    pub(super) scripts: Scripts,
    pub(super) raw_channel: Option<String>,
    pub(super) max_broadcast_bytes: usize,
    pub(super) history: HistorySettings,
    /// Where bans count.
    pub(super) bans: Option<Arc<Bans>>,
    /// One shard subscribes for all.
    pub(super) is_shared: bool,
}

impl ProcessSettings {
    /// # Errors
    /// When they cannot work, whatever Redis does.
    pub(super) fn new(
        settings: RedisSettings,
        history: HistorySettings,
    ) -> Result<Self, InvalidSettings> {
        let config = options::parse(&settings.url, &settings.tls).map_err(InvalidSettings::Url)?;
        if settings.prefix.is_empty() || settings.prefix.contains(['{', '}']) {
            return Err(InvalidSettings::Prefix);
        }
        let raw_channel = settings.raw_channel.filter(|name| !name.is_empty());
        let database = config.database.unwrap_or_default();
        let names = Names::new(settings.prefix.clone(), database, epoch::random());
        if raw_channel.as_ref().is_some_and(|raw| names.may_be_ours(raw)) {
            return Err(InvalidSettings::RawChannel(settings.prefix));
        }
        if let Some(raw) = raw_channel.as_deref().filter(|_| database > 0) {
            seldom!(
                info,
                "the raw channel is heard in every database: give it a name of its own",
                raw,
                database
            );
        }
        let is_cluster = config.server.is_clustered();
        Ok(Self {
            scripts: Scripts::new(is_cluster),
            config,
            pool: settings.pool.max(1),
            names,
            raw_channel,
            max_broadcast_bytes: settings.max_broadcast_bytes,
            history,
            bans: settings.bans,
            // In a cluster each shard has its connections to the primaries.
            is_shared: !is_cluster && settings.subscribers == Subscribers::PerProcess,
        })
    }

    /// How much an answer to a command may be: a channel's history, for one.
    pub(super) fn bounds(&self) -> Bounds {
        let Bounds { bytes, elements } = Bounds::default();
        let history = REDIS_ELEMENTS_PER_MESSAGE * self.history.messages_max;
        let bytes_max = self.history.bytes_max.saturating_add(self.max_broadcast_bytes);
        Bounds { bytes: bytes.saturating_add(bytes_max), elements: elements + history }
    }

    /// Whether Redis is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.config.server.is_clustered()
    }

    /// Connections of a handle that have heartbeats, which in a cluster are for nothing else.
    pub(super) fn heartbeat_connections(&self) -> usize {
        if self.is_cluster() { 1 } else { self.pool }
    }

    /// Whether `shard` has a connection of its own to hear through.
    pub(super) fn subscribes(&self, shard: usize) -> bool {
        !self.is_shared || shard == 0
    }
}
