//! What all handles of a process have in common, built once before the shards' threads start.
//!
//! A bad setting is an error here; Redis being out of reach is not: handles connect in the
//! background, and [`Health`] says where they stand.

use std::{rc::Rc, sync::Arc};

use thiserror::Error;

use super::{
    Broker, Evicted, Health, OnLoss, Place, Settings, Sink, authorities,
    embedded::{Embedded, EmbeddedBroker, Sequencer},
    fanout::Fanout,
    redis::{self, RedisBroker},
};

/// The process's side of the broker: every shard's sink, the sequencer or what Redis needs, and
/// the health of it all.
#[derive(Debug)]
pub struct Shared {
    on_loss: OnLoss,
    health: Arc<Health>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Embedded(Box<Embedded>),
    Redis(Box<redis::Process>),
}

/// The settings cannot work, whatever Redis does.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSettings {
    /// The URL is none that Redis could be reached by.
    #[error("no Redis URL (redis://, rediss://, redis-cluster://, redis-sentinel://): {0}")]
    Url(String),
    /// The prefix would break the hash tag in key names.
    #[error("the Redis prefix must not be empty and must not hold braces")]
    Prefix,
    /// The raw channel is one of our own.
    #[error("the raw Redis channel must not start with the prefix `{0}:`")]
    RawChannel(String),
}

/// Whether Redis could be connected to by `url`.
///
/// # Errors
/// Why not, in words that hold nothing of a password.
pub fn check_redis_url(url: &str) -> Result<(), String> {
    if url.starts_with("rediss") {
        authorities::check()?;
    }
    redis::check_url(url)
}

impl Shared {
    /// Checks `settings` and gets ready to deliver to `sinks`, one per shard.
    ///
    /// # Errors
    /// When the settings cannot work; never because Redis is out of reach.
    pub fn new(
        settings: Settings,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Result<Arc<Self>, InvalidSettings> {
        let shards = sinks.len();
        let (health, mode) = match settings.redis {
            None => {
                let sequencer = Sequencer::new(settings.history);
                (Health::embedded(), Mode::Embedded(Box::new(Fanout::new(sinks, sequencer))))
            }
            Some(redis) => {
                let subscribers = redis.subscribers;
                let process = redis::Process::new(redis, settings.history, sinks)?;
                (Health::redis(shards, subscribers), Mode::Redis(Box::new(process)))
            }
        };
        Ok(Arc::new(Self { on_loss: settings.on_loss, health: Arc::new(health), mode }))
    }

    /// How the broker is; may be kept and read by any thread.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// What of histories was given up since there was no room for it.
    #[must_use]
    pub fn evicted(&self) -> Evicted {
        match &self.mode {
            Mode::Embedded(embedded) => embedded.turn().state.evicted(),
            Mode::Redis(process) => process.evicted(),
        }
    }

    /// Forgets a channel of the embedded broker, as if there were too many: tests lose history.
    #[cfg(test)]
    pub(crate) fn forget(&self, channel: &crate::channel::ChannelName) {
        self.embedded().turn().state.lose(channel);
    }

    pub(super) fn health_ref(&self) -> &Health {
        &self.health
    }

    pub(super) fn on_loss(&self) -> OnLoss {
        self.on_loss
    }

    pub(super) fn embedded(&self) -> &Embedded {
        match &self.mode {
            Mode::Embedded(embedded) => embedded,
            Mode::Redis(_) => unreachable!("an embedded handle is made in embedded mode only"),
        }
    }

    pub(super) fn redis(&self) -> &redis::Process {
        match &self.mode {
            Mode::Redis(process) => process,
            Mode::Embedded(_) => unreachable!("a Redis handle is made in Redis mode only"),
        }
    }
}

/// A handle for the calling thread. With Redis it never waits for Redis to be within reach: the
/// connections are made, kept and renewed by tasks on this thread's runtime, which must be a
/// `LocalRuntime` (or run inside a `LocalSet`).
pub async fn connect(shared: Arc<Shared>, place: Place) -> Rc<dyn Broker> {
    match shared.mode {
        Mode::Embedded(_) => Rc::new(EmbeddedBroker(shared)),
        Mode::Redis(_) => Rc::new(RedisBroker::start(shared, place)),
    }
}
