//! Which lane a channel's commands go through, and their order.
//!
//! Without a cluster: one of the pool, by the channel's name. In a cluster: one to the master of
//! its slot, so that a master that is gone takes nothing but its own channels along. What a
//! cluster sends elsewhere is repeated here, in its order, until the map shows where that is.

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
    answers::{self, is_demoted},
    lane::{CallError, Lane},
    link::Link,
    script::Script,
    slots::{SlotMap, slot_of},
    survey::News,
    turnstile::Ticket,
};
use crate::{
    channel::ChannelName,
    clock::Millis,
    limits::{HEARTBEAT_SILENCE_MAX, REDIRECTION_PAUSE, REDIRECTIONS_MAX, REDIS_SETTLE},
    telemetry::seldom,
};

/// A handle's ways into a cluster.
#[derive(Debug)]
pub(super) struct Routes {
    /// Of the process's maps, the one that the lanes are for.
    pub(super) map: RefCell<Arc<SlotMap>>,
    /// As many to each master as the pool has.
    pub(super) lanes: RefCell<HashMap<Server, Vec<Rc<Lane>>>>,
    pub(super) news: Arc<News>,
    /// A master answers (again).
    pub(super) found: Notify,
}

impl Routes {
    pub(super) fn new(news: Arc<News>) -> Self {
        Self { map: RefCell::default(), lanes: RefCell::default(), news, found: Notify::new() }
    }

