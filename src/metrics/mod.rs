//! The counters: one set of cells per shard, read by the thread that serves `/metrics` and
//! `/stats`.
//!
//! A shard writes its own cells (relaxed atomics, never contended), never once per delivery: a pass
//! adds its sums. Names, help and labels are defined in `facts`, once for both formats.

#[macro_use]
mod words;

mod broker;
mod certificates;
pub mod facts;
pub mod family;
pub mod json;
mod limit;
#[cfg(target_os = "linux")]
mod process;
pub mod text;
mod tls;
mod tokens;
pub mod upgrade_counts;
mod upgrades;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::{limit::Limit, tls::TlsHandshake, tokens::TokenResult};
use crate::ws::close::CloseReason;

/// A value that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by a fixed set of words; `T as usize` is the index of a word.
#[derive(Debug)]
pub struct Counters<const N: usize>([Counter; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Counters<N> {
    /// Adds `n` at `place`.
    pub fn add(&self, place: usize, n: u64) {
        self.0[place].add(n);
    }

    /// The value at `place`.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        self.0[place].get()
    }
}

/// Upper bounds of the fan-out histogram's buckets, microseconds; one more bucket is `+Inf`.
pub const FANOUT_BUCKETS_US: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];

/// A histogram of durations with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: Counters<{ FANOUT_BUCKETS_US.len() + 1 }>,
    sum_us: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe_us(&self, us: u64) {
        let place = FANOUT_BUCKETS_US.partition_point(|&bound| bound < us);
        self.buckets.add(place, 1);
        self.sum_us.add(us);
    }

    /// The count in each bucket (not cumulated), the last one being `+Inf`.
    #[must_use]
    pub fn buckets(&self) -> [u64; FANOUT_BUCKETS_US.len() + 1] {
        std::array::from_fn(|place| self.buckets.get(place))
    }

    /// The sum of all durations, microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

words! {
    /// Why a handshake was answered otherwise than 101: the `error` of its answer.
    Rejection {
        /// Bad request line, key, headers or parameters: 400.
        BadRequest = "bad_request",
        /// No channel's name: 400.
        BadChannel = "bad_channel",
        /// No position: 400.
        BadPosition = "bad_position",
        /// More channels than a client may have: 400.
        TooManyChannels = "too_many_channels",
        /// No upgrade: 426.
        UpgradeRequired = "upgrade_required",
        /// Another version of the protocol: 426.
        WrongVersion = "wrong_version",
        /// A token that is not one of ours, or none where one is needed: 401.
        Unauthorized = "unauthorized",
        /// A token with rights that is not good: 401.
        BadToken = "bad_token",
        /// A channel that the token does not cover: 403.
        Forbidden = "forbidden",
        /// No key to check a token with: 503.
        KeysUnavailable = "keys_unavailable",
        /// A page of an origin that is not allowed: 403.
        BadOrigin = "bad_origin",
        /// Draining: 503.
        Draining = "draining",
        /// Full: 503.
        Full = "full",
        /// Its position is ahead of this shard: 503.
        Behind = "behind",
        /// Its address has as many clients as it may have: 429.
        AddressFull = "address_full",
        /// Its address has begun too many handshakes: 429.
        RateLimited = "rate_limited",
    }
}

words! {
    /// The origin of a published message.
    Source {
        /// `POST /broadcast`.
        Http = "http",
        /// Redis' raw channel.
        Redis = "redis",
        /// A client's own message.
        Client = "client",
        /// The periodic notice.
        Periodic = "periodic",
    }
}

words! {
    /// The reach of a published message.
    Scope {
        /// Every process: it has a position in the channel's history.
        Cluster = "cluster",
        /// The clients of this process.
        Local = "local",
    }
}

