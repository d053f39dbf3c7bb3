//! The report as text, for people at a terminal.
//!
//! One line per subject, each beginning with its word; figures that were not measured are left
//! out rather than shown as zero.

use std::{collections::BTreeMap, fmt};

use super::{Report, Server, Storm};
use crate::args::Mode;

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
            "{}: {} clients ({} never read), {} publishing, {pace}, {:.1} s",
            scenario.title(),
            scenario.clients,
            scenario.stalled,
            scenario.publishers,
            self.window_seconds
        )?;
        writeln!(
            f,
            "clients     {} opened in {:.2} s{}, {} failed, {} complete{}{}",
            clients.opened,
            clients.connect_seconds,
            resumed(clients.resumed),
            clients.failed,
            clients.complete,
            words(", closed", &clients.closed),
            words(", stalled", &clients.stalled),
        )?;
        if scenario.mode != Mode::Idle {
            self.write_messages(f)?;
            writeln!(f, "latency     {latency}")?;
        }
        if let Some(storm) = &self.storm {
            storm.write(f)?;
        }
        if let Some(server) = &self.server {
            server.write(f, deliveries.in_window > 0)?;
        }
        self.write_load(f)?;
        match (self.problems.as_slice(), self.limits().as_slice()) {
            ([], []) => write!(f, "all is well"),
            ([], limits) => write!(f, "all arrived, but {}", limits.join("\n            ")),
            (problems, _) => write!(f, "PROBLEMS    {}", problems.join("\n            ")),
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
            deliveries.tally.holes,
            deliveries.tally.repeats,
            deliveries.tally.reordered,
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

impl Storm {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "storm       {} reconnects ({:.0}/s), {} failed{}; connect {}",
            self.upgraded,
            self.upgraded_per_second,
            self.failed,
            words(", refused", &self.refused),
            self.connect
        )
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
/// Where there was TLS.
fn resumed(count: u64) -> String {
    if count > 0 { format!(" ({count} by a ticket)") } else { String::new() }
}

fn words(label: &str, counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let counts: Vec<String> = counts.iter().map(|(word, n)| format!("{word}: {n}")).collect();
    format!("{label} {}", counts.join(", "))
}
