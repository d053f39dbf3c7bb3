//! The state shared by all handles of a process, built once before the shards' threads start.
//!
//! A bad setting is an error here; Redis being out of reach is not: handles connect in the
//! background, and [`Health`] has their state.

mod following;
mod giving;
mod taking;

use std::{rc::Rc, sync::Arc};

pub use self::{
    giving::{BrokerGiving, HaltedBroker},
    taking::BrokerTaking,
};
use super::{
    Broker, BrokerFactory, BrokerSettings, Evicted, HandleOwner, Health, InvalidSettings, RedisTls,
    Sink, authorities,
    embedded::{Embedded, EmbeddedBroker, Sequencer},
    fanout::Fanout,
    redis::{self, Process, RedisBroker},
};
use crate::clock::Clock;

/// The process's side of the broker: every shard's sink, the sequencer or what Redis needs, and
/// the health of it all.
#[derive(Debug)]
pub struct Shared {
    health: Arc<Health>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    Embedded(Arc<Embedded>),
    Redis(Arc<Process>),
    HandedIn(Arc<dyn BrokerFactory>),
}

/// Whether Redis could be connected to by `url`, with the files of `tls`.
///
/// # Errors
/// Why not, in words that hold nothing of a password.
pub fn check_redis_url(url: &str, tls: &RedisTls) -> Result<(), String> {
    if url.starts_with("rediss") && tls.authorities.is_none() {
        authorities::check()?;
    }
    redis::check_url(url, tls)
}

impl Shared {
    /// Checks `settings` and gets ready to deliver to `sinks`, one per shard. `clock`: the time.
    ///
    /// # Errors
    /// When the settings cannot work; never because Redis is out of reach.
    pub fn new(
        clock: Clock,
        settings: BrokerSettings,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Result<Arc<Self>, InvalidSettings> {
        let BrokerSettings { redis, on_loss, history } = settings;
        let (health, mode) = match redis {
            None => {
                let embedded = Fanout::new(sinks, Sequencer::new(history));
                (Arc::new(Health::embedded(clock)), Mode::Embedded(Arc::new(embedded)))
            }
            Some(redis) => {
                let process = Process::new(clock, redis, on_loss, history, sinks)?;
                (process.health().clone(), Mode::Redis(Arc::new(process)))
            }
        };
        Ok(Arc::new(Self { health, mode }))
    }

    /// A broker of the caller's own.
    #[must_use]
    pub fn handed_in(factory: Arc<dyn BrokerFactory>) -> Arc<Self> {
        Arc::new(Self { health: factory.health(), mode: Mode::HandedIn(factory) })
    }

    /// Whether it is the caller's own.
    #[must_use]
    pub fn is_handed_in(&self) -> bool {
        matches!(self.mode, Mode::HandedIn(_))
    }

    /// How the broker is; may be kept and read by any thread.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// The evictions from histories for want of room.
    #[must_use]
    pub fn evicted(&self) -> Evicted {
        match &self.mode {
            Mode::Embedded(embedded) => embedded.lock().state.evicted(),
            Mode::Redis(process) => process.evicted(),
            Mode::HandedIn(factory) => factory.evicted(),
        }
    }

    /// Forgets a channel of the embedded broker, as if there were too many: tests lose history.
    #[cfg(test)]
    pub(crate) fn forget(&self, channel: &crate::channel::ChannelName) {
        if let Mode::Embedded(embedded) = &self.mode {
            embedded.lock().state.evict(channel);
        }
    }
}

/// A handle for the calling thread. With Redis it never waits for Redis to be within reach: the
/// connections are made, kept and renewed by tasks on this thread's runtime, which must be a
/// `LocalRuntime` (or run inside a `LocalSet`).
pub async fn connect(shared: Arc<Shared>, owner: HandleOwner) -> Rc<dyn Broker> {
    match &shared.mode {
        Mode::Embedded(embedded) => {
            Rc::new(EmbeddedBroker::new(shared.health.clock, embedded.clone()))
        }
        Mode::Redis(process) => Rc::new(RedisBroker::start(process.clone(), owner)),
        Mode::HandedIn(factory) => factory.clone().connect(owner),
    }
}
