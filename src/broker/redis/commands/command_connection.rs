//! One of a handle's connections for commands, and its signs of life; the commands are in `calls`.
//!
//! A command connection has at most one client at a time and never repairs it: when the connection
//! ends, falls silent, is to another server than the sentinels' master, or is of an era that is
//! over (`whereabouts`, `homes`), the client is thrown away and a new one takes its place. So a
//! command is either written once on the connection that was there when it was issued, or surely
//! not at all, and no state of a broken client outlives it.
//!
//! Questions have a command connection beside those that publish: however many wait on it, and
//! however long their answers are, no message and no heartbeat waits behind them.

mod calls;
mod opening;

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use fred::{error::Error, prelude::Server, types::config::ServerConfig};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

pub(crate) use self::calls::By;
use self::opening::{Client, ConnectionTask};
use super::connectivity::{Link, Part};
use crate::{
    broker::{
        Shared,
        redis::{
            discovery::{homes::NodeId, whereabouts::Era},
            net::connection_error::{ConnectionError, told},
            protocol::{arguments::NO_BEAT, refusal, replies::is_refusal},
        },
    },
    clock::{self, Millis},
    limits::{HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_RECONNECT_DELAY, WATCH_REPEAT},
    telemetry::seldom,
};

/// A client, or the wait for one.
#[derive(Debug)]
pub(crate) struct CommandConnection {
    role: Role,
    current: RefCell<Option<Current>>,
    pub(crate) changed: Notify,
    pub(crate) beat_now: Notify,
    shared: Arc<Shared>,
}

/// What a command connection is there for.
#[derive(Debug)]
enum Role {
    /// Heartbeats of the link's command connection of this number, to wherever the URL leads, and
    /// commands; in a cluster heartbeats alone, to any master that is there.
    Beats(usize),
    /// Commands to one master of a cluster.
    Node(Node),
    /// Questions to the server that this other command connection leads to.
    Questions(Rc<CommandConnection>),
}

/// A master of a cluster, as a command connection sees it.
#[derive(Debug)]
struct Node {
    server: Server,
    part: Part,
    /// It leaves our heartbeats unanswered.
    is_silent: Cell<bool>,
    alive_since: Cell<Millis>,
}

#[derive(Clone)]
struct Current {
    client: Client,
    server: Server,
    node_id: Option<NodeId>,
    era: Era,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Node {
    /// Waits for the answer to a heartbeat, and tells if it does not come in time.
    async fn watch<T>(&self, link: &Link, beat: impl Future<Output = T>) -> T {
        let mut beat = pin!(beat);
        // Once more: if this thread was busy, the answer may be there.
        for patience in [HEARTBEAT_SILENCE_MAX, HEARTBEAT_INTERVAL] {
            if let Ok(answer) = timeout(patience, &mut beat).await {
                return answer;
            }
        }
        self.is_silent.set(true);
        link.unsubscribed(self.part);
        let answer = beat.await;
        self.is_there(link);
        answer
    }

    /// It answers, from now on.
    fn is_there(&self, link: &Link) {
        self.is_silent.set(false);
        self.alive_since.set(clock::now());
        link.subscribed(self.part);
        if let Some(routes) = &link.routes {
            routes.found.notify_waiters();
        }
    }
}

impl CommandConnection {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Self {
        Self::with_role(Role::Beats(index), shared)
    }

    /// A command connection to one master of a cluster, which is this `part` of the handle's way.
    pub(crate) fn to_node(server: Server, part: Part, shared: Arc<Shared>) -> Self {
        let alive_since = Cell::new(clock::now());
        let node = Node { server, part, is_silent: Cell::new(false), alive_since };
        Self::with_role(Role::Node(node), shared)
    }

    /// A command connection for questions beside another one.
    pub(crate) fn for_questions(beside: Rc<Self>) -> Self {
        let shared = beside.shared.clone();
        Self::with_role(Role::Questions(beside), shared)
    }

    fn with_role(role: Role, shared: Arc<Shared>) -> Self {
        Self {
            role,
            current: RefCell::new(None),
            changed: Notify::new(),
            beat_now: Notify::new(),
            shared,
        }
    }

    /// The master of a cluster that it is to.
    fn node(&self) -> Option<&Node> {
        match &self.role {
            Role::Node(node) => Some(node),
            Role::Beats(_) | Role::Questions(_) => None,
        }
    }

    /// Since when it leads to a master that answers; None if it does not, or to no certain one.
    pub(crate) fn alive_since(&self) -> Option<Millis> {
        let node = self.node().filter(|node| self.is_open() && !node.is_silent.get())?;
        Some(node.alive_since.get())
    }

    /// Whether it leads to a master that answers.
    pub(crate) fn is_there(&self) -> bool {
        self.alive_since().is_some()
    }

    /// Whether commands would be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// Whether commands would be sent, and something has been read lately: with heartbeats on it,
    /// no command connection is quiet that works.
    pub(crate) fn is_lively(&self) -> bool {
        let current = self.current.borrow();
        let heard = current.as_ref().map(|current| current.client.heard());
        heard.is_some_and(|heard| clock::now() - heard <= HEARTBEAT_SILENCE_MAX)
    }

    /// The server that commands go to: a subscriber belongs on the same one.
    pub(crate) fn server(&self) -> Option<Server> {
        if let Some(node) = self.node() {
            return Some(node.server.clone());
        }
        self.current.borrow().as_ref().map(|current| current.server.clone())
    }

