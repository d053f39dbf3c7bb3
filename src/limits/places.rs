//! The bounds of HTTP connections: how many, how long, what they hold; and who gets descriptors.
//!
//! See `http/connection/places/` and `server/descriptors.rs`, which keep them.

use std::time::Duration;

/// Connections of the admin listener; past it the one goes that waits longest.
pub const ADMIN_CONNECTIONS_MAX: usize = 256;
/// HTTP connections of one shard that are no WebSocket (yet), if the descriptors allow so many;
/// past it the one goes that waits longest.
pub const HTTP_CONNECTIONS_PER_SHARD_MAX: usize = 4096;
/// A connection that neither upgrades nor publishes; then closed, between two requests.
pub const HTTP_LIFE_MAX: Duration = Duration::from_secs(5 * 60);
/// An answer so near to that end, or nearer than `--idle-timeout`, is the connection's last: no
/// request then meets the end on its way.
pub const HTTP_LIFE_MARGIN: Duration = Duration::from_secs(75);
/// While places are short, a connection keeps its own for so long whatever it does; counted by
/// `http_connections_dismissed_total`. Longer than a request takes to follow its connection.
pub const HTTP_PATIENCE: Duration = Duration::from_millis(50);
/// With the server's own work under way in all places, one that gets free is waited for so long;
/// then newcomers get spare ones until some are.
pub const HTTP_CROWDED_PATIENCE: Duration = Duration::from_millis(250);
/// Between two looks for somebody to send away, while there is nobody.
pub const HTTP_CROWDED_LOOK: Duration = Duration::from_millis(25);
/// Connections that are picked at a time to leave next: one look through all serves so many.
pub const HTTP_PLACES_TO_LEAVE: usize = 64;
/// Places for health probes alone, of a shard and of the admin listener, besides all others; past
/// it the one there goes that waits longest. A third of all places, at most.
pub const HTTP_SPARE_PLACES_MAX: usize = 16;

// --- What HTTP connections hold -------------------------------------------------------------

/// What the buffers of one connection have in any case, and what is not counted therefore: hyper's
/// first read, and the head of an answer.
pub const HTTP_BUFFERS_FREE_BYTES: usize = 8 * 1024 + 4 * 1024;
/// A body up to this is not counted either: what is published usually meets no budget.
pub const HTTP_BODY_FREE_BYTES: usize = 4 * 1024;
/// Nor is an answer up to this. A connection has one at a time.
pub const HTTP_ANSWER_FREE_BYTES: usize = 1024;
/// What comes in over the HTTP connections of a shard, and over those of the admin listener, and is
/// held beyond that, in bytes: unfinished heads, bodies. Past it the connections go that keep the
/// server waiting (`http_connections_dismissed_total`, reason `memory`); where none does, 503.
pub const HTTP_INPUT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// What is worked on, and what goes out: batches with their results, answers that are not taken.
/// Past it likewise, but that a batch waits before it is a 503.
pub const HTTP_WORK_BYTES_MAX: usize = 34 * 1024 * 1024;
/// Up to this for batches that take more than [`HTTP_LITTLE_WORK_BYTES`].
pub const HTTP_MUCH_WORK_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Batches up to this wait in no line, nor for those that do.
pub const HTTP_LITTLE_WORK_BYTES: usize = 64 * 1024;
/// For a batch to get room, its body being here; then 503 `shard_stalled`.
pub const HTTP_MEMORY_WAIT: Duration = Duration::from_secs(2);
/// A connection that moves no byte of its body or its answer for so long may have to go for
/// others. Less than [`HTTP_MEMORY_WAIT`], or these would wait in vain.
pub const HTTP_MEMORY_PATIENCE: Duration = Duration::from_secs(1);

// --- Looking at the process -----------------------------------------------------------------

/// Requests for the admin routes that one thread answers before everything else that is ready has
/// had its turn; further ones wait, in order. Health probes need no turn.
pub const LOOKS_PER_TURN: usize = 16;
/// Making the text of `/metrics`, and of `/stats`, takes one part in so many of a thread's time...
pub const LOOKS_TIME_SHARE: u32 = 4;
/// ...once it has taken this at a stretch; who asks meanwhile gets the last text.
pub const LOOKS_CREDIT_MAX: Duration = Duration::from_millis(100);

// --- Descriptors ----------------------------------------------------------------------------

/// Descriptors kept free for the control thread, its broker and files.
pub const DESCRIPTORS_RESERVED: u64 = 48;
/// Descriptors kept free for each shard's runtime, epoll set and subscriber; its listeners (twice:
/// the control thread has them too) and publishing clients come on top.
pub const DESCRIPTORS_PER_SHARD: u64 = 10;
/// HTTP connections of a shard, and of the admin listener, for which there must be descriptors;
/// else the server does not start.
pub const HTTP_CONNECTIONS_PER_SHARD_MIN: usize = 8;
/// Clients for which there must be descriptors; else the server does not start.
pub const CLIENTS_MIN: usize = 16;
/// What is left when the server has its own descriptors is shared by clients and HTTP connections:
/// these get one part in so many, and up to [`HTTP_CONNECTIONS_PER_SHARD_SURE`] one in four.
pub const HTTP_DESCRIPTORS_SHARE: usize = 16;
/// See [`HTTP_DESCRIPTORS_SHARE`].
pub const HTTP_CONNECTIONS_PER_SHARD_SURE: usize = 256;
/// Masters of a Redis Cluster for whose connections descriptors are kept free.
pub const CLUSTER_MASTERS_RESERVED: usize = 16;

const _: () = assert!(HTTP_LIFE_MARGIN.as_secs() * 2 < HTTP_LIFE_MAX.as_secs());
const _: () = assert!(HTTP_MUCH_WORK_BYTES_MAX < HTTP_WORK_BYTES_MAX);
const _: () = assert!(HTTP_MEMORY_PATIENCE.as_millis() < HTTP_MEMORY_WAIT.as_millis());
const _: () = assert!(HTTP_PATIENCE.as_millis() < HTTP_CROWDED_PATIENCE.as_millis());
const _: () = assert!(HTTP_CONNECTIONS_PER_SHARD_MIN <= HTTP_CONNECTIONS_PER_SHARD_SURE);
