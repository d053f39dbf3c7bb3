//! One publishing client of a handle's pool.
//!
//! A lane has at most one client at a time and never repairs it: when the connection ends,
//! falls silent, is to another server than the sentinels' master, or is of an era that is over
//! (`whereabouts`), the client is thrown away and a new one takes its place. So a command is either
//! written once on the connection that was there when it was issued, or surely not at all, and no
//! state of a broken client outlives it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use fred::{
    error::{Error, ErrorKind},
    prelude::Server,
    types::{Value, config::ServerConfig},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    answers::{is_demoted, is_redirection, is_refusal},
    client::{self, Client, ConnectionTask},
    connection_error::{ConnectionError, told},
    link::{Link, Part},
    refusal,
    script::Script,
    turnstile::Ticket,
    whereabouts::Era,
};
use crate::{
    broker::Shared,
    clock::{self, Millis},
    limits::{HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_RECONNECT_DELAY, WATCH_REPEAT},
};

/// Why a command brought no answer that counts.
#[derive(Debug)]
pub(super) enum CallError {
    /// It was not written to Redis.
    NotSent,
    /// Redis refused it: it had no effect.
    Refused(Error),
    /// Redis does not know the script: it had no effect.
    NoScript,
    /// The keys are on another server of the cluster, or on their way: it had no effect.
    Elsewhere(Error),
    /// It was written, and what became of it is unknown.
    InDoubt(Error),
}

/// A publishing client, or the wait for one.
#[derive(Debug)]
pub(super) struct Lane {
    index: usize,
    current: RefCell<Option<Current>>,
    /// The one master that it leads to; None: wherever the URL does, or, in a cluster, to any
    /// master that is there.
    node: Option<Node>,
    pub(super) changed: Notify,
    pub(super) beat_now: Notify,
    shared: Arc<Shared>,
}

/// A master of a cluster, as a lane sees it.
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

impl Lane {
    pub(super) fn new(index: usize, shared: Arc<Shared>) -> Self {
        Self {
            index,
            current: RefCell::new(None),
            node: None,
            changed: Notify::new(),
            beat_now: Notify::new(),
            shared,
        }
    }

    /// A lane to one master of a cluster, which is this `part` of the handle's way.
    pub(super) fn to_node(server: Server, part: Part, shared: Arc<Shared>) -> Self {
        let alive_since = Cell::new(clock::now());
        let node = Node { server, part, is_silent: Cell::new(false), alive_since };
        Self { node: Some(node), ..Self::new(0, shared) }
    }

    /// Since when it leads to a master that answers; None if it does not, or to no certain one.
    pub(super) fn alive_since(&self) -> Option<Millis> {
        let node = self.node.as_ref().filter(|node| self.is_open() && !node.is_silent.get())?;
        Some(node.alive_since.get())
    }

    /// Whether it leads to a master that answers.
    pub(super) fn is_there(&self) -> bool {
        self.alive_since().is_some()
    }

