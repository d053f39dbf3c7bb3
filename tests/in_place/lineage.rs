//! A server and its successors: on one address, with one control socket and one log in a file.
//!
//! A successor may be started by the server itself, so processes are known by the control socket's
//! path in their arguments. All of them end with the test.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Once,
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use tempfile::TempDir;

use crate::support::{
    PATIENCE, eventually, free_address,
    http::{Http, get},
    metrics::metric,
    server::{Ended, Launch},
};

const BINARY: &str = env!("CARGO_BIN_EXE_wsbcast");

/// One process after the other.
pub(crate) struct Lineage {
    /// The public address.
    pub(crate) addr: SocketAddr,
    /// The address of the admin listener.
    pub(crate) admin: SocketAddr,
    /// The program that is started; a copy, which a test may replace.
    pub(crate) program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: TempDir,
    /// The process that serves.
    pub(crate) pid: u32,
}

impl Lineage {
    /// A server on a free port, with an admin listener, two shards unless `args` say otherwise.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(args, &[])
    }

    /// The same with these environment variables.
    #[track_caller]
    pub(crate) fn start_in(args: &[&str], env: &[(&str, &str)]) -> Self {
        static REAPER: Once = Once::new();
        REAPER.call_once(|| {
            rustix::process::set_child_subreaper(Some(getpid())).expect("descendants come here");
        });
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("wsbcast");
        // By another process: see `support::server`.
        let copied = Command::new("cp").arg(BINARY).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "the binary can be copied");
        let [addr, admin] = [free_address(), free_address()];
        let mut words: Vec<String> = args.iter().map(ToString::to_string).collect();
        for (option, value) in [
            ("--listen", addr.to_string()),
            ("--admin-listen", admin.to_string()),
            ("--threads", "2".to_owned()),
            ("--notify-interval", "0".to_owned()),
        ] {
            if option == "--listen" || !args.contains(&option) {
                words.extend([option.to_owned(), value]);
            }
        }
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let env = env.collect();
        let mut lineage = Self { addr, admin, program, args: words, env, folder, pid: 0 };
        let control = lineage.control().display().to_string();
        lineage.pid = lineage.spawn(&["--control-socket", &control]);
        eventually(PATIENCE, "it is ready", || lineage.is_ready());
        lineage
    }

    /// The control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// A place for a test's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a process with the server's options and these, those of the same name replaced.
    pub(crate) fn spawn(&self, words: &[&str]) -> u32 {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let again = log.try_clone().unwrap();
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars() {
            let read = ["WSBCAST_", "LISTEN_", "WATCHDOG_", "NOTIFY_", "INVOCATION_ID"];
            if read.iter().any(|from| name.starts_with(from)) || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let mut args = self.args.as_slice();
        while let [name, value, rest @ ..] = args {
            if name == "--listen" || !words.contains(&name.as_str()) {
                command.args([name, value]);
            }
            args = rest;
        }
        command.args(words).stdin(Stdio::null()).stdout(log).stderr(again);
        // Reaped by its number, as all the others are.
        command.spawn().unwrap().id()
    }

    /// A new process takes over, with these options too; the old one has ended well.
    #[track_caller]
    pub(crate) fn take_over(&mut self, words: &[&str]) {
        let control = self.control().display().to_string();
        let new = self.spawn(&[&["--take-over", &control][..], words].concat());
        self.assert_succeeded_by(Some(new));
    }

    /// `wsbcast upgrade`, whatever comes of it.
    pub(crate) fn ask_upgrade(&self) -> Ended {
        let control = self.control().display().to_string();
        Launch::new(&["upgrade", "--control-socket", &control]).run()
    }

    /// `wsbcast upgrade`, which is done; its words.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) -> String {
        let ended = self.ask_upgrade();
        assert_eq!(ended.code, Some(0), "{} {}\n{}", ended.stdout, ended.stderr, self.log());
        self.assert_succeeded_by(None);
        ended.stdout
    }

    /// The process that serves ends with code 0, and another one serves: `new`, if it is known.
    #[track_caller]
    pub(crate) fn assert_succeeded_by(&mut self, new: Option<u32>) {
        let code = wait_for_end(self.pid);
        assert_eq!(code, Some(0), "the old process:\n{}", self.log());
        let old = self.pid;
        let mut heirs = Vec::new();
        eventually(PATIENCE, "a new process", || {
            heirs = self.processes();
            !heirs.is_empty()
        });
        assert!(heirs.len() == 1 && heirs[0] != old, "{old} → {heirs:?}:\n{}", self.log());
        assert!(new.is_none_or(|new| new == heirs[0]), "{new:?}, {heirs:?}");
        self.pid = heirs[0];
        eventually(PATIENCE, "the new process serves", || self.is_alive());
    }

    /// The process that serves still does.
    #[track_caller]
    pub(crate) fn assert_goes_on(&self) {
        eventually(PATIENCE, "it is alone", || self.processes() == [self.pid]);
        assert!(self.is_ready(), "{}", self.log());
        get(self.addr, "/livez").assert_status(200);
    }

    /// A metric of the process that serves.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        metric(self.admin, name, labels)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.pid), signal).expect("it is there");
    }

    /// Stops it as a supervisor does, and returns its exit code.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        wait_for_end(self.pid)
    }

    /// All that was said by all of them.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn is_ready(&self) -> bool {
        Http::try_connect(self.addr).is_some() && get(self.addr, "/readyz").status == 200
    }

    fn is_alive(&self) -> bool {
        Http::try_connect(self.addr).is_some() && get(self.addr, "/livez").status == 200
    }

    /// Those that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let program = self.program.as_os_str().as_encoded_bytes();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_one = |id: &u32| {
            let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            arguments.starts_with(program)
        };
        ids.filter(is_one).collect()
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        for id in self.processes() {
            let _ = kill_process(pid(id), Signal::KILL);
            let _ = waitpid(Some(pid(id)), WaitOptions::empty());
        }
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}---", self.program.display(), self.log());
        }
    }
}

fn pid(id: u32) -> Pid {
    i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process has a number")
}

/// Waits for the end of a process that this one reaps, and returns its exit code.
#[track_caller]
pub(crate) fn wait_for_end(id: u32) -> Option<i32> {
    let mut code = None;
    eventually(PATIENCE, "the process ends", || {
        // One that another process has started is this one's child from that one's end on.
        let status = waitpid(Some(pid(id)), WaitOptions::NOHANG);
        let status = status.ok().flatten().map(|(_, status)| status);
        code = status.map(|status| status.exit_status());
        code.is_some()
    });
    code.flatten()
}
