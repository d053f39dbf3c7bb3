//! One of a handle's connections for commands, and its signs of life; the commands are in `calls`.
//!
//! A command connection has at most one client at a time and never repairs it: when the connection
//! ends, falls silent, is to another server than the sentinels' primary, or is of a generation that
//! is over (`generation`, `node_ids`), the client is thrown away and a new one takes its place. So
//! a command is either written once on the connection that was there when it was issued, or surely
//! not at all, and no state of a broken client outlives it.
//!
//! Queries have a command connection beside those that publish: however many wait on it, and
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

use self::opening::{Client, ConnectionTask};
use super::connectivity::{Component, Connectivity};
use crate::{
    broker::redis::{
        discovery::{destination::Destination, generation::Generation, node_ids::NodeId},
        net::connection_error::{ConnectionError, told},
        protocol::{arguments::PROBE_PAYLOAD, refusal, replies::is_refusal},
    },
    clock::Millis,
    limits::{HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_RECONNECT_DELAY, WATCH_REPEAT},
    telemetry::seldom,
};

/// A client, or the wait for one.
#[derive(Debug)]
pub(crate) struct CommandConnection {
    role: Role,
    current: RefCell<Option<Current>>,
    pub(crate) changed: Notify,
    destination: Arc<Destination>,
    connectivity: Rc<Connectivity>,
}

/// The purpose of a command connection.
#[derive(Debug)]
enum Role {
    /// Heartbeats of the handle's command connection of this number, to wherever the URL leads, and
    /// commands; in a cluster heartbeats alone, to any primary that is there.
    Heartbeats(usize),
    /// Commands to one primary of a cluster.
    Node(Node),
    /// Queries to the server that this other command connection leads to.
    Queries(Rc<CommandConnection>),
}

/// A primary of a cluster, as a command connection sees it.
#[derive(Debug)]
struct Node {
    server: Server,
    component: Component,
    /// It leaves our heartbeats unanswered.
    is_silent: Cell<bool>,
    alive_since: Cell<Millis>,
}

#[derive(Clone)]
struct Current {
    client: Client,
    server: Server,
    node_id: Option<NodeId>,
    generation: Generation,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Node {
    /// Waits for the answer to a heartbeat, and tells if it does not come in time.
    async fn watch<T>(&self, connectivity: &Connectivity, heartbeat: impl Future<Output = T>) -> T {
        let mut heartbeat = pin!(heartbeat);
        // Once more: if this thread was busy, the answer may be there.
        for patience in [HEARTBEAT_SILENCE_MAX, HEARTBEAT_INTERVAL] {
            if let Ok(answer) = timeout(patience, &mut heartbeat).await {
                return answer;
            }
        }
        self.is_silent.set(true);
        connectivity.answers_not(self.component);
        let answer = heartbeat.await;
        self.is_alive(connectivity);
        answer
    }

    /// It answers, from now on.
    fn is_alive(&self, connectivity: &Connectivity) {
        self.is_silent.set(false);
        self.alive_since.set(connectivity.clock.now());
        connectivity.answers(self.component, &self.server);
    }
}

impl CommandConnection {
    pub(crate) fn new(
        index: usize,
        destination: Arc<Destination>,
        connectivity: Rc<Connectivity>,
    ) -> Self {
        Self::with_role(Role::Heartbeats(index), destination, connectivity)
    }

    /// A command connection to one primary of a cluster, which is this `component` of the handle's
    /// connectivity.
    pub(crate) fn to_node(
        server: Server,
        component: Component,
        destination: Arc<Destination>,
        connectivity: Rc<Connectivity>,
    ) -> Self {
        let alive_since = Cell::new(destination.clock.now());
        let node = Node { server, component, is_silent: Cell::new(false), alive_since };
        Self::with_role(Role::Node(node), destination, connectivity)
    }

    /// A command connection for queries beside another one.
    pub(crate) fn for_queries(beside: Rc<Self>) -> Self {
        let (destination, connectivity) = (beside.destination.clone(), beside.connectivity.clone());
        Self::with_role(Role::Queries(beside), destination, connectivity)
    }

