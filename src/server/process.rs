//! What belongs to the process as a whole, and what its ops routes report.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::warn;

use super::settings;
use crate::{
    broker,
    config::{COMMIT, Config, VERSION},
    drain::Control,
    http::{self, ops},
    hub::{Audience, Budget},
    limits::{CLUSTER_MASTERS_RESERVED, DESCRIPTORS_PER_SHARD, DESCRIPTORS_RESERVED},
    metrics::{self, PublishFailure, Scope, ShardMetrics, Source, facts},
    telemetry,
};

/// Shared by all threads.
pub(super) struct Process {
    pub(super) shards: Vec<Arc<ShardMetrics>>,
    pub(super) control: Arc<Control>,
    pub(super) broker: Arc<broker::Shared>,
    pub(super) budget: Arc<Budget>,
    pub(super) audience: Arc<Audience>,
    pub(super) connections_max: usize,
    /// What of the broker's own counts the metrics have.
    pub(super) raw_counted: RawCounted,
}

/// Raw messages are counted by the broker; the metrics of the first shard take them over.
#[derive(Debug, Default)]
pub(super) struct RawCounted {
    published: AtomicU64,
    failures: [AtomicU64; RAW_FAILURES.len()],
}

/// What can become of a raw message instead.
const RAW_FAILURES: [PublishFailure; 3] =
    [PublishFailure::TooBig, PublishFailure::BrokerLost, PublishFailure::Unconfirmed];

impl Process {
    /// The ops routes' sources, for the calling thread.
    pub(super) fn sources(self: &Arc<Self>) -> ops::Sources {
        let (broker, text, stats) = (self.clone(), self.clone(), self.clone());
        ops::Sources {
            shards: self.shards.clone(),
            broker: Rc::new(move || broker.broker_state()),
            metrics_text: Rc::new(move || metrics::text::render(&text.facts())),
            stats_json: Rc::new(move || {
                metrics::json::render(&stats.facts(), stats.shards.len()).to_string()
            }),
            version: VERSION.to_owned(),
        }
    }

    /// What the connections of the admin listener share.
    pub(super) fn admin_context(self: &Arc<Self>, config: &Config) -> http::Context {
        http::Context {
            settings: settings::http(config, self.connections_max),
            control: self.control.clone(),
            ops: self.sources(),
            public: None,
        }
    }

    fn broker_state(&self) -> ops::BrokerState {
        let health = self.broker.health();
        ops::BrokerState {
            reach: health.reach(),
            refuses: health.refuses(),
            shard_stalled: health.stalled_shard().is_some(),
        }
    }

    /// Takes over what `health` has counted since the last time.
    fn take_over_raw_counts(&self, health: &broker::Health) {
        let cells = &self.shards[0];
        let published = since(&self.raw_counted.published, health.raw_published());
        cells.published.add(Source::Redis, Scope::Cluster, published);
        for (counted, reason) in self.raw_counted.failures.iter().zip(RAW_FAILURES) {
            let failed = since(counted, health.raw_failures(reason));
            cells.publish_failures.add(reason as usize, failed);
        }
    }

    fn facts(&self) -> Vec<facts::Family> {
        let health = self.broker.health();
        self.take_over_raw_counts(&health);
        let connected = matches!(health.reach(), broker::Reach::Embedded | broker::Reach::Up);
        let process = facts::ProcessFacts {
            broker_connected: connected,
            broker_reconnects: health.reconnects(),
            broker_gaps_repaired: health.repaired(),
            broker_gaps_unrepaired: health.gaps(),
            broker_refusals: health.refusals(),
            broker_lag_seconds: health.lag_seconds(),
            raw_handovers: health.raw_handovers(),
            log_lines_dropped: telemetry::lines_dropped(),
            drain_phase: self.control.phase(),
            drain_remaining_connections: self.control.barrier.clients() as u64,
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
        };
        facts::gather(&self.shards, &process)
    }
}

/// How far `count` has grown past `counted`, which then has it too; each growth is told once,
/// whoever asks at the same time.
fn since(counted: &AtomicU64, count: u64) -> u64 {
    count.saturating_sub(counted.fetch_max(count, Ordering::Relaxed))
}

/// How many clients the process takes: what was asked for, and no more than its descriptors allow.
pub(super) fn connections_max(config: &Config) -> usize {
    let redis =
        config.redis.url.as_ref().map_or(0, |url| match url.expose().contains("-cluster://") {
            // Lanes and a subscriber to each master.
            true => CLUSTER_MASTERS_RESERVED * (config.redis.pool + 1),
            false => config.redis.pool,
        });
    // Each shard's listeners, and the control thread's duplicates of them.
    let per_shard = DESCRIPTORS_PER_SHARD + (2 * config.listen.len() + redis) as u64;
    let allowed = descriptors_allow(DESCRIPTORS_RESERVED + per_shard * config.threads as u64);
    match config.max_connections {
        Some(asked) if asked > allowed => {
            // Past the descriptors nobody could be told 503.
            warn!(asked, allowed, "--max-connections is more than the descriptor limit allows");
            allowed
        }
        Some(asked) => asked,
        None => allowed,
    }
}

/// Raises the soft descriptor limit to the hard one; what it leaves for clients when `reserved`
/// are kept for everything else.
#[cfg(unix)]
fn descriptors_allow(reserved: u64) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => {
            tracing::info!(limit, "descriptor limit");
            limit
        }
        Err(error) => {
            warn!(%error, "cannot raise the descriptor limit");
            rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(1024, |(soft, _)| soft)
        }
    };
    let left = limit - reserved.min(limit / 2);
    usize::try_from(left).unwrap_or(usize::MAX)
}

/// Windows has no such limit.
#[cfg(not(unix))]
fn descriptors_allow(_reserved: u64) -> usize {
    usize::MAX
}
