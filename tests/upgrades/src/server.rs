//! The server: its processes, one after the other, with one log and one pair of addresses.
//!
//! A process that another server has started is adopted when that one ends: this program is the
//! reaper of its descendants. The conductor's thread starts and ends all of them.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use testkit::{
    clock,
    http::{self, Connection},
    node::{Process, free_address, server_binary, words},
    wait::wait_for,
};

use super::{
    args::{RunArgs, Way},
    memory,
};

pub(crate) const START_DEADLINE: Duration = Duration::from_secs(30);
/// For an upgrade, as long as nothing goes wrong in it.
pub(crate) const UPGRADE_DEADLINE: Duration = Duration::from_secs(60);
/// A process that another one has started is seen a moment after that one's end.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const LOG_TAIL_BYTES: u64 = 3_000;

/// A process of the server.
#[derive(Debug)]
pub(crate) enum Running {
    /// This program has started it.
    Own(Process),
    /// Another one has.
    Adopted(Pid),
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::Own(process) => process.child.id(),
            Self::Adopted(pid) => pid.as_raw_nonzero().get().unsigned_abs(),
        }
    }

    /// Its exit code, once it has ended: none for one that a signal has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<Option<i32>>> {
        match self {
            Self::Own(process) => Ok(process.ended()?.map(|status| status.code())),
            Self::Adopted(pid) => {
                let status = waitpid(Some(*pid), WaitOptions::NOHANG).context("waiting")?;
                Ok(status.map(|(_, status)| status.exit_status()))
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a pid")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?}"))
    }

    /// Waits for its end by itself.
    pub(crate) fn wait_for_end(&mut self, what: &str, deadline: Duration) -> Result<Option<i32>> {
        let mut code = None;
        wait_for(what, deadline, || {
            code = self.ended()?;
            Ok(code.is_some())
        })?;
        code.context("it has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One's own ends with its handle.
        if let Self::Adopted(pid) = self
            && waitpid(Some(*pid), WaitOptions::NOHANG).is_ok_and(|status| status.is_none())
        {
            let _ = kill_process(*pid, Signal::KILL);
            let _ = waitpid(Some(*pid), WaitOptions::empty());
        }
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) control: PathBuf,
    pub(crate) running: Running,
    pub(crate) binary: PathBuf,
    log: PathBuf,
    /// But for the number of threads and the control socket.
    options: Vec<String>,
}

