//! Processes that a test or a tool starts: servers, Redis nodes, sentinels, workers.
//!
//! A process is killed when its handle is dropped, and by the kernel when its owner dies however
//! it dies (through `setpriv`, where that is installed). A node can be killed, stopped, continued
//! and started again on the same port with the same files. Ports are below the range from which
//! the kernel gives ports to clients: a port of a killed process must not be somebody else's when
//! it comes back.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{http, resp, wait::wait_for};

const PORTS: std::ops::Range<u16> = 14_000..32_000;
const LOG_TAIL_BYTES: usize = 2_000;

/// A process that does not outlive this handle.
#[derive(Debug)]
pub struct Process {
    /// As the standard library knows it.
    pub child: Child,
}

impl Process {
    /// Starts a command that dies with this thread; standard streams are the caller's matter.
    pub fn start(
        program: &Path,
        arguments: &[String],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        Self::start_with(true, program, arguments, prepare)
    }

    fn start_with(
        ends_with_thread: bool,
        program: &Path,
        arguments: &[String],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let guarded = ends_with_thread && Path::new("/usr/bin/setpriv").exists();
        let mut command = if guarded {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            // The environment's options are meant for other servers than these, and so are a
            // service manager's words.
            let foreign = ["REDIS_URL", "INVOCATION_ID", "NOTIFY_SOCKET", "WATCHDOG_USEC"];
            let name_text = name.to_string_lossy();
            if name_text.starts_with("WSBCAST_") || foreign.contains(&&*name_text) {
                command.env_remove(name);
            }
        }
        prepare(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child })
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking for a child's status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only fails if it has ended already, and then that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that listens, has a folder and a log, and may die and come back.
#[derive(Debug)]
pub struct Node {
    /// Also its folder's.
    pub name: String,
    /// The address on which it listens.
    pub address: SocketAddr,
    /// Its working directory.
    pub folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    ends_with_thread: bool,
    process: Option<Process>,
}

impl Node {
    /// A process that is still to be started, with a folder below `folder`.
    pub fn new(
        folder: &Path,
        name: &str,
        address: SocketAddr,
        program: &Path,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let (name, program) = (name.to_owned(), program.to_owned());
        Ok(Self {
            name,
            address,
            folder,
            program,
            arguments,
            ends_with_thread: true,
            process: None,
        })
    }

    /// It may be started by a thread that ends before it: only its handle ends it then.
    pub fn of_any_thread(self) -> Self {
        Self { ends_with_thread: false, ..self }
    }

    /// Starts it; its log goes on where it was.
    pub fn start(&mut self) -> Result<()> {
        let path = self.folder.join("log");
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let again = log.try_clone().context("a second handle of the log")?;
        let prepare = |command: &mut Command| {
            command.current_dir(&self.folder);
            command.stdin(Stdio::null()).stdout(log).stderr(again);
        };
        let (program, words) = (&self.program, &self.arguments);
        self.process = Some(Process::start_with(self.ends_with_thread, program, words, prepare)?);
        Ok(())
    }

    /// The process's number; an error if none runs.
    pub fn id(&self) -> Result<u32> {
        let process = self.process.as_ref().with_context(|| format!("{} runs", self.name))?;
        Ok(process.child.id())
    }

    /// Ends it without a chance to clean up; it is gone on return.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.id()?).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id")?, signal).with_context(|| format!("{signal:?}"))
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(process) => process.ended(),
            None => Ok(None),
        }
    }

    /// Waits for its end by itself.
    pub fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_for(&format!("{} to end", self.name), deadline, || {
            status = self.ended()?;
            Ok(status.is_some())
        })?;
        self.process = None;
        status.context("it has ended")
    }

    /// Waits until `is_so`; an error if the process ends first.
    pub fn wait_until(
        &mut self,
        what: &str,
        deadline: Duration,
        mut is_so: impl FnMut(SocketAddr) -> bool,
    ) -> Result<()> {
        wait_for(&format!("{} to {what}", self.name), deadline, || {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status}: {}", self.name, self.last_words());
            }
            Ok(is_so(self.address))
        })
    }

    /// Waits until a wsbcast is ready.
    pub fn wait_until_ready(&mut self, deadline: Duration) -> Result<()> {
        let address = self.address;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        self.wait_until("be ready", deadline, |address| {
            http::ask(address, request.as_bytes()).is_ok_and(|answer| answer.status == 200)
        })
    }

    /// Waits until a Redis has loaded its data and answers.
    pub fn wait_until_it_answers(&mut self, deadline: Duration) -> Result<()> {
        self.wait_until("answer PING", deadline, |address| {
            match resp::ask(address, &["PING"]) {
                Ok(reply) => reply.text() == "PONG",
                // That is an answer too.
                Err(error) => format!("{error:#}").contains("NOAUTH"),
            }
        })
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

/// Options and their values as a command line has them.
pub fn words<const N: usize>(options: [(&str, String); N]) -> Vec<String> {
    options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// The server to start: the one named, else the wsbcast beside this program.
pub fn server_binary(named: Option<&Path>) -> Result<PathBuf> {
    let binary = match named {
        Some(binary) => std::path::absolute(binary).context("the path of the server")?,
        None => std::env::current_exe().context("this program's path")?.with_file_name("wsbcast"),
    };
    ensure!(
        binary.exists(),
        "{}: no server there; build it, or name one with --server-binary",
        binary.display()
    );
    Ok(binary)
}

/// The wsbcast of this workspace, up to date, beside `tool`, a program of this workspace too.
///
/// # Panics
/// If it can't be built.
pub fn server_beside(tool: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/kit");
    let target = Path::new(tool).ancestors().nth(2).expect("a program has a target folder");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "wsbcast", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "wsbcast is built");
    target.join("debug/wsbcast")
}

/// An error in words if there is no Redis to start.
pub fn check_redis_server() -> Result<()> {
    let version = Command::new("redis-server").arg("--version").output();
    ensure!(
        version.is_ok(),
        "redis-server is not on the PATH (Debian: apt-get install redis-server)"
    );
    Ok(())
}

/// A loopback port that nobody listens on. Another process may take it first: then the program that
/// is started there says so.
pub fn free_address() -> Result<SocketAddr> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free among {PORTS:?}")
}
