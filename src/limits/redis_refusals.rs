//! Bounds of publishing through a Redis that is far away, refuses messages, or moves.
//!
//! Part of [`limits`](super): publishers wait within these, and `/readyz` follows.

use std::time::Duration;

use super::{
    HTTP_BODY_DEADLINE, HTTP_MEMORY_WAIT, HTTP_REQUEST_DEADLINE, PUBLISH_ANSWER_DEADLINE,
    PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_CONFIRM_DEADLINE, PUBLISHES_IN_FLIGHT_MAX, REDIS_SETTLE,
};

/// Refusals by Redis for this long make the process degraded; a failover takes less.
pub const REFUSAL_LASTS: Duration = Duration::from_millis(500);
/// Between two trials of a refused operation, so that it heals at once.
pub const REFUSAL_PAUSE: Duration = Duration::from_millis(200);
/// Channels and servers that are remembered as refused; further ones are only counted.
pub const REFUSALS_MAX: usize = 16;
/// A channel that was refused for a reason of its own is forgotten after this long without a
/// publication.
pub const REFUSAL_MEMORY: Duration = Duration::from_secs(60);
/// A channel that could not be subscribed is forgotten after this long without a subscriber.
pub const SUBSCRIPTION_REFUSAL_MEMORY: Duration = Duration::from_secs(5);
/// Messages may be refused right after a successful trial: each such contradiction counts one, and
/// two if it comes within this time.
pub const REFUSAL_CONTRADICTED_SOON: Duration = Duration::from_secs(1);
/// After so many contradictions, trials clear nothing any more, but an accepted message does.
pub const REFUSAL_CONTRADICTIONS_MAX: u32 = 4;
/// So does this long without a refused message.
pub const REFUSAL_UNTRIED_CALM: Duration = Duration::from_secs(10);
/// Between two lines about refused messages of one reason; refusals in between are counted.
pub const LOG_REFUSALS_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at whether Redis would accept a message, and whether its name still resolves
/// to the server in use. With the time for the look itself, well within the two seconds that are
/// promised.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A look by which the name resolves to another server is repeated once after this.
pub const WATCH_REPEAT: Duration = Duration::from_millis(100);
/// If the name changes again within this time, each move waits twice as long as the one before.
pub const MOVE_CALM: Duration = Duration::from_secs(10);
/// The first such pause.
pub const MOVE_PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest such pause.
pub const MOVE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A process younger than this that has not reached Redis lets each publish wait for it, as long as
/// a publish may take: other processes may have reached it. In an older process, a Redis that was
/// never reached counts as lost.
pub const FIRST_REACH_PATIENCE: Duration = Duration::from_secs(10);
/// After a loss, each publish waits so long for Redis to be back: a connection that was reset is up
/// again sooner. Well within [`super::PUBLISH_CONFIRM_DEADLINE`], including the pause for other
/// processes that follows. Past half of the number that may be in flight no publish waits.
pub const LOSS_PATIENCE: Duration = Duration::from_millis(600);
/// Between two looks of such a waiting publish, which does not need all of Redis.
pub const FIRST_REACH_LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Messages of a batch that are at the broker at a time, at first.
pub const BATCH_WINDOW_MIN: usize = 64;
/// The same at most: the window grows while answers come about as fast as the fastest did.
pub const BATCH_WINDOW_MAX: usize = 2048;
/// An answer later than the fastest by this has queued behind others: the window shrinks.
pub const BATCH_QUEUE_MAX: Duration = Duration::from_millis(250);
/// From the end of a batch's body to the last message that is begun; messages left then are not
/// published, as their results say. The answer follows within [`PUBLISH_ANSWER_DEADLINE`].
pub const BATCH_DEADLINE: Duration = Duration::from_secs(10);
/// Messages of all batches of a shard that are at the broker at a time, in bytes, each with
/// [`BATCH_MESSAGE_COST_BYTES`] besides its payload; further ones wait. Half of the bytes that a
/// handle may have in flight: a batch keeps no other publisher from publishing.
pub const BATCHES_IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The cost of each, so that their number is bounded as well.
pub const BATCH_MESSAGE_COST_BYTES: usize = 2048;

/// The memory of a line of a batch in progress, besides its text: the message...
pub const BATCH_LINE_COST_BYTES: usize = 256;
/// ...its key, where the batch has one...
pub const BATCH_KEY_COST_BYTES: usize = 192;
/// ...and its result, at most.
pub const BATCH_RESULT_BYTES_MAX: usize = 384;

const _: () = assert!(
    HTTP_BODY_DEADLINE.as_millis()
        + BATCH_DEADLINE.as_millis()
        + PUBLISH_ANSWER_DEADLINE.as_millis()
        < HTTP_REQUEST_DEADLINE.as_millis()
);
const _: () = assert!(HTTP_MEMORY_WAIT.as_millis() * 2 <= BATCH_DEADLINE.as_millis());
const _: () = assert!(
    LOSS_PATIENCE.as_millis() + REDIS_SETTLE.as_millis() < PUBLISH_CONFIRM_DEADLINE.as_millis()
);
const _: () = assert!(BATCHES_IN_FLIGHT_BYTES_MAX * 2 <= PUBLISH_BYTES_IN_FLIGHT_MAX);
const _: () =
    assert!(BATCHES_IN_FLIGHT_BYTES_MAX / BATCH_MESSAGE_COST_BYTES * 2 <= PUBLISHES_IN_FLIGHT_MAX);
