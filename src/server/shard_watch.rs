//! The control thread's look at the shards while the process drains: the clients that have left,
//! and shards that hang.
//!
//! A shard that hangs can serve nobody and close nobody, so a drain must not wait for its clients.
//! Only time that this thread has seen pass counts as silence: after it was held up itself (a
//! stopped process, a starved machine) the shards get their time to beat again.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Millis,
    limits::{SHARD_STALL_LIVE, SHARDS_LOOK_INTERVAL},
    metrics::ShardMetrics,
    ws::close::CloseReason,
};

/// All shards, as they were at the last look.
pub(super) struct ShardWatch {
    shards: Vec<(Arc<ShardMetrics>, Seen)>,
    looked: Option<Millis>,
}

/// A shard's last beat, and for how long there has been no other.
#[derive(Clone, Copy, Default)]
struct Seen {
    beat_ms: u64,
    silent_for: Duration,
}

impl ShardWatch {
    pub(super) fn new(shards: &[Arc<ShardMetrics>]) -> Self {
        let shards = shards.iter().map(|metrics| (metrics.clone(), Seen::default())).collect();
        Self { shards, looked: None }
    }

    /// To be called once in [`SHARDS_LOOK_INTERVAL`], or more often.
    pub(super) fn look(&mut self, now: Millis) {
        let passed = self.looked.map_or(Duration::ZERO, |looked| now - looked);
        let passed = passed.min(SHARDS_LOOK_INTERVAL * 2);
        self.looked = Some(now);
        for (metrics, seen) in &mut self.shards {
            let beat_ms = metrics.beat_ms.get();
            let silent_for =
                if beat_ms == seen.beat_ms { seen.silent_for + passed } else { Duration::ZERO };
            *seen = Seen { beat_ms, silent_for };
        }
    }

    /// Nothing is looked at until the next call of [`ShardWatch::look`].
    pub(super) fn rest(&mut self) {
        self.looked = None;
        self.shards.iter_mut().for_each(|(_, seen)| *seen = Seen::default());
    }

    /// Clients that have left since the process began.
    pub(super) fn left_ever(&self) -> u64 {
        let closed = |metrics: &ShardMetrics| -> u64 {
            (0..CloseReason::ALL.len()).map(|reason| metrics.connections_closed.get(reason)).sum()
        };
        self.shards.iter().map(|(metrics, _)| closed(metrics)).sum()
    }

    /// The shards that hang and their clients, if no other shard has any.
    pub(super) fn only_hanging(&self) -> Option<(Vec<usize>, u64)> {
        let mut hanging = (Vec::new(), 0);
        for (index, (metrics, seen)) in self.shards.iter().enumerate() {
            let clients = metrics.connections.get();
            if seen.silent_for >= SHARD_STALL_LIVE {
                hanging.0.push(index);
                hanging.1 += clients;
            } else if clients > 0 {
                return None;
            }
        }
        (!hanging.0.is_empty()).then_some(hanging)
    }
}
