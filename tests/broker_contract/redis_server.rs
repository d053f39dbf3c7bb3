//! A real redis-server of the test's own: started, killed, restarted, paused.
//!
//! Each has a free port and an empty directory, and ends with the test. The port stays the same
//! over restarts; it is below the range that the system hands out to outgoing connections, so
//! that nobody takes it while the server is down.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// What a server, and a sentinel, log when they are ready.
const READY: [&str; 2] = ["Ready to accept connections", "+monitor master"];
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const ATTEMPTS_MAX: usize = 20;

/// A running (or killed, or paused) redis-server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    config: Option<PathBuf>,
    child: Option<Child>,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// A server whose data survives a kill.
    pub(crate) fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with further `options`.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        for _ in 0..ATTEMPTS_MAX {
            let mut server = Self {
                dir: TempDir::new().unwrap(),
                port: free_port(),
                options: options.iter().map(ToString::to_string).collect(),
                config: None,
                child: None,
            };
            if server.try_launch() {
                return server;
            }
        }
        panic!("redis-server does not start on any of {ATTEMPTS_MAX} ports");
    }

    /// A sentinel that watches `primary` under the name `main`.
    pub(crate) fn start_sentinel(primary: &Self) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("sentinel.conf");
        let address = primary.address().replace(':', " ");
        std::fs::write(&file, format!("sentinel monitor main {address} 1\n")).unwrap();
        for _ in 0..ATTEMPTS_MAX {
            let mut server = Self {
                dir: TempDir::new().unwrap(),
                port: free_port(),
                options: vec!["--sentinel".to_owned()],
                config: Some(file.clone()),
                child: None,
            };
            if server.try_launch() {
                server.dir = dir;
                return server;
            }
        }
        panic!("no sentinel starts on any of {ATTEMPTS_MAX} ports");
    }

    /// A port on which nothing listens yet; [`Self::restart`] starts the server there.
    pub(crate) fn not_started() -> Self {
        let mut server = Self::start();
        server.kill();
        server
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port with what it has on disk; returns when it is ready.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_launch(), "redis-server does not start again on port {}", self.port);
    }

    /// SIGSTOP: it answers nothing, its connections stay.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Runs a command through redis-cli and returns what it printed.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let output = output.unwrap_or_else(|error| missing("redis-cli", &error));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn signal(&self, name: &str) {
        let Some(child) = &self.child else { return };
        // The shell's own kill: a bare machine has no other.
        let line = format!("kill -{name} {}", child.id());
        let status = Command::new("sh").args(["-c", &line]).status().expect("sh runs");
        assert!(status.success());
    }

    fn try_launch(&mut self) -> bool {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(&self.config)
            .args(["--port", &port, "--bind", "127.0.0.1", "--protected-mode", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.unwrap_or_else(|error| missing("redis-server", &error));
        let mut log = BufReader::new(child.stdout.take().unwrap());
        loop {
            let mut line = String::new();
            if log.read_line(&mut line).unwrap_or(0) == 0 {
                // It ended: the port was taken meanwhile.
                child.wait().unwrap();
                return false;
            }
            if READY.iter().any(|ready| line.contains(ready)) {
                break;
            }
        }
        // Its log must not fill the pipe; the thread ends with the server.
        std::thread::spawn(move || std::io::copy(&mut log.by_ref(), &mut std::io::sink()));
        self.child = Some(child);
        true
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    if error.kind() == ErrorKind::NotFound {
        panic!("{program} is not on the PATH: run `scripts/test`, which installs it");
    }
    panic!("{program}: {error}");
}

fn free_port() -> u16 {
    (0..1000)
        .map(|_| fastrand::u16(PORTS))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("some port of thousands is free")
}