    fn with_role(
        role: Role,
        destination: Arc<Destination>,
        connectivity: Rc<Connectivity>,
    ) -> Self {
        let (current, changed) = (RefCell::new(None), Notify::new());
        Self { role, current, changed, destination, connectivity }
    }

    /// The primary of a cluster that it is to.
    fn node(&self) -> Option<&Node> {
        match &self.role {
            Role::Node(node) => Some(node),
            Role::Heartbeats(_) | Role::Queries(_) => None,
        }
    }

    /// Since when it leads to a primary that answers; None if it does not, or to no certain one.
    pub(super) fn alive_since(&self) -> Option<Millis> {
        let node = self.node().filter(|node| self.is_open() && !node.is_silent.get())?;
        Some(node.alive_since.get())
    }

    /// Whether it leads to a primary that answers.
    pub(super) fn is_alive(&self) -> bool {
        self.alive_since().is_some()
    }

    /// Whether commands would be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// Whether commands would be sent, and something has been read lately: with heartbeats on it,
    /// no command connection is quiet that works.
    pub(super) fn is_responsive(&self) -> bool {
        let current = self.current.borrow();
        let heard = current.as_ref().map(|current| current.client.heard());
        heard.is_some_and(|heard| self.destination.clock.now() - heard <= HEARTBEAT_SILENCE_MAX)
    }

    /// The server that commands go to: a subscriber belongs on the same one.
    pub(crate) fn server(&self) -> Option<Server> {
        if let Some(node) = self.node() {
            return Some(node.server.clone());
        }
        self.current.borrow().as_ref().map(|current| current.server.clone())
    }

    /// Leads to where a test says, or nowhere, as it does while it is kept connected.
    #[cfg(test)]
    pub(crate) fn lead(&self, client: Option<Client>) {
        let server = Server::new("stand-in", 6379);
        let generation = self.destination.generations.current();
        let current = |client| Current { client, server, node_id: None, generation };
        *self.current.borrow_mut() = client.map(current);
        self.changed.notify_waiters();
    }

    /// Keeps a client connected; never returns.
    pub(crate) async fn run(self: Rc<Self>) {
        let destination = &self.destination;
        loop {
            let server = self.server_to_be().await;
            let generation = destination.generations.current();
            let is_left = match opening::open(destination, &server).await {
                Ok((client, task, node_id)) => {
                    let current = Current { client, server, node_id, generation };
                    *self.current.borrow_mut() = Some(current.clone());
                    self.opened_now();
                    self.keep(&current, task).await;
                    *self.current.borrow_mut() = None;
                    let Current { server, node_id, .. } = &current;
                    destination.primary.is_replaced(server)
                        || destination.generations.is_over(generation)
                        || destination.node_ids.is_left(server, node_id.as_ref())
                }
                Err(ConnectionError::Left) => true,
                Err(error) => {
                    self.not_opened(&server, &error);
                    false
                }
            };
            self.closed();
            if !is_left {
                let jitter = fastrand::u32(0..=50);
                sleep(REDIS_RECONNECT_DELAY * (100 + jitter) / 100).await;
            }
        }
    }

    /// The one server to connect to, as soon as sentinels have agreed on it. In a cluster
    /// heartbeats, and the subscriber that hears them, can do with any primary: when it is lost,
    /// with another.
    async fn server_to_be(&self) -> Server {
        match &self.role {
            Role::Node(node) => node.server.clone(),
            Role::Queries(beside) => loop {
                beside.opened().await;
                if let Some(server) = beside.server() {
                    break server;
                }
            },
            Role::Heartbeats(_) => match &self.destination.settings.config.server {
                ServerConfig::Clustered { .. } => self.connectivity.living().await,
                ServerConfig::Centralized { server } => server.clone(),
                ServerConfig::Sentinel { .. } => self.destination.primary.wait_known().await,
            },
        }
    }

    fn not_opened(&self, server: &Server, error: &ConnectionError) {
        let reason = told(server, error);
        match &self.role {
            // Queries use the publishing connection meanwhile.
            Role::Queries(_) => {
                seldom!(warn, "queries to Redis have no connection of their own", %reason);
            }
            Role::Heartbeats(_) | Role::Node(_) => self.destination.health.out_of_reach(&reason),
        }
    }

