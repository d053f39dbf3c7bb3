//! `lab fleet`: as many servers and clients as a machine holds, joined by Redis to one service.
//!
//! All connect, a broadcast published to one server reaches every client of every server, more
//! follow, then all servers are drained at once: everyone gets 1012, evenly paced, and every
//! process exits 0. The conductor's thread asks and counts; servers and clients are processes of
//! their own, since one process may hold only so many descriptors. Every wait has an end, and no
//! child outlives this process.

mod args;
mod report;
mod worker;
mod workers;

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Signal;
use tempfile::TempDir;
use testkit::{
    clock, http,
    machine::{KernelMemory, Memory},
    node::{Node, check_redis_server, free_address, server_binary, words},
};
use wsload::stamp::Stamp;

pub(crate) use self::{
    args::{FleetArgs, WorkerArgs},
    worker::run as work,
};
use self::{
    report::{Broadcast, Drain, Report},
    worker::{Account, Progress},
    workers::Workers,
};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at the workers.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Beyond twice the time that the rate asks for.
const CONNECT_GRACE: Duration = Duration::from_secs(60);
/// Idle clients are left alone this long before memory is read.
const MEMORY_PAUSE: Duration = Duration::from_secs(2);
/// Beyond the drain's window, for the processes to end.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// Runs it all; true if nothing is amiss.
pub(crate) fn run(args: &FleetArgs) -> Result<bool> {
    let mut fleet = Fleet::start(args)?;
    let report = fleet.conduct()?;
    fleet.bar.finish_and_clear();
    args.report.deliver(&report)?;
    Ok(report.problems.is_empty())
}

/// Everything that runs. Fields are dropped in this order: clients before servers before Redis.
struct Fleet<'a> {
    args: &'a FleetArgs,
    bar: ProgressBar,
    run: u32,
    workers: Option<Workers>,
    servers: Vec<Node>,
    _redis: Node,
    _folder: TempDir,
}

impl<'a> Fleet<'a> {
    /// Redis and all servers, ready.
    fn start(args: &'a FleetArgs) -> Result<Self> {
        let bar = if args.report.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let style = ProgressStyle::with_template("[{elapsed_precise}] {msg}");
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let folder = TempDir::with_prefix("lab-fleet-").context("a folder")?;
        let redis = start_redis(folder.path())?;
        let mut servers = (0..args.servers())
            .map(|at| start_server(args, at, redis.address, folder.path()))
            .collect::<Result<Vec<_>>>()?;
        let ready = |server: &mut Node| server.wait_until_ready(START_DEADLINE);
        servers.iter_mut().try_for_each(ready)?;
        // It tells this run's messages from any others.
        let run = std::process::id() << 8 ^ clock::monotonic_ns() as u32;
        Ok(Self { args, bar, run, workers: None, servers, _redis: redis, _folder: folder })
    }

    fn conduct(&mut self) -> Result<Report> {
        let mut report = Report::new(self.args);
        let server_pids = self.servers.iter().map(Node::id).collect::<Result<Vec<_>>>()?;
        let memory = |pids: &[u32]| (Memory::take(pids), KernelMemory::take());
        let before = memory(&server_pids);
        report.connect_seconds = self.connect()?;
        clock::pause(MEMORY_PAUSE);
        let worker_pids = self.workers()?.pids();
        let opened = self.workers()?.progress()?.opened;
        report.set_memory(opened, before, memory(&server_pids), Memory::take(&worker_pids));
        for sequence in 0..self.args.messages {
            self.broadcast(sequence, opened)?;
        }
        let asked_ns = self.drain(&mut report)?;
        let account = self.workers()?.account()?;
        report.broadcasts = account.arrivals.iter().map(Broadcast::of).collect();
        report.drain.set_pacing(&account.closed_at, asked_ns);
        report.judge(self.args, &account);
        Ok(report)
    }

    fn workers(&mut self) -> Result<&mut Workers> {
        self.workers.as_mut().context("the workers are started by connect")
    }

    /// All clients; how many seconds it took.
    fn connect(&mut self) -> Result<f64> {
        let addresses: Vec<_> = self.servers.iter().map(|server| server.address).collect();
        let started_ns = clock::now_ns();
        self.workers = Some(Workers::start(self.args, self.run, &addresses)?);
        let due = Duration::from_secs(2 * (self.args.clients / self.args.connect_rate) as u64);
        let clients = self.args.clients as u64;
        let last = self.wait_for("to connect", due + CONNECT_GRACE, |progress| {
            progress.opened + progress.failed >= clients
        })?;
        if last.opened == 0 {
            let failure = self.workers()?.account()?.first_failure.unwrap_or_default();
            bail!("nobody could connect: {failure}");
        }
        Ok(clock::as_secs(clock::now_ns() - started_ns))
    }

