//! Bounds of publishing through a Redis that is far away, refuses, or moves.
//!
//! A part of [`super`], whose rules hold here: unit, what happens past it, what counts it.

use std::time::Duration;

use super::{
    HTTP_BODY_DEADLINE, HTTP_MEMORY_WAIT, HTTP_REQUEST_DEADLINE, PUBLISH_ANSWER_DEADLINE,
    PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_CONFIRM_DEADLINE, PUBLISHES_IN_FLIGHT_MAX, REDIS_SETTLE,
};

/// What Redis has refused for this long makes the process degraded; less is a failover's moment.
pub const REFUSAL_LASTS: Duration = Duration::from_millis(500);
/// What Redis refuses is asked for again this often, so that it heals at once.
pub const REFUSAL_PAUSE: Duration = Duration::from_millis(200);
/// Channels and servers that are remembered as refused; further ones only are counted.
pub const REFUSALS_MAX: usize = 16;
/// A channel that was refused for a reason of its own is forgotten when nobody has published to it
/// for this long.
pub const REFUSAL_MEMORY: Duration = Duration::from_secs(60);
/// That a channel could not be subscribed is forgotten when nobody has wanted it for this long.
pub const SUBSCRIPTION_REFUSAL_MEMORY: Duration = Duration::from_secs(5);
/// After a trial that went well, messages are refused all the same: each such time counts one, and
/// two if it is within this.
pub const REFUSAL_CONTRADICTED_SOON: Duration = Duration::from_secs(1);
/// So often, and trials clear nothing any more: a message that is taken does.
pub const REFUSAL_CONTRADICTIONS_MAX: u32 = 4;
/// Or that no message was refused for this long.
pub const REFUSAL_UNTRIED_CALM: Duration = Duration::from_secs(10);
/// Between two lines about refused messages of one reason; what comes between is counted.
pub const LOG_REFUSALS_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at whether Redis would take a message, and whether its name still leads to
/// where the process is. With the way there, well within the two seconds that are promised.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A look that shows that the name leads elsewhere is repeated once after this.
pub const WATCH_REPEAT: Duration = Duration::from_millis(100);
/// When the name leads elsewhere again and again, within this time: each move waits twice as long
/// as the one before.
pub const MOVE_CALM: Duration = Duration::from_secs(10);
/// The first such pause, and the longest.
pub const MOVE_PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest.
pub const MOVE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// A process that has been there for less than this, and has not reached Redis, lets each publish
/// wait for that, as long as one may take: others may be there already. Later, a Redis that was
/// never reached is one that is lost.
pub const FIRST_REACH_PATIENCE: Duration = Duration::from_secs(10);
/// After a loss, each publish waits so long for Redis to be back: a connection that was reset is
/// there again sooner. Well within [`super::PUBLISH_CONFIRM_DEADLINE`], with the moment that others
/// are given then. Past half of what may be in flight none waits.
pub const LOSS_PATIENCE: Duration = Duration::from_millis(600);
/// Between two looks of who waits for that, for whom not all of Redis has to be there.
pub const FIRST_REACH_LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Messages of a batch that are at the broker at a time, to begin with.
pub const BATCH_WINDOW_MIN: usize = 64;
/// And at most: the window grows while answers come about as fast as the fastest did.
pub const BATCH_WINDOW_MAX: usize = 2048;
/// An answer that takes this much longer than the fastest has waited for others: less at a time.
pub const BATCH_QUEUE_MAX: Duration = Duration::from_millis(250);
/// From the end of a batch's body to the last message that is begun; what is left then is not
/// published, and its result says so. The answer follows within [`PUBLISH_ANSWER_DEADLINE`].
pub const BATCH_DEADLINE: Duration = Duration::from_secs(10);
/// Messages of all batches of a shard that are at the broker at a time, in bytes, each with
/// [`BATCH_MESSAGE_COST_BYTES`] besides its payload; further ones wait. Half of what a handle may
/// have on its way: a batch keeps nobody else from publishing.
pub const BATCHES_IN_FLIGHT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// So their number is bounded, too.
pub const BATCH_MESSAGE_COST_BYTES: usize = 2048;

/// What a line of a batch takes while it is worked on, besides its text: the message...
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
