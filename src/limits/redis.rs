//! Bounds of the communication with a Redis, its cluster or its sentinels.
//!
//! Part of [`limits`](super): every wait for Redis, and the memory of every answer.

use std::time::Duration;

/// While Redis cannot be used, the reason is logged again after this.
pub const OUTAGE_REPEAT: Duration = Duration::from_secs(60);
/// Different reasons that are logged within that time; further ones are logged at `debug`.
pub const OUTAGE_REASONS_MAX: usize = 16;
/// If Redis is out of reach without a known reason, that is logged after this.
pub const OUTAGE_UNEXPLAINED: Duration = Duration::from_secs(4);
/// Orders of a command connection in a cluster: channels whose slots share an order wait for each
/// other while one of the slots moves.
pub const CLUSTER_COMMAND_ORDERS: usize = 64;
/// Repetitions of a command that a cluster redirects, or cannot place yet; then it counts as not
/// sent. Together with the pauses well within [`super::PUBLISH_CONFIRM_DEADLINE`].
pub const REDIRECTIONS_MAX: u32 = 30;
/// The pause before each repetition.
pub const REDIRECTION_PAUSE: Duration = Duration::from_millis(20);
/// Before a publish of which nothing was written, without a cluster, looks for a connection once
/// more; within [`super::PUBLISH_CONFIRM_DEADLINE`] as often as it takes.
pub const UNSENT_PAUSE: Duration = Duration::from_millis(20);
/// Between two readings of a cluster's slot map; up to half of it more, at random.
pub const SLOT_MAP_PAUSE: Duration = Duration::from_millis(100);
/// The slot map is read again after this even if nothing seems to have changed: a primary that was
/// cut off from the cluster, and replaced, still answers, and must not be trusted for long.
pub const SLOT_MAP_INTERVAL: Duration = Duration::from_secs(1);
/// Between two queries to a sentinel, and two attempts to connect to it. It is asked sooner when
/// it reports an event.
pub const SENTINEL_INTERVAL: Duration = Duration::from_millis(500);
/// A primary named by most sentinels is accepted after this even under an older epoch than was
/// known. Longer than they take to agree again.
pub const SENTINEL_MAJORITY_PATIENCE: Duration = Duration::from_secs(10);
/// Publishes wait this long for a primary that takes over, and for the connection to it; then they
/// are sent to the old one if it is there, and count as not sent if it is not.
pub const TAKEOVER_WAIT: Duration = Duration::from_millis(600);
/// A replica chosen by sentinels is watched for this long; then it has not taken over.
pub const TAKEOVER_LOOK_MAX: Duration = Duration::from_secs(5);
/// Between two looks at that replica, and at whether publishing may go on.
pub const TAKEOVER_LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Unwritten bytes of one command connection, including abandoned commands; past it a command
/// counts as not sent (a single larger one still passes).
pub const REDIS_UNSENT_BYTES_MAX: usize = 2 * super::PUBLISH_BYTES_IN_FLIGHT_MAX;
/// One frame from Redis or a sentinel; past it the connection is dropped and opened anew. The
/// answer with a channel's history may be longer by `--history-bytes`.
pub const REDIS_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Elements of a frame, all arrays within it together; past it the same. The slot map of the
/// largest cluster has fewer.
pub const REDIS_FRAME_ELEMENTS_MAX: usize = 256 * 1024;
/// Elements of an answer with history for each message in it.
pub const REDIS_ELEMENTS_PER_MESSAGE: usize = 9;
/// Arrays within arrays; past it the same. Redis' own answers have five.
pub const REDIS_FRAME_DEPTH_MAX: usize = 16;
/// A line of a frame: a simple string, an error, a length; past it the same.
pub const REDIS_LINE_BYTES_MAX: usize = 64 * 1024;
/// The bytes that are shown of an answer that is not Redis'.
pub const REDIS_BEGINNING_BYTES: usize = 32;
/// The bytes that are shown of an error's text from Redis; the rest is left out.
pub const REDIS_ERROR_BYTES_MAX: usize = 256;