words! {
    /// Why Redis refused a command: mostly the first word of its answer, or why the answer was
    /// unusable.
    BrokerRefusal {
        /// It is a replica.
        ReadOnly = "readonly",
        /// Too few replicas follow it.
        NoReplicas = "noreplicas",
        /// It cannot write to its disk.
        Misconf = "misconf",
        /// Its memory is full.
        Oom = "oom",
        /// Its user lacks a right.
        NoPerm = "noperm",
        /// The connection is not logged in.
        NoAuth = "noauth",
        /// It is a part of a cluster, and the channel's slot is elsewhere.
        Moved = "moved",
        /// The channel's slot is moving, for longer than the wait.
        TryAgain = "tryagain",
        /// The cluster does not serve the channel's slot.
        ClusterDown = "clusterdown",
        /// A replica without its primary.
        MasterDown = "masterdown",
        /// It is loading its data.
        Loading = "loading",
        /// A script is running for too long.
        Busy = "busy",
        /// Another program has written our keys.
        WrongType = "wrongtype",
        /// A command that is needed does not exist, or has another name.
        UnknownCommand = "unknown_command",
        /// It gave an answer that none of our scripts gives.
        UnexpectedAnswer = "unexpected_answer",
        /// It did not answer in time, though it answered heartbeats.
        NoAnswer = "no_answer",
        /// Anything else: the log has it.
        Other = "other",
    }
}

words! {
    /// Why a message was not published: over HTTP, the `error` of the answer.
    PublishFailure {
        /// A shard's mailbox was full.
        ShardStalled = "shard_stalled",
        /// Redis out of reach, policy `reject`.
        BrokerLost = "broker_lost",
        /// No answer from Redis in time.
        Unconfirmed = "unconfirmed",
        /// No room for another idempotency key.
        KeysFull = "keys_full",
        /// Too many channels were begun in Redis lately.
        ChannelsFull = "channels_full",
        /// Another process has taken this one's place.
        Restarting = "restarting",
        /// A batch's time was over before its turn.
        DeadlineExceeded = "deadline_exceeded",
        /// Larger than `--max-broadcast-size`.
        TooBig = "too_big",
        /// Not valid: no UTF-8, a bad line, a bad key: 400.
        BadRequest = "bad_request",
        /// No channel's name: 400.
        BadChannel = "bad_channel",
        /// A token is required, and missing or wrong: 401.
        Unauthorized = "unauthorized",
        /// A token with rights that is not good: 401.
        BadToken = "bad_token",
        /// No key to check a token with: 503.
        KeysUnavailable = "keys_unavailable",
        /// No token is set, and the publisher is not on this machine; or the token does not cover
        /// the channel: 403.
        Forbidden = "forbidden",
        /// A page of an origin that is not allowed: 403.
        BadOrigin = "bad_origin",
        /// The body is compressed, or otherwise coded: 415.
        UnsupportedEncoding = "unsupported_encoding",
        /// The Content-Type is of a form, or nearly of a batch: 415.
        UnsupportedType = "unsupported_type",
        /// The body did not arrive in time: 408.
        Timeout = "timeout",
        /// Too many bad tokens came from the address: 429.
        RateLimited = "rate_limited",
    }
}

words! {
    /// The encoding of a log.
    EncodingWord {
        /// As they were published.
        Plain = "plain",
        /// permessage-deflate, of every window size; also messages that it leaves uncompressed.
        Deflate = "deflate",
        /// The subprotocol `wsbcast.v1`.
        V1 = "v1",
        /// The same with permessage-deflate.
        V1Deflate = "v1_deflate",
        /// Server-sent events.
        Sse = "sse",
    }
}

words! {
    /// The outcome of a client's request for history.
    Resumed {
        /// All of it.
        Recovered = "recovered",
        /// Not all: it was told, or closed.
        Missed = "missed",
    }
}

words! {
    /// The treatment of a slow consumer.
    SlowAction {
        /// Closed with 1013.
        Close = "close",
        /// Its cursor jumped.
        Skip = "skip",
    }
}

