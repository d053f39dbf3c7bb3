//! The shape of a metric: a family of samples with labels, as both formats write it.
//!
//! Values are collected first and written afterwards, so a metric has the same name, labels and
//! value in `/metrics` and in `/stats`. Nothing here reads a counter or writes text.

use std::borrow::Cow;

use super::{BrokerRefusal, FANOUT_BUCKETS_US, TokenResult, upgrade_counts::UpgradeRecord};
use crate::drain::Phase;

/// The prefix of all names except the usual `process_*`.
pub const PREFIX: &str = "wsbcast_";

/// How a metric behaves, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// How the shards' values become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Their sum.
    Sum,
    /// Their maximum.
    Max,
}

/// A metric and all its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// With prefix and unit.
    pub name: Cow<'static, str>,
    /// One line for people.
    pub help: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// How a total is made.
    pub total: Total,
    /// One sample per shard and set of labels.
    pub samples: Vec<Sample>,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The shard it belongs to; `None`: the whole process.
    pub shard: Option<usize>,
    /// Labels apart from `shard`; the last one distinguishes the samples of a family.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// The value.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count or a number of bytes.
    Whole(u64),
    /// Seconds.
    Real(f64),
    /// A distribution of durations.
    Histogram(Distribution),
}

/// The number of durations in each bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Cumulative: how many were at most as long as [`FANOUT_BUCKETS_US`] says; the last is the
    /// total.
    pub counts: [u64; FANOUT_BUCKETS_US.len() + 1],
    /// The sum of all, microseconds.
    pub sum_us: u64,
}

/// Values that are not in the shards' cells.
#[derive(Clone, Debug)]
pub struct ProcessFacts {
    /// Whether the broker is within reach; always, for the embedded one.
    pub broker_connected: bool,
    /// Times the broker came back.
    pub broker_reconnects: u64,
    /// Holes in the broker's stream that were filled before anyone noticed.
    pub broker_gaps_repaired: u64,
    /// Holes that were reported to clients.
    pub broker_gaps_unrepaired: u64,
    /// Messages that came a second time, and those that were not written by wsbcast.
    pub broker_dropped: [u64; 2],
    /// Commands that the broker refused, by [`BrokerRefusal`].
    pub broker_refusals: [u64; BrokerRefusal::WORDS.len()],
    /// How long the last heartbeat took through the broker and back.
    pub broker_lag_seconds: f64,
    /// How often this process took the raw channel over without a handover by its holder.
    pub raw_handovers: u64,
    /// Messages evicted from histories, and histories evicted, for want of room.
    pub history_evicted: [u64; 2],
    /// Tokens that were shown, by [`TokenResult`].
    pub tokens_verified: [u64; TokenResult::WORDS.len()],
    /// Log lines that were not taken in time.
    pub log_lines_dropped: u64,
    /// The certificates of the public listeners.
    pub certificates: CertificateFacts,
    /// Upgrades in place.
    pub upgrades: UpgradeRecord,
    /// The phase of the process's life.
    pub drain_phase: Phase,
    /// Clients that still hold the drain; 0 while serving.
    pub drain_remaining_connections: u64,
    /// The package's version.
    pub version: &'static str,
    /// The commit it was built from.
    pub commit: &'static str,
}

/// The certificates of the public listeners.
#[derive(Clone, Debug, Default)]
pub struct CertificateFacts {
    /// The file of each, and the end of its validity, seconds since 1970.
    pub not_after: Vec<(String, u64)>,
    /// How often they were exchanged, and how often bad ones were refused.
    pub reloads: [u64; 2],
}

/// A family of the whole process.
pub(super) fn process_family(
    name: &str,
    kind: MetricKind,
    help: &'static str,
    samples: Vec<Sample>,
) -> Family {
    Family { name: format!("{PREFIX}{name}").into(), help, kind, total: Total::Sum, samples }
}

/// Microseconds as seconds.
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