impl Server {
    /// Starts the first process, and waits until it is ready. A `launcher` is a Python program that
    /// starts it: its arguments are the port, the server's program and the server's arguments.
    pub(crate) fn start(
        args: &RunArgs,
        redis: Option<SocketAddr>,
        folder: &Path,
        launcher: Option<&str>,
    ) -> Result<Self> {
        let binary = server_binary(args.server_binary.as_deref())?;
        let binary = fs::canonicalize(binary).context("the path of the server")?;
        let [address, admin] = [free_address()?, free_address()?];
        let options = [
            ("--listen", address.to_string()),
            ("--admin-listen", admin.to_string()),
            ("--notify-interval", "0".to_owned()),
            ("--compression", "on".to_owned()),
            // Those that do not read answer no ping either.
            ("--ping-interval", "30m".to_owned()),
            ("--history-size", args.history_size.to_string()),
            ("--history-bytes", format!("{}MiB", args.history_mib.clamp(1, 8))),
            ("--history-total", format!("{}MiB", args.history_mib.max(1))),
        ];
        let mut options = words(options);
        if let Some(redis) = redis {
            options.extend(["--redis-url".to_owned(), format!("redis://{redis}")]);
        }
        let control = folder.join("control");
        let log = folder.join("log");
        // A plain restart needs no control socket.
        let way = match args.ways.contains(&Way::Restart) {
            true => Vec::new(),
            false => vec!["--control-socket".to_owned(), control.display().to_string()],
        };
        let (program, mut first) = match launcher {
            None => (binary.as_path(), Vec::new()),
            Some(script) => {
                let port = address.port().to_string();
                let binary = binary.display().to_string();
                (Path::new("python3"), vec!["-c".to_owned(), script.to_owned(), port, binary])
            }
        };
        first.extend(arguments(&options, args.threads[0], &way));
        let running = launch(program, &log, &first)?;
        let mut server = Self { address, admin, control, running, binary, log, options };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Starts one more process with these further words; it is not waited for.
    pub(crate) fn launch(&self, threads: usize, words: &[String]) -> Result<Running> {
        launch(&self.binary, &self.log, &arguments(&self.options, threads, words))
    }

    /// Starts a process that takes over.
    pub(crate) fn launch_successor(&self, threads: usize) -> Result<Running> {
        let control = self.control.display().to_string();
        self.launch(threads, &["--take-over".to_owned(), control])
    }

    /// A command of the server's binary about its control socket, and what it said.
    pub(crate) fn upgrade_command(&self) -> Result<(Option<i32>, String)> {
        let output = Command::new(&self.binary)
            .args(["upgrade", "--control-socket"])
            .arg(&self.control)
            .stdin(Stdio::null())
            .output()
            .context("wsbcast upgrade")?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// Has another process serve, and this one end: what was said about it.
    pub(crate) fn replace(&mut self, way: Way, threads: usize) -> Result<String> {
        let old = self.running.pid();
        let mut said = String::new();
        match way {
            Way::Restart => {
                self.stop_at_once()?;
                self.running = self.launch(threads, &[])?;
                return Ok(said);
            }
            Way::TakeOver => {
                let mut new = self.launch_successor(threads)?;
                wait_for("the old process to end", UPGRADE_DEADLINE, || {
                    if let Some(code) = self.running.ended()? {
                        ensure!(code == Some(0), "the old process ended with {code:?}");
                        return Ok(true);
                    }
                    if let Some(code) = new.ended()? {
                        bail!("the new process ended with {code:?}: {}", self.last_words());
                    }
                    Ok(false)
                })?;
                self.running = new;
                return Ok(said);
            }
            Way::Command => {
                let (code, words) = self.upgrade_command()?;
                ensure!(code == Some(0), "wsbcast upgrade: {code:?}: {words}");
                said = words;
            }
            Way::Signal => self.running.signal(Signal::USR2)?,
        }
        let code = self.running.wait_for_end("the old process to end", UPGRADE_DEADLINE);
        let code = code.with_context(|| self.last_words())?;
        ensure!(code == Some(0), "the old process ended with {code:?}");
        self.running = self.adopt(old)?;
        Ok(said)
    }

    /// The process that the old one, which has ended, has started.
    pub(crate) fn adopt(&self, old: u32) -> Result<Running> {
        let mut heirs = Vec::new();
        wait_for("the new process to be seen", ADOPTION_DEADLINE, || {
            heirs = self.processes().into_iter().filter(|pid| *pid != old).collect();
            Ok(!heirs.is_empty())
        })?;
        ensure!(heirs.len() == 1, "one process serves, not {}: {heirs:?}", heirs.len());
        let pid = i32::try_from(heirs[0]).ok().and_then(Pid::from_raw).context("a pid")?;
        Ok(Running::Adopted(pid))
    }

    /// Those of this server, of whatever age.
    pub(crate) fn processes(&self) -> Vec<u32> {
        memory::servers(&self.binary)
    }

    /// Whether it answers that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let address = self.address;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        http::ask(address, request.as_bytes()).is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until it is ready; an error if it ends first.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        wait_for("the server to be ready", START_DEADLINE, || {
            if let Some(code) = self.running.ended()? {
                bail!("it ended with {code:?}: {}", self.last_words());
            }
            Ok(self.is_ready())
        })
    }

    /// A metric of the process that serves now: the sum of all its series.
    pub(crate) fn metric(&self, name: &str) -> Result<Option<f64>> {
        let mut connection = Connection::open(self.admin, ANSWER_DEADLINE).context("metrics")?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin);
        connection.ask(request.as_bytes()).context("metrics")?;
        let text = String::from_utf8_lossy(connection.body()).into_owned();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            if !rest.starts_with([' ', '{']) {
                return None;
            }
            rest.rsplit(' ').next()?.parse::<f64>().ok()
        });
        let values: Vec<f64> = values.collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }

    /// The end of what all processes said.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES as usize);
        String::from_utf8_lossy(&log[from..]).trim().to_owned()
    }

    /// Ends the process that serves as a supervisor does, and waits: its exit code.
    pub(crate) fn stop(&mut self) -> Result<Option<i32>> {
        self.running.signal(Signal::TERM)?;
        self.running.wait_for_end("the server to end", UPGRADE_DEADLINE)
    }

    /// Ends it with all its clients: two signals, far enough from each other to be two.
    pub(crate) fn stop_at_once(&mut self) -> Result<Option<i32>> {
        self.running.signal(Signal::TERM)?;
        clock::pause(Duration::from_millis(500));
        self.running.signal(Signal::TERM)?;
        self.running.wait_for_end("the server to end", UPGRADE_DEADLINE)
    }
}

fn arguments(options: &[String], threads: usize, words: &[String]) -> Vec<String> {
    let mut arguments = options.to_vec();
    arguments.extend(["--threads".to_owned(), threads.to_string()]);
    arguments.extend_from_slice(words);
    arguments
}

fn launch(program: &Path, log: &Path, arguments: &[String]) -> Result<Running> {
    let log = File::options().create(true).append(true).open(log).context("the log")?;
    let again = log.try_clone().context("a second handle of the log")?;
    let prepare = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(log).stderr(again);
    };
    Ok(Running::Own(Process::start(program, arguments, prepare)?))
}
