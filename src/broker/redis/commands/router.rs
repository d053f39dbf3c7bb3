//! Which command connection a channel's commands go through, and their order.
//!
//! Without a cluster: one of the pool, by the channel's name. In a cluster: one to the master of
//! its slot, so that a master that is gone takes nothing but its own channels along. What a
//! cluster sends elsewhere is repeated here, in its order, until the map shows where that is.
//! Questions have command connections of their own beside these.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hasher},
    rc::Rc,
    sync::Arc,
};

use fred::{error::Error, prelude::Server, types::Value};
use tokio::{sync::Notify, time::sleep};

use super::{
    call_error::CallError,
    command_connection::{By, CommandConnection},
    command_order::Permit,
    connectivity::Link,
};
use crate::{
    broker::redis::{
        discovery::{
            slot_map::{SlotMap, slot_of},
            slot_map_refresh::TopologyHints,
        },
        protocol::{
            replies::{self, is_demoted},
            scripts::Script,
        },
    },
    channel::ChannelName,
    clock::Millis,
    limits::{HEARTBEAT_SILENCE_MAX, REDIRECTION_PAUSE, REDIRECTIONS_MAX, REDIS_SETTLE},
    telemetry::seldom,
};

/// A handle's ways into a cluster.
#[derive(Debug)]
pub(crate) struct Routes {
    /// Of the process's maps, the one that the command connections are for.
    pub(crate) map: RefCell<Arc<SlotMap>>,
    /// As many to each master as the pool has.
    pub(crate) connections: RefCell<HashMap<Server, Vec<Rc<CommandConnection>>>>,
    /// Those for questions, where this handle has many.
    pub(crate) questions: RefCell<HashMap<Server, Rc<CommandConnection>>>,
    pub(crate) hints: Arc<TopologyHints>,
    /// A master answers (again).
    pub(crate) found: Notify,
}

impl Routes {
    pub(crate) fn new(hints: Arc<TopologyHints>) -> Self {
        Self {
            map: RefCell::default(),
            connections: RefCell::default(),
            questions: RefCell::default(),
            hints,
            found: Notify::new(),
        }
    }

    /// Some master that answers, as soon as there is one.
    pub(crate) async fn living(&self) -> Server {
        loop {
            let is_there = |connections: &[Rc<CommandConnection>]| {
                connections.iter().any(|connection| connection.is_there())
            };
            let living: Vec<Server> = {
                let connections = self.connections.borrow();
                let living = connections.iter().filter(|(_, connections)| is_there(connections));
                living.map(|(server, _)| server.clone()).collect()
            };
            // By chance, so that all together use all of them.
            if let Some(server) = fastrand::choice(living) {
                return server;
            }
            self.found.notified().await;
        }
    }
}

/// How a command goes among others.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// After all that came before it on its channel.
    InOrder(Permit<'a>),
    /// With what is published, in no order.
    Among,
    /// Beside what is published, which is not to wait for it or its answer.
    Beside,
}

impl Link {
    /// The master that the Redis channel `name` lives on, if one is known.
    pub(crate) fn owner(&self, name: &str) -> Option<Server> {
        let routes = self.routes.as_ref()?;
        routes.map.borrow().owner(slot_of(name)).cloned()
    }

    /// All messages of a channel go through one command connection: they keep their order.
    pub(crate) fn connection(&self, channel: &ChannelName) -> Option<Rc<CommandConnection>> {
        let Some(routes) = &self.routes else {
            return self.connections.get(self.pick(channel, self.connections.len())).cloned();
        };
        let name = self.process().settings.names.channel(channel);
        let owner = self.owner(&name)?;
        let connections = routes.connections.borrow();
        let connections = connections.get(&owner)?;
        connections.get(self.pick(channel, connections.len())).cloned()
    }