    /// Publishes to one server, waits for all clients; a message that is late is told by the
    /// account at the end.
    fn broadcast(&mut self, sequence: usize, opened: u64) -> Result<()> {
        let address = self.servers[sequence % self.servers.len()].address;
        let intended_ns = clock::monotonic_ns();
        let stamp = Stamp { run: self.run, publisher: 0, sequence: sequence as u32, intended_ns };
        let mut payload = vec![b'.'; self.args.size];
        stamp.encode(&mut payload);
        let head = format!(
            "POST /broadcast HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            payload.len()
        );
        let answer = http::ask(address, &[head.as_bytes(), &payload].concat())?;
        ensure!(answer.is_success(), "publishing was answered with {}", answer.status);
        let wanted = opened * (sequence as u64 + 1);
        let limit = self.args.delivery_timeout.duration();
        // The account tells which clients did not get it.
        let _ = self.wait_for("to get the broadcast", limit, |now| now.deliveries >= wanted);
        Ok(())
    }

    /// Asks all servers to stop and waits until they have; the moment of asking.
    fn drain(&mut self, report: &mut Report) -> Result<u64> {
        let asked_ns = clock::monotonic_ns();
        for server in &self.servers {
            server.signal(Signal::TERM)?;
        }
        let deadline = asked_ns + self.args.drain_over.ns() + clock::as_ns(DRAIN_GRACE);
        let mut codes = vec![None; self.servers.len()];
        while codes.iter().any(Option::is_none) && clock::monotonic_ns() < deadline {
            for (server, code) in self.servers.iter_mut().zip(&mut codes) {
                if code.is_none()
                    && let Some(status) = server.ended()?
                {
                    *code = Some(status.to_string());
                    if !status.success() {
                        report
                            .problems
                            .push(format!("a server ended with {status}: {}", server.last_words()));
                    }
                }
            }
            let closed = self.workers()?.progress()?.closed;
            self.bar.set_message(format!("draining, {closed} closed"));
            self.bar.tick();
            clock::pause(LOOK_INTERVAL);
        }
        report.drain = Drain::new(clock::as_secs(clock::monotonic_ns() - asked_ns), &codes);
        Ok(asked_ns)
    }

    fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(Progress) -> bool,
    ) -> Result<Progress> {
        let started_ns = clock::now_ns();
        let deadline = started_ns + clock::as_ns(limit);
        loop {
            let now = self.workers()?.progress()?;
            if is_so(now) {
                return Ok(now);
            }
            ensure!(
                clock::now_ns() < deadline,
                "waited {} s for all {what}: {now:?}",
                limit.as_secs()
            );
            let seconds = clock::as_secs(clock::now_ns() - started_ns).max(0.001);
            let Progress { opened, failed, deliveries, .. } = now;
            self.bar.set_message(format!(
                "{opened} clients ({:.0}/s), {failed} failed, {deliveries} deliveries",
                opened as f64 / seconds
            ));
            self.bar.tick();
            clock::pause(LOOK_INTERVAL);
        }
    }
}

/// Starts a Redis that keeps nothing.
fn start_redis(folder: &Path) -> Result<Node> {
    check_redis_server()?;
    let address = free_address()?;
    let port = address.port().to_string();
    let words = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let arguments = words.map(str::to_owned).to_vec();
    let mut redis = Node::new(folder, "redis", address, Path::new("redis-server"), arguments)?;
    redis.start()?;
    redis.wait_until_it_answers(START_DEADLINE)?;
    Ok(redis)
}

/// Starts server number `at`; it is not waited for.
fn start_server(args: &FleetArgs, at: usize, redis: SocketAddr, folder: &Path) -> Result<Node> {
    let binary = server_binary(args.server_binary.as_deref())?;
    let address = free_address()?;
    let milliseconds = |seconds: f64| format!("{}ms", (seconds * 1000.0).round());
    let options = [
        ("--listen", address.to_string()),
        ("--threads", args.threads_per_server.to_string()),
        ("--redis-url", format!("redis://{redis}")),
        ("--drain-timeout", milliseconds(args.drain_over.0)),
        ("--drain-close-over", milliseconds(args.drain_over.0)),
        ("--ping-interval", milliseconds(args.ping_interval.0)),
        ("--notify-interval", "0".to_owned()),
    ];
    let name = format!("server-{at}");
    let mut server = Node::new(folder, &name, address, &binary, words(options))?;
    server.start()?;
    Ok(server)
}
