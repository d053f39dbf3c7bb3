//! The results of a fleet: as JSON for the record, as text for people.
//!
//! Names say unit and meaning. Memory of the kernel is the whole machine's and holds both ends
//! of each connection, since servers and clients share it.

use std::{collections::BTreeMap, fmt, fs};

use serde::Serialize;
use testkit::machine::{KernelMemory, Machine, Memory, said_by};

use super::{
    Account,
    args::FleetArgs,
    worker::{SLOT_NS, sources_of},
};

/// Settings of the kernel that bound a fleet.
const KERNEL_LIMITS: [&str; 7] = [
    "fs/file-max",
    "fs/nr_open",
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_max_orphans",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_mem",
];

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) wsload: &'static str,
    pub(super) command: Vec<String>,
    pub(super) date_utc: String,
    pub(super) commit: String,
    pub(super) machine: Machine,
    pub(super) scenario: FleetArgs,
    pub(super) kernel_limits: BTreeMap<&'static str, String>,
    /// Empty if all is well.
    pub(super) problems: Vec<String>,
    pub(super) servers: usize,
    pub(super) source_addresses: u32,
    pub(super) clients_opened: u64,
    pub(super) connect_seconds: f64,
    pub(super) memory: PerClient,
    /// Per message, from its publication to its arrival.
    pub(super) broadcasts: Vec<Broadcast>,
    pub(super) holes: u64,
    pub(super) repeats: u64,
    /// Close code, `eof`, `reset` or `protocol` → clients.
    pub(super) closed: BTreeMap<String, u64>,
    pub(super) drain: Drain,
}

/// Memory that all clients took once connected, divided by their number.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct PerClient {
    pub(super) server_rss_bytes: f64,
    pub(super) server_anonymous_bytes: f64,
    /// Resident memory of a client in its worker process, the process included.
    pub(super) worker_rss_bytes: f64,
    /// Both ends of a connection.
    pub(super) kernel_slab_bytes: f64,
    pub(super) kernel_tcp_buffer_bytes: f64,
    /// All servers before the first client.
    pub(super) servers_rss_before_bytes: u64,
}

/// One message's way to all clients.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Broadcast {
    pub(super) clients: u64,
    pub(super) first_ms: f64,
    pub(super) median_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) last_ms: f64,
}

/// How all servers were stopped.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Drain {
    /// From the signal to the end of the last process.
    pub(super) seconds: f64,
    /// How the processes ended → how many.
    pub(super) exits: BTreeMap<String, usize>,
    /// Clients closed within each whole second up to the last close: fewest, median, most.
    pub(super) closes_per_second: [u64; 3],
}

