//! Bounds of HTTP connections: their number, time and memory, and their part of the descriptors.
//!
//! Part of [`limits`](super): kept by `http/connection/places/` and `server/descriptors.rs`.

use std::time::Duration;

/// Connections of the admin listener; past it the one that has waited longest is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// HTTP connections of one shard that are no WebSockets (yet), if there are descriptors for so
/// many; past it the one that has waited longest is closed.
pub const HTTP_CONNECTIONS_PER_SHARD_MAX: usize = 4096;
/// The life of a connection that neither upgrades nor publishes; then closed, between two requests.
pub const HTTP_LIFE_MAX: Duration = Duration::from_secs(5 * 60);
/// An answer this close to that end, or closer to it than `--idle-timeout`, is the connection's
/// last, so that no request crosses the close.
pub const HTTP_LIFE_MARGIN: Duration = Duration::from_secs(75);
/// While places are short, a connection keeps its own for this long whatever it does; closes are
/// counted by `http_connections_dismissed_total`. Longer than a request takes to follow its
/// connection.
pub const HTTP_PATIENCE: Duration = Duration::from_millis(50);
/// Connections of one address that have shown no request leave before all others once they hold one
/// place in so many, but for the last one of it.
pub const HTTP_ADDRESS_SHARE: usize = 16;
/// When all places are taken by work of the server itself, the wait for one to become free; then
/// newcomers get spare ones until there are free ones.
pub const HTTP_CROWDED_PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks for a connection to close, while there is none.
pub const HTTP_CROWDED_LOOK: Duration = Duration::from_millis(25);
/// Connections that are picked at a time to be closed next: one look through all serves so many.
pub const HTTP_PLACES_TO_LEAVE: usize = 64;
/// Places for health probes alone, of a shard and of the admin listener, in addition to the others;
/// past it the probe that has waited longest is closed. At most a third of all places.
pub const HTTP_SPARE_PLACES_MAX: usize = 16;

// --- What HTTP connections hold -------------------------------------------------------------

/// The size of a connection's buffers in any case, and therefore not counted: hyper's first read,
/// and the head of an answer.
pub const HTTP_BUFFERS_FREE_BYTES: usize = 8 * 1024 + 4 * 1024;
/// A body up to this is not counted either: most publications need no budget.
pub const HTTP_BODY_FREE_BYTES: usize = 4 * 1024;
/// An answer up to this is not counted either. A connection has one at a time.
pub const HTTP_ANSWER_FREE_BYTES: usize = 1024;
/// Input held beyond that, in bytes, for the HTTP connections of a shard and for those of the admin
/// listener: unfinished heads, bodies. Past it the connections that keep the server waiting are
/// closed (`http_connections_dismissed_total`, reason `memory`); if there are none, 503.
pub const HTTP_INPUT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Work in progress and output: batches with their results, answers that are not taken. Past it the
/// same, except that a batch waits before it gets a 503.
pub const HTTP_WORK_BYTES_MAX: usize = 34 * 1024 * 1024;
/// The part of it for batches that take more than [`HTTP_LITTLE_WORK_BYTES`].
pub const HTTP_MUCH_WORK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Batches up to this neither wait in line nor hold up those that do.
pub const HTTP_LITTLE_WORK_BYTES: usize = 64 * 1024;
/// For a complete batch to get room; then 503 `shard_stalled`.
pub const HTTP_MEMORY_WAIT: Duration = Duration::from_secs(2);
/// A connection that moves no byte of its body or its answer for this long may be closed for
/// others. Less than [`HTTP_MEMORY_WAIT`], or these would wait in vain.
pub const HTTP_MEMORY_PATIENCE: Duration = Duration::from_secs(1);

// --- Looking at the process -----------------------------------------------------------------

/// Requests for the admin routes that one thread answers before all other ready tasks have had
/// their turn; further ones wait, in order. Health probes need no turn.
pub const LOOKS_PER_TURN: usize = 16;
/// The part of a thread's time, one in so many, for writing the text of `/metrics` and of
/// `/stats`...
pub const LOOKS_TIME_SHARE: u32 = 4;
/// ...once this much time has been spent at a stretch; requests in between get the last text.
pub const LOOKS_CREDIT_MAX: Duration = Duration::from_millis(100);

// --- Descriptors ----------------------------------------------------------------------------

/// Descriptors kept free for the control thread, its broker and files.
pub const DESCRIPTORS_RESERVED: u64 = 48;
/// Descriptors kept free for each shard's runtime, epoll set and subscriber; its listeners (twice:
/// the control thread has them too), a connection of each that waits for a place, and publishing
/// clients come on top.
pub const DESCRIPTORS_PER_SHARD: u64 = 9;
/// HTTP connections of a shard, and of the admin listener, for which there must be descriptors;
/// else the server does not start.
pub const HTTP_CONNECTIONS_PER_SHARD_MIN: usize = 8;
/// Clients for which there must be descriptors; else the server does not start.
pub const CLIENTS_MIN: usize = 16;
/// The descriptors beyond the server's own are shared by clients and HTTP connections: the latter
/// get one part in so many, and up to [`HTTP_CONNECTIONS_PER_SHARD_SURE`] one in four.
pub const HTTP_DESCRIPTORS_SHARE: usize = 16;
/// See [`HTTP_DESCRIPTORS_SHARE`].
pub const HTTP_CONNECTIONS_PER_SHARD_SURE: usize = 256;
/// Primaries of a Redis Cluster for whose connections descriptors are kept free.
pub const CLUSTER_PRIMARIES_RESERVED: usize = 16;

const _: () = assert!(HTTP_LIFE_MARGIN.as_secs() * 2 < HTTP_LIFE_MAX.as_secs());
const _: () = assert!(HTTP_MUCH_WORK_BYTES_MAX < HTTP_WORK_BYTES_MAX);
const _: () = assert!(HTTP_MEMORY_PATIENCE.as_millis() < HTTP_MEMORY_WAIT.as_millis());
const _: () = assert!(HTTP_PATIENCE.as_millis() < HTTP_CROWDED_PATIENCE.as_millis());
const _: () = assert!(HTTP_CONNECTIONS_PER_SHARD_MIN <= HTTP_CONNECTIONS_PER_SHARD_SURE);
