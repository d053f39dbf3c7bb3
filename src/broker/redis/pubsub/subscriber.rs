//! A shard's subscriber: what Redis publishes becomes deliveries into the shard's sink.
//!
//! One task, one connection at a time: to the first command connection's server, or to one that a
//! cluster's channels live on (its special rules are in `on_node`). It reads only while the sink
//! has room, so that a slow shard holds Redis back instead of losing messages here; it never
//! delivers a message twice and never passes over a hole without telling the sink.

mod announcements;
mod arriving;
mod holding;
mod on_node;
mod requests;
mod session;

use std::{cell::RefCell, pin::pin, rc::Rc, sync::Arc};

use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::sync::{Notify, oneshot};

use self::session::{Session, Unanswered, into_bytes};
use super::{
    cluster_node::ClusterNode,
    delivery::Delivery,
    held::Held,
    shared::SharedSubscriber,
    subscriptions::{Confirmation, Subscriptions},
    topic::Topic,
};
use crate::{
    broker::{
        Reach, Sink,
        redis::{
            commands::{connectivity::Component, router::CommandRouter},
            net::{
                connection::{self, ConnectionError},
                connection_error::told,
            },
            protocol::{refusal, replies::StreamPosition},
            raw::bridge::Bridge,
            recovery::recoverer::Recoverer,
        },
    },
    channel::ChannelName,
    limits::{
        HEARTBEAT_INTERVAL, HEARTBEAT_SILENCE_MAX, REDIS_RECONNECT_DELAY, REDIS_SILENCE_MAX,
        SUBSCRIBE_RETRY, SUBSCRIBES_IN_FLIGHT_MAX,
    },
};

/// The state shared by a shard's handle and its subscriber task.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) delivery: Delivery,
    router: Rc<CommandRouter>,
    /// The first shard's: it does so for the process.
    pub(super) bridge: Option<Rc<Bridge>>,
    subscriptions: Rc<RefCell<Subscriptions>>,
    changed: Notify,
    /// Announcements arrive from now on.
    announcements_heard: Notify,
    pub(super) component: Component,
    /// The one server that it is on; None: wherever the first command connection is.
    node: Option<ClusterNode>,
    /// Messages that wait while the process is handed over.
    held: RefCell<Held>,
    /// Callers that want all to have arrived that was published before they asked; and then nothing
    /// more.
    halts: RefCell<Vec<oneshot::Sender<()>>>,
    /// All is subscribed, or what was held has got somewhere.
    progressed: Notify,
}

impl Subscriber {
    /// `shard`'s, which delivers into `sink`; the first one of it may do so for others, too.
    pub(crate) fn new(
        recoverer: Rc<Recoverer>,
        shard: usize,
        sink: Arc<dyn Sink>,
        shared: Option<Arc<SharedSubscriber>>,
    ) -> Self {
        let settings = recoverer.router.settings.clone();
        let mut subscriptions = Subscriptions::default();
        subscriptions.want(settings.names.heartbeat(shard), Topic::Heartbeat);
        subscriptions.want(settings.names.announcements(), Topic::Announcements);
        let raw_channel = settings.raw_channel.as_ref().filter(|_| shard == 0);
        let bridge = raw_channel.map(|raw| {
            let bridge = Bridge::new(recoverer.router.clone(), raw);
            subscriptions.want(bridge.marks().to_owned(), Topic::Marks);
            subscriptions.want(raw.clone(), Topic::Raw);
            Rc::new(bridge)
        });
        let mut own = Self::with(recoverer, sink, subscriptions, Component::FIRST);
        own.delivery.shared = shared;
        Self { bridge, ..own }
    }

    /// A subscriber on one server of a cluster, for the channels that live there.
    pub(super) fn on_node(
        recoverer: Rc<Recoverer>,
        sink: Arc<dyn Sink>,
        component: Component,
        node: ClusterNode,
    ) -> Self {
        let own = Self::with(recoverer, sink, Subscriptions::awaited(), component);
        Self { node: Some(node), ..own }
    }

    fn with(
        recoverer: Rc<Recoverer>,
        sink: Arc<dyn Sink>,
        subscriptions: Subscriptions,
        component: Component,
    ) -> Self {
        let subscriptions = Rc::new(RefCell::new(subscriptions));
        Self {
            router: recoverer.router.clone(),
            delivery: Delivery::new(recoverer, sink, subscriptions.clone()),
            bridge: None,
            subscriptions,
            changed: Notify::new(),
            announcements_heard: Notify::new(),
            component,
            node: None,
            held: RefCell::default(),
            halts: RefCell::default(),
            progressed: Notify::new(),
        }
    }

