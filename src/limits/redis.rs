//! Bounds of what is between this process and a Redis, its cluster or its sentinels.
//!
//! A part of `limits`, like all of it: unit, what happens past it, what counts it.

use std::time::Duration;

/// Why Redis cannot be used is told again after this, as long as it is so.
pub const OUTAGE_REPEAT: Duration = Duration::from_secs(60);
/// Different reasons that are told within that time; further ones are logged at `debug`.
pub const OUTAGE_REASONS_MAX: usize = 16;
/// Without any reason, Redis being out of reach is told as such after this.
pub const OUTAGE_UNEXPLAINED: Duration = Duration::from_secs(4);
/// Orders of a command connection in a cluster: channels whose slots share one wait for each other
/// while one of the slots moves.
pub const CLUSTER_COMMAND_ORDERS: usize = 64;
/// A command that a cluster sends elsewhere, or cannot place yet, is repeated so often; then it
/// counts as not sent. Together with the pauses well within [`super::PUBLISH_CONFIRM_DEADLINE`].
pub const REDIRECTIONS_MAX: u32 = 30;
/// Before each repetition.
pub const REDIRECTION_PAUSE: Duration = Duration::from_millis(20);
/// Between two readings of a cluster's slot map; up to half of it more, at random.
pub const SLOT_MAP_PAUSE: Duration = Duration::from_millis(100);
/// It is read again after this even if nothing seems to have changed: a master that was cut off
/// from the cluster, and replaced, still answers us, and may not be listened to for long.
pub const SLOT_MAP_INTERVAL: Duration = Duration::from_secs(1);
/// Between two questions to a sentinel, and two attempts to connect to it. It is asked sooner when
/// it says that something has happened.
pub const SENTINEL_INTERVAL: Duration = Duration::from_millis(500);
/// A master that most sentinels name is believed after this, also under an older epoch than was
/// known. Longer than they take to agree again.
pub const SENTINEL_MAJORITY_PATIENCE: Duration = Duration::from_secs(10);
/// Publishes wait this long for a master that takes over, and for the way to it; then they are
/// sent to the old one if that is there, and count as not sent if it is not.
pub const TAKEOVER_WAIT: Duration = Duration::from_millis(600);
/// A replica that sentinels have chosen is looked at for this long; then it has not taken over.
pub const TAKEOVER_LOOK_MAX: Duration = Duration::from_secs(5);
/// Between two looks at it, and at whether publishing may go on.
pub const TAKEOVER_LOOK_PAUSE: Duration = Duration::from_millis(10);
/// What waits to be written on one connection for commands, those included that nobody waits for
/// any more; past it a command counts as not sent (a single larger one still passes).
pub const REDIS_UNSENT_BYTES_MAX: usize = 2 * super::PUBLISH_BYTES_IN_FLIGHT_MAX;
/// One frame from Redis or a sentinel; past it the connection is dropped and made anew. The answer
/// with a channel's history may be longer by what `--history-bytes` allows.
pub const REDIS_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a frame may hold, all arrays within it together; past it likewise. The slot map of the
/// largest cluster has fewer.
pub const REDIS_FRAME_ELEMENTS_MAX: usize = 256 * 1024;
/// Elements of an answer with history for each message in it.
pub const REDIS_ELEMENTS_PER_MESSAGE: usize = 9;
/// Arrays within arrays; past it likewise. Redis' own answers have five.
pub const REDIS_FRAME_DEPTH_MAX: usize = 16;
/// A line of a frame: a simple string, an error, a length; past it likewise.
pub const REDIS_LINE_BYTES_MAX: usize = 64 * 1024;
/// What is shown of an answer that is none of Redis.
pub const REDIS_BEGINNING_BYTES: usize = 32;
/// What of an error's text from Redis is told; the rest is left out.
pub const REDIS_ERROR_BYTES_MAX: usize = 256;
