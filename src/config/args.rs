//! The command line as typed: every option as text, grouped as `--help` shows them.
//!
//! Names, defaults and help are defined here and nowhere else; a default is text like any typed
//! value and goes through the same checks. Nothing is checked here, so that one pass can gather all
//! bad values. The doc comments of the fields are the help.

mod shutdown;
mod tls;

use clap::{Args, Parser};

pub(super) use self::{
    shutdown::{AskUpgradeOptions, ShutdownOptions, UpgradeOptions},
    tls::TlsOptions,
};
use super::VERSION;

const AFTER_HELP: &str = "Every option is also an environment variable: --drain-timeout is \
WSBCAST_DRAIN_TIMEOUT; repeatable ones take commas (not --api-token and --jwt-secret), switches \
take true or false, and what is typed wins. Durations read 500ms, 10s, 30m or 1m30s; sizes 65536, \
64KiB or 8MiB.\n\n\
Exit codes: 0 drained or replaced, 1 could not start or failed, 2 bad options, 3 a client was cut \
off, 4 nobody is there (wsbcast upgrade).";

/// WebSocket broadcast server: what you curl or publish to Redis reaches every client.
#[derive(Debug, Parser)]
#[command(name = "wsbcast", version = VERSION, after_help = AFTER_HELP, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Subcommand>,
    #[command(flatten)]
    pub(super) listening: ListenOptions,
    #[command(flatten)]
    pub(super) tls: TlsOptions,
    #[command(flatten)]
    pub(super) proxies: ProxyOptions,
    #[command(flatten)]
    pub(super) redis: RedisOptions,
    #[command(flatten)]
    pub(super) messages: MessageOptions,
    #[command(flatten)]
    pub(super) history: HistoryOptions,
    #[command(flatten)]
    pub(super) clients: ClientOptions,
    #[command(flatten)]
    pub(super) rights: RightsOptions,
    #[command(flatten)]
    pub(super) tokens: TokenOptions,
    #[command(flatten)]
    pub(super) origins: OriginOptions,
    #[command(flatten)]
    pub(super) credentials: CredentialOptions,
    #[command(flatten)]
    pub(super) limits: LimitOptions,
    #[command(flatten)]
    pub(super) shutdown: ShutdownOptions,
    #[command(flatten)]
    pub(super) upgrade: UpgradeOptions,
    #[command(flatten)]
    pub(super) logs: LogOptions,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Ask a server's /livez; exit 0 if it answers 200, else 1
    Health(HealthOptions),
    /// Have a server replaced by its program as installed now; exit 0 done, 1 not, 4 nobody there
    Upgrade(AskUpgradeOptions),
    /// Look at a token as the server does, or make one to try with
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    /// Show the claims of a token and what these options make of it; exit 0 if it is good, else 1
    Check(CheckOptions),
    /// Print a token (HS256), signed with the first HMAC secret of the options
    Create(CreateOptions),
}

/// The token that is looked at.
#[derive(Args, Debug)]
pub(super) struct CheckOptions {
    /// The token; -: standard input, so that it does not stand in the list of processes
    pub(super) token: String,
    #[command(flatten)]
    pub(super) tokens: TokenOptions,
}

/// The claims of the token that is made.
#[derive(Args, Debug)]
pub(super) struct CreateOptions {
    /// The claim sub: whose token it is [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(super) sub: Option<String>,
    /// May listen to these channels: a name, or a prefix and *; repeatable [default: none]
    #[arg(long, value_name = "PATTERN")]
    pub(super) subscribe: Vec<String>,
    /// May publish to these channels; repeatable [default: none]
    #[arg(long, value_name = "PATTERN")]
    pub(super) publish: Vec<String>,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "1h", allow_negative_numbers = true)]
    pub(super) expires_in: String,
    #[command(flatten)]
    pub(super) tokens: TokenOptions,
}

