//! Looks whether Redis takes what is written, and whether its name still leads to where the
//! process is.
//!
//! Both may change without a word: a server that is full or has lost its replicas goes on
//! answering heartbeats, and whoever is connected does not notice that a name, or a proxy, leads
//! elsewhere now, while others go there already. So the control thread asks, once a second, and at
//! once when somebody was refused: for a message that is none, on the connections that there are;
//! and, by name, on a new one, whether what is published there is heard here.

use std::rc::Rc;

use fred::prelude::{Server, ServerConfig};
use futures_util::future::join_all;
use redis_protocol::resp3::types::BytesFrame;
use tokio::time::{sleep, timeout};

use super::{
    connection::{self, Connection, ConnectionError},
    lane::{CallError, Lane},
    link::Link,
    refusal,
    slots::slot_of,
};
use crate::{
    broker::refusing::Subject,
    clock,
    limits::{
        HEARTBEAT_INTERVAL, PUBLISH_CONFIRM_DEADLINE, REFUSAL_PAUSE, WATCH_INTERVAL, WATCH_REPEAT,
    },
    metrics::BrokerRefusal,
};

/// No channel's name.
const NOBODYS: &str = "!";
/// Names that are tried for one whose slot a master has.
const NAMES_MAX: usize = 4096;

/// Goes on looking; never returns.
pub(super) async fn run(link: Rc<Link>) {
    let watch = Watch(link);
    loop {
        watch.0.shared.health_ref().look();
        // A Redis that says nothing is waited for elsewhere.
        let _ = timeout(PUBLISH_CONFIRM_DEADLINE, watch.try_to_write()).await;
        if watch.0.routes.is_none()
            && let Err(error) = watch.look().await
        {
            tracing::debug!(%error, "whether its name still leads to this Redis is unknown");
        }
        watch.pause().await;
    }
}

struct Watch(Rc<Link>);

impl Watch {
    /// Until it is time again. However often somebody is refused, others have their turn.
    async fn pause(&self) {
        sleep(WATCH_REPEAT).await;
        let refusing = &self.0.shared.health_ref().refusing;
        let whereabouts = &self.0.process().whereabouts;
        let is_urgent = whereabouts.is_doubted() || !refusing.suspects(clock::now()).is_empty();
        let rest = if is_urgent { REFUSAL_PAUSE } else { WATCH_INTERVAL } - WATCH_REPEAT;
        tokio::select! {
            () = sleep(rest) => {}
            () = refusing.news.notified() => {}
            () = whereabouts.news.notified() => {}
        }
    }

    /// Asks every server, and for every channel that was refused.
    async fn try_to_write(&self) {
        let refusing = &self.0.shared.health_ref().refusing;
        let mut suspects = refusing.suspects(clock::now());
        suspects.retain(|suspect| matches!(suspect, Subject::Channel(_)));
        let servers = self.servers();
        let channels = join_all(suspects.into_iter().map(|suspect| self.try_channel(suspect)));
        let servers = servers.into_iter();
        let servers = join_all(servers.map(|(name, lane)| async move {
            self.try_server(&name, &lane).await;
        }));
        tokio::join!(channels, servers);
    }

    async fn try_channel(&self, suspect: Subject) {
        let Subject::Channel(channel) = &suspect else { return };
        let process = self.0.process();
        let keys = process.names.probe(channel.as_str());
        let args = vec![process.names.channel(channel).into()];
        let answer = self.0.ask(channel, &process.scripts.probe, keys, args).await;
        self.heard(suspect, answer.map(drop), |_| true);
    }

    /// Whether the server at `lane`'s end takes anything; None: it does not say.
    async fn try_server(&self, name: &str, lane: &Lane) -> Option<bool> {
        let process = self.0.process();
        let subject = Subject::Server(lane.server()?.to_string());
        let keys = process.names.probe(name);
        let answer = lane.ask(&process.scripts.probe, keys, vec!["".into()]).await;
        let is_taken = match &answer {
            Ok(_) => Some(true),
            Err(CallError::Refused(_) | CallError::Elsewhere(_)) => Some(false),
            Err(_) => None,
        };
        // What a user may do is another question than what a server can.
        self.heard(subject, answer.map(drop), BrokerRefusal::is_the_servers);
        is_taken
    }

    fn heard(
        &self,
        subject: Subject,
        answer: Result<(), CallError>,
        counts: impl Fn(BrokerRefusal) -> bool,
    ) {
        let refusing = &self.0.shared.health_ref().refusing;
        let now = clock::now();
        match answer {
            Ok(()) => refusing.accepted(|| subject, now),
            Err(CallError::Refused(error) | CallError::Elsewhere(error)) => {
                let reason = refusal::reason(error.details());
                match refusing.is_refused(&subject) {
                    true if counts(reason) => refusing.still_refused(&subject, reason),
                    true => refusing.accepted(|| subject, now),
                    false if counts(reason) => refusing.refused(subject, reason, &error, now),
                    false => {}
                }
            }
            Err(CallError::NotSent | CallError::NoScript | CallError::InDoubt(_)) => {}
        }
    }

