//! A real redis-server, or valkey-server, of the test's own: started, killed, restarted, paused.
//!
//! Each has a free port and an empty directory, and ends with the test. The port stays the same
//! over restarts; it is below the range that the system hands out to outgoing connections, so
//! that nobody takes it while the server is down.
#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{node::free_address, resp};

/// What a server, and a sentinel, log when they are ready.
const READY: [&str; 2] = ["Ready to accept connections", "+monitor master"];
const ATTEMPTS_MAX: usize = 20;
const VOLATILE: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The redis-server on the PATH.
    Redis,
    /// What `VALKEY_SERVER` names, else what `scripts/test` has fetched.
    Valkey,
}

impl Program {
    fn path(self) -> OsString {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => std::env::var_os("VALKEY_SERVER").unwrap_or_else(|| {
                let test = std::env::current_exe().unwrap();
                // Tests are in target/debug/deps.
                let target = test.ancestors().nth(3).unwrap();
                target.join("valkey/valkey-server").into()
            }),
        }
    }
}

/// How a server is started, but for its port.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Which.
    pub program: Program,
    /// It listens for TLS on one more port; with which certificate, the options say.
    pub has_tls: bool,
    /// As on the command line.
    pub options: Vec<String>,
}

impl Recipe {
    /// Without TLS.
    pub fn new(program: Program, options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        Self { program, has_tls: false, options }
    }

    /// With further `options`.
    pub fn and(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(ToString::to_string));
        self
    }
}

/// A running (or killed, or paused) redis-server.
#[derive(Debug)]
pub struct RedisServer {
    dir: TempDir,
    port: u16,
    tls_port: Option<u16>,
    recipe: Recipe,
    config: Option<PathBuf>,
    child: Option<Child>,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&VOLATILE)
    }

    /// Likewise, Valkey.
    pub fn start_valkey() -> Self {
        Self::start_as(&Recipe::new(Program::Valkey, &VOLATILE))
    }

    /// A server whose data survives a kill.
    pub fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server with further `options`.
    pub fn start_with(options: &[&str]) -> Self {
        Self::start_as(&Recipe::new(Program::Redis, options))
    }

    /// A server by a recipe.
    pub fn start_as(recipe: &Recipe) -> Self {
        Self::try_ports(recipe, None)
    }

    /// A sentinel by a recipe that watches the server at `address` under the name `main`.
    pub fn start_sentinel_as(recipe: &Recipe, address: &str) -> Self {
        let address = address.replace(':', " ");
        let config = format!("sentinel monitor main {address} 1\n");
        Self::try_ports(&recipe.clone().and(&["--sentinel"]), Some(&config))
    }

    fn try_ports(recipe: &Recipe, config: Option<&str>) -> Self {
        for _ in 0..ATTEMPTS_MAX {
            let dir = TempDir::new().unwrap();
            let config = config.map(|text| {
                let file = dir.path().join("server.conf");
                fs::write(&file, text).unwrap();
                file
            });
            let mut server = Self {
                dir,
                port: free_port(),
                tls_port: recipe.has_tls.then(free_port),
                recipe: recipe.clone(),
                config,
                child: None,
            };
            if server.try_launch() {
                return server;
            }
        }
        panic!("{recipe:?} does not start on any of {ATTEMPTS_MAX} ports");
    }

    /// A port on which nothing listens yet; [`Self::restart`] starts the server there.
    pub fn not_started() -> Self {
        let mut server = Self::start();
        server.kill();
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Likewise.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Where it speaks TLS; None: it does not.
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again on the same port with what it has on disk; returns when it is ready.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.try_launch(), "redis-server does not start again on port {}", self.port);
    }

    /// SIGSTOP: it answers nothing, its connections stay.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Runs a command through redis-cli and returns what it printed.
    pub fn cli(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let output = output.unwrap_or_else(|error| missing("redis-cli", &error));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What any program on the same Redis may do: `PUBLISH`; how many subscribers it reached.
    pub fn publish(&self, channel: &str, data: &[u8]) -> u64 {
        let reply = resp::ask(self.socket(), &[b"PUBLISH", channel.as_bytes(), data]).unwrap();
        reply.text().parse().unwrap()
    }

    /// Makes the user `wsbcast` with the password `pass` and the rights that docs/redis.md names,
    /// for these names, but without those `lacking`. Whoever comes without a password may neither
    /// read nor write anything.
    pub fn restrict(&self, prefix: &str, raw_channel: &str, lacking: &[&str]) {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md");
        let page = fs::read_to_string(page).unwrap();
        let start = "redis-cli ACL SETUSER wsbcast ";
        let (_, rest) = page.split_once(start).expect("the page names the rights");
        let (rules, _) = rest.split_once("\n\n").unwrap();
        let rules = rules.replace("wsbcast:", &format!("{prefix}:")).replace("SECRET", "pass");
        let mut rules = rules.replace("&notifications", &format!("&{raw_channel}"));
        for right in lacking {
            for word in [format!(" {right} "), format!(" '{right}' ")] {
                rules = rules.replace(&word, " ");
            }
        }
        // As it would be pasted: by a shell.
        let command = format!("redis-cli -p {} ACL SETUSER wsbcast {rules}", self.port);
        let output = Command::new("sh").args(["-c", &command]).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK", "{command}");
        assert_eq!(self.cli(&["ACL", "SETUSER", "default", "resetkeys", "resetchannels"]), "OK");
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
        let tls_port = self.tls_port.map(|port| ["--tls-port".to_owned(), port.to_string()]);
        let program = self.recipe.program.path();
        let child = Command::new(&program)
            .args(&self.config)
            .args(["--port", &port, "--bind", "127.0.0.1", "--protected-mode", "no"])
            .args(tls_port.iter().flatten())
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.recipe.options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child =
            child.unwrap_or_else(|error| missing(&program.display().to_string(), &error));
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
        panic!("there is no {program}: run `scripts/test`, which installs or fetches it");
    }
    panic!("{program}: {error}");
}

fn free_port() -> u16 {
    free_address().unwrap().port()
}