    /// Some master that answers, as soon as there is one.
    pub(super) async fn living(&self) -> Server {
        loop {
            let is_there = |lanes: &[Rc<Lane>]| lanes.iter().any(|lane| lane.is_there());
            let living: Vec<Server> = {
                let lanes = self.lanes.borrow();
                let living = lanes.iter().filter(|(_, lanes)| is_there(lanes));
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

impl Link {
    /// The master that the Redis channel `name` lives on, if one is known.
    pub(super) fn owner(&self, name: &str) -> Option<Server> {
        let routes = self.routes.as_ref()?;
        routes.map.borrow().owner(slot_of(name)).cloned()
    }

    /// All messages of a channel go through one lane: they keep their order.
    pub(super) fn lane(&self, channel: &ChannelName) -> Option<Rc<Lane>> {
        let Some(routes) = &self.routes else {
            return self.lanes.get(self.pick(channel, self.lanes.len())).cloned();
        };
        let name = self.process().names.channel(channel);
        let owner = self.owner(&name)?;
        let lanes = routes.lanes.borrow();
        let lanes = lanes.get(&owner)?;
        lanes.get(self.pick(channel, lanes.len())).cloned()
    }

    /// A place in the order in which commands of `channel` reach Redis. In a cluster it is no
    /// lane's: a channel changes its lane.
    pub(super) fn enter(&self, channel: &ChannelName) -> Ticket<'_> {
        self.turnstiles[self.pick(channel, self.turnstiles.len())].enter()
    }

    fn pick(&self, channel: &ChannelName, count: usize) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(channel.as_str().as_bytes());
        (hasher.finish() % count.max(1) as u64) as usize
    }

    /// Whether the master of `channel` does not answer, though the cluster is up as far as the
    /// process knows.
    pub(super) fn is_cut_off(&self, channel: &ChannelName) -> bool {
        let Some(_) = &self.routes else { return false };
        self.lane(channel).is_none_or(|lane| lane.is_open() && !lane.is_there())
    }

    /// Whether the master of `channel` answers, whatever is the matter with the others.
    pub(super) fn is_there(&self, channel: &ChannelName) -> bool {
        self.routes.is_some() && self.lane(channel).is_some_and(|lane| lane.is_there())
    }

    /// From when on `channel` is published to, though the cluster is not up as a whole: its
    /// master has been there for long, or since all of it was. None: its master has not.
    pub(super) fn spared_from(&self, channel: &ChannelName, now: Millis) -> Option<Millis> {
        self.routes.as_ref()?;
        let since = self.lane(channel)?.alive_since()?;
        let proven = since + HEARTBEAT_SILENCE_MAX;
        if proven <= now {
            return Some(proven);
        }
        // The control thread's lanes may come a little later than the shards', which are all.
        let settled = self.shared.health_ref().last_up()? + REDIS_SETTLE;
        (since <= settled).then_some(settled)
    }

    /// Runs `script`, in the order of the tickets.
    pub(super) async fn call(
        &self,
        channel: &ChannelName,
        ticket: Ticket<'_>,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        let answer = self.call_now(channel, ticket, script, keys, args).await?;
        Ok(told(channel, answer))
    }

    async fn call_now(
        &self,
        channel: &ChannelName,
        ticket: Ticket<'_>,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        if self.routes.is_none() {
            let lane = self.lane(channel).ok_or(CallError::NotSent)?;
            return lane.call(ticket, script, keys, args).await;
        }
        ticket.first_turn().await;
        // Not before: it may have changed.
        let lane = self.lane(channel).ok_or(CallError::NotSent)?;
        match lane.first_call(&ticket, script, &keys, &args).await {
            Err(CallError::NoScript) => {}
            Err(CallError::Elsewhere(error)) => self.redirected(&lane, &error),
            Err(CallError::Refused(error)) => return Err(self.refused_there(error)),
            // The lane to a new master is not open yet.
            Err(CallError::NotSent) => {}
            answer => return answer,
        }
        ticket.second_turn().await;
        self.insist(channel, script, keys, args).await
    }

    /// Runs `script`, whose order among the others does not matter.
    pub(super) async fn ask(
        &self,
        channel: &ChannelName,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        let answer = self.ask_now(channel, script, keys, args).await?;
        Ok(told(channel, answer))
    }

    async fn ask_now(
        &self,
        channel: &ChannelName,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        #[cfg(test)]
        if let Some(stand_in) = &self.stand_in {
            return stand_in.answer(script, args);
        }
        let lane = self.lane(channel).ok_or(CallError::NotSent)?;
        match lane.ask(script, keys.clone(), args.clone()).await {
            Err(CallError::Elsewhere(error)) if self.routes.is_some() => {
                self.redirected(&lane, &error);
            }
            answer => return answer,
        }
        self.insist(channel, script, keys, args).await
    }

    /// Runs `script` wherever its keys are, as soon as they are in one place and it is known
    /// where.
    async fn insist(
        &self,
        channel: &ChannelName,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        let mut redirection = None;
        for _ in 0..REDIRECTIONS_MAX {
            let lane = self.lane(channel).ok_or(CallError::NotSent)?;
            match lane.eval(script, keys.clone(), args.clone()).await {
                Err(CallError::Elsewhere(error)) => {
                    self.redirected(&lane, &error);
                    redirection = Some(error);
                }
                Err(CallError::NotSent) => {}
                answer => return answer,
            }
            sleep(REDIRECTION_PAUSE).await;
        }
        Err(redirection.map_or(CallError::NotSent, CallError::Elsewhere))
    }

    /// Whoever cannot write may not be the master any more.
    fn refused_there(&self, error: Error) -> CallError {
        if let Some(routes) = self.routes.as_ref().filter(|_| is_demoted(&error)) {
            routes.news.stir();
        }
        CallError::Refused(error)
    }

    fn redirected(&self, lane: &Lane, error: &Error) {
        if let (Some(routes), Some(server)) = (&self.routes, lane.server()) {
            routes.news.hear(error.details(), &server);
        }
    }

    /// Waits until commands of `channel` would be sent.
    pub(super) async fn opened(&self, channel: &ChannelName) {
        #[cfg(test)]
        if self.stand_in.is_some() {
            return;
        }
        match self.lane(channel) {
            Some(lane) => lane.opened().await,
            // It is asked in vain.
            None => sleep(REDIRECTION_PAUSE).await,
        }
    }
}

/// An answer without the note that may be in it, which goes into the log.
fn told(channel: &ChannelName, answer: Value) -> Value {
    let (answer, note) = answers::note(answer);
    if let Some(note) = note {
        seldom!(warn, "something else has written to our keys: begun anew", %channel, note);
    }
    answer
}
