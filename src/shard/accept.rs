//! From the listening socket to the shard's intake: the loops that accept.
//!
//! The number of HTTP connections is bounded by places. Past it, connections that wait for their
//! peer make room; only where none does, newcomers wait: one of each listener here, the others in
//! the kernel. Storms are paced: only a limited number of connections is accepted before other
//! tasks have their turn. When descriptors run out, accepting pauses, says so once a second, and
//! resumes by itself. Behind a closed gate nothing is accepted.

use std::{io, rc::Rc, sync::Arc};

use tokio::{task::yield_now, time::sleep};
use tracing::debug;

use super::{
    intake::ConnectionIntake,
    listener::{Accepted, Entrance},
    placement::Moved,
    stream::{Listener, PlainStream},
};
use crate::{
    limits::{ACCEPT_BACKOFF, NEWCOMERS_PER_TURN},
    metrics::ShardMetrics,
    peer::PeerAddress,
    telemetry::seldom,
};

/// Logs that accepting fails.
pub fn complain(error: &io::Error) {
    seldom!(warn, "cannot accept connections; trying again", %error);
}

/// Gives newcomers their turns, forever.
pub(super) async fn give_turns(intake: Rc<ConnectionIntake>) -> &'static str {
    intake.give_turns().await;
    "turns"
}

/// Accepts connections, forever.
pub(super) async fn accept(
    intake: Rc<ConnectionIntake>,
    listener: Listener,
    entrance: Entrance,
) -> &'static str {
    let mut accepted = 0_usize;
    loop {
        accepted += 1;
        if accepted.is_multiple_of(NEWCOMERS_PER_TURN) {
            yield_now().await;
        }
        match intake.gate().while_open(listener.accept()).await {
            None => intake.gate().opened().await,
            Some(Ok((stream, peer))) => {
                // Only now: room that was found before would be others' by the time it is needed.
                let _seated = intake.room().await;
                intake.welcome(stream, entrance, peer.into());
            }
            Some(Err(error)) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Some(Err(error)) => {
                complain(&error);
                intake.make_room();
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Takes what other threads have accepted for this shard, forever; behind a closed gate, too, since
/// nothing may be lost on its way.
pub(super) async fn take_moved(
    intake: Rc<ConnectionIntake>,
    metrics: Arc<ShardMetrics>,
) -> &'static str {
    loop {
        let Moved { accepted, newcomer, why } = intake.moved().await;
        let _seated = intake.room().await;
        metrics.connections_placed.add(why as usize, 1);
        let Accepted { stream, entrance } = accepted;
        match PeerAddress::of(&stream) {
            Some(peer) => intake.open(PlainStream::Bare(stream), entrance, peer, newcomer),
            None => debug!("a connection was gone before it got here"),
        }
    }
}

/// The error concerns the connection that was to be accepted, not the listener.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
