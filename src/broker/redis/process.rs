//! The state shared by all handles of a process: its settings, the destination of its connections,
//! the delivery to all shards without Redis, and its memory of the channels that it hears.

use std::sync::Arc;

use super::{
    discovery::destination::Destination,
    local::state::LocalState,
    pubsub::{moving::Orders, shared::SharedSubscriber},
    recovery::{empty_epoch::EmptyEpoch, memory::Memory, position_query::PositionQueries},
    settings::ProcessSettings,
};
use crate::{
    broker::{
        Evicted, Health, HistorySettings, InvalidSettings, OnLoss, RedisSettings, Sink,
        fanout::Fanout,
    },
    clock::{Clock, Millis},
};

/// The process's side of Redis.
#[derive(Debug)]
pub(in crate::broker) struct Process {
    pub(super) clock: Clock,
    pub(super) started: Millis,
    pub(super) on_loss: OnLoss,
    pub(super) settings: Arc<ProcessSettings>,
    pub(super) health: Arc<Health>,
    pub(super) destination: Arc<Destination>,
    pub(super) sinks: Vec<Arc<dyn Sink>>,
    /// Where the first shard subscribes for all.
    pub(super) shared_subscriber: Option<Arc<SharedSubscriber>>,
    /// Delivery within the process, and what its publishers did without Redis.
    pub(super) local: Fanout<LocalState>,
    pub(super) memory: Arc<Memory>,
    pub(super) queries: Arc<PositionQueries>,
    pub(super) empty_epoch: Arc<EmptyEpoch>,
    /// Orders to each shard's subscribers, while the process is handed over.
    pub(super) orders: Arc<Vec<Orders>>,
}

impl Process {
    /// # Errors
    /// When the settings cannot work, whatever Redis does.
    pub(in crate::broker) fn new(
        clock: Clock,
        settings: RedisSettings,
        on_loss: OnLoss,
        history: HistorySettings,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Result<Self, InvalidSettings> {
        let health = Arc::new(Health::redis(clock, sinks.len(), settings.subscribers));
        let local_state = LocalState::new(history, settings.keys_bytes_max);
        let settings = Arc::new(ProcessSettings::new(settings, history)?);
        let shared = settings.is_shared.then(|| Arc::new(SharedSubscriber::new(sinks.clone())));
        Ok(Self {
            clock,
            started: clock.now(),
            on_loss,
            destination: Arc::new(Destination::new(settings.clone(), health.clone())),
            health,
            settings,
            local: Fanout::new(sinks.clone(), local_state),
            orders: Arc::new(sinks.iter().map(|_| Orders::default()).collect()),
            sinks,
            shared_subscriber: shared,
            memory: Arc::new(Memory::new(clock, history)),
            queries: Arc::default(),
            empty_epoch: Arc::new(EmptyEpoch::new()),
        })
    }

    /// How Redis is.
    pub(in crate::broker) fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// The evictions from histories for want of room.
    pub(in crate::broker) fn evicted(&self) -> Evicted {
        self.memory.evicted()
    }

    /// Where what the subscriber of `shard` hears goes.
    pub(super) fn sink_of_subscriber(&self, shard: usize) -> Arc<dyn Sink> {
        match &self.shared_subscriber {
            Some(shared_subscriber) => shared_subscriber.clone(),
            None => self.sinks[shard].clone(),
        }
    }
}
