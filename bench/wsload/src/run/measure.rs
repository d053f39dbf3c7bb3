//! The readings at each moment of a run, and the figures of the report that follow from them.
//!
//! Counters and CPU are read together at both edges of the window, whenever the conductor's
//! thread really gets there: rates are per second of the window as it was, not as planned.

use anyhow::{Result, ensure};
use testkit::{
    clock,
    machine::{CpuSample, CpuUse, KernelMemory, Machine, Memory, cores_allowed, date_utc},
};

use crate::{
    args::{Mode, RunArgs},
    clients::{Outcome, Stage},
    publish::Published,
    report::{
        Clients, Deliveries, Distribution, Latency, Load, Publishes, Report, Server, Storm,
        Timeline,
    },
    storm::StormOutcome,
};

/// A live run below this part of its rate is not the scenario it claims to be.
const RATE_SHARE_MIN: f64 = 0.9;
/// From this share of a core on, a thread counts as saturated.
const SATURATED_SHARE: f64 = 0.9;

/// One edge of the window.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    at_ns: u64,
    server: CpuSample,
    own: CpuSample,
    deliveries: u64,
    bytes: u64,
    accepted: u64,
}

/// The events between two edges.
#[derive(Clone, Debug)]
pub(super) struct Window {
    from_ns: u64,
    to_ns: u64,
    seconds: f64,
    server: CpuUse,
    own: CpuUse,
    deliveries: u64,
    bytes: u64,
    accepted: u64,
}

impl Window {
    /// When it began and ended.
    pub(super) fn edges_ns(&self) -> (u64, u64) {
        (self.from_ns, self.to_ns)
    }
}

/// All that a report is made of, besides the meter's own.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) outcome: Outcome,
    pub(super) published: Published,
    pub(super) storm: Option<StormOutcome>,
    pub(super) window: Window,
    pub(super) timeline: Timeline,
}

/// Reads the kernel's books on the server and on this process.
#[derive(Debug)]
pub(super) struct Meter {
    server_pids: Vec<u32>,
    server_at_start: CpuSample,
    server_connect_cpu_seconds: f64,
    connect_seconds: f64,
    before: Memory,
    idle: Memory,
    end: Memory,
    rss_max_bytes: u64,
    kernel_before: KernelMemory,
    kernel_idle: KernelMemory,
}

impl Meter {
    /// Before the first client.
    pub(super) fn start(server_pids: &[u32]) -> Result<Self> {
        for pid in server_pids {
            ensure!(Memory::rss_bytes(&[*pid]) > 0, "--server-pid {pid}: no such process");
        }
        Ok(Self {
            server_pids: server_pids.to_vec(),
            server_at_start: CpuSample::take(server_pids),
            server_connect_cpu_seconds: 0.0,
            connect_seconds: 0.0,
            before: Memory::take(server_pids),
            idle: Memory::default(),
            end: Memory::default(),
            rss_max_bytes: 0,
            kernel_before: KernelMemory::take(),
            kernel_idle: KernelMemory::default(),
        })
    }

    /// All clients are connected, or have failed to.
    pub(super) fn connected(&mut self, seconds: f64) {
        let used = CpuSample::take(&self.server_pids).since(&self.server_at_start, seconds);
        self.server_connect_cpu_seconds = used.cpu_seconds;
        self.connect_seconds = seconds;
    }

    /// Clients are connected and nothing happens.
    pub(super) fn idle(&mut self) {
        self.idle = Memory::take(&self.server_pids);
        self.kernel_idle = KernelMemory::take();
        self.watch_memory(self.idle.rss_bytes);
    }

    /// Remembers the most memory seen.
    pub(super) fn watch_memory(&mut self, rss_bytes: u64) {
        self.rss_max_bytes = self.rss_max_bytes.max(rss_bytes);
    }

    /// All deliveries are in, or given up; clients are still connected or have just left.
    pub(super) fn end(&mut self) {
        self.end = Memory::take(&self.server_pids);
        self.watch_memory(self.end.rss_bytes);
    }

    /// Reads everything that a window needs, now.
    pub(super) fn window_edge(&self, stage: &Stage, accepted: u64) -> Edge {
        Edge {
            at_ns: clock::now_ns(),
            deliveries: stage.sum(|counters| &counters.deliveries),
            bytes: stage.sum(|counters| &counters.bytes),
            accepted,
            server: CpuSample::take(&self.server_pids),
            own: CpuSample::take(&[std::process::id()]),
        }
    }

    /// The window between two edges.
    pub(super) fn window(&self, from: Edge, to: Edge) -> Window {
        let seconds = clock::as_secs(to.at_ns - from.at_ns);
        Window {
            from_ns: from.at_ns,
            to_ns: to.at_ns,
            seconds,
            server: to.server.since(&from.server, seconds),
            own: to.own.since(&from.own, seconds),
            deliveries: to.deliveries - from.deliveries,
            bytes: to.bytes - from.bytes,
            accepted: to.accepted - from.accepted,
        }
    }

