//! A real redis-server, or valkey-server, of the test's own: started, killed, restarted, paused.
//!
//! Each has a free port and an empty directory, and ends with the test. The port stays the same
//! over restarts; it is below the range that the system hands out to outgoing connections, so
//! that nobody takes it while the server is down.
#![allow(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::Result;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    node::{Node, free_address},
    resp,
};

const START_DEADLINE: Duration = Duration::from_secs(30);
/// A port may be taken before the server has it.
const ATTEMPTS_MAX: usize = 20;
const CONFIG: &str = "server.conf";
const VOLATILE: [&str; 4] = ["--save", "", "--appendonly", "no"];

/// The program that is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The redis-server on the PATH.
    Redis,
    /// The program that `VALKEY_SERVER` names, else the one that `scripts/test` has fetched.
    Valkey,
}

impl Program {
    fn path(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => std::env::var_os("VALKEY_SERVER").map_or_else(
                || {
                    let test = std::env::current_exe().unwrap();
                    // Tests are in target/debug/deps.
                    test.ancestors().nth(3).unwrap().join("valkey/valkey-server")
                },
                PathBuf::from,
            ),
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
    /// Ended before its folder goes.
    node: Node,
    tls_port: Option<u16>,
    _folder: TempDir,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&VOLATILE)
    }

    /// A Valkey that keeps nothing on disk.
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
        let mut server = Self::new(recipe, config);
        for _ in 1..ATTEMPTS_MAX {
            match server.launch() {
                Ok(()) => return server,
                Err(_) => server = Self::new(recipe, config),
            }
        }
        server.launch().expect("it starts; what is missing `scripts/test` installs or fetches");
        server
    }

    /// Not started yet.
    fn new(recipe: &Recipe, config: Option<&str>) -> Self {
        let folder = TempDir::new().unwrap();
        let address = free_address().unwrap();
        let tls_port = recipe.has_tls.then(|| free_address().unwrap().port());
        let mut words: Vec<String> = config.iter().map(|_| CONFIG.to_owned()).collect();
        let port = address.port().to_string();
        let fixed = ["--port", &port, "--bind", "127.0.0.1", "--protected-mode", "no"];
        words.extend(fixed.map(str::to_owned));
        words.extend(tls_port.iter().flat_map(|port| ["--tls-port".to_owned(), port.to_string()]));
        words.extend_from_slice(&recipe.options);
        let program = recipe.program.path();
        let node = Node::new(folder.path(), "redis", address, &program, words).unwrap();
        if let Some(text) = config {
            fs::write(node.folder.join(CONFIG), text).unwrap();
        }
        Self { node: node.of_any_thread(), tls_port, _folder: folder }
    }

    fn launch(&mut self) -> Result<()> {
        self.node.start()?;
        self.node.wait_until_it_answers(START_DEADLINE)
    }

    /// A port on which nothing listens yet; [`Self::restart`] starts the server there.
    pub fn not_started() -> Self {
        let mut server = Self::start();
        server.kill();
        server
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.socket().to_string()
    }

    /// The same as an address.
    pub fn socket(&self) -> SocketAddr {
        self.node.address
    }

    /// The address on which it speaks TLS; None: it does not.
    pub fn tls_address(&self) -> Option<String> {
        self.tls_port.map(|port| format!("127.0.0.1:{port}"))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts it again on the same port with what it has on disk; returns when it is ready.
    pub fn restart(&mut self) {
        self.kill();
        self.launch().expect("it starts again on its port");
    }

    /// SIGSTOP: it answers nothing, its connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Runs a command through redis-cli and returns what it printed.
    pub fn cli(&self, words: &[&str]) -> String {
        let port = self.socket().port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output();
        let output = output.expect("redis-cli is there; else `scripts/test` installs it");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// `PUBLISH`, as any program on the same Redis may; returns how many subscribers it reached.
    pub fn publish(&self, channel: &str, data: &[u8]) -> u64 {
        let reply = resp::ask(self.socket(), &[b"PUBLISH", channel.as_bytes(), data]).unwrap();
        reply.text().parse().unwrap()
    }

    /// Makes the user `wsbcast` with the password `pass` and the rights that docs/redis.md names,
    /// for these names, but without those `lacking`. Connections without a password may neither
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
        let command = format!("redis-cli -p {} ACL SETUSER wsbcast {rules}", self.socket().port());
        let output = Command::new("sh").args(["-c", &command]).output().expect("sh runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK", "{command}");
        assert_eq!(self.cli(&["ACL", "SETUSER", "default", "resetkeys", "resetchannels"]), "OK");
    }

    fn signal(&self, signal: Signal) {
        if self.node.id().is_ok() {
            self.node.signal(signal).unwrap();
        }
    }
}