    /// The connection for questions about `channel`; that of its messages where no other works.
    fn connection_for_questions(&self, channel: &ChannelName) -> Option<Rc<CommandConnection>> {
        let connection = match &self.routes {
            Some(routes) => {
                let owner = self.owner(&self.process().settings.names.channel(channel))?;
                routes.questions.borrow().get(&owner).cloned()
            }
            None => self.questions.clone(),
        };
        connection.filter(|connection| connection.is_lively()).or_else(|| self.connection(channel))
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

    /// Whether the master of `channel` does not answer, though the cluster is up as far as the
    /// process knows.
    pub(crate) fn is_cut_off(&self, channel: &ChannelName) -> bool {
        let Some(_) = &self.routes else { return false };
        self.connection(channel)
            .is_none_or(|connection| connection.is_open() && !connection.is_there())
    }

    /// Whether the master of `channel` answers, whatever is the matter with the others.
    pub(crate) fn is_there(&self, channel: &ChannelName) -> bool {
        self.routes.is_some()
            && self.connection(channel).is_some_and(|connection| connection.is_there())
    }

    /// From when on `channel` is published to, though the cluster is not up as a whole: its
    /// master has been there for long, or since all of it was. None: its master has not.
    pub(crate) fn spared_from(&self, channel: &ChannelName, now: Millis) -> Option<Millis> {
        self.routes.as_ref()?;
        let since = self.connection(channel)?.alive_since()?;
        let proven = since + HEARTBEAT_SILENCE_MAX;
        if proven <= now {
            return Some(proven);
        }
        // The control thread's command connections may come a little later than the shards', which
        // are all.
        let settled = self.shared.health_ref().last_up()? + REDIS_SETTLE;
        (since <= settled).then_some(settled)
    }

    /// Runs `script`.
    pub(crate) async fn call(
        &self,
        channel: &ChannelName,
        way: Way<'_>,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        #[cfg(test)]
        if let Some(stand_in) = &self.stand_in {
            return stand_in.answer(script, args).map(|answer| told(channel, answer));
        }
        let is_cluster = self.routes.is_some();
        let answer = match self.call_once(channel, &way, script, &keys, &args).await {
            Err(CallError::NoScript) => self.repeat(channel, way, script, &keys, &args).await,
            Err(CallError::Elsewhere(_)) if is_cluster => {
                self.repeat(channel, way, script, &keys, &args).await
            }
            // The command connection to a new master is not open yet. Who only asks can ask again.
            Err(CallError::NotSent) if is_cluster && matches!(way, Way::InOrder(_)) => {
                self.repeat(channel, way, script, &keys, &args).await
            }
            answer => answer,
        };
        match answer {
            Ok(answer) => Ok(told(channel, answer)),
            Err(CallError::Refused(error)) => Err(self.refused_there(error)),
            Err(error) => Err(error),
        }
    }

    /// Runs `script` if Redis knows it.
    async fn call_once(
        &self,
        channel: &ChannelName,
        way: &Way<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        if let Way::InOrder(permit) = way {
            permit.first_turn().await;
        }
        let handed_over = || {
            if let Way::InOrder(permit) = way {
                permit.handed_over();
            }
        };
        // Not before the turn: it may have changed.
        let connection = self.connection_for(channel, way)?;
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
        way: Way<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        if let Way::InOrder(permit) = &way {
            permit.second_turn().await;
        }
        if self.routes.is_none() {
            // It does not come back a second time: who comes after it need not wait.
            let connection = self.connection_for(channel, &way)?;
            return connection.eval(By::Source, script, keys, args, || drop(way)).await;
        }
        let mut redirection = None;
        for _ in 0..REDIRECTIONS_MAX {
            let connection = self.connection_for(channel, &way)?;
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
        way: &Way<'_>,
    ) -> Result<Rc<CommandConnection>, CallError> {
        let connection = match way {
            Way::InOrder(_) | Way::Among => self.connection(channel),
            Way::Beside => self.connection_for_questions(channel),
        };
        connection.ok_or(CallError::NotSent)
    }

    /// Whoever cannot write may not be the master any more.
    fn refused_there(&self, error: Error) -> CallError {
        if let Some(routes) = self.routes.as_ref().filter(|_| is_demoted(&error)) {
            routes.hints.stir();
        }
        CallError::Refused(error)
    }

    fn redirected(&self, connection: &CommandConnection, error: &Error) {
        if let (Some(routes), Some(server)) = (&self.routes, connection.server()) {
            routes.hints.hear(error.details(), &server);
        }
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