    /// Puts the report together.
    pub(super) fn report(&self, args: &RunArgs, results: Results) -> Report {
        let problems = problems(args, &results);
        let Results { outcome, published, storm, window, timeline } = results;
        Report {
            wsload: env!("CARGO_PKG_VERSION").to_owned(),
            date_utc: date_utc(),
            scenario: args.clone(),
            machine: Machine::describe(),
            problems,
            window_seconds: window.seconds,
            latency: Latency::of(&outcome.latencies_ns),
            distribution: Distribution::of(&outcome.latencies_ns),
            timeline,
            storm: storm.map(|storm| Storm {
                upgraded_per_second: storm.figures.upgraded as f64 / window.seconds,
                connect: Latency::of(&storm.connects_ns),
                ..storm.figures
            }),
            server: (!self.server_pids.is_empty()).then(|| self.server(&outcome, &window)),
            load: Load {
                receive_cpu_us_per_delivery: micros_each(
                    window.own.of_threads("clients-"),
                    window.deliveries,
                ),
                publish_cpu_us_per_message: micros_each(
                    window.own.of_threads("publisher-"),
                    window.accepted,
                ),
                cpu: window.own.clone(),
            },
            saturated: self.saturated(&window).to_owned(),
            published: Publishes {
                per_second: window.accepted as f64 / window.seconds,
                lateness: Latency::of(&published.lateness_ns),
                answers: Latency::of(&published.answers_ns),
                ..published.figures
            },
            deliveries: Deliveries {
                in_window: window.deliveries,
                per_second: window.deliveries as f64 / window.seconds,
                bytes_per_second: window.bytes as f64 / window.seconds,
                ..outcome.deliveries
            },
            clients: Clients { connect_seconds: self.connect_seconds, ..outcome.clients },
        }
    }

    fn server(&self, outcome: &Outcome, window: &Window) -> Server {
        let per_client = |after: u64, before: u64| {
            (after as f64 - before as f64) / outcome.clients.opened.max(1) as f64
        };
        let kernel = |memory: &KernelMemory| memory.slab_bytes + memory.tcp_buffer_bytes;
        Server {
            cpu: window.server.clone(),
            cpu_us_per_delivery: micros_each(window.server.cpu_seconds, window.deliveries),
            cpu_us_per_connect: micros_each(
                self.server_connect_cpu_seconds,
                outcome.clients.opened,
            ),
            memory_before: self.before,
            memory_idle: self.idle,
            memory_end: self.end,
            rss_max_bytes: self.rss_max_bytes,
            rss_bytes_per_idle_client: per_client(self.idle.rss_bytes, self.before.rss_bytes),
            anonymous_bytes_per_idle_client: per_client(
                self.idle.anonymous_bytes,
                self.before.anonymous_bytes,
            ),
            kernel_bytes_per_idle_client: per_client(
                kernel(&self.kernel_idle),
                kernel(&self.kernel_before),
            ),
        }
    }

    fn saturated(&self, window: &Window) -> &'static str {
        let is_saturated = |used: &CpuUse, cores: usize| {
            used.busiest_thread_share >= SATURATED_SHARE
                || used.share_of_one_core >= SATURATED_SHARE * cores as f64
        };
        let load = is_saturated(&window.own, cores_allowed(std::process::id()));
        let Some(pid) = self.server_pids.first() else {
            return if load { "load" } else { "unknown" };
        };
        match (is_saturated(&window.server, cores_allowed(*pid)), load) {
            (true, true) => "both",
            (true, false) => "server",
            (false, true) => "load",
            (false, false) => "neither",
        }
    }
}

fn micros_each(seconds: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { seconds * 1e6 / count as f64 }
}

/// Everything that a run without fault would not show.
fn problems(args: &RunArgs, results: &Results) -> Vec<String> {
    let Results { outcome, published, storm, window, .. } = results;
    let (clients, deliveries, published) =
        (&outcome.clients, &outcome.deliveries, &published.figures);
    let tally = deliveries.tally;
    let mut problems = Vec::new();
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            problems.push(format!("{count} {what}"));
        }
    };
    note(clients.failed, "clients could not connect");
    note(clients.closed.values().sum(), "reading clients were closed by the server");
    note(
        clients.closed.get("protocol").copied().unwrap_or(0),
        "clients got something that is no WebSocket stream",
    );
    // Each unconfirmed message may rightly be a hole at every client.
    let readers = (args.clients - args.stalled.min(args.clients)) as u64;
    let excused = published.unconfirmed * readers;
    note((tally.holes + deliveries.missing_at_end).saturating_sub(excused), "messages lost");
    note(tally.repeats, "messages repeated");
    note(tally.reordered, "messages out of order");
    note(deliveries.wrong_size, "messages of the wrong size");
    note(published.refused.values().sum(), "publishes refused");
    note(published.unconfirmed, "publishes unconfirmed");
    note(storm.as_ref().map_or(0, |storm| storm.figures.failed), "connects of the storm failed");
    if args.mode != Mode::Idle && published.accepted == 0 {
        problems.push("no message was accepted".to_owned());
    }
    let rate = window.accepted as f64 / window.seconds;
    let is_cut_short = published.attempted >= args.max_messages as u64;
    if args.mode == Mode::Live && rate < RATE_SHARE_MIN * args.rate && !is_cut_short {
        problems.push(format!("the rate was {rate:.1}/s, not {}/s", args.rate));
    }
    let storm_failure = storm.as_ref().and_then(|storm| storm.first_failure.as_ref());
    if let Some(failure) = outcome.first_failure.as_ref().or(storm_failure) {
        problems.push(format!("first failed connect: {failure}"));
    }
    problems
}
