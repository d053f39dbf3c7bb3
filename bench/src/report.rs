//! The result of one run: as JSON for programs and the record, as text for people.
//!
//! Names say unit and meaning, since the JSON files are kept and compared over years.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    args::{Mode, RunArgs},
    process::{CpuUse, Machine, Memory},
};

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) wsload: String,
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
    pub(crate) server: Option<Server>,
    pub(crate) load: Load,
    /// `server`, `load`, `both`, `neither`, or `unknown` without a --server-pid.
    pub(crate) saturated: String,
}

/// What became of the clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Clients {
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    pub(crate) connect_seconds: f64,
    /// Stayed to the end and received everything up to it.
    pub(crate) complete: u64,
    /// Close code, `eof`, `reset` or `protocol` → clients.
    pub(crate) closed: BTreeMap<String, u64>,
    /// The same for those that never read, and `open`.
    pub(crate) stalled: BTreeMap<String, u64>,
}

/// What the publishers did, warm-up included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Publishes {
    pub(crate) attempted: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) unconfirmed: u64,
    /// Accepted within the window.
    pub(crate) per_second: f64,
    /// How late the generator itself was.
    pub(crate) lateness: Latency,
    /// From sending to the server's answer.
    pub(crate) answers: Latency,
}

/// What the clients received.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Deliveries {
    /// The whole run, warm-up included.
    pub(crate) total: u64,
    pub(crate) in_window: u64,
    pub(crate) per_second: f64,
    /// Payload bytes.
    pub(crate) bytes_per_second: f64,
    pub(crate) holes: u64,
    pub(crate) repeats: u64,
    pub(crate) reordered: u64,
    /// To clients still connected, when the wait at the end was over.
    pub(crate) missing_at_end: u64,
    pub(crate) wrong_size: u64,
    /// Not of this run.
    pub(crate) foreign: u64,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
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
pub(crate) struct Load {
    pub(crate) cpu: CpuUse,
    pub(crate) receive_cpu_us_per_delivery: f64,
    pub(crate) publish_cpu_us_per_message: f64,
}

impl Report {
    /// Writes the report as JSON.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, clients, deliveries, latency, .. } = self;
        let pace = match scenario.mode {
            Mode::Live => format!("{} msg/s of {} B", scenario.rate, scenario.size),
            Mode::Burst => format!("{} B as fast as answered", scenario.size),
            Mode::Idle => "no messages".to_owned(),
        };
        writeln!(
            f,
            "{:?}: {} clients ({} never read), {} publishing, {pace}, {:.1} s",
            scenario.mode,
            scenario.clients,
            scenario.stalled,
            scenario.publishers,
            self.window_seconds
        )?;
        writeln!(
            f,
            "clients     {} opened in {:.2} s, {} failed, {} complete{}{}",
            clients.opened,
            clients.connect_seconds,
            clients.failed,
            clients.complete,
            words(", closed", &clients.closed),
            words(", stalled", &clients.stalled),
        )?;
        if scenario.mode != Mode::Idle {
            self.write_messages(f)?;
            writeln!(f, "latency     {latency}")?;
        }
        if let Some(server) = &self.server {
            server.write(f, deliveries.in_window > 0)?;
        }
        self.write_load(f)?;
        match self.problems.as_slice() {
            [] => write!(f, "all is well"),
            problems => write!(f, "PROBLEMS    {}", problems.join("\n            ")),
        }
    }
}

impl Report {
    fn write_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, deliveries, .. } = self;
        writeln!(
            f,
            "published   {} accepted ({:.1}/s in the window), {} unconfirmed{}; answers {}",
            published.accepted,
            published.per_second,
            published.unconfirmed,
            words(", refused", &published.refused),
            published.answers
        )?;
        writeln!(
            f,
            "delivered   {} ({:.0}/s, {:.1} MB/s in the window); holes {}, repeats {}, \
             reordered {}, missing at the end {}, foreign {}",
            deliveries.total,
            deliveries.per_second,
            deliveries.bytes_per_second / 1e6,
            deliveries.holes,
            deliveries.repeats,
            deliveries.reordered,
            deliveries.missing_at_end,
            deliveries.foreign
        )
    }

    fn write_load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = &self.load;
        writeln!(
            f,
            "load        CPU {:.2} s ({:.0} % of a core), {:.3} µs per delivery received, sent \
             late {}",
            load.cpu.cpu_seconds,
            load.cpu.share_of_one_core * 100.0,
            load.receive_cpu_us_per_delivery,
            self.published.lateness
        )?;
        writeln!(f, "saturated   {}", self.saturated)
    }
}

impl Server {
    fn write(&self, f: &mut fmt::Formatter<'_>, delivers: bool) -> fmt::Result {
        let cpu = &self.cpu;
        write!(
            f,
            "server      CPU {:.2} s (user {:.2}, system {:.2}; {:.0} % of a core, busiest thread \
             {:.0} %)",
            cpu.cpu_seconds,
            cpu.user_seconds,
            cpu.system_seconds,
            cpu.share_of_one_core * 100.0,
            cpu.busiest_thread_share * 100.0
        )?;
        if delivers {
            write!(f, ", {:.3} µs per delivery", self.cpu_us_per_delivery)?;
        }
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        writeln!(f, ", {:.1} µs per connect", self.cpu_us_per_connect)?;
        writeln!(
            f,
            "memory      RSS {:.1} MiB, with idle clients {:.1}, at the end {:.1}, most {:.1}; per \
             idle client {:.0} B (anonymous {:.0} B); kernel, both ends, {:.0} B",
            mib(self.memory_before.rss_bytes),
            mib(self.memory_idle.rss_bytes),
            mib(self.memory_end.rss_bytes),
            mib(self.rss_max_bytes),
            self.rss_bytes_per_idle_client,
            self.anonymous_bytes_per_idle_client,
            self.kernel_bytes_per_idle_client
        )
    }
}

/// `, closed 1013: 5, eof: 2`; nothing if there is nothing.
fn words(label: &str, counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{word}: {n}")).collect();
    format!("{label} {}", counts.join(", "))
}
