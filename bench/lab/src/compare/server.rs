//! A server under comparison: how it is started, known to be ready, and ended.
//!
//! It is killed at the end, not asked to stop: a graceful stop is another test's business, and a
//! server that hangs must not hold up the others.

use std::{
    fmt, fs,
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::NamedTempFile;
use testkit::{
    clock, machine,
    node::{Process, free_address},
    wait::wait_for,
};

use super::args::FieldArgs;

const READY_DEADLINE: Duration = Duration::from_secs(10);
const READY_INTERVAL: Duration = Duration::from_millis(20);
/// From the open port to a quiet process: what it allocates at its start is not the clients'.
const QUIET_PAUSE: Duration = Duration::from_millis(500);

/// A server as given on the command line: `NAME=COMMAND` or `NAME@CPUS=COMMAND`.
#[derive(Clone, Debug)]
pub(crate) struct ServerSpec {
    pub(crate) name: String,
    pub(crate) cpus: String,
    pub(crate) command: String,
    /// Run arguments for this server only.
    pub(crate) more_run: Vec<String>,
}

/// As it would be typed.
impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cpus, command, .. } = self;
        write!(f, "{name}@{cpus}={command}")
    }
}

impl ServerSpec {
    /// All servers of a command line, each name once.
    pub(crate) fn all(field: &FieldArgs) -> Result<Vec<Self>> {
        let mut specs: Vec<Self> = Vec::new();
        for text in &field.servers {
            let spec = Self::parse(text, &field.server_cpus)?;
            ensure!(
                specs.iter().all(|other| other.name != spec.name),
                "two servers are named {}",
                spec.name
            );
            specs.push(spec);
        }
        for text in &field.run_for {
            let (name, arguments) =
                text.split_once('=').with_context(|| format!("--run-for {text:?}: NAME=…"))?;
            let spec = specs
                .iter_mut()
                .find(|spec| spec.name == name)
                .with_context(|| format!("--run-for {text:?}: no server has this name"))?;
            spec.more_run.extend(arguments.split_whitespace().map(str::to_owned));
        }
        Ok(specs)
    }

    /// The server for one point of a sweep.
    pub(crate) fn at_point(&self, point: &str) -> Self {
        let fill = |text: &String| text.replace("{point}", point);
        Self {
            command: fill(&self.command),
            more_run: self.more_run.iter().map(fill).collect(),
            ..self.clone()
        }
    }

    /// Understands one `--server`.
    pub(crate) fn parse(text: &str, cpus: &str) -> Result<Self> {
        let Some((name, command)) = text.split_once('=') else {
            bail!("--server {text:?}: expected NAME=COMMAND");
        };
        let (name, cpus) = name.split_once('@').unwrap_or((name, cpus));
        let is_word = |text: &str, extra: &[u8]| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        ensure!(is_word(name, b"_.-"), "--server {text:?}: the name is for file names too");
        ensure!(is_word(cpus, b",-"), "--server {text:?}: expected cores like 0 or 0,1");
        ensure!(command.contains("{port}"), "--server {text:?}: {{port}} is missing");
        Ok(Self {
            name: name.to_owned(),
            cpus: cpus.to_owned(),
            command: command.to_owned(),
            more_run: Vec::new(),
        })
    }
}

/// A server process; killed when dropped: its clients are gone by then.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    pub(crate) port: u16,
}

impl Running {
    /// Starts it on a free port and waits until it listens and is quiet.
    pub(crate) fn start(spec: &ServerSpec) -> Result<Self> {
        let address = free_address()?;
        let command = spec.command.replace("{port}", &address.port().to_string());
        // A file, since nobody would empty a pipe.
        let log = NamedTempFile::new().context("a file for the server's log")?;
        let stderr = log.reopen().context("the server's log")?;
        // The shell and taskset both give way to the server: the child's id is the server's.
        let words = ["-c".to_owned(), format!("exec taskset -c {} {command}", spec.cpus)];
        let process = Process::start(Path::new("sh"), &words, |command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        })?;
        let mut server = Self { process, port: address.port() };
        let listens = wait_for("its port to be open", READY_DEADLINE, || {
            if let Some(status) = server.process.ended()? {
                bail!("it ended with {status}");
            }
            Ok(TcpStream::connect_timeout(&address, READY_INTERVAL).is_ok())
        });
        listens.with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("starting {command}; its log: {log:?}")
        })?;
        clock::pause(QUIET_PAUSE);
        Ok(server)
    }

    /// The server's processes: its own and those that it started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        machine::family(self.process.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Workers don't always end with the process that started them.
        let workers = self.pids().into_iter().skip(1).map(|pid| pid.to_string());
        let workers: Vec<String> = workers.collect();
        // Only fails if it has ended already, and then that is fine.
        let _ = self.process.child.kill();
        if !workers.is_empty() {
            let kill =
                Command::new("kill").arg("-KILL").args(workers).stderr(Stdio::null()).status();
            let _ = kill;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_name_cores_and_a_command() {
        let spec = ServerSpec::parse("floor=./floor {port}", "0").unwrap();
        assert_eq!((spec.name.as_str(), spec.cpus.as_str()), ("floor", "0"));
        let spec = ServerSpec::parse("two@0,1=env A=b x --listen 127.0.0.1:{port}", "0").unwrap();
        assert_eq!((spec.name.as_str(), spec.cpus.as_str()), ("two", "0,1"));
        assert_eq!(spec.command, "env A=b x --listen 127.0.0.1:{port}");
        let mut spec = ServerSpec::parse("a=b {port} --threads {point}", "0").unwrap();
        spec.more_run = vec!["--clients".to_owned(), "{point}".to_owned()];
        let spec = spec.at_point("8");
        assert_eq!(spec.to_string(), "a@0=b {port} --threads 8");
        assert_eq!(spec.more_run, ["--clients", "8"]);
        for wrong in ["x", "=x {port}", "a/b=x {port}", "a=x", "a@;rm=x {port}"] {
            assert!(ServerSpec::parse(wrong, "0").is_err(), "{wrong}");
        }
    }
}
