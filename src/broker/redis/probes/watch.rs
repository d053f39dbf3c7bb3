//! Looks whether Redis accepts writes, and whether its name still leads to the server in use.
//!
//! Both may change silently: a server that is full or has lost its replicas still answers
//! heartbeats, and connected processes do not notice that a name, or a proxy, leads elsewhere now,
//! while new processes go there already. So the control thread asks, once a second, and at once
//! after a refusal: with a trial that publishes nothing, on the open connections; and, by name, on
//! a new one, whether its publications are heard here. In a cluster each primary's name is checked,
//! and the result is the node that it leads to (`node_ids`). The two checks do not wait for each
//! other: the server that does not answer may be the one left behind.

use std::{rc::Rc, sync::Arc, time::Duration};

use fred::{
    prelude::{Server, ServerConfig},
    types::Value,
};
use futures_util::future::join_all;
use redis_protocol::resp3::types::BytesFrame;
use tokio::time::{sleep, timeout};

use crate::{
    broker::{
        redis::{
            commands::{
                call_error::CallError,
                cluster_routes::ClusterRoutes,
                command_connection::CommandConnection,
                router::{CallOrder, CommandRouter},
            },
            discovery::slot_map::slot_of,
            net::connection::{Connection, ConnectionError},
            process::Process,
            protocol::{
                arguments::{self, PROBE_PAYLOAD},
                refusal, replies,
                scripts::By,
            },
        },
        refusals::Subject,
    },
    channel::ChannelName,
    limits::{
        HEARTBEAT_INTERVAL, PUBLISH_CONFIRM_DEADLINE, REFUSAL_PAUSE, WATCH_INTERVAL, WATCH_REPEAT,
    },
    metrics::BrokerRefusal,
};

/// No channel's name.
const NOBODYS: &str = "!";
/// Names that are tried for one whose slot a primary has.
const NAMES_MAX: usize = 4096;

/// Looks again and again; never returns.
pub(in crate::broker::redis) async fn run(process: Arc<Process>, router: Rc<CommandRouter>) {
    let watch = Watch { process, router };
    tokio::join!(watch.keep_writing(), watch.keep_looking());
}

struct Watch {
    process: Arc<Process>,
    router: Rc<CommandRouter>,
}

impl Watch {
    async fn keep_writing(&self) {
        let refusals = &self.process.health.refusals;
        loop {
            self.process.health.look();
            // A Redis that says nothing is waited for elsewhere.
            let _ = timeout(PUBLISH_CONFIRM_DEADLINE, self.try_to_write()).await;
            if refusals.is_urgent() {
                self.process.destination.generations.look_wanted.notify_one();
            }
            // However often messages are refused, other tasks have their turn.
            sleep(WATCH_REPEAT).await;
            let rest = self.interval() - WATCH_REPEAT;
            let _ = timeout(rest, refusals.changed.notified()).await;
        }
    }