words! {
    /// Why a connection is served by another shard than the one whose socket it came in on.
    Placed {
        /// That shard was silent.
        Stalled = "stalled",
        /// That shard had clearly more than the mean.
        Balance = "balance",
        /// One thread accepts for all shards, where the system can't spread connections.
        Acceptor = "acceptor",
    }
}

words! {
    /// The state of an HTTP connection that was closed to make room.
    Dismissed {
        /// Idle since its last answer.
        Idle = "idle",
        /// With a request that had not come to its end, or had not begun.
        Unfinished = "unfinished",
        /// With an answer that it did not read.
        Unread = "unread",
        /// With buffers that others needed.
        Memory = "memory",
    }
}

/// Messages published, by origin and reach.
#[derive(Debug, Default)]
pub struct PublishedCounters([Counters<{ Scope::WORDS.len() }>; Source::WORDS.len()]);

impl PublishedCounters {
    /// Adds `n`.
    pub fn add(&self, source: Source, scope: Scope, n: u64) {
        self.0[source as usize].add(scope as usize, n);
    }

    /// The value.
    #[must_use]
    pub fn get(&self, source: Source, scope: Scope) -> u64 {
        self.0[source as usize].get(scope as usize)
    }
}

/// The counters of one shard. The shard's thread writes them, any thread reads them.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Clients now.
    pub connections: Gauge,
    /// The same by [`EncodingWord`], those about to be included.
    pub clients_by_encoding: [Gauge; EncodingWord::WORDS.len()],
    /// Clients ever.
    pub connections_opened: Counter,
    /// Connections that other threads have accepted for this shard, by [`Placed`].
    pub connections_placed: Counters<{ Placed::WORDS.len() }>,
    /// Handshakes of TLS, by [`TlsHandshake`].
    pub tls_handshakes: Counters<{ TlsHandshake::WORDS.len() }>,
    /// HTTP connections sent away to make room, by [`Dismissed`]; the admin listener's are the
    /// first shard's.
    pub http_dismissed: Counters<{ Dismissed::WORDS.len() }>,
    /// Clients gone, by [`CloseReason`].
    pub connections_closed: Counters<{ CloseReason::ALL.len() }>,
    /// Handshakes refused, by [`Rejection`].
    pub handshakes_rejected: Counters<{ Rejection::WORDS.len() }>,
    /// Limits of addresses and clients that were passed, by [`Limit`].
    pub limited: Counters<{ Limit::ALL.len() }>,
    /// Messages published through this shard.
    pub published: PublishedCounters,
    /// Messages not published, by [`PublishFailure`].
    pub publish_failures: Counters<{ PublishFailure::WORDS.len() }>,
    /// Clients' own messages that were dropped because `--client-publish` is off.
    pub client_messages_dropped: Counter,
    /// Messages encoded into a log, by [`EncodingWord`].
    pub frames_encoded: Counters<{ EncodingWord::WORDS.len() }>,
    /// Clients' requests for history, by [`Resumed`].
    pub resumes: Counters<{ Resumed::WORDS.len() }>,
    /// Messages of history that clients were given.
    pub replayed_messages: Counter,
    /// Messages handed to the kernel, one per client.
    pub deliveries: Counter,
    /// Bytes handed to the kernel.
    pub delivered_bytes: Counter,
    /// From a message's arrival at the shard to its last ready client's write.
    pub fanout: Histogram,
    /// Slow consumers, by [`SlowAction`].
    pub slow_consumers: Counters<{ SlowAction::WORDS.len() }>,
    /// Messages that skipping clients did not get.
    pub skipped_messages: Counter,
    /// Messages from other processes that this one has no memory for.
    pub unheld_messages: Counter,
    /// Bytes in this shard's logs, carries and unfinished messages.
    pub backlog_bytes: Gauge,
    /// How late the shard's last beat was, microseconds.
    pub loop_lag_us: Gauge,
    /// The time of the shard's last beat ([`crate::clock::Millis`]).
    pub beat_ms: Gauge,
}

#[cfg(test)]
mod tests;