/// The address of the server that is asked.
#[derive(Args, Debug)]
pub(super) struct HealthOptions {
    /// http://HOST:PORT[/PATH] [default: the listeners below, /livez]
    pub(super) url: Option<String>,
    /// As the server has it, from WSBCAST_LISTEN too
    /// [default: 127.0.0.1:8000 and [::1]:8000]
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) listen: Vec<String>,
    /// As the server has it, from WSBCAST_TLS_LISTEN too; asked where no other one is named
    /// [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) tls_listen: Vec<String>,
    /// As the server has it, from WSBCAST_ADMIN_LISTEN too; it is asked first [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) admin_listen: Option<String>,
    /// As the server has them, from their variables too: then it is asked as it expects it.
    #[command(flatten)]
    pub(super) proxies: ProxyOptions,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Listening")]
pub(super) struct ListenOptions {
    /// Public listener; repeatable; port 0 picks one; a Unix socket has mode 0660
    /// [default: 127.0.0.1:8000 and [::1]:8000, none beside --tls-listen]
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub(super) listen: Vec<String>,
    /// Public listener over TLS (https, wss); repeatable; needs --tls-cert and --tls-key
    /// [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) tls_listen: Vec<String>,
    /// Separate listener for metrics, stats, health and drain, for scrapers and probes
    /// [default: none]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) admin_listen: Option<String>,
    /// Shards, one thread each [default: cores available to the process]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) threads: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Proxies")]
pub(super) struct ProxyOptions {
    /// Proxies whose X-Forwarded-For or Forwarded names the client: networks, addresses, or unix;
    /// repeatable; their connections are never local [default: none]
    #[arg(long, value_name = "CIDR|unix")]
    pub(super) trusted_proxies: Vec<String>,
    /// Trusted proxies then begin each connection with a PROXY header, version 2 or 1, on the
    /// public listeners
    #[arg(long, value_name = "off|on", default_value = "off")]
    pub(super) proxy_protocol: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Redis")]
pub(super) struct RedisOptions {
    /// Join the cluster on this Redis: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE],
    /// redis-cluster://, redis-sentinel://; over TLS rediss://, rediss-cluster://,
    /// rediss-sentinel://; REDIS_URL is read too [default: none, this process alone]
    #[arg(long, value_name = "URL")]
    pub(super) redis_url: Option<String>,
    /// The URL from a file: what is typed stands in the list of processes, password and all
    /// [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) redis_url_file: Option<String>,
    /// Authorities to trust in place of the system's, PEM, for a Redis over TLS [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) redis_tls_ca: Option<String>,
    /// Certificate to show to Redis and its sentinels, PEM [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) redis_tls_cert: Option<String>,
    /// Its private key, PEM [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) redis_tls_key: Option<String>,
    /// Publishing connections per shard; one more asks what clients that connect need to know
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true)]
    pub(super) redis_pool: String,
    /// Subscribers in Redis: each shard, or one for the process, where Redis sends too much
    #[arg(long, value_name = "per-shard|per-process", default_value = "per-shard")]
    pub(super) redis_subscribers: String,
    /// Prefix of keys and channels in Redis; no braces
    #[arg(long, value_name = "TEXT", default_value = "wsbcast")]
    pub(super) redis_prefix: String,
    /// Messages that any program publishes on this Redis channel go to the default channel's
    /// clients; empty = off
    #[arg(long, value_name = "NAME", default_value = "notifications")]
    pub(super) redis_raw_channel: String,
    /// Redis out of reach: deliver to this process's clients and say so, or answer 503
    #[arg(long, value_name = "local|reject", default_value = "local")]
    pub(super) on_broker_loss: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Messages")]
pub(super) struct MessageOptions {
    /// Periodic notification on the default channel, one per interval for the cluster; 0 = off
    #[arg(long, value_name = "DURATION", default_value = "10s", allow_negative_numbers = true)]
    pub(super) notify_interval: String,
    /// Beginning of the periodic notification; the time follows
    #[arg(long, value_name = "TEXT", default_value = "Periodic Test Notification")]
    pub(super) notify_text: String,
    /// Least pause between two passes over the clients: what is published meanwhile goes out
    /// together, for less CPU and up to so much more latency; 0 = off
    #[arg(long, value_name = "DURATION", default_value = "0", allow_negative_numbers = true)]
    pub(super) coalesce: String,
    /// Text sent first to each new client [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(super) greeting: Option<String>,
    /// A client's own message: counted and dropped, or broadcast to its first channel
    #[arg(long, value_name = "off|broadcast", default_value = "off")]
    pub(super) client_publish: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "History")]