    /// Wants `channel`; resolves as [`Subscriptions::want`] says.
    pub(crate) fn want(&self, channel: ChannelName) -> Option<oneshot::Receiver<()>> {
        let name = self.router.settings.names.channel(&channel);
        if !self.subscriptions.borrow().is_wanted(&name) {
            self.delivery.recoverer.queries.heard(&channel);
        }
        let waiter = self.subscriptions.borrow_mut().want(name, Topic::Channel(channel));
        self.changed.notify_one();
        waiter
    }

    pub(crate) fn unwant(&self, channel: &ChannelName) {
        let name = self.router.settings.names.channel(channel);
        if self.subscriptions.borrow().is_wanted(&name) {
            self.delivery.recoverer.queries.unheard(channel);
        }
        self.subscriptions.borrow_mut().unwant(&name);
        self.changed.notify_one();
    }

    /// The confirmation since which all that is published to `channel` arrives.
    pub(crate) fn confirmed_on(&self, channel: &ChannelName) -> Option<Confirmation> {
        let name = self.router.settings.names.channel(channel);
        let confirmation = self.subscriptions.borrow().confirmed_by(&name)?;
        Some(Confirmation { component: self.component, confirmation })
    }

    /// Sets the position of `channel`: messages missing since then will show. False: ask again; see
    /// [`Subscriptions::set_baseline`].
    pub(crate) fn set_baseline(
        &self,
        channel: &ChannelName,
        at: &StreamPosition,
        before: Option<Confirmation>,
    ) -> bool {
        let name = self.router.settings.names.channel(channel);
        let before = before.filter(|it| it.component == self.component).map(|it| it.confirmation);
        let StreamPosition { position, nonce, .. } = at;
        let now = self.router.clock.now();
        let is_certain =
            self.subscriptions.borrow_mut().set_baseline(&name, position, *nonce, before, now);
        self.changed.notify_one();
        is_certain
    }