impl Report {
    /// Where and what, no results yet.
    pub(super) fn new(args: &FleetArgs) -> Self {
        let limit = |name: &&'static str| {
            let text = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
            (*name, text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        Self {
            wsload: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
            date_utc: said_by("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            commit: said_by("git", &["rev-parse", "HEAD"]),
            machine: Machine::describe(),
            scenario: args.clone(),
            kernel_limits: KERNEL_LIMITS.iter().map(limit).collect(),
            problems: Vec::new(),
            servers: args.servers(),
            source_addresses: (0..args.servers()).map(|at| sources_of(args.clients_of(at))).sum(),
            clients_opened: 0,
            connect_seconds: 0.0,
            memory: PerClient::default(),
            broadcasts: Vec::new(),
            holes: 0,
            repeats: 0,
            closed: BTreeMap::new(),
            drain: Drain::default(),
        }
    }

    /// Memory from before the first client to all connected.
    pub(super) fn set_memory(
        &mut self,
        clients: u64,
        before: (Memory, KernelMemory),
        after: (Memory, KernelMemory),
        workers: Memory,
    ) {
        let grown = |before: u64, after: u64| (after as f64 - before as f64) / clients as f64;
        let ((server_before, kernel_before), (server, kernel)) = (before, after);
        self.clients_opened = clients;
        self.memory = PerClient {
            server_rss_bytes: grown(server_before.rss_bytes, server.rss_bytes),
            server_anonymous_bytes: grown(server_before.anonymous_bytes, server.anonymous_bytes),
            worker_rss_bytes: grown(0, workers.anonymous_bytes),
            kernel_slab_bytes: grown(kernel_before.slab_bytes, kernel.slab_bytes),
            kernel_tcp_buffer_bytes: grown(kernel_before.tcp_buffer_bytes, kernel.tcp_buffer_bytes),
            servers_rss_before_bytes: server_before.rss_bytes,
        };
    }

    /// Adds the problems that the clients' account shows.
    pub(super) fn judge(&mut self, args: &FleetArgs, account: &Account) {
        let opened = self.clients_opened;
        let mut amiss = |is_so: bool, text: String| {
            if is_so {
                self.problems.push(text);
            }
        };
        let failed = args.clients as u64 - opened;
        let failure = account.first_failure.as_deref().unwrap_or_default();
        amiss(failed > 0, format!("{failed} clients could not connect: {failure}"));
        for at in 0..args.messages {
            let got = account.arrivals.get(at).map_or(0, |slots| slots.values().sum::<u64>());
            amiss(got != opened, format!("message {at} reached {got} of {opened} clients"));
        }
        amiss(account.holes > 0, format!("{} messages were passed over", account.holes));
        amiss(account.repeats > 0, format!("{} messages came again", account.repeats));
        let polite = account.closed.get("1012").copied().unwrap_or(0);
        amiss(polite != opened, format!("{polite} of {opened} clients got 1012"));
        let exited: usize = self.drain.exits.get("exit status: 0").copied().unwrap_or(0);
        amiss(exited != self.servers, format!("{exited} of {} servers exited 0", self.servers));
        self.holes = account.holes;
        self.repeats = account.repeats;
        self.closed = account.closed.clone();
    }
}

impl Broadcast {
    /// From slots of time → clients.
    pub(super) fn of(slots: &BTreeMap<u64, u64>) -> Self {
        let clients: u64 = slots.values().sum();
        let at = |share: f64| {
            let wanted = (clients as f64 * share).ceil().max(1.0) as u64;
            let mut sum = 0;
            let slot = slots.iter().find(|(_, count)| {
                sum += **count;
                sum >= wanted
            });
            slot.map_or(0.0, |(slot, _)| *slot as f64 * (SLOT_NS as f64 / 1e6))
        };
        Self { clients, first_ms: at(0.0), median_ms: at(0.5), p99_ms: at(0.99), last_ms: at(1.0) }
    }
}

impl Drain {
    /// From the processes' ends; `None` for one that did not end in time.
    pub(super) fn new(seconds: f64, codes: &[Option<String>]) -> Self {
        let mut exits = BTreeMap::new();
        for code in codes {
            let word = code.as_deref().unwrap_or("still there");
            *exits.entry(word.to_owned()).or_default() += 1;
        }
        Self { seconds, exits, closes_per_second: [0; 3] }
    }

    /// How even the closes were: by whole second from the signal, at `began_ns`, to the last one.
    pub(super) fn set_pacing(&mut self, at: &BTreeMap<u64, u64>, began_ns: u64) {
        let second = |slot: u64| (slot * SLOT_NS).saturating_sub(began_ns) / 1_000_000_000;
        let last = at.keys().next_back().map_or(0, |slot| second(*slot));
        let mut seconds = vec![0; usize::try_from(last).map_or(1, |last| last.max(1))];
        for (slot, count) in at {
            // The second of the last close is not a whole one.
            if let Some(sum) = seconds.get_mut(second(*slot) as usize) {
                *sum += count;
            }
        }
        seconds.sort_unstable();
        self.closes_per_second =
            [seconds[0], seconds[seconds.len() / 2], seconds[seconds.len() - 1]];
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, clients_opened, connect_seconds, memory, drain, .. } = self;
        writeln!(
            f,
            "fleet       {clients_opened} clients on {servers} servers of {} shards, one Redis, {} \
             source addresses",
            self.scenario.threads_per_server, self.source_addresses
        )?;
        writeln!(
            f,
            "connect     {connect_seconds:.1} s, {:.0}/s",
            *clients_opened as f64 / connect_seconds.max(0.001)
        )?;
        writeln!(
            f,
            "memory      per client: server {:.0} B (anonymous {:.0} B), kernel, both ends, \
             {:.0} B slab and {:.0} B buffers; client process {:.0} B; all servers before: \
             {:.1} MiB",
            memory.server_rss_bytes,
            memory.server_anonymous_bytes,
            memory.kernel_slab_bytes,
            memory.kernel_tcp_buffer_bytes,
            memory.worker_rss_bytes,
            memory.servers_rss_before_bytes as f64 / (1024.0 * 1024.0)
        )?;
        for (at, broadcast) in self.broadcasts.iter().enumerate() {
            let Broadcast { clients, first_ms, median_ms, p99_ms, last_ms } = broadcast;
            writeln!(
                f,
                "message {at:<3} {clients} clients: first after {first_ms:.0} ms, median \
                 {median_ms:.0}, p99 {p99_ms:.0}, last {last_ms:.0}"
            )?;
        }
        let [fewest, median, most] = drain.closes_per_second;
        writeln!(
            f,
            "drain       {:.1} s; closed {:?}; per second {fewest} to {most}, median {median}; \
             processes {:?}",
            drain.seconds, self.closed, drain.exits
        )?;
        match self.problems.as_slice() {
            [] => write!(f, "all is well"),
            problems => write!(f, "PROBLEMS    {}", problems.join("\n            ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        fleet: FleetArgs,
    }

    #[test]
    fn percentiles_come_from_slots_of_time() {
        let slots = BTreeMap::from([(1, 1), (5, 98), (900, 1)]);
        let Broadcast { clients, first_ms, median_ms, p99_ms, last_ms } = Broadcast::of(&slots);
        assert_eq!((clients, first_ms, median_ms), (100, 1.0, 5.0));
        assert_eq!((p99_ms, last_ms), (5.0, 900.0));
    }

    #[test]
    fn clients_without_a_message_or_close_are_problems() {
        let args = Typed::try_parse_from(["fleet", "--clients", "2", "--messages", "2"]);
        let args = args.unwrap().fleet;
        let judged = |arrivals: [u64; 2], word: &str| {
            let mut report = Report::new(&args);
            report.clients_opened = 2;
            report.drain = Drain::new(1.0, &[Some("exit status: 0".to_owned())]);
            let account = Account {
                arrivals: arrivals.map(|clients| BTreeMap::from([(1, clients)])).to_vec(),
                closed: BTreeMap::from([(word.to_owned(), 2)]),
                ..Account::default()
            };
            report.judge(&args, &account);
            report.problems
        };
        assert_eq!(judged([2, 2], "1012"), Vec::<String>::new());
        assert_eq!(judged([2, 1], "1012"), ["message 1 reached 1 of 2 clients"]);
        assert_eq!(judged([2, 2], "reset"), ["0 of 2 clients got 1012"]);
    }

    #[test]
    fn a_second_without_a_close_shows_in_the_pacing() {
        let mut drain = Drain::new(3.0, &[Some("exit status: 0".to_owned()), None]);
        assert_eq!(drain.exits["still there"], 1);
        drain.set_pacing(&BTreeMap::from([(10, 5), (2_500, 7), (3_100, 1)]), 0);
        assert_eq!(drain.closes_per_second, [0, 5, 7]);
    }
}
