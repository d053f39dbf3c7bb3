//! Bounds of batches: how many of their messages are at the broker, for how long, at what cost.
//!
//! Part of [`limits`](super): a batch adapts to the broker's pace within these, and keeps no other
//! publisher from publishing.

use std::time::Duration;

use super::{
    HTTP_BODY_DEADLINE, HTTP_MEMORY_WAIT, HTTP_REQUEST_DEADLINE, PUBLISH_ANSWER_DEADLINE,
    PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISHES_IN_FLIGHT_MAX,
};

/// Least bound of an ndjson body, however small the largest message; past the bound 413.
pub const BATCH_BYTES_MAX_MIN: usize = 8 * 1024 * 1024;
/// Lines of one ndjson batch; past it 413.
pub const BATCH_LINES_MAX: usize = 10_000;
/// Bytes of a batch that are parsed before other tasks get their turn.
pub const BATCH_TURN_BYTES: usize = 128 * 1024;
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
const _: () = assert!(BATCHES_IN_FLIGHT_BYTES_MAX * 2 <= PUBLISH_BYTES_IN_FLIGHT_MAX);
const _: () =
    assert!(BATCHES_IN_FLIGHT_BYTES_MAX / BATCH_MESSAGE_COST_BYTES * 2 <= PUBLISHES_IN_FLIGHT_MAX);
