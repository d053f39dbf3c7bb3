//! A [`Config`] that cannot be wrong: plain values, each in range, each relation kept.
//!
//! Only `check` builds one, from what was typed.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::{
    listen::{ListenAddr, Listening, OpenToStrangers, is_loopback_only},
    secrets::{RedisUrl, Token},
    sources::SecretSources,
};
use crate::{
    admission::AddressLimitSettings,
    broker::{HistorySettings, OnLoss, RedisTls, Subscribers},
    channel::ChannelPatterns,
    conn::{ClientPublish, ClientRateSettings, ResumeMiss},
    drain,
    health_client::Target,
    http::origins::Origins,
    hub::SlowPolicy,
    peer::TrustedProxies,
    telemetry,
    tls::CertificateStore,
    token::{CheckToken, CreateToken, TokenSettings},
    upgrade_client::AskUpgrade,
};

/// The command to be run.
#[derive(Debug)]
pub enum Invocation {
    /// Serve until drained.
    Serve(Box<Config>),
    /// Ask a server's `/livez` and exit 0 or 1.
    Health(HealthQuery),
    /// Have a server replaced.
    Upgrade(AskUpgrade),
    /// Look at a token and exit 0 or 1.
    CheckToken(CheckToken),
    /// Print a token.
    CreateToken(CreateToken),
}

/// The targets of `wsbcast health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthQuery {
    /// Listeners to connect to, in this order until one answers.
    pub targets: Vec<Target>,
    /// The request's `Host`.
    pub host: String,
    /// The request's path and query.
    pub path: String,
}

/// All settings of a server. Built by [`super::parse`] alone, so each value is in range and each
/// relation between values holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Public listeners; at least one of these, of those by TLS, or of the Unix sockets.
    pub listen: Vec<ListenAddr>,
    /// Public listeners by TLS; with certificates.
    pub tls_listen: Vec<SocketAddr>,
    /// The certificates of these.
    pub certificates: Option<Arc<CertificateStore>>,
    /// Unix sockets that are public listeners, too.
    pub listen_unix: Vec<PathBuf>,
    /// The admin routes' own listener, on the control thread.
    pub admin_listen: Option<SocketAddr>,
    /// Shards, at least one.
    pub threads: usize,
    /// Redis.
    pub redis: RedisConfig,
    /// The treatment of publications while Redis is out of reach.
    pub on_broker_loss: OnLoss,
    /// The periodic notice.
    pub notify: Notify,
    /// Least pause between two passes over the clients; zero: none.
    pub coalesce: Duration,
    /// Text sent first to each new client.
    pub greeting: Option<String>,
    /// The treatment of clients' own messages.
    pub client_publish: ClientPublish,
    /// The history that is kept for clients that come back.
    pub history: HistorySettings,
    /// The treatment of a client without subprotocol that asks for more than is kept.
    pub resume_miss: ResumeMiss,
    /// Whether `/echo` exists.
    pub echo: bool,
    /// permessage-deflate.
    pub compression: Compression,
    /// Trusted proxies begin each connection to a public listener with a PROXY header.
    pub proxy_protocol: bool,
    /// Proxies whose word about their client is believed.
    pub trusted_proxies: Arc<TrustedProxies>,
    /// A request with one of these tokens may publish and administer; empty: no token is needed,
    /// and the loopback rules decide.
    pub api_tokens: Vec<Token>,
    /// The keys and rules for the tokens of clients and publishers.
    pub tokens: TokenSettings,
    /// Where API tokens and keys came from, to be read again.
    pub secret_sources: SecretSources,
    /// Publishing needs no token.
    pub insecure_api: bool,
    /// The channels that may be listened to without a token.
    pub public_channels: ChannelPatterns,
    /// Whether `?token=` counts.
    pub query_tokens: bool,
    /// The cookie that a token may come in.
    pub token_cookie: Option<String>,
    /// The origins whose pages may use the public routes.
    pub allowed_origins: Origins,
    /// Clients of the process; `None`: what the descriptor limit allows.
    pub max_connections: Option<usize>,
    /// How much one client may say.
    pub client_rates: ClientRateSettings,
    /// The limits of one address.
    pub address_limits: AddressLimitSettings,
    /// An HTTP connection without a request for this long is closed.
    pub idle_timeout: Duration,
    /// Longest message of a client, all fragments.
    pub max_message_bytes: usize,
    /// Longest published message.
    pub max_broadcast_bytes: usize,
    /// Bytes of one log; at least twice the largest message.
    pub backlog_bytes: usize,
    /// Bytes of all logs, carries and unfinished messages; at least `backlog_bytes`.
    pub backlog_total_bytes: usize,
    /// The treatment of a client that falls further behind than its log reaches.
    pub slow_consumer: SlowPolicy,
    /// Server pings.
    pub ping: Ping,
    /// The drain's times.
    pub drain: drain::DrainSettings,
    /// Where a new process takes over from this one.
    pub control_socket: Option<PathBuf>,
    /// The control socket of the process that this one takes over from.
    pub take_over: Option<PathBuf>,
    /// Logs.
    pub log: telemetry::LogSettings,
    /// Accepted values that should not stay so; without secrets.
    pub warnings: Vec<String>,
}

/// The use of Redis.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Its URL; `None`: embedded broker.
    pub url: Option<RedisUrl>,
    /// Files for TLS.
    pub tls: RedisTls,
    /// Publishing clients per shard.
    pub pool: usize,
    /// The subscribers: shards, or one for the process.
    pub subscribers: Subscribers,
    /// The prefix of keys and channels; without braces.
    pub prefix: String,
    /// The channel on which any program publishes to the default channel's clients.
    pub raw_channel: Option<String>,
}

/// The periodic notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Length of a slot; `None`: off.
    pub interval: Option<Duration>,
    /// The beginning of the payload.
    pub text: String,
}

/// permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Whether it is agreed to with clients that offer it.
    pub on: bool,
    /// Shorter messages are sent uncompressed.
    pub threshold_bytes: usize,
}

/// Server pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Without a byte from the client for this long it is pinged; not zero.
    pub interval: Duration,
    /// Without a byte for this long after a ping it is closed; not zero.
    pub timeout: Duration,
}

impl Config {
    /// Whether every public listener is on loopback, so that only this machine can connect.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        is_loopback_only(&self.listen, &self.tls_listen)
    }

    /// The listeners that were named.
    #[must_use]
    pub fn listening(&self) -> Listening {
        Listening {
            listen: self.listen.clone(),
            tls_listen: self.tls_listen.clone(),
            listen_unix: self.listen_unix.clone(),
            admin_listen: self.admin_listen,
        }
    }

    /// The settings of a server that has these listeners in place of those that were named.
    ///
    /// # Errors
    /// When everybody who can reach them could publish, and the options do not allow that.
    pub fn listening_on(mut self, listeners: Listening) -> Result<Self, OpenToStrangers> {
        let Listening { listen, tls_listen, listen_unix, admin_listen } = listeners;
        (self.listen, self.tls_listen) = (listen, tls_listen);
        (self.listen_unix, self.admin_listen) = (listen_unix, admin_listen);
        let lets_clients_publish = self.client_publish == ClientPublish::Broadcast;
        let is_allowed = self.insecure_api || !self.api_tokens.is_empty() || self.tokens.has_keys();
        if lets_clients_publish && !is_allowed && !self.is_loopback_only() {
            return Err(OpenToStrangers);
        }
        Ok(self)
    }
}
