//! Accepts on behalf of a silent shard, so that no connection waits for its return.
//!
//! The kernel keeps giving a shard's listening sockets their share of the connections whatever that
//! shard does. The control thread holds duplicates of them; while a shard's beat is missing it
//! accepts from these and gives the connections to the shards that live. A duplicate is registered
//! for readiness only meanwhile: the normal path costs a look at the beats, no more. Connections
//! that the shard had accepted before it fell silent wait for it: their state is on its thread. A
//! shard is silent if it does not beat though it had a CPU: with more threads than cores all are
//! late. The same look tells shards that hold too much to pass connections on.

use std::{io, sync::Arc};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::acceptor::HandOut;
use crate::{
    clock::Millis,
    drain::{Control, Phase},
    limits::{PLACEMENT_INTERVAL, SHARD_BEAT_INTERVAL, SHARD_STALL_ACCEPT},
    metrics::Placed,
    shard::{accept::complain, listener::PublicListener},
    telemetry::seldom,
};

/// One shard as the control thread watches it.
struct Watched {
    duplicates: Vec<PublicListener>,
    /// The tasks that accept for it while it is silent; dropped, they end.
    acceptors: Option<JoinSet<()>>,
}

/// Duplicates of all shards' listeners, by shard; no shard where there is no other to stand in.
pub(super) fn duplicates(
    listeners: &[Vec<PublicListener>],
) -> io::Result<Vec<Vec<PublicListener>>> {
    if listeners.len() < 2 {
        return Ok(Vec::new());
    }
    let duplicate = |PublicListener { socket, entrance }: &PublicListener| {
        Ok(PublicListener { socket: socket.try_clone()?, entrance: *entrance })
    };
    listeners.iter().map(|own| own.iter().map(duplicate).collect()).collect()
}

/// Watches the shards' beats, and evens out their load, forever.
pub(super) async fn watch(
    duplicates: Vec<Vec<PublicListener>>,
    hand_out: HandOut,
    control: Arc<Control>,
) {
    let HandOut { gate, placement, clock } = &hand_out;
    let watched = |duplicates| Watched { duplicates, acceptors: None };
    let mut shards: Vec<_> = duplicates.into_iter().map(watched).collect();
    let mut next_level = Millis::default();
    let mut ticks = interval(SHARD_BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        if gate.is_closed() {
            // Nothing is given away, and shards that are stopped are not silent.
            gate.opened().await;
            ticks.reset();
            continue;
        }
        // A thread that was held up itself (a stopped process, a starved machine) can't judge
        // others yet.
        if clock.instant().saturating_duration_since(due) >= SHARD_STALL_ACCEPT / 2 {
            continue;
        }
        // A shard that has ended does not stall.
        if control.phase() == Phase::Stopped {
            return;
        }
        let now = clock.now();
        if next_level <= now {
            placement.level();
            next_level = now + PLACEMENT_INTERVAL;
        }
        for (index, shard) in shards.iter_mut().enumerate() {
            shard.look(index, &hand_out, now);
        }
    }
}

impl Watched {
    fn look(&mut self, index: usize, hand_out: &HandOut, now: Millis) {
        let placement = &hand_out.placement;
        placement.excuse(index, now);
        let is_silent = placement.is_silent(index, now);
        match (is_silent, &self.acceptors) {
            // With no shard alive there is none to accept for.
            (true, None) if placement.has_room(now) => match begin(&self.duplicates, hand_out) {
                Ok(acceptors) => {
                    seldom!(
                        warn,
                        "a shard is silent: others take its new connections",
                        shard = index
                    );
                    self.acceptors = Some(acceptors);
                }
                Err(error) => complain(&error),
            },
            (false, Some(_)) => {
                seldom!(info, "the shard is back: it takes new connections again", shard = index);
                self.acceptors = None;
            }
            _ => {}
        }
        if is_silent {
            placement.take_back(index, now);
        }
    }
}

/// Starts to accept from `duplicates`, which stay as they are.
fn begin(duplicates: &[PublicListener], hand_out: &HandOut) -> io::Result<JoinSet<()>> {
    let mut acceptors = JoinSet::new();
    for PublicListener { socket, entrance } in duplicates {
        let listener = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
        acceptors.spawn_local(hand_out.clone().tcp(listener, *entrance, Placed::Stalled));
    }
    Ok(acceptors)
}

#[cfg(test)]
mod tests;