    /// Keeps a connection; never returns.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let server = self.server().await;
            let error = match self.session(&server).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            let is_left = matches!(error, ConnectionError::Left);
            if !is_left {
                self.router.health.out_of_reach(&told(&server, &error));
            }
            self.subscriptions.borrow_mut().disconnected();
            self.take_halts();
            self.router.connectivity.unsubscribed(self.component);
            self.lost();
            if let Some(shared_subscriber) = &self.delivery.shared {
                shared_subscriber.disconnected();
            }
            if let Some(bridge) = &self.bridge {
                bridge.disconnected();
            }
            if !is_left {
                let jitter = fastrand::u32(0..=50);
                tokio::time::sleep(REDIS_RECONNECT_DELAY * (100 + jitter) / 100).await;
            }
        }
    }

    async fn session(&self, server: &Server) -> Result<std::convert::Infallible, ConnectionError> {
        let destination = &self.router.destination;
        let generation = destination.generations.current();
        let (connection, node) = destination.connect(server).await?;
        let mut session = Session::new(server.clone(), connection, self.router.clock.now());
        self.subscriptions.borrow_mut().connected();
        let mut left = pin!(destination.primary.replaced(server));
        let mut moved = pin!(destination.node_ids.left(server, node.as_ref()));
        let mut over = pin!(destination.generations.ended(generation));
        loop {
            self.let_through().await?;
            self.tell(&mut session).await?;
            let idle = tokio::time::sleep(HEARTBEAT_INTERVAL);
            tokio::select! {
                read = session.connection.read() => {
                    read?;
                    while let Some(frame) = session.connection.next_frame()? {
                        self.take(frame, &mut session).await?;
                    }
                    // However long that took.
                    session.heard = self.router.clock.now();
                    if self.node.is_none() {
                        self.router.connectivity.heard();
                    }
                }
                () = self.changed.notified() => {}
                () = self.asked() => {}
                () = &mut left => return Err(ConnectionError::Left),
                () = &mut moved => return Err(ConnectionError::Left),
                () = &mut over, if self.node.is_none() => return Err(ConnectionError::Left),
                () = idle => {}
            }
            self.look_after(&mut session)?;
        }
    }

    async fn server(&self) -> Server {
        if let Some(node) = &self.node {
            return node.server();
        }
        let connection = &self.router.connections[0];
        let primary = &self.router.destination.primary;
        loop {
            match connection.server() {
                Some(server) if !primary.is_replaced(&server) => return server,
                _ => connection.changed.notified().await,
            }
        }
    }

    /// Writes the commands due to Redis, and notices when all have been sent and answered.
    async fn tell(&self, session: &mut Session) -> Result<(), ConnectionError> {
        self.take_requests();
        while session.unanswered.len() < SUBSCRIBES_IN_FLIGHT_MAX {
            let Some(command) = self.subscriptions.borrow_mut().next_command() else { break };
            let is_sharded = self.node.as_ref().is_some_and(ClusterNode::is_sharded);
            session.connection.command(&command.words(is_sharded));
            session.unanswered.push_back(Unanswered::Command(command));
        }
        self.ask_for_halt(session);
        session.connection.flush().await?;
        let is_told = self.subscriptions.borrow().is_told();
        if is_told && session.unanswered.is_empty() {
            if !self.held.borrow().is_closed() {
                self.delivery.check().await?;
            }
            if self.router.connectivity.is_awaited(self.component) {
                // Once the process is ready, raw messages have a bridge.
                if let Some(bridge) = &self.bridge {
                    bridge.ask_for_lease(self.hears_raw()).await;
                }
            }
            self.router.connectivity.subscribed(self.component);
            self.note_progress();
        }
        Ok(())
    }

    /// Gives a silent connection up, asks a quiet one for a sign of life.
    fn look_after(&self, session: &mut Session) -> Result<(), ConnectionError> {
        let now = self.router.clock.now();
        let silence = now - session.heard;
        if silence > REDIS_SILENCE_MAX {
            return Err(ConnectionError::Silent);
        }
        if silence > HEARTBEAT_SILENCE_MAX && self.node.is_some() {
            // No heartbeats of ours go through it. Once it answers, all is as it was.
            self.router.connectivity.unsubscribed(self.component);
        }
        if silence >= HEARTBEAT_INTERVAL && session.unanswered.is_empty() {
            session.connection.command(&["PING"]);
            session.unanswered.push_back(Unanswered::Ping);
        }
        if now - session.retried >= SUBSCRIBE_RETRY {
            session.retried = now;
            let mut subscriptions = self.subscriptions.borrow_mut();
            subscriptions.retry_refused();
            if self.router.health.reach() == Reach::Up {
                subscriptions.check_unplaced();
            }
        }
        Ok(())
    }

    async fn take(&self, frame: BytesFrame, session: &mut Session) -> Result<(), ConnectionError> {
        let BytesFrame::Push { data, .. } = frame else {
            return self.answered(session, connection::refusal(&frame));
        };
        let mut parts = data.into_iter().map(into_bytes);
        let (Some(Some(kind)), Some(Some(name))) = (parts.next(), parts.next()) else {
            return Ok(());
        };
        match &*kind {
            b"message" | b"smessage" => {
                if let Some(Some(payload)) = parts.next() {
                    self.message(&name, payload).await?;
                }
                Ok(())
            }
            b"sunsubscribe" if !session.is_awaited(&name) => {
                self.ended(&name);
                Ok(())
            }
            b"subscribe" | b"unsubscribe" | b"ssubscribe" | b"sunsubscribe" => {
                self.answered(session, None)
            }
            _ => Ok(()),
        }
    }

    fn answered(
        &self,
        session: &mut Session,
        refusal: Option<String>,
    ) -> Result<(), ConnectionError> {
        let Some(first) = session.unanswered.pop_front() else {
            return Err(ConnectionError::Protocol("an answer to nothing".to_owned()));
        };
        let command = match first {
            Unanswered::Command(command) => command,
            Unanswered::Ping => return Ok(()),
            Unanswered::Halt(callers) => {
                self.halted(callers);
                return Ok(());
            }
        };
        if let Some(error) = &refusal {
            if self.redirect(&command, error) {
                return Ok(());
            }
            let health = &self.router.health;
            health.refusals.count(refusal::reason(error));
            let reason = format!("Redis refuses a subscription, {command:?}: {error}");
            health.outage_log.refused(&told(&session.server, &reason), self.router.clock.now());
        }
        self.look_at_hearers(&command);
        let is_news = self.subscriptions.borrow_mut().answered(&command, refusal.is_some());
        self.judge(&command, refusal.as_deref(), is_news);
        self.tell_hearers(&command, refusal.is_some());
        self.note_announcements(&command);
        Ok(())
    }
}
