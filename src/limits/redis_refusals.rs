//! Bounds of publishing through a Redis that is far away, refuses messages, or moves.
//!
//! Part of [`limits`](super): publishers wait within these, and `/readyz` follows.

use std::time::Duration;

use super::{PUBLISH_CONFIRM_DEADLINE, REDIS_SETTLE};

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
/// Trials clear again after this long without a refused message.
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

const _: () = assert!(
    LOSS_PATIENCE.as_millis() + REDIS_SETTLE.as_millis() < PUBLISH_CONFIRM_DEADLINE.as_millis()
);
