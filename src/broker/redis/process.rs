//! What all handles of a process share: checked settings, the way to all shards without Redis,
//! and what the process remembers of the channels that it hears.
//!
//! Two mutexes, never held over an await and never one inside the other: one for what is done
//! without Redis, one for the memory. (That of the era is an asynchronous one.)

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fred::{prelude::Server, types::Value};
use tokio::sync::watch;

use super::{
    commands::{call_error::CallError, connectivity::Link, router::Way},
    discovery::{
        homes::{self, Homes, NodeId, Reached},
        primary::CurrentPrimary,
        slot_map_refresh::TopologyHints,
        whereabouts::{Era, Whereabouts},
    },
    local::bookkeeping::Bookkeeping,
    net::connection::{Connection, ConnectionError, refusal},
    protocol::{
        arguments::millis,
        envelope,
        replies::{self, Ended, StreamPosition},
    },
    pubsub::shared::SharedSubscriber,
    recovery::{allowance::Allowance, era, position_query::PositionQueries},
    settings::ProcessSettings,
};
use crate::{
    broker::{
        Evicted, HistorySettings, InvalidSettings, Publication, RedisSettings, Sink, Subscribers,
        epoch,
        fanout::Fanout,
        history::{Continuity, Histories, Ring, Stamped},
    },
    channel::ChannelName,
    clock::{self, Millis},
    limits::{HISTORY_CHANNELS_MAX, REDIS_META_TTL, REPLAY_PIECE_BYTES, RETIRED_EPOCHS_MAX},
    position::{Position, is_same_epoch},
    telemetry::seldom,
};

/// The process's side of Redis.
#[derive(Debug)]
pub(in crate::broker) struct Process {
    pub(super) started: Millis,
    pub(super) settings: ProcessSettings,
    pub(super) sinks: Vec<Arc<dyn Sink>>,
    /// Where the first shard subscribes for all.
    pub(super) shared_subscriber: Option<Arc<SharedSubscriber>>,
    /// Where sentinels lead.
    pub(super) primary: CurrentPrimary,
    /// Whether all connections lead to one place.
    pub(super) whereabouts: Whereabouts,
    /// In a cluster, where those to each node lead.
    pub(super) homes: Homes,
    /// Of the cluster, if Redis is one.
    pub(super) hints: Option<Arc<TopologyHints>>,
    pub(super) local: Fanout<Bookkeeping>,
    pub(super) era: era::Era,
    memory: Mutex<Memory>,
}

/// What a process remembers of the channels that it hears.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) histories: Histories,
    /// The readings of streams on their way; each resolves (by being dropped) when it is over.
    pub(super) readings: HashMap<ChannelName, watch::Receiver<()>>,
    pub(super) queries: PositionQueries,
    /// What may be read of histories before the next pause.
    pub(super) allowance: Allowance,
    /// How many shards hear a channel.
    shards: HashMap<ChannelName, usize>,
}

impl Process {
    pub(in crate::broker) fn new(
        settings: RedisSettings,
        history: HistorySettings,
        sinks: Vec<Arc<dyn Sink>>,
    ) -> Result<Self, InvalidSettings> {
        let subscribers = settings.subscribers;
        let keys_bytes_max = settings.keys_bytes_max;
        let settings = ProcessSettings::new(settings, history)?;
        let is_cluster = settings.config.server.is_clustered();
        let shared_subscriber = match subscribers {
            // In a cluster each shard has its connections to the masters.
            _ if is_cluster => None,
            Subscribers::PerShard => None,
            Subscribers::PerProcess => Some(Arc::new(SharedSubscriber::new(sinks.clone()))),
        };
        Ok(Self {
            started: clock::now(),
            hints: is_cluster.then(Arc::default),
            settings,
            local: Fanout::new(sinks.clone(), Bookkeeping::new(history, keys_bytes_max)),
            sinks,
            shared_subscriber,
            primary: CurrentPrimary::new(),
            whereabouts: Whereabouts::new(),
            homes: Homes::default(),
            era: era::Era::new(),
            memory: Mutex::new(Memory {
                histories: Histories::new(history, HISTORY_CHANNELS_MAX),
                readings: HashMap::new(),
                queries: PositionQueries::default(),
                allowance: Allowance::new(history.total_bytes_max, history.bytes_max),
                shards: HashMap::new(),
            }),
        })
    }

