//! The loops of a shard: readiness of clients, publications out, the beat.
//!
//! Each is one task that runs as long as the shard. None holds a borrow across an await, none
//! runs longer than its slice before others get their turn.

use std::{rc::Rc, sync::Arc, time::Instant};

use tokio::{
    task::yield_now,
    time::{MissedTickBehavior, interval},
};
use tracing::error;

use super::{
    Core,
    accept::Door,
    mailbox::{Mail, Mailbox},
};
use crate::{
    clock,
    conn::socket::Poller,
    limits::{APPEND_TURN_BYTES_MAX, PASS_SLICE, SHARD_BEAT_INTERVAL},
    metrics::ShardMetrics,
};

/// Reads from and writes to clients that are ready.
pub(super) async fn events(core: Rc<Core>, mut poller: Poller) -> &'static str {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            ready = poller.ready(&mut batch) => if let Err(error) = ready {
                error!(%error, "the clients' epoll set failed");
                return "event";
            },
            () = core.again.notified() => {}
        }
        let now = clock::now();
        core.with(|clients| {
            for ready in batch.drain(..) {
                clients.on_ready(ready, now);
            }
            for key in clients.take_again() {
                clients.read_again(key, now);
            }
        });
        yield_now().await;
    }
}

/// Takes publications from the mailbox, appends them to the logs, moves bytes to the clients.
pub(super) async fn fan_out(
    core: Rc<Core>,
    mailbox: Arc<Mailbox>,
    metrics: Arc<ShardMetrics>,
    door: Rc<Door>,
) -> &'static str {
    let mut mail = Vec::new();
    let mut arrivals: Vec<Instant> = Vec::new();
    let mut more = false;
    loop {
        if !more {
            mailbox.filled().await;
        }
        mailbox.take(APPEND_TURN_BYTES_MAX, &mut mail);
        for piece in mail.drain(..) {
            deliver(&core, &door, piece, &mut arrivals);
        }
        let slice_end = clock::instant() + PASS_SLICE;
        let unfinished = core.with(|clients| clients.pass(&mut || clock::instant() < slice_end));
        if !unfinished {
            let now = clock::instant();
            for arrival in arrivals.drain(..) {
                let took = now.saturating_duration_since(arrival);
                metrics.fanout.observe_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
        }
        more = unfinished || !mailbox.is_empty();
        if more {
            yield_now().await;
        }
    }
}

fn deliver(core: &Rc<Core>, door: &Rc<Door>, mail: Mail, arrivals: &mut Vec<Instant>) {
    match mail {
        Mail::Publication(publication, arrived) => {
            let channel = publication.channel.as_str();
            let appended =
                core.with(|clients| clients.append(channel, publication.kind, &publication.data));
            if appended {
                arrivals.push(arrived);
            }
        }
        Mail::Gap(channel) => core.with(|clients| clients.close_for_gap(&channel)),
        Mail::Connection(stream) => door.take(stream),
        Mail::Call(call) => call(),
    }
}

/// Deadlines, pings, pacing and memory of the clients; and the sign that this shard lives.
pub(super) async fn beat(core: Rc<Core>, metrics: Arc<ShardMetrics>) -> &'static str {
    let mut ticks = interval(SHARD_BEAT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = ticks.tick().await;
        let late = tokio::time::Instant::now().saturating_duration_since(due);
        let now = clock::now();
        metrics.loop_lag_us.set(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
        metrics.beat_ms.set(now.0);
        core.with(|clients| clients.on_tick(now));
    }
}