    /// A lane to each server, and a name whose keys would be there.
    fn servers(&self) -> Vec<(String, Rc<Lane>)> {
        let Some(routes) = &self.0.routes else {
            let lanes = self.0.lanes.iter().take(1);
            return lanes.map(|lane| (NOBODYS.to_owned(), lane.clone())).collect();
        };
        let lanes = routes.lanes.borrow();
        let there = |server: &Server| {
            let mut names = (0..NAMES_MAX).map(|number| format!("{NOBODYS}{number}"));
            // The hash tag is what counts.
            let is_there = |name: &String| routes.map.borrow().owner(slot_of(name)) == Some(server);
            let lane = lanes.get(server)?.first()?.clone();
            Some((names.find(is_there)?, lane))
        };
        lanes.keys().filter_map(there).collect()
    }

    /// Goes where the name leads, and looks from there.
    async fn look(&self) -> Result<(), ConnectionError> {
        let process = self.0.process();
        let era = process.whereabouts.era();
        let server = match &process.config.server {
            ServerConfig::Centralized { server } => Some(server.clone()),
            _ => process.lead.master(),
        };
        let Some(server) = server else { return Ok(()) };
        let mut there = Connection::open(&process.config, &server).await?;
        if self.takes_more(&mut there).await? {
            process.move_on(era, "a server by its name takes what ours refuses");
        } else if self.is_elsewhere(&mut there).await? {
            process.move_on(era, "its name leads to another server");
        }
        Ok(())
    }

    /// Whether what ours refuses would be taken `there`.
    async fn takes_more(&self, there: &mut Connection) -> Result<bool, ConnectionError> {
        let whereabouts = &self.0.process().whereabouts;
        let is_doubted = whereabouts.is_doubted();
        let refusing = &self.0.shared.health_ref().refusing;
        let ours = self.0.lanes.first();
        let subject = ours.and_then(|lane| lane.server());
        let subject = subject.map(|server| Subject::Server(server.to_string()));
        let is_refused = subject.is_some_and(|subject| refusing.is_refused(&subject));
        if !is_doubted && !is_refused {
            return Ok(false);
        }
        let keys = self.0.process().names.probe(NOBODYS);
        let answer = there.ask(&["SET", &keys[2], "", "XX"]).await?;
        if connection::refusal(&answer).is_some() {
            return Ok(false);
        }
        if is_doubted {
            // Somebody's was no master. If it has become one meanwhile, little is lost.
            whereabouts.trust();
            return Ok(true);
        }
        // Ours may have changed its mind.
        let Some(lane) = ours else { return Ok(false) };
        Ok(self.try_server(NOBODYS, lane).await == Some(false))
    }

    /// Whether we are not heard `there`: a shard that goes on hearing its own heartbeats is not,
    /// or none of them all.
    async fn is_elsewhere(&self, there: &mut Connection) -> Result<bool, ConnectionError> {
        let process = self.0.process();
        let health = self.0.shared.health_ref();
        let shards = 0..process.sinks.len();
        let standing: Vec<usize> =
            shards.filter(|&shard| process.subscribes(shard) && health.is_whole(shard)).collect();
        let missed = self.missed(there, &standing).await?;
        if missed.is_empty() {
            return Ok(false);
        }
        // A subscription's connection may just have ended, or have been cut by Redis.
        let asked = clock::now();
        sleep(HEARTBEAT_INTERVAL + WATCH_REPEAT).await;
        let missed = self.missed(there, &missed).await?;
        let is_at_home = |shard: &usize| health.has_beaten_since(*shard, asked);
        Ok(missed.iter().any(is_at_home) || missed.len() == standing.len())
    }

    /// Who of `shards`, though subscribed somewhere, is not `there`.
    async fn missed(
        &self,
        there: &mut Connection,
        shards: &[usize],
    ) -> Result<Vec<usize>, ConnectionError> {
        let mut missed = Vec::new();
        for &shard in shards {
            let channel = self.0.process().names.heartbeat(shard);
            let answer = there.ask(&["PUBLISH", &channel, "-"]).await?;
            let is_unheard = matches!(answer, BytesFrame::Number { data: 0, .. });
            if is_unheard && self.0.shared.health_ref().is_whole(shard) {
                missed.push(shard);
            }
        }
        Ok(missed)
    }
}