    async fn keep_looking(&self) {
        let process = &self.process;
        loop {
            let begun = self.process.clock.now();
            if let Some(cluster) = &self.router.cluster {
                self.look_at_nodes(cluster).await;
                sleep(
                    WATCH_INTERVAL
                        .saturating_sub(self.process.clock.now() - begun)
                        .max(WATCH_REPEAT),
                )
                .await;
                continue;
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "whether its name still leads to this Redis is unknown");
            }
            sleep(WATCH_REPEAT).await;
            let rest = self.interval().saturating_sub(self.process.clock.now() - begun);
            let _ = timeout(rest, process.destination.generations.look_wanted.notified()).await;
        }
    }

    /// From one look to the next.
    fn interval(&self) -> Duration {
        let refusals = &self.process.health.refusals;
        let is_suspected = self.process.destination.generations.is_suspected();
        let is_urgent = is_suspected || refusals.is_urgent();
        if is_urgent { REFUSAL_PAUSE } else { WATCH_INTERVAL }
    }

    /// Asks every server, and for every channel that was refused.
    async fn try_to_write(&self) {
        let refusals = &self.process.health.refusals;
        if let Some(present) = self.present() {
            refusals.keep_servers(
                |server| present.iter().any(|it| it == server),
                self.process.clock.now(),
            );
        }
        let mut suspects = refusals.suspects(self.process.clock.now());
        suspects.retain(|suspect| matches!(suspect, Subject::Channel(_)));
        let servers = self.servers();
        let channels = join_all(suspects.into_iter().map(|suspect| self.try_channel(suspect)));
        let servers = servers.into_iter();
        let servers = join_all(servers.map(|(name, connection)| async move {
            self.try_server(&name, &connection).await;
        }));
        tokio::join!(channels, servers);
    }

    fn trial(&self, tag: &str, meant: Option<&ChannelName>) -> (Vec<String>, Vec<Value>) {
        let settings = &self.process.settings;
        arguments::trial(&settings.names, &settings.history, tag, meant)
    }

    /// A trial with no channel, as a command.
    fn trial_words(&self, tag: &str) -> Vec<String> {
        let (keys, args) = self.trial(tag, None);
        let script = &self.process.settings.scripts.trial;
        let head = ["EVAL".to_owned(), script.source.clone(), keys.len().to_string()];
        let args = args.into_iter().map(|arg| arg.into_string().unwrap_or_default());
        head.into_iter().chain(keys).chain(args).collect()
    }

    async fn try_channel(&self, suspect: Subject) {
        let Subject::Channel(channel) = &suspect else { return };
        let process = &self.process;
        let (keys, args) = self.trial(channel.as_str(), Some(channel));
        let answer = self
            .router
            .call(channel, CallOrder::Unordered, &process.settings.scripts.trial, &keys, &args)
            .await;
        let answer = answer.and_then(read);
        self.heard(suspect, answer, |_| true);
    }

    /// Whether the server at `connection`'s end takes anything; None: it does not say.
    async fn try_server(&self, name: &str, connection: &CommandConnection) -> Option<bool> {
        let process = &self.process;
        let subject = Subject::Server(connection.server()?.to_string());
        let (keys, args) = self.trial(name, None);
        let script = &process.settings.scripts.trial;
        let answer = match connection.eval(By::Sha1, script, &keys, &args, || {}).await {
            Err(CallError::NoScript) => {
                connection.eval(By::Source, script, &keys, &args, || {}).await
            }
            answer => answer,
        };
        let answer = answer.and_then(read);
        if let (Some(cluster), Err(CallError::Elsewhere(error))) = (&self.router.cluster, &answer) {
            // It is about to be no primary, or the map is old: no refusal, but news.
            cluster.hints.note_redirection(error.details(), &connection.server()?);
            return None;
        }
        let (is_taken, lacks_rights) = match &answer {
            Ok(()) => (Some(true), false),
            Err(CallError::Refused(error) | CallError::Elsewhere(error)) => {
                (Some(false), refusal::reason(error.details()) == BrokerRefusal::NoPerm)
            }
            Err(_) => (None, false),
        };
        self.heard(subject, answer, BrokerRefusal::counts_without_a_channel);
        if lacks_rights {
            // Whether rights are missing for all keys, or only for those of no channel.
            self.try_channel(Subject::Channel(ChannelName::default_channel())).await;
        }
        is_taken
    }

    fn heard(
        &self,
        subject: Subject,
        answer: Result<(), CallError>,
        counts: impl Fn(BrokerRefusal) -> bool,
    ) {
        let refusals = &self.process.health.refusals;
        let now = self.process.clock.now();
        let (reason, error) = match answer {
            Ok(()) => return refusals.trial_accepted(&subject, now),
            Err(CallError::Refused(error) | CallError::Elsewhere(error)) => {
                (refusal::reason(error.details()), error)
            }
            Err(CallError::Unexpected(error)) => (BrokerRefusal::UnexpectedAnswer, error),
            Err(CallError::NotSent | CallError::NoScript | CallError::InDoubt(_)) => return,
        };
        match counts(reason) {
            true => refusals.trial_refused(subject, reason, &error.details(), now),
            false => refusals.trial_accepted(&subject, now),
        }
    }

    /// The servers that messages go to, by address; None while that is not known.
    fn present(&self) -> Option<Vec<String>> {
        let Some(cluster) = &self.router.cluster else {
            let server = self.router.connections.first()?.server()?;
            return Some(vec![server.to_string()]);
        };
        Some(cluster.connections.borrow().keys().map(Server::to_string).collect())
    }

    /// A command connection to each server, and a name whose keys would be there.
    fn servers(&self) -> Vec<(String, Rc<CommandConnection>)> {
        let Some(cluster) = &self.router.cluster else {
            let connections = self.router.connections.iter().take(1);
            return connections
                .map(|connection| (NOBODYS.to_owned(), connection.clone()))
                .collect();
        };
        let connections = cluster.connections.borrow();
        let there = |server: &Server| {
            let mut names = (0..NAMES_MAX).map(|number| format!("{NOBODYS}{number}"));
            // The hash tag is what counts.
            let is_there =
                |name: &String| cluster.map.borrow().owner(slot_of(name)) == Some(server);
            let connection = connections.get(server)?.first()?.clone();
            Some((names.find(is_there)?, connection))
        };
        connections.keys().filter_map(there).collect()
    }

    /// Goes where the names of a cluster's primaries lead; to have been there is enough.
    async fn look_at_nodes(&self, cluster: &ClusterRoutes) {
        let process = &self.process;
        let primaries: Vec<Server> = cluster.connections.borrow().keys().cloned().collect();
        process.destination.node_ids.keep(|server| primaries.contains(server));
        let looks = primaries.iter().map(|server| async move {
            // A primary that is not there holds up no check of the others.
            match timeout(WATCH_INTERVAL, process.destination.connect(server)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%server, %error, "this node was not looked at"),
                Err(_) => tracing::debug!(%server, "this node was not looked at in time"),
            }
        });
        join_all(looks).await;
    }

    /// Goes where the name leads, and looks from there.
    async fn look(&self) -> Result<(), ConnectionError> {
        let process = &self.process;
        let generation = process.destination.generations.current();
        let server = match &process.settings.config.server {
            ServerConfig::Centralized { server } => Some(server.clone()),
            _ => process.destination.primary.server(),
        };
        let Some(server) = server else { return Ok(()) };
        let mut there = Connection::open(&process.settings.config, &server).await?;
        if self.takes_more(&mut there).await? {
            process
                .destination
                .reconnect_all(generation, "a server by its name takes what ours refuses");
        } else if self.is_elsewhere(&mut there).await? {
            process.destination.reconnect_all(generation, "its name leads to another server");
        }
        Ok(())
    }

    /// Whether what ours refuses would be taken `there`.
    async fn takes_more(&self, there: &mut Connection) -> Result<bool, ConnectionError> {
        let generations = &self.process.destination.generations;
        let is_suspected = generations.is_suspected();
        let refusals = &self.process.health.refusals;
        let ours = self.router.connections.first();
        let subject = ours.and_then(|connection| connection.server());
        let subject = subject.map(|server| Subject::Server(server.to_string()));
        let is_refused = subject.is_some_and(|subject| refusals.is_refused(&subject));
        if !is_suspected && !is_refused {
            return Ok(false);
        }
        let words = self.trial_words(NOBODYS);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = there.ask(&words).await?;
        if !matches!(answer, BytesFrame::Array { .. }) {
            return Ok(false);
        }
        if is_suspected {
            // One of our connections is to no primary. The suspicion ends with the generation,
            // however soon that may be: a name that leads here and there is not followed at once.
            return Ok(true);
        }
        // Our server may accept it by now.
        let Some(connection) = ours else { return Ok(false) };
        Ok(self.try_server(NOBODYS, connection).await == Some(false))
    }

    /// Whether we are not heard `there`: a shard that still receives its own heartbeats is not, or
    /// none of them at all.
    async fn is_elsewhere(&self, there: &mut Connection) -> Result<bool, ConnectionError> {
        let process = &self.process;
        let health = &self.process.health;
        let shards = 0..process.sinks.len();
        let subscribed: Vec<usize> = shards
            .filter(|&shard| process.settings.subscribes(shard) && health.is_whole(shard))
            .collect();
        let missed = self.missed(there, &subscribed).await?;
        if missed.is_empty() {
            return Ok(false);
        }
        // A subscription's connection may just have ended, or have been cut by Redis.
        let asked = self.process.clock.now();
        sleep(HEARTBEAT_INTERVAL + WATCH_REPEAT).await;
        let missed = self.missed(there, &missed).await?;
        let is_in_place = |shard: &usize| health.has_heartbeat_since(*shard, asked);
        Ok(missed.iter().any(is_in_place) || missed.len() == subscribed.len())
    }

    /// Those of `shards` that, though subscribed somewhere, are not `there`.
    async fn missed(
        &self,
        there: &mut Connection,
        shards: &[usize],
    ) -> Result<Vec<usize>, ConnectionError> {
        let mut missed = Vec::new();
        for &shard in shards {
            let channel = self.process.settings.names.heartbeat(shard);
            let answer = there.ask(&["PUBLISH", &channel, PROBE_PAYLOAD]).await?;
            let is_unheard = matches!(answer, BytesFrame::Number { data: 0, .. });
            if is_unheard && self.process.health.is_whole(shard) {
                missed.push(shard);
            }
        }
        Ok(missed)
    }
}

/// The result of a trial: an answer that is not one of ours is a failure.
fn read(answer: Value) -> Result<(), CallError> {
    replies::publish_reply(answer).map(drop).map_err(CallError::Unexpected)
}
