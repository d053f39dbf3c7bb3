//! The state of the process as a whole, and the facts that its ops routes report.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    certificates::{CertificateFiles, Certificates},
    descriptors::Shares,
    reload::{Reload, Reloads},
    secret_files::SecretFiles,
    settings,
};
use crate::{
    admission::AddressLimits,
    broker::{self, Announcer, Broker, Sink},
    clock::Clock,
    config::{COMMIT, Config, VERSION},
    drain::Control,
    http::{self, sources},
    hub::{Audience, Budget},
    metrics::{
        self, PublishFailure, Scope, ShardMetrics, Source, facts, family,
        upgrade_counts::UpgradeCounts,
    },
    telemetry,
    token::{Verifier, WaitingRoom},
};

/// Shared by all threads.
pub(super) struct Process {
    /// The one clock of the server.
    pub(super) clock: Clock,
    pub(super) shards: Vec<Arc<ShardMetrics>>,
    pub(super) control: Arc<Control>,
    pub(super) broker: Arc<broker::Shared>,
    /// The mailboxes of all shards.
    pub(super) sinks: Arc<[Arc<dyn Sink>]>,
    pub(super) budget: Arc<Budget>,
    pub(super) address_limits: Arc<AddressLimits>,
    pub(super) audience: Arc<Audience>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) api_tokens: http::ApiTokens,
    pub(super) shares: Shares,
    /// The part of the broker's own counts that the metrics have.
    pub(super) raw_counted: RawCounted,
    /// Upgrades in place, before this process, too.
    pub(super) upgrades: Arc<UpgradeCounts>,
    /// Those of the public listeners, if any speaks TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
}

/// Raw messages are counted by the broker; the metrics of the first shard take them over.
#[derive(Debug, Default)]
pub(super) struct RawCounted {
    published: AtomicU64,
    failures: [AtomicU64; RAW_FAILURES.len()],
}

/// The other outcomes of a raw message.
const RAW_FAILURES: [PublishFailure; 3] =
    [PublishFailure::TooBig, PublishFailure::BrokerLost, PublishFailure::Unconfirmed];

impl Process {
    /// The ops routes' sources, for the calling thread.
    pub(super) fn sources(self: &Arc<Self>) -> sources::Sources {
        let (broker, text, stats) = (self.clone(), self.clone(), self.clone());
        sources::Sources {
            shards: self.shards.clone(),
            broker: Rc::new(move || broker.broker_state()),
            metrics_text: sources::Text::new(self.clock, move || {
                metrics::text::render(&text.facts())
            }),
            stats_json: sources::Text::new(self.clock, move || {
                metrics::json::render(&stats.facts(), stats.shards.len()).to_string() + "\n"
            }),
            pacer: sources::OpsPacer::default(),
            version: VERSION.to_owned(),
        }
    }

    /// The state shared by the connections of the admin listener.
    pub(super) fn admin_context(
        self: &Arc<Self>,
        config: &Config,
        broker: Rc<dyn Broker>,
    ) -> http::Context {
        http::Context {
            settings: settings::http(config, self.shares, &self.api_tokens),
            clock: self.clock,
            verifier: self.verifier.clone(),
            token_room: WaitingRoom::among(self.shares.admin.places),
            control: self.control.clone(),
            ops: self.sources(),
            announcer: Announcer::new(broker, self.sinks.clone(), self.verifier.bans().clone()),
            public: None,
        }
    }

    /// The files that SIGHUP reads again.
    pub(super) fn reloads(&self, config: &Config) -> Reloads {
        let mut files: Vec<Box<dyn Reload>> = vec![Box::new(SecretFiles {
            sources: config.secret_sources.clone(),
            verifier: self.verifier.clone(),
            api_tokens: self.api_tokens.clone(),
        })];
        let certificates = self.certificates.clone();
        let certificates = certificates.map(|all| CertificateFiles(all, self.clock));
        files.extend(certificates.map(|files| Box::new(files) as Box<dyn Reload>));
        Reloads::new(files)
    }

    fn broker_state(&self) -> sources::BrokerState {
        let health = self.broker.health();
        sources::BrokerState {
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

    fn facts(&self) -> Vec<family::Family> {
        let health = self.broker.health();
        self.take_over_raw_counts(&health);
        let evicted = self.broker.evicted();
        let connected = matches!(health.reach(), broker::Reach::Embedded | broker::Reach::Up);
        let process = family::ProcessFacts {
            broker_connected: connected,
            broker_reconnects: health.reconnects(),
            broker_gaps_repaired: health.repaired(),
            broker_gaps_unrepaired: health.gaps(),
            broker_dropped: [health.duplicates(), health.foreign()],
            broker_refusals: health.refusals(),
            broker_lag_seconds: health.lag_seconds(),
            raw_handovers: health.raw_handovers(),
            history_evicted: [evicted.messages, evicted.channels],
            tokens_verified: self.verifier.counts(),
            log_lines_dropped: telemetry::lines_dropped(),
            certificates: self.certificates.as_ref().map(|ours| ours.facts()).unwrap_or_default(),
            upgrades: self.upgrades.record(),
            drain_phase: self.control.phase(),
            drain_remaining_connections: self.control.barrier.clients() as u64,
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
        };
        facts::gather(&self.shards, &process)
    }
}

/// How far `count` has grown past `counted`, which is then brought up to it. Each increase is
/// counted once, however many threads ask at the same time.
fn since(counted: &AtomicU64, count: u64) -> u64 {
    count.saturating_sub(counted.fetch_max(count, Ordering::Relaxed))
}
