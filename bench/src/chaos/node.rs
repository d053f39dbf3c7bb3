//! The processes under chaos: Redis nodes, sentinels and wsbcast servers, each with a folder.
//!
//! A node can be killed, stopped, continued and started again on the same port with the same
//! files. Ports are below the range from which the kernel gives ports to clients: a port of a
//! killed process must not be somebody else's when it comes back.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use rustix::process::Signal;

use crate::{clock, fleet::Process};

const LOOK_INTERVAL: Duration = Duration::from_millis(5);
const PORTS: std::ops::Range<u16> = 14_000..30_000;
const LOG_TAIL_BYTES: usize = 2_000;

/// A process that may die and come back.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) folder: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Node {
    /// A process that is still to be started.
    pub(super) fn new(
        folder: &Path,
        name: &str,
        address: SocketAddr,
        program: &Path,
        arguments: Vec<String>,
    ) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let (name, program) = (name.to_owned(), program.to_owned());
        Ok(Self { name, address, folder, program, arguments, process: None })
    }

    /// Starts it; its log goes on where it was.
    pub(super) fn start(&mut self) -> Result<()> {
        let path = self.log();
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let again = log.try_clone().context("a second handle of the log")?;
        let process = Process::start(&self.program, &self.arguments, |command| {
            command.current_dir(&self.folder);
            command.stdin(Stdio::null()).stdout(log).stderr(again);
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it without a chance to clean up; it is gone on return.
    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.as_ref().with_context(|| format!("{} runs", self.name))?;
        let pid = i32::try_from(process.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("a process id")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("{signal:?}"))
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.process {
            Some(process) => process.ended(),
            None => Ok(None),
        }
    }

    /// Waits for its end by itself.
    pub(super) fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_for(&format!("{} to end", self.name), deadline, || {
            status = self.ended()?;
            Ok(status.is_some())
        })?;
        self.process = None;
        status.context("it has ended")
    }

    /// Waits until `is_so`; an error if the process ends first.
    pub(super) fn wait_until(
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

    /// Where its output is.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The end of what it said.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

/// Looks again and again until it is so.
pub(super) fn wait_for(
    what: &str,
    deadline: Duration,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline_ns = clock::now_ns() + clock::as_ns(deadline);
    while !is_so()? {
        ensure!(clock::now_ns() < deadline_ns, "waited {deadline:?} in vain for {what}");
        clock::pause(LOOK_INTERVAL);
    }
    Ok(())
}

/// A port that nobody listens on.
pub(super) fn free_address(random: &mut Rng) -> Result<SocketAddr> {
    for _ in 0..1000 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.u16(PORTS)));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port is free among {PORTS:?}")
}
