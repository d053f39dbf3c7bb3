//! The state shared by the connections of one thread's listeners: options, drain, destinations.
//!
//! Channels are admitted through a closure and messages leave through the [`Broker`] trait, so
//! that the code that answers requests knows no hub, no log and no Redis.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures_util::future::LocalBoxFuture;

use crate::{
    admission::AddressLimits,
    broker::{Announcer, Broker, Position},
    channel::ChannelName,
    clock::{Clock, Millis},
    conn::{ClientPublish, Connected, SubscribeRequest},
    drain::Control,
    http::{access, origins::Origins, routes::pace::BatchRoom, sources::Sources},
    hub::{Audience, Encoding, Key},
    metrics::ShardMetrics,
    peer::TrustedProxies,
    token::{Verifier, WaitingRoom},
};

/// The options about HTTP.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// `/echo` exists.
    pub echo: bool,
    /// permessage-deflate is agreed to.
    pub compression: bool,
    /// Clients may broadcast their own messages (`--client-publish broadcast`), each if it may
    /// publish at all.
    pub client_publish: ClientPublish,
    /// Clients of the whole process; past it handshakes are answered 503.
    pub connections_max: usize,
    /// Longest published message; past it 413.
    pub broadcast_bytes_max: usize,
    /// Between two requests of a connection; then closed.
    pub idle_timeout: Duration,
    /// `--on-broker-loss reject`: a lost broker then makes the process unready.
    pub reject_on_broker_loss: bool,
    /// All public listeners are loopback, so they carry the admin routes too.
    pub admin_on_public: bool,
    /// Trusted proxies begin each connection to a public listener with a PROXY header.
    pub proxy_protocol: bool,
    /// Proxies whose word about their client is believed.
    pub trusted_proxies: Arc<TrustedProxies>,
    /// The rules for publishing and administering.
    pub access: access::Rules,
    /// The origins whose pages may use the public routes.
    pub origins: Origins,
}

/// The state shared by the connections of one thread's listeners.
pub struct Context {
    /// The options.
    pub settings: HttpSettings,
    /// The server's clock.
    pub clock: Clock,
    /// Verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Room for requests whose tokens wait for the issuer's newer keys.
    pub token_room: WaitingRoom,
    /// The drain: phase, guards, the door to start it.
    pub control: Arc<Control>,
    /// The sources of the ops routes.
    pub ops: Sources,
    /// Tasks for all shards of the cluster go through it.
    pub announcer: Announcer,
    /// The public listener's part; `None` makes it an admin listener.
    pub public: Option<Public>,
}

/// The state that only public listeners need.
pub struct Public {
    /// Where published messages go.
    pub broker: Rc<dyn Broker>,
    /// Awaited before a 101 leaves.
    pub admit: Rc<Admit>,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Room for the messages of batches at the broker.
    pub batch_room: BatchRoom,
    /// The use that addresses make of the process.
    pub address_limits: Arc<AddressLimits>,
    /// How many clients hear a channel.
    pub audience: Arc<Audience>,
}

/// Subscribes the shard to the channels, in its hub and at the broker, so that the client misses
/// nothing published after the 101, and gets the history it asked for before that.
pub type Admit = dyn Fn(
    Vec<SubscribeRequest>,
    Encoding,
) -> LocalBoxFuture<'static, Result<Admission, NotAdmitted>>;

/// Why a client whose handshake is in order is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The shard has no room for so many: [`crate::limits::CHANNELS_PER_SHARD_MAX`], or
    /// [`crate::limits::SUBSCRIPTION_COST_BYTES`].
    TooManyChannels,
    /// As many channels are being joined as may be: [`crate::limits::JOIN_CHANNELS_PENDING_MAX`].
    Busy,
    /// The client's position is ahead of this shard: it would be sent messages again.
    Behind,
}

/// A client that is about to be let in.
pub struct Admission {
    /// Its place in the shard.
    pub ticket: Box<dyn Ticket>,
    /// The client will get everything after these; channels with an unknown position are left out.
    pub positions: Vec<(ChannelName, Position)>,
}

/// The place of an admitted client in its shard, subscribed to its channels. Given back if it is
/// dropped: the connection has died before it was handed over.
pub trait Ticket {
    /// The client takes its place; returns the key that it has there.
    fn connect(self: Box<Self>, connected: Connected, now: Millis) -> Key;
}

/// The purpose of a connection once its handshake is accepted.
pub enum Purpose {
    /// A client of the channels for which it was admitted: `/ws`, `/sse`.
    Client(Box<dyn Ticket>),
    /// A client that gets back what it sends: `/echo`.
    Echo,
}
