//! Which command connection a channel's commands go through, and their order.
//!
//! Without a cluster: one of the pool, by the channel's name. In a cluster: one to the primary of
//! its slot, so that the loss of a primary affects only its own channels. Commands that a cluster
//! redirects are repeated here, in their order, until the map shows the new place. Queries have
//! command connections of their own beside these.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    rc::Rc,
    sync::Arc,
};

use fred::{error::Error, prelude::Server, types::Value};
use tokio::time::sleep;

#[cfg(test)]
use super::stand_in::StandIn;
use super::{
    call_error::CallError,
    cluster_routes::ClusterRoutes,
    command_connection::CommandConnection,
    command_order::{CommandOrder, Permit},
    connectivity::Connectivity,
};
use crate::{
    broker::{
        Health, Reach,
        redis::{
            discovery::{destination::Destination, slot_map::slot_of},
            protocol::{
                refusal,
                replies::{self, is_demoted},
                scripts::{By, Script},
            },
            settings::ProcessSettings,
        },
        refusals::Subject,
    },
    channel::ChannelName,
    clock::{Clock, Millis},
    limits::{
        CLUSTER_COMMAND_ORDERS, HEARTBEAT_SILENCE_MAX, REDIRECTION_PAUSE, REDIRECTIONS_MAX,
        REDIS_SETTLE, UNSENT_PAUSE,
    },
    metrics::BrokerRefusal,
    telemetry::seldom,
};

/// How a handle's commands get to Redis.
#[derive(Debug)]
pub(crate) struct CommandRouter {
    #[cfg(test)]
    pub(crate) stand_in: Option<Rc<dyn StandIn>>,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<ProcessSettings>,
    pub(crate) health: Arc<Health>,
    pub(crate) destination: Arc<Destination>,
    pub(crate) connectivity: Rc<Connectivity>,
    /// The command connections with heartbeats, through which publications go too, except in a
    /// cluster: there it is one, to any primary.
    pub(crate) connections: Vec<Rc<CommandConnection>>,
    /// The command connection for queries of a shard, unless this is a cluster.
    queries: Option<Rc<CommandConnection>>,
    /// The command connections to the primaries, in a cluster.
    pub(crate) cluster: Option<ClusterRoutes>,
    orders: Vec<CommandOrder>,
    hasher: RandomState,
    has_clients: bool,
}

/// The order of a command among others.
#[derive(Debug)]
pub(crate) enum CallOrder<'a> {
    /// After all that came before it on its channel.
    Ordered(&'a Permit<'a>),
    /// Together with publications, in no order.
    Unordered,
    /// Beside publications, which must not wait for it or its answer.
    Query,
}

impl CommandRouter {
    /// `has_clients`: the handle is a shard's, whose clients cause many queries.
    pub(crate) fn new(
        destination: Arc<Destination>,
        connectivity: Rc<Connectivity>,
        has_clients: bool,
    ) -> Self {
        let settings = destination.settings.clone();
        let is_cluster = settings.is_cluster();
        let open = |index| {
            Rc::new(CommandConnection::new(index, destination.clone(), connectivity.clone()))
        };
        let connections: Vec<_> = (0..settings.heartbeat_connections()).map(open).collect();
        let queries = (has_clients && !is_cluster)
            .then(|| Rc::new(CommandConnection::for_queries(connections[0].clone())));
        let orders = if is_cluster { CLUSTER_COMMAND_ORDERS } else { settings.pool };
        Self {
            #[cfg(test)]
            stand_in: None,
            clock: destination.clock,
            settings,
            health: destination.health.clone(),
            cluster: destination.hints.clone().map(ClusterRoutes::new),
            destination,
            connectivity,
            connections,
            queries,
            orders: (0..orders).map(|_| CommandOrder::default()).collect(),
            hasher: RandomState::new(),
            has_clients,
        }
    }

    /// All connections to be kept, except those to the primaries of a cluster.
    pub(crate) fn to_keep(&self) -> impl Iterator<Item = &Rc<CommandConnection>> {
        self.connections.iter().chain(&self.queries)
    }

    /// Whether this handle is a shard's, whose clients cause many queries.
    pub(crate) fn has_clients(&self) -> bool {
        self.has_clients
    }

    /// New commands take another route than those under way.
    pub(crate) fn route_changed(&self) {
        self.orders.iter().for_each(CommandOrder::route_changed);
    }

    /// The primary that the Redis channel `name` lives on, if one is known.
    pub(crate) fn owner(&self, name: &str) -> Option<Server> {
        let cluster = self.cluster.as_ref()?;
        cluster.map.borrow().owner(slot_of(name)).cloned()
    }