    fn opened_now(&self) {
        match &self.role {
            Role::Heartbeats(index) => self.connectivity.connection_opened(*index),
            Role::Node(node) => node.is_alive(&self.connectivity),
            Role::Queries(_) => {}
        }
        self.changed.notify_waiters();
    }

    fn closed(&self) {
        match &self.role {
            Role::Heartbeats(index) => self.connectivity.connection_closed(*index),
            Role::Node(node) => {
                self.connectivity.answers_not(node.component);
                if let Some(hints) = &self.destination.hints {
                    hints.request_refresh();
                }
            }
            Role::Queries(_) => {}
        }
    }

    /// Returns when the connection has ended or is not worth keeping.
    async fn keep(&self, current: &Current, mut task: ConnectionTask) {
        let destination = &self.destination;
        let Current { client, server, node_id, generation } = current;
        // Else a primary of a cluster is where the slot map says.
        let is_of_generation = !self.is_cluster() || matches!(self.role, Role::Heartbeats(_));
        tokio::select! {
            _ = &mut task.0 => {}
            () = self.heartbeat(client, server, *generation) => {}
            () = destination.primary.replaced(server) => {}
            () = destination.node_ids.left(server, node_id.as_ref()) => {}
            () = destination.generations.ended(*generation), if is_of_generation => {}
        }
    }

    fn is_cluster(&self) -> bool {
        self.destination.settings.is_cluster()
    }

    /// Sends heartbeats, at most one on its way: a paused Redis is not filled with them. Returns
    /// when one was not answered for so long that the connection counts as dead.
    ///
    /// # Cancel safety
    /// May be dropped, with the connection: a heartbeat that was sent stays unanswered.
    async fn heartbeat(&self, client: &Client, server: &Server, generation: Generation) {
        let (health, connectivity) = (&self.destination.health, &self.connectivity);
        let mut unheard_since = None;
        loop {
            let sent = self.destination.clock.now();
            let was_heard = connectivity.is_heard();
            match self.send_heartbeat(client, sent).await {
                Err(error) if is_refusal(&error) => {
                    health.refusals.count(refusal::reason(error.details()));
                    let reason = format!("Redis refuses our heartbeat: {}", error.details());
                    health.out_of_reach(&told(server, &reason));
                }
                Err(_) => return,
                Ok(hearers) => {
                    if let Role::Heartbeats(index) = &self.role {
                        connectivity.heartbeat_answered(*index, sent);
                    }
                    // In a cluster we may listen by another primary.
                    let is_unheard =
                        !self.is_cluster() && hearers == 0 && was_heard && connectivity.is_heard();
                    unheard_since = unheard_since.or(Some(sent)).filter(|_| is_unheard);
                }
            }
            // We are not heard there, though our subscription exists, and is read: elsewhere. A
            // subscription that is not read may have been cut by Redis, which does not require that
            // anything moves.
            if unheard_since.is_some_and(|since| connectivity.has_heard_since(since)) {
                self.destination.reconnect_all(generation, "what is published is not heard");
            }
            let interval = if unheard_since.is_some() { WATCH_REPEAT } else { HEARTBEAT_INTERVAL };
            let pause = interval.saturating_sub(self.destination.clock.now() - sent);
            let pause = pause.max(Duration::from_millis(1));
            match self.role {
                Role::Heartbeats(index) => {
                    let _ = timeout(pause, connectivity.heartbeat_wanted(index)).await;
                }
                Role::Node(_) | Role::Queries(_) => sleep(pause).await,
            }
        }
    }

    /// Returns how many subscribers have heard it; for a PING, which none of them hears, 1.
    async fn send_heartbeat(&self, client: &Client, sent: Millis) -> Result<u64, Error> {
        let connectivity = &self.connectivity;
        match (&self.role, connectivity.heartbeat_channel()) {
            (Role::Heartbeats(index), Some(channel)) => {
                client.publish(channel, connectivity.heartbeat(*index, sent)).await
            }
            // It proves where the connection leads, and nothing about publications.
            (Role::Queries(_), Some(channel)) if !self.is_cluster() => {
                client.publish(channel, PROBE_PAYLOAD.to_owned()).await
            }
            (Role::Node(node), _) => node.watch(connectivity, client.ping()).await.map(|()| 1),
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