    /// Keeps a client connected; never returns.
    pub(crate) async fn run(self: Rc<Self>, link: Rc<Link>) {
        let process = link.process();
        loop {
            let server = self.destination(&link).await;
            let era = process.whereabouts.era();
            let is_left = match opening::open(process, &server).await {
                Ok((client, task, node_id)) => {
                    let current = Current { client, server, node_id, era };
                    *self.current.borrow_mut() = Some(current.clone());
                    if let Some(node) = self.node() {
                        node.is_there(&link);
                    }
                    self.changed.notify_waiters();
                    self.keep(&link, &current, task).await;
                    *self.current.borrow_mut() = None;
                    let Current { server, node_id, .. } = &current;
                    process.primary.is_elsewhere(server)
                        || process.whereabouts.is_over(era)
                        || process.homes.is_left(server, node_id.as_ref())
                }
                Err(ConnectionError::Left) => true,
                Err(error) => {
                    self.not_opened(&link, &server, &error);
                    false
                }
            };
            self.closed(&link);
            if !is_left {
                let jitter = fastrand::u32(0..=50);
                sleep(REDIS_RECONNECT_DELAY * (100 + jitter) / 100).await;
            }
        }
    }

    /// The one server to connect to, as soon as sentinels have agreed on it. In a cluster
    /// heartbeats, and the subscriber that hears them, can do with any master: when it is lost,
    /// with another.
    async fn destination(&self, link: &Link) -> Server {
        match (&self.role, &link.routes) {
            (Role::Node(node), _) => node.server.clone(),
            (Role::Questions(beside), _) => loop {
                beside.opened().await;
                if let Some(server) = beside.server() {
                    break server;
                }
            },
            (Role::Beats(_), Some(routes)) => routes.living().await,
            (Role::Beats(_), None) => match &link.process().settings.config.server {
                ServerConfig::Centralized { server } => server.clone(),
                _ => link.process().primary.known().await,
            },
        }
    }

    fn not_opened(&self, link: &Link, server: &Server, error: &ConnectionError) {
        let reason = told(server, error);
        match &self.role {
            // They go another way meanwhile.
            Role::Questions(_) => {
                seldom!(warn, "questions to Redis have no connection of their own", %reason);
            }
            Role::Beats(_) | Role::Node(_) => link.shared.health_ref().out_of_reach(&reason),
        }
    }

    fn closed(&self, link: &Link) {
        match &self.role {
            Role::Beats(index) => link.connection_closed(*index),
            Role::Node(node) => {
                link.unsubscribed(node.part);
                if let Some(routes) = &link.routes {
                    routes.hints.stir();
                }
            }
            Role::Questions(_) => {}
        }
    }

    /// Returns when the connection has ended or is not worth keeping.
    async fn keep(&self, link: &Link, current: &Current, mut task: ConnectionTask) {
        let process = link.process();
        let Current { client, server, node_id, era } = current;
        // Else a master of a cluster is where the slot map says.
        let is_of_era = link.routes.is_none() || matches!(self.role, Role::Beats(_));
        tokio::select! {
            _ = &mut task.0 => {}
            () = self.beat(link, client, server, *era) => {}
            () = process.primary.left(server) => {}
            () = process.homes.left(server, node_id.as_ref()) => {}
            () = process.whereabouts.over(*era), if is_of_era => {}
        }
    }

    /// Sends heartbeats, at most one on its way: a paused Redis is not filled with them. Returns
    /// when one was not answered for so long that the connection counts as dead.
    async fn beat(&self, link: &Link, client: &Client, server: &Server, era: Era) {
        let mut unheard_since = None;
        loop {
            let sent = clock::now();
            let was_heard = link.is_heard();
            match self.beat_once(link, client, sent).await {
                Err(error) if is_refusal(&error) => {
                    link.shared.health_ref().refusing.count(refusal::reason(error.details()));
                    let reason = format!("Redis refuses our heartbeat: {}", error.details());
                    link.shared.health_ref().out_of_reach(&told(server, &reason));
                }
                Err(_) => return,
                Ok(hearers) => {
                    if let Role::Beats(index) = &self.role {
                        link.beat_answered(*index, sent);
                    }
                    // In a cluster we may listen by another master.
                    let is_unheard =
                        link.routes.is_none() && hearers == 0 && was_heard && link.is_heard();
                    unheard_since = unheard_since.or(Some(sent)).filter(|_| is_unheard);
                }
            }
            // Nobody hears us there, though our subscription stands, and is read: elsewhere. One
            // that is not read may have been cut by Redis, and nothing else has to move for that.
            if unheard_since.is_some_and(|since| link.has_heard_since(since)) {
                link.process().move_on(era, "what is published is not heard");
            }
            let interval = if unheard_since.is_some() { WATCH_REPEAT } else { HEARTBEAT_INTERVAL };
            let pause = interval.saturating_sub(clock::now() - sent);
            let pause = pause.max(Duration::from_millis(1));
            let _ = timeout(pause, self.beat_now.notified()).await;
        }
    }

    /// How many have heard it; of one that is for nobody's ears, that it was answered.
    async fn beat_once(&self, link: &Link, client: &Client, sent: Millis) -> Result<u64, Error> {
        match (&self.role, link.beat_channel()) {
            (Role::Beats(index), Some(channel)) => {
                client.publish(channel, link.beat(*index, sent)).await
            }
            // It proves where the command connection leads, and nothing about what is published.
            (Role::Questions(_), Some(channel)) if link.routes.is_none() => {
                client.publish(channel, NO_BEAT.to_owned()).await
            }
            (Role::Node(node), _) => node.watch(link, client.ping()).await.map(|()| 1),
            _ => client.ping().await.map(|()| 1),
        }
    }

    /// Waits until commands would be sent.
    pub(crate) async fn opened(&self) {
        while !self.is_open() {
            self.changed.notified().await;
        }
    }
}
