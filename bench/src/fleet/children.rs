//! The processes of a fleet: Redis, servers, workers; how they start and that they end.
//!
//! A child is killed when its handle is dropped, and by the kernel when this process dies however
//! it dies (through `setpriv`, where that is installed). Ports are picked free; logs are files in
//! a folder that goes with the fleet.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::args::FleetArgs;
use crate::{clock, http::Answer};

const START_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// One question to a server and its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
const LOG_TAIL_BYTES: usize = 400;

/// A process that does not outlive this handle.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Child,
    log: Option<PathBuf>,
}

/// A folder for logs, removed with everything in it.
#[derive(Debug)]
pub(super) struct Logs(PathBuf);

/// A server or Redis, listening.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

impl Logs {
    /// An empty folder of this process.
    pub(super) fn create() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("wsload-fleet-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        // A file that stays behind in the folder for temporary files harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Process {
    /// Starts a command that dies with this process; standard streams are the caller's matter.
    pub(crate) fn start(
        program: &Path,
        arguments: &[String],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let guarded = Path::new("/usr/bin/setpriv").exists();
        let mut command = if guarded {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            // The environment's options are meant for other servers than these.
            if name.to_string_lossy().starts_with("WSBCAST_") || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        prepare(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, log: None })
    }

    fn start_logged(program: &Path, arguments: &[String], logs: &Logs, name: &str) -> Result<Self> {
        let log = logs.0.join(name);
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let again = file.try_clone().context("a second handle of the log")?;
        let mut process = Self::start(program, arguments, |command| {
            command.stdin(Stdio::null()).stdout(file).stderr(again);
        })?;
        process.log = Some(log);
        Ok(process)
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking for a child's status")
    }

    /// Asks it to stop.
    pub(super) fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("SIGTERM")
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> String {
        let log = self.log.as_ref().and_then(|log| fs::read(log).ok()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only fails if it has ended already, and then that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a Redis that keeps nothing.
pub(super) fn start_redis(logs: &Logs) -> Result<Running> {
    let address = free_address()?;
    let port = address.port().to_string();
    let words = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let arguments = words.map(str::to_owned);
    let version = Command::new("redis-server").arg("--version").output();
    ensure!(
        version.is_ok(),
        "redis-server is not on the PATH: it joins the servers (Debian: apt-get install \
         redis-server)"
    );
    let process = Process::start_logged(Path::new("redis-server"), &arguments, logs, "redis.log")?;
    let mut redis = Running { process, address };
    redis.wait_until("answer PING", |address| {
        let answer = exchange(address, b"PING\r\n", |answer| answer.ends_with(b"\r\n"));
        answer.is_ok_and(|answer| answer.starts_with(b"+PONG"))
    })?;
    Ok(redis)
}

/// Starts server number `at`; it is not waited for.
pub(super) fn start_server(
    args: &FleetArgs,
    at: usize,
    redis: SocketAddr,
    logs: &Logs,
) -> Result<Running> {
    let binary = match &args.server_binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe().context("the path of wsload")?.with_file_name("wsbcast"),
    };
    ensure!(
        binary.exists(),
        "{}: no server there; build it, or name one with --server-binary",
        binary.display()
    );
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
    let arguments: Vec<String> =
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    let process = Process::start_logged(&binary, &arguments, logs, &format!("server-{at}.log"))?;
    Ok(Running { process, address })
}

impl Running {
    /// Waits for a server to be ready.
    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        self.wait_until("be ready", |address| {
            ask(address, request.as_bytes()).is_ok_and(|answer| answer.status == 200)
        })
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(SocketAddr) -> bool) -> Result<()> {
        let deadline = clock::now_ns() + clock::as_ns(START_DEADLINE);
        while !is_so(self.address) {
            if let Some(status) = self.process.ended()? {
                bail!("a child ended with {status}: {}", self.process.last_words());
            }
            ensure!(
                clock::now_ns() < deadline,
                "a child did not {what} in time: {}",
                self.process.last_words()
            );
            clock::pause(LOOK_INTERVAL);
        }
        Ok(())
    }
}

/// One HTTP request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let bytes = exchange(address, request, |answer| Answer::parse(answer).is_some())?;
    match Answer::parse(&bytes) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => bail!("{address}: {error}"),
        None => bail!("{address} closed without an answer"),
    }
}

fn exchange(address: SocketAddr, request: &[u8], is_whole: fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
    stream.write_all(request)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&answer) {
        match stream.read(&mut buffer)? {
            0 => break,
            taken => answer.extend_from_slice(&buffer[..taken]),
        }
    }
    Ok(answer)
}

/// A port that was free a moment ago. Another process may take it first: then the child says so.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    listener.local_addr().context("looking for a port")
}
