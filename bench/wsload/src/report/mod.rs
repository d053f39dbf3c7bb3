//! The result of one run: as JSON for programs and the record, as text for people.
//!
//! Names say unit and meaning, since the JSON files are kept and compared over years. A field that
//! an older version did not write has its default: every committed record must load.

mod limits;
mod series;
mod text;

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use testkit::machine::{CpuUse, Machine, Memory};

pub(crate) use self::series::{Distribution, Timeline};
use crate::{args::RunArgs, sequence::Tally};

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    pub(crate) wsload: String,
    /// When it ended.
    pub(crate) date_utc: String,
    pub(crate) scenario: RunArgs,
    pub(crate) machine: Machine,
    /// Empty if all is well.
    pub(crate) problems: Vec<String>,
    /// How long the measured window really was.
    pub(crate) window_seconds: f64,
    pub(crate) clients: Clients,
    pub(crate) published: Publishes,
    pub(crate) deliveries: Deliveries,
    /// From the intended time (live) or the sending (burst) to the last byte at the client;
    /// messages intended within the window.
    pub(crate) latency: Latency,
    pub(crate) distribution: Distribution,
    pub(crate) timeline: Timeline,
    /// With --storm-clients.
    pub(crate) storm: Option<Storm>,
    pub(crate) server: Option<Server>,
    pub(crate) load: Load,
    /// `server`, `load`, `both`, `neither`, or `unknown` without a --server-pid.
    pub(crate) saturated: String,
}

/// The fate of the clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Clients {
    pub(crate) opened: u64,
    /// Of these: those whose TLS was resumed by a ticket.
    pub(crate) resumed: u64,
    pub(crate) failed: u64,
    pub(crate) connect_seconds: f64,
    /// Stayed to the end and received everything up to it.
    pub(crate) complete: u64,
    /// Close code, `eof`, `reset` or `protocol` → clients that read.
    pub(crate) closed: BTreeMap<String, u64>,
    /// The same for those that never read, and `open`.
    pub(crate) stalled: BTreeMap<String, u64>,
}

/// The work of the publishers, warm-up included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Publishes {
    pub(crate) attempted: u64,
    pub(crate) accepted: u64,
    /// Status of a refusal (nothing was published), or `connect`.
    pub(crate) refused: BTreeMap<String, u64>,
    /// No answer, or 504: clients may have it or not.
    pub(crate) unconfirmed: u64,
    /// Accepted within the window.
    pub(crate) per_second: f64,
    /// How late the generator itself was.
    pub(crate) lateness: Latency,
    /// From sending to the server's answer.
    pub(crate) answers: Latency,
}

/// The messages that the clients received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Deliveries {
    /// The whole run, warm-up included.
    pub(crate) total: u64,
    pub(crate) in_window: u64,
    pub(crate) per_second: f64,
    /// Payload bytes.
    pub(crate) bytes_per_second: f64,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// To clients still connected, when the wait at the end was over.
    pub(crate) missing_at_end: u64,
    pub(crate) wrong_size: u64,
    /// Not of this run: greetings, notices, other publishers.
    pub(crate) foreign: u64,
}

/// Others that connected, upgraded and were reset, again and again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Storm {
    pub(crate) attempted: u64,
    pub(crate) upgraded: u64,
    /// Of these: those whose TLS was resumed by a ticket.
    pub(crate) resumed: u64,
    pub(crate) upgraded_per_second: f64,
    /// Status → handshakes answered with it: 503 is the server's right.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) failed: u64,
    /// From connect to 101.
    pub(crate) connect: Latency,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram_ns: &Histogram<u64>) -> Self {
        let at = |quantile| histogram_ns.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: histogram_ns.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = self;
        write!(
            f,
            "p50 {p50_us:.0}  p90 {p90_us:.0}  p99 {p99_us:.0}  p99.9 {p999_us:.0}  \
             max {max_us:.0} µs"
        )
    }
}

/// The server's processes, as the kernel books them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Server {
    /// Within the window.
    pub(crate) cpu: CpuUse,
    pub(crate) cpu_us_per_delivery: f64,
    /// CPU per client from connect to the end of the upgrade.
    pub(crate) cpu_us_per_connect: f64,
    /// Before the first client.
    pub(crate) memory_before: Memory,
    /// With all clients connected and no message sent.
    pub(crate) memory_idle: Memory,
    pub(crate) memory_end: Memory,
    pub(crate) rss_max_bytes: u64,
    /// Growth from before to idle, per client.
    pub(crate) rss_bytes_per_idle_client: f64,
    pub(crate) anonymous_bytes_per_idle_client: f64,
    /// The whole machine's slab and TCP buffers, per client: both ends of each connection.
    pub(crate) kernel_bytes_per_idle_client: f64,
}

/// The load generator's own part, within the window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Load {
    pub(crate) cpu: CpuUse,
    pub(crate) receive_cpu_us_per_delivery: f64,
    pub(crate) publish_cpu_us_per_message: f64,
}

/// Adds one's counts to another's.
pub(crate) fn add_counts(sum: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (word, count) in more {
        *sum.entry(word).or_default() += count;
    }
}

impl Report {
    /// Reads a report that --out or --json wrote, also in an older version.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{}: not a report of wsload run", path.display()))
    }

    /// Whether it says on which machine how many clients were open: no run is without.
    pub fn is_of_a_run(&self) -> bool {
        self.clients.opened > 0 && self.machine.cores > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_missing_in_a_file_have_their_defaults() {
        let report: Report = serde_json::from_str("{\"problems\":[\"x\"]}").unwrap();
        assert_eq!(report.scenario.clients, 1000);
        assert!(report.timeline.at_ms.is_empty() && report.storm.is_none());
    }
}