    /// Whether commands would be sent.
    pub(super) fn is_open(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// The server that commands go to: a subscriber belongs on the same one.
    pub(super) fn server(&self) -> Option<Server> {
        if let Some(node) = &self.node {
            return Some(node.server.clone());
        }
        self.current.borrow().as_ref().map(|current| current.server.clone())
    }

    /// Keeps a client connected; never returns.
    pub(super) async fn run(self: Rc<Self>, link: Rc<Link>) {
        let whereabouts = &link.process().whereabouts;
        loop {
            let server = self.destination(&link).await;
            let era = whereabouts.era();
            let is_left = match client::open(link.process(), &server).await {
                Ok((client, task)) => {
                    let current = Current { client: client.clone(), server: server.clone(), era };
                    *self.current.borrow_mut() = Some(current);
                    if let Some(node) = &self.node {
                        node.is_there(&link);
                    }
                    self.changed.notify_waiters();
                    self.keep(&link, client, &server, era, task).await;
                    *self.current.borrow_mut() = None;
                    link.process().lead.is_elsewhere(&server) || whereabouts.is_over(era)
                }
                Err(ConnectionError::Left) => true,
                Err(error) => {
                    link.shared.health_ref().out_of_reach(&told(&server, &error));
                    false
                }
            };
            match (&self.node, &link.routes) {
                (Some(node), Some(routes)) => {
                    link.unsubscribed(node.part);
                    routes.news.stir();
                }
                _ => link.lane_closed(self.index),
            }
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
        match (&self.node, &link.routes) {
            (Some(node), _) => node.server.clone(),
            (None, Some(routes)) => routes.living().await,
            (None, None) => match &link.process().config.server {
                ServerConfig::Centralized { server } => server.clone(),
                _ => link.process().lead.known().await,
            },
        }
    }

    /// Returns when the connection has ended or is not worth keeping.
    async fn keep(
        &self,
        link: &Link,
        client: Client,
        server: &Server,
        era: Era,
        mut task: ConnectionTask,
    ) {
        tokio::select! {
            _ = &mut task.0 => {}
            () = self.beat(link, &client, server, era) => {}
            () = link.process().lead.left(server) => {}
            // A master of a cluster is where the slot map says.
            () = link.process().whereabouts.over(era), if self.node.is_none() => {}
        }
    }

    /// Sends heartbeats, at most one on its way: a paused Redis is not filled with them. Returns
    /// when one was not answered for so long that the connection counts as dead.
    async fn beat(&self, link: &Link, client: &Client, server: &Server, era: Era) {
        let mut unheard_since = None;
        loop {
            let sent = clock::now();
            let was_heard = link.is_heard();
            let answer = match (&self.node, link.beat_channel()) {
                (None, Some(channel)) => {
                    let payload = link.beat(self.index, sent);
                    client.publish(channel, payload).await
                }
                (None, None) => client.ping().await.map(|()| 1),
                (Some(node), _) => node.watch(link, client.ping()).await.map(|()| 1),
            };
            match answer {
                Err(error) if is_refusal(&error) => {
                    link.shared.health_ref().refusing.count(refusal::reason(error.details()));
                    let reason = format!("Redis refuses our heartbeat: {}", error.details());
                    link.shared.health_ref().out_of_reach(&told(server, &reason));
                }
                Err(_) => return,
                Ok(hearers) => {
                    link.beat_answered(self.index, sent);
                    let is_unheard = hearers == 0 && was_heard && link.is_heard();
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

    /// Runs `script`, in the order of the tickets.
    pub(super) async fn call(
        &self,
        ticket: Ticket<'_>,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        ticket.first_turn().await;
        match self.first_call(&ticket, script, &keys, &args).await {
            Err(CallError::NoScript) => {}
            answer => return answer,
        }
        ticket.second_turn().await;
        let (client, era) = self.client().ok_or(CallError::NotSent)?;
        let second = client.eval(script.source.clone(), keys, args);
        let answer = hand_over(second, || drop(ticket)).await;
        answer.map_err(|error| self.judge(error, era))
    }

    /// Runs `script` if Redis knows it, and tells the ticket when it is handed over.
    pub(super) async fn first_call(
        &self,
        ticket: &Ticket<'_>,
        script: &Script,
        keys: &[String],
        args: &[Value],
    ) -> Result<Value, CallError> {
        let (client, era) = self.client().ok_or(CallError::NotSent)?;
        let first = client.evalsha(script.sha1.clone(), keys.to_vec(), args.to_vec());
        let answer = hand_over(first, || ticket.handed_over()).await;
        answer.map_err(|error| self.judge(error, era))
    }

    /// Runs `script`, whether Redis knows it or not.
    pub(super) async fn eval(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        let (client, era) = self.client().ok_or(CallError::NotSent)?;
        let answer = client.eval(script.source.clone(), keys, args).await;
        answer.map_err(|error| self.judge(error, era))
    }

    fn client(&self) -> Option<(Client, Era)> {
        let current = self.current.borrow();
        let current = current.as_ref()?;
        Some((current.client.clone(), current.era))
    }

    /// Runs `script`, whose order among the others does not matter.
    pub(super) async fn ask(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, CallError> {
        let (client, era) = self.client().ok_or(CallError::NotSent)?;
        let first = client.evalsha(script.sha1.clone(), keys.clone(), args.clone()).await;
        match first.map_err(|error| self.judge(error, era)) {
            Err(CallError::NoScript) => self.eval(script, keys, args).await,
            answer => answer,
        }
    }

    /// Waits until commands would be sent.
    pub(super) async fn opened(&self) {
        while !self.is_open() {
            self.changed.notified().await;
        }
    }

    /// What `error` means that a client of `era` brought.
    fn judge(&self, error: Error, era: Era) -> CallError {
        if matches!(error.kind(), ErrorKind::Canceled) {
            // It was never written: no connection, or gone meanwhile.
            return CallError::NotSent;
        }
        if error.details().starts_with("NOSCRIPT") {
            return CallError::NoScript;
        }
        if is_redirection(&error) {
            return CallError::Elsewhere(error);
        }
        if is_refusal(&error) {
            if is_demoted(&error) && self.node.is_none() {
                self.shared.redis().whereabouts.doubt(era);
            }
            return CallError::Refused(error);
        }
        CallError::InDoubt(error)
    }
}

/// Awaits a command, and tells when it was handed to the client: by its first poll.
async fn hand_over(
    command: impl Future<Output = Result<Value, Error>>,
    handed_over: impl FnOnce(),
) -> Result<Value, Error> {
    let mut command = pin!(command);
    let early = poll_fn(|context| Poll::Ready(command.as_mut().poll(context))).await;
    handed_over();
    match early {
        Poll::Ready(answer) => answer,
        Poll::Pending => command.await,
    }
}
