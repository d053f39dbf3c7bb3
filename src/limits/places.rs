//! The bounds of HTTP connections: how many, how long, what they hold; and who gets descriptors.
//!
//! See `http/places.rs` and `server/descriptors.rs`, which keep them.

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
/// What the buffers of one connection have in any case, and what is not counted therefore: hyper's
/// first read, and a small answer.
pub const HTTP_BUFFERS_FREE_BYTES: usize = 8 * 1024 + 4 * 1024;
/// What the buffers of all HTTP connections of a shard hold beyond that: unfinished heads, answers
/// that are not taken. Past it the connection goes that has waited longest of those that hold
/// some of it; counted likewise, with the reason `memory`.
pub const HTTP_BUFFERS_BYTES_MAX: usize = 32 * 1024 * 1024;

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
const _: () = assert!(HTTP_PATIENCE.as_millis() < HTTP_CROWDED_PATIENCE.as_millis());
const _: () = assert!(HTTP_CONNECTIONS_PER_SHARD_MIN <= HTTP_CONNECTIONS_PER_SHARD_SURE);