    /// Where what the subscriber of `shard` hears goes.
    pub(super) fn sink_of_subscriber(&self, shard: usize) -> Arc<dyn Sink> {
        match &self.shared_subscriber {
            Some(shared_subscriber) => shared_subscriber.clone(),
            None => self.sinks[shard].clone(),
        }
    }

    /// The connections of `era` are not all where Redis is: all are to be made anew, by name.
    /// Publishing waits for that.
    pub(super) fn move_on(&self, era: Era, why: &str) {
        let now = clock::now();
        if self.whereabouts.end(era, now) {
            seldom!(warn, "Redis is looked for anew, by its name", why);
            self.primary.move_on(now);
        }
    }

    /// A new connection to `server`; in a cluster, and if the user may ask, the node that it has
    /// reached. From now on there are none by this name to another one.
    pub(super) async fn connect(
        &self,
        server: &Server,
    ) -> Result<(Connection, Option<NodeId>), ConnectionError> {
        let mut connection = Connection::open(&self.settings.config, server).await?;
        if self.hints.is_none() {
            return Ok((connection, None));
        }
        let answer = connection.ask(&["CLUSTER", "MYID"]).await?;
        let Some(node) = homes::node_id(&answer) else {
            if let Some(error) = refusal(&answer)
                && self.homes.is_first_refusal()
            {
                seldom!(
                    warn,
                    "Redis does not tell which node it is: nor is it noticed if that changes",
                    %server,
                    %error
                );
            }
            return Ok((connection, None));
        };
        match self.homes.arrived(server, &node, clock::now()) {
            Reached::Home => {}
            Reached::Moved => {
                seldom!(warn, "a node of the cluster is another server now", %server);
            }
            Reached::TooSoon => return Err(ConnectionError::Astray),
        }
        Ok((connection, Some(node)))
    }

    /// Whether `shard` has a connection of its own to hear through.
    pub(super) fn subscribes(&self, shard: usize) -> bool {
        self.shared_subscriber.is_none() || shard == 0
    }

    /// The memory. A panic elsewhere leaves whole messages: go on.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where `channel` stands in Redis.
    pub(super) async fn stream_position(
        &self,
        link: &Link,
        channel: &ChannelName,
    ) -> Result<StreamPosition, CallError> {
        let keys = self.settings.names.keys(channel);
        let answer = link
            .call(channel, Way::Beside, &self.settings.scripts.position, keys, Vec::new())
            .await?;
        match replies::stream_position_and_history(answer).map_err(CallError::InDoubt)? {
            Some((stream_position, _)) => Ok(stream_position),
            None => Ok(self.empty(link).await),
        }
    }

    /// Ends `epoch` of `channel`, unless that has been done; where the channel stands then.
    /// `heard`: where somebody here had got to in another one.
    pub(super) async fn rotate(
        &self,
        link: &Link,
        channel: &ChannelName,
        epoch: &str,
        heard: Option<Ended>,
    ) -> Result<StreamPosition, CallError> {
        let newest = |ring: &Ring| Ended { position: ring.position(), nonce: ring.nonce() };
        let newest = self.memory().histories.get(channel).map(newest);
        let is_other = |it: &Ended| *it.position.epoch != *epoch && it.position.offset > 0;
        let heard = heard.into_iter().chain(newest).filter(is_other);
        let heard: String = heard.map(|it| format!(",{}:{}", it.position, it.nonce)).collect();
        let args: Vec<Value> = vec![
            epoch::random().into(),
            millis(REDIS_META_TTL),
            epoch.into(),
            envelope::nonce().to_string().into(),
            RETIRED_EPOCHS_MAX.to_string().into(),
            heard.into(),
        ];
        let keys = self.settings.names.keys(channel);
        let answer =
            link.call(channel, Way::Among, &self.settings.scripts.rotate, keys, args).await?;
        replies::stream_position(answer).map_err(CallError::InDoubt)
    }