    /// All messages of a channel go through one command connection: they keep their order.
    pub(crate) fn connection(&self, channel: &ChannelName) -> Option<Rc<CommandConnection>> {
        let Some(cluster) = &self.cluster else {
            return self.connections.get(self.pick(channel, self.connections.len())).cloned();
        };
        let name = self.settings.names.channel(channel);
        let owner = self.owner(&name)?;
        let connections = cluster.connections.borrow();
        let connections = connections.get(&owner)?;
        connections.get(self.pick(channel, connections.len())).cloned()
    }

    /// The connection for queries about `channel`; that of its messages where no other works.
    fn connection_for_queries(&self, channel: &ChannelName) -> Option<Rc<CommandConnection>> {
        let connection = match &self.cluster {
            Some(cluster) => {
                let owner = self.owner(&self.settings.names.channel(channel))?;
                cluster.queries.borrow().get(&owner).cloned()
            }
            None => self.queries.clone(),
        };
        connection
            .filter(|connection| connection.is_responsive())
            .or_else(|| self.connection(channel))
    }

    /// A place in the order in which commands of `channel` reach Redis. In a cluster it is no
    /// command connection's: a channel changes its command connection.
    pub(crate) fn enter(&self, channel: &ChannelName) -> Permit<'_> {
        self.orders[self.pick(channel, self.orders.len())].enter()
    }

    fn pick(&self, channel: &ChannelName, count: usize) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(channel.as_str().as_bytes());
        (hasher.finish() % count.max(1) as u64) as usize
    }

    /// Whether the primary of `channel` does not answer, though the cluster is up as far as the
    /// process knows.
    pub(crate) fn is_cut_off(&self, channel: &ChannelName) -> bool {
        let Some(_) = &self.cluster else { return false };
        self.connection(channel)
            .is_none_or(|connection| connection.is_open() && !connection.is_alive())
    }

    /// Whether the primary of `channel` answers, whatever is the matter with the others.
    pub(crate) fn is_alive(&self, channel: &ChannelName) -> bool {
        self.cluster.is_some()
            && self.connection(channel).is_some_and(|connection| connection.is_alive())
    }

    /// From when on `channel` is published to, though the cluster is not up as a whole: its
    /// primary has been there for long, or since all of it was. None: its primary has not.
    pub(crate) fn spared_from(&self, channel: &ChannelName, now: Millis) -> Option<Millis> {
        self.cluster.as_ref()?;
        let since = self.connection(channel)?.alive_since()?;
        let proven = since + HEARTBEAT_SILENCE_MAX;
        if proven <= now {
            return Some(proven);
        }
        // The control thread's command connections may come a little later than the shards', which
        // are all.
        let settled = self.health.last_up()? + REDIS_SETTLE;
        (since <= settled).then_some(settled)
    }

    /// Runs `script`.
    pub(crate) async fn call(
        &self,
        channel: &ChannelName,
        order: CallOrder<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        #[cfg(test)]
        if let Some(stand_in) = &self.stand_in
            && (stand_in.takes_messages() || !matches!(order, CallOrder::Ordered(_)))
        {
            return stand_in.answer(script, args.to_vec()).map(|answer| told(channel, answer));
        }
        let is_cluster = self.cluster.is_some();
        let answer = match self.call_once(channel, &order, script, keys, args).await {
            Err(CallError::NoScript) => self.repeat(channel, order, script, keys, args).await,
            Err(CallError::Elsewhere(_)) if is_cluster => {
                self.repeat(channel, order, script, keys, args).await
            }
            // The command connection to a new primary is not open yet. Queries can be sent again.
            Err(CallError::NotSent) if is_cluster && matches!(order, CallOrder::Ordered(_)) => {
                self.repeat(channel, order, script, keys, args).await
            }
            answer => answer,
        };
        match answer {
            Ok(answer) => Ok(told(channel, answer)),
            Err(CallError::Refused(error)) => Err(self.refused_there(error)),
            Err(error) => Err(error),
        }
    }

    /// Whether a command that was not sent goes again, in its place: without a cluster, in which it
    /// has been tried long enough. The caller waits for a connection then.
    ///
    /// # Cancel safety
    /// May be dropped: the command keeps its place.
    pub(crate) async fn goes_again(&self, permit: &Permit<'_>) -> bool {
        if self.cluster.is_some() {
            return false;
        }
        permit.not_sent();
        // The command connection may not have noticed its end yet, or has too much to write.
        sleep(UNSENT_PAUSE).await;
        true
    }

    /// Runs `script` if Redis knows it.
    async fn call_once(
        &self,
        channel: &ChannelName,
        order: &CallOrder<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        if let CallOrder::Ordered(permit) = order {
            permit.first_turn().await;
        }
        let handed_over = || {
            if let CallOrder::Ordered(permit) = order {
                permit.handed_over();
            }
        };
        // Not before the turn: it may have changed.
        let connection = self.connection_for(channel, order)?;
        let answer = connection.eval(By::Sha1, script, keys, args, handed_over).await;
        if let Err(CallError::Elsewhere(error)) = &answer {
            self.redirected(&connection, error);
        }
        answer
    }

    /// Runs `script` though Redis does not know it; in a cluster wherever its keys are, as soon as
    /// they are in one place and it is known where.
    async fn repeat(
        &self,
        channel: &ChannelName,
        order: CallOrder<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        if let CallOrder::Ordered(permit) = &order {
            permit.second_turn().await;
        }
        if self.cluster.is_none() {
            let handed_over = || {
                if let CallOrder::Ordered(permit) = order {
                    permit.handed_over_again();
                }
            };
            let connection = self.connection_for(channel, &order)?;
            return connection.eval(By::Source, script, keys, args, handed_over).await;
        }
        let mut redirection = None;
        for _ in 0..REDIRECTIONS_MAX {
            let connection = self.connection_for(channel, &order)?;
            match connection.eval(By::Source, script, keys, args, || {}).await {
                Err(CallError::Elsewhere(error)) => {
                    self.redirected(&connection, &error);
                    redirection = Some(error);
                }
                Err(CallError::NotSent) => {}
                answer => return answer,
            }
            sleep(REDIRECTION_PAUSE).await;
        }
        Err(redirection.map_or(CallError::NotSent, CallError::Elsewhere))
    }

    fn connection_for(
        &self,
        channel: &ChannelName,
        order: &CallOrder<'_>,
    ) -> Result<Rc<CommandConnection>, CallError> {
        let connection = match order {
            CallOrder::Ordered(_) | CallOrder::Unordered => self.connection(channel),
            CallOrder::Query => self.connection_for_queries(channel),
        };
        connection.ok_or(CallError::NotSent)
    }

    /// A server that cannot write may not be the primary any more.
    fn refused_there(&self, error: Error) -> CallError {
        if let Some(cluster) = self.cluster.as_ref().filter(|_| is_demoted(&error)) {
            cluster.hints.request_refresh();
        }
        CallError::Refused(error)
    }

    fn redirected(&self, connection: &CommandConnection, error: &Error) {
        if let (Some(cluster), Some(server)) = (&self.cluster, connection.server()) {
            cluster.hints.note_redirection(error.details(), &server);
        }
    }

    /// Redis has refused a message to `channel` that was sent at `began`.
    pub(crate) fn refused(&self, channel: &ChannelName, error: &Error, began: Millis) {
        self.not_taken(channel, refusal::reason(error.details()), error.details(), began);
    }

    /// Redis has not taken it, as far as is known.
    pub(crate) fn not_taken(
        &self,
        channel: &ChannelName,
        reason: BrokerRefusal,
        error: &str,
        began: Millis,
    ) {
        let refusals = &self.health.refusals;
        refusals.count(reason);
        let subject = Subject::Channel(channel.clone());
        refusals.refused(subject, reason, &error, (began, self.clock.now()));
    }

    /// Redis has not answered for it. Where Redis is out of reach, that is said elsewhere.
    pub(crate) fn not_answered(&self, channel: &ChannelName, began: Millis) {
        if self.health.reach() == Reach::Up {
            self.not_taken(channel, BrokerRefusal::NoAnswer, "no answer within a second", began);
        }
    }

    /// Redis has taken it.
    pub(crate) fn accepted(&self, channel: &ChannelName, began: Millis) {
        let subjects = || {
            let server = self.connection(channel).and_then(|connection| connection.server());
            let server = server.map(|server| Subject::Server(server.to_string()));
            (Subject::Channel(channel.clone()), server)
        };
        self.health.refusals.accepted(subjects, began, self.clock.now());
    }

    /// Waits until commands of `channel` would be sent.
    pub(crate) async fn opened(&self, channel: &ChannelName) {
        #[cfg(test)]
        if self.stand_in.is_some() {
            return;
        }
        match self.connection(channel) {
            Some(connection) => connection.opened().await,
            // It is asked in vain.
            None => sleep(REDIRECTION_PAUSE).await,
        }
    }
}

/// An answer without the note that may be in it, which goes into the log.
fn told(channel: &ChannelName, answer: Value) -> Value {
    let (answer, note) = replies::note(answer);
    if let Some(note) = note {
        seldom!(warn, "something else has written to our keys: begun anew", %channel, note);
    }
    answer
}