pub(super) struct HistoryOptions {
    /// Messages kept of each channel for clients that come back; 0 = no history
    #[arg(long, value_name = "N", default_value = "1000", allow_negative_numbers = true)]
    pub(super) history_size: String,
    /// Bytes kept of each channel in this process; 0 = no history
    #[arg(long, value_name = "SIZE", default_value = "8MiB", allow_negative_numbers = true)]
    pub(super) history_bytes: String,
    /// All channels of this process together; past it the largest gives first
    #[arg(long, value_name = "SIZE", default_value = "256MiB", allow_negative_numbers = true)]
    pub(super) history_total: String,
    /// A channel's history is kept this long after its last message; 0 = no history
    #[arg(long, value_name = "DURATION", default_value = "5m", allow_negative_numbers = true)]
    pub(super) history_ttl: String,
    /// A client without subprotocol whose history is gone: close with 1013, or let it go on
    #[arg(long, value_name = "close|continue", default_value = "close")]
    pub(super) resume_miss: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Clients")]
pub(super) struct ClientOptions {
    /// Add /echo, a WebSocket echo endpoint, for connectivity checks [default: off]
    #[arg(long)]
    pub(super) echo: bool,
    /// permessage-deflate for clients that offer it; each message is compressed once for all
    #[arg(long, value_name = "off|on", default_value = "off")]
    pub(super) compression: String,
    /// Shorter messages are sent uncompressed also to these clients
    #[arg(long, value_name = "SIZE", default_value = "256", allow_negative_numbers = true)]
    pub(super) compression_threshold: String,
    /// Without a byte from the client for this long it is pinged
    #[arg(long, value_name = "DURATION", default_value = "25s", allow_negative_numbers = true)]
    pub(super) ping_interval: String,
    /// Without a byte for this long after a ping it is closed with 4408
    #[arg(long, value_name = "DURATION", default_value = "20s", allow_negative_numbers = true)]
    pub(super) ping_timeout: String,
    /// Past the backlog: close with 1013, or skip to the newest complete message
    #[arg(long, value_name = "close|skip", default_value = "close")]
    pub(super) slow_consumer: String,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Publishing rights")]
pub(super) struct RightsOptions {
    /// Publishing and admin POSTs then need "Authorization: Bearer TOKEN"; repeatable, but the
    /// variable holds one, never split; what is typed stands in the list of processes
    /// [default: none, only this user and root on this machine may]
    #[arg(long, value_name = "TEXT")]
    pub(super) api_token: Vec<String>,
    /// Tokens from a file, one a line; blank lines and lines with # are skipped [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) api_token_file: Option<String>,
    /// Allow publishing without a token on any address [default: off]
    #[arg(long)]
    pub(super) insecure_api: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Listening rights")]
pub(super) struct CredentialOptions {
    /// Channels that everybody may listen to, others need a token: a name, or a prefix and *;
    /// repeatable [default: *, or none with keys for tokens]
    #[arg(long, value_name = "PATTERN")]
    pub(super) public_channels: Vec<String>,
    /// Whether ?token= counts: a URL is often logged on its way
    #[arg(long, value_name = "on|off", default_value = "on")]
    pub(super) query_tokens: String,
    /// A token may come in this cookie, of a page of --allowed-origins, which it needs, or of the
    /// same origin [default: none]
    #[arg(long, value_name = "NAME")]
    pub(super) jwt_cookie: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Pages")]
pub(super) struct OriginOptions {
    /// Origins whose pages may use /ws, /sse, /echo and /broadcast, and read what public routes
    /// answer: scheme://host[:port], compared whole, or * for all; repeatable
    #[arg(long, value_name = "ORIGIN", default_value = "*")]
    pub(super) allowed_origins: Vec<String>,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub(super) struct TokenOptions {
    /// HMAC secret of tokens (JWT: HS256, from 48 bytes HS384, from 64 HS512) from a file, one
    /// line of at least 32 bytes; repeatable, while one replaces another [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) jwt_secret_file: Vec<String>,
    /// The secret itself; repeatable, but the variable holds one, never split; what is typed stands
    /// in the list of processes [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(super) jwt_secret: Vec<String>,
    /// Public key of tokens, a PEM file: RSA from 2048 bits (RS*, PS*), P-256, P-384 (ES256,
    /// ES384), Ed25519 (EdDSA); repeatable [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) jwt_public_key: Vec<String>,
    /// Key set (JWKS) of the tokens' issuer: https://…, http:// on this machine only, or a file
    /// [default: none]
    #[arg(long, value_name = "URL")]
    pub(super) jwt_jwks: Option<String>,
    /// The issuer out of reach: its last key set serves for so long
    #[arg(long, value_name = "DURATION", default_value = "24h", allow_negative_numbers = true)]
    pub(super) jwt_jwks_max_age: String,
    /// The claim iss of tokens must be this [default: none, any]
    #[arg(long, value_name = "TEXT")]
    pub(super) jwt_issuer: Option<String>,
    /// The claim aud of tokens must be or hold this; without it they must have none
    /// [default: none]
    #[arg(long, value_name = "TEXT")]
    pub(super) jwt_audience: Option<String>,
    /// Tokens that never expire count, too [default: off]
    #[arg(long)]
    pub(super) jwt_allow_no_exp: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitOptions {
    /// Clients of the process, past it 503; 0 = what the descriptor limit allows
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(super) max_connections: String,
    /// Clients of one address, IPv6 by /64; past it 429; 0 = off
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(super) max_connections_per_address: String,
    /// Handshakes of one address per second, bad tokens twice; 10 x N at once; past it 429; 0 = off
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(super) handshakes_per_address: String,
    /// Messages of one client per second, and each 4 KiB; 10 x N at once; past it 1008; 0 = off
    #[arg(long, value_name = "N", default_value = "0", allow_negative_numbers = true)]
    pub(super) commands_per_client: String,
    /// Addresses that these limits are not for; repeatable [default: none]
    #[arg(long, value_name = "CIDR")]
    pub(super) limit_exempt: Vec<String>,
    /// Count what is past these limits, and refuse nobody [default: off]
    #[arg(long)]
    pub(super) limits_dry_run: bool,
    /// An HTTP connection without a request for this long is closed, sooner when places are short;
    /// longer than a proxy in front keeps its idle connections
    #[arg(long, value_name = "DURATION", default_value = "75s", allow_negative_numbers = true)]
    pub(super) idle_timeout: String,
    /// A client's message, all fragments; past it 1009
    #[arg(long, value_name = "SIZE", default_value = "64KiB", allow_negative_numbers = true)]
    pub(super) max_message_size: String,
    /// A published message; past it 413 [default: 1MiB, or half of a smaller --backlog]
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub(super) max_broadcast_size: Option<String>,
    /// How far a client may fall behind, per channel; at least twice the largest message
    #[arg(long, value_name = "SIZE", default_value = "8MiB", allow_negative_numbers = true)]
    pub(super) backlog: String,
    /// All backlogs of the process together; at least --backlog
    #[arg(long, value_name = "SIZE", default_value = "256MiB", allow_negative_numbers = true)]
    pub(super) backlog_total: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Logs")]
pub(super) struct LogOptions {
    /// Logs go to standard error, as this
    #[arg(long, value_name = "text|json", default_value = "text")]
    pub(super) log_format: String,
    /// off, error, warn, info, debug, trace, or directives; RUST_LOG is read too
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
    /// A line about each request and each client that has ended, whatever the level
    #[arg(long, value_name = "off|on", default_value = "off")]
    pub(super) access_log: String,
}