    /// One shard more hears `channel`.
    pub(super) fn heard(&self, channel: &ChannelName) {
        *self.memory().shards.entry(channel.clone()).or_default() += 1;
    }

    /// One shard less. What is remembered stays, within its bounds: who comes next reads only what
    /// is newer.
    pub(super) fn unheard(&self, channel: &ChannelName) {
        let mut memory = self.memory();
        let Some(shards) = memory.shards.get_mut(channel) else { return };
        *shards -= 1;
        if *shards == 0 {
            memory.shards.remove(channel);
            memory.queries.forget(channel);
        }
    }

    /// What of histories was given up since there was no room for it.
    pub(in crate::broker) fn evicted(&self) -> Evicted {
        self.memory().histories.evicted()
    }

    /// A shard has heard a message of `channel`, and all before it.
    pub(super) fn feed(&self, channel: &ChannelName, message: Stamped) -> Continuity {
        self.memory().histories.feed(channel, message, clock::now())
    }

    /// The nonce of a message, if it is remembered.
    pub(super) fn nonce_at(&self, channel: &ChannelName, epoch: &str, offset: u64) -> Option<u64> {
        let memory = self.memory();
        let ring = memory.histories.get(channel)?;
        (*ring.position().epoch == *epoch).then(|| ring.nonce_at(offset))?
    }

    /// The offsets of `channel` that can be read: all after the first, up to the second.
    pub(super) fn kept(&self, channel: &ChannelName, epoch: &Arc<str>) -> Option<(u64, u64)> {
        let memory = self.memory();
        let ring = memory.histories.get(channel)?;
        let position = ring.position();
        is_same_epoch(&position.epoch, epoch).then(|| (ring.floor(), position.offset))
    }

    /// Some messages after `after`, up to the offset `to`.
    pub(super) fn piece(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
    ) -> Option<Vec<Publication>> {
        self.memory().histories.piece(channel, after, to, REPLAY_PIECE_BYTES)
    }

    /// Whether `epoch` of `channel` came before the one that is known here.
    pub(super) fn has_replaced(&self, channel: &ChannelName, epoch: &Arc<str>) -> bool {
        self.memory().histories.get(channel).is_some_and(|ring| ring.has_replaced(epoch))
    }

    /// Where the histories had got to here that are over once `channel` goes on in `epoch`.
    pub(super) fn ends(&self, channel: &ChannelName, epoch: &Arc<str>) -> Vec<Vec<Ended>> {
        let memory = self.memory();
        let ring = memory.histories.get(channel);
        let replaced = ring.map(|ring| ring.replaced_by(epoch)).unwrap_or_default();
        let end = |(position, nonce)| vec![Ended { position, nonce }];
        replaced.into_iter().rev().map(end).collect()
    }

    /// Whether the newest that was heard of `channel` here is of another epoch.
    pub(super) fn has_left(&self, channel: &ChannelName, epoch: &str) -> bool {
        let memory = self.memory();
        memory.histories.get(channel).is_some_and(|ring| *ring.position().epoch != *epoch)
    }

    /// Forgets what is remembered of `channel` under `epoch`.
    pub(super) fn forget(&self, channel: &ChannelName, epoch: &str) {
        let mut memory = self.memory();
        let ring = memory.histories.get(channel);
        if ring.is_some_and(|ring| *ring.position().epoch == *epoch) {
            memory.histories.forget(channel);
        }
    }
}
