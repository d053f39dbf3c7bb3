//! The real binary as a process: started on free ports, signalled, waited for, never left behind.
//!
//! The ports come from the log, which promises to name them. The log is kept and printed when a
//! test fails.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    PATIENCE, eventually,
    http::{self, Http},
    now,
};

const BINARY: &str = env!("CARGO_BIN_EXE_wsbcast");

/// How a process is started.
#[derive(Debug)]
pub(crate) struct Launch {
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// A shell line before `exec`, such as `ulimit -n 64`.
    before: Option<String>,
    /// Another user, and a copy of the binary that it may run.
    user: Option<(u32, Arc<TempDir>)>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Log,
    public: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    _binary: Option<Arc<TempDir>>,
}

impl Launch {
    /// Exactly these arguments.
    pub(crate) fn new(args: &[&str]) -> Self {
        let args = args.iter().map(ToString::to_string).collect();
        Self { args, env: Vec::new(), before: None, user: None }
    }

    /// These, a free port, two shards, and no periodic notice, unless they say otherwise.
    pub(crate) fn on_a_free_port(args: &[&str]) -> Self {
        let mut launch = Self::new(args);
        for (option, value) in
            [("--listen", "127.0.0.1:0"), ("--threads", "2"), ("--notify-interval", "0")]
        {
            if !args.contains(&option) {
                launch.args.extend([option.to_owned(), value.to_owned()]);
            }
        }
        launch
    }

    /// With this environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// After this shell line.
    pub(crate) fn after(mut self, line: &str) -> Self {
        self.before = Some(line.into());
        self
    }

    /// As this user; takes root.
    pub(crate) fn user(mut self, uid: u32) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("it is ours");
        let copy = folder.path().join("wsbcast");
        // That user may not go to the folder of the build. The copy is made by another process:
        // while a thread of this one had it open for writing, children of other threads would keep
        // it busy.
        let copied = Command::new("cp").arg(BINARY).arg(copy).status();
        assert!(copied.is_ok_and(|status| status.success()), "the binary can be copied");
        self.user = Some((uid, Arc::new(folder)));
        self
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let admin_wanted = self.args.iter().filter(|arg| *arg == "--admin-listen").count();
        let public_wanted = self.named_ports().max(1);
        let mut server = self.spawn();
        server.wait_until_it_listens(public_wanted, admin_wanted);
        server
    }

    /// Public listeners that the arguments name, but for Unix sockets.
    fn named_ports(&self) -> usize {
        let pairs = self.args.iter().zip(self.args.iter().skip(1));
        let is_port = |(option, value): &(&String, &String)| {
            ["--listen", "--tls-listen"].contains(&option.as_str()) && !value.starts_with("unix:")
        };
        pairs.filter(is_port).count()
    }

    /// Starts it without waiting for anything.
    #[track_caller]
    pub(crate) fn spawn(self) -> Server {
        let mut child = self.command().spawn().expect("the binary starts");
        let log = Log::read(child.stderr.take().expect("stderr is piped"));
        let binary = self.user.map(|(_, folder)| folder);
        Server { child, log, public: Vec::new(), admin: Vec::new(), _binary: binary }
    }

    /// Runs it until it ends by itself.
    #[track_caller]
    pub(crate) fn run(self) -> Ended {
        let mut server = self.spawn();
        let code = server.wait().code;
        let mut stdout = String::new();
        let mut pipe = server.child.stdout.take().expect("stdout is piped");
        pipe.read_to_string(&mut stdout).expect("stdout is text");
        Ended { code, stdout, stderr: server.log.text() }
    }

    fn command(&self) -> Command {
        let copy = self.user.as_ref().map(|(_, folder)| folder.path().join("wsbcast"));
        let binary = copy.as_deref().unwrap_or_else(|| Path::new(BINARY));
        let mut command = match &self.before {
            None => Command::new(binary),
            Some(line) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        let read = ["REDIS_URL", "RUST_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR"];
        let from = ["WSBCAST_", "LISTEN_", "WATCHDOG_", "NOTIFY_"];
        let is_read =
            |name: &str| from.iter().any(|from| name.starts_with(from)) || read.contains(&name);
        for (name, _) in std::env::vars().filter(|(name, _)| is_read(name)) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some((uid, _)) = &self.user {
            as_user(&mut command, *uid);
        }
        command
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// `None`: killed by a signal.
    pub(crate) code: Option<i32>,
}

impl Server {
    /// Starts one on a free port, with `args`, and waits until it serves.
    #[track_caller]
    pub(crate) fn start(args: &[&str]) -> Self {
        Launch::on_a_free_port(args).start()
    }

    /// The address to which clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.public[0]
    }

    /// All public addresses.
    pub(crate) fn public(&self) -> &[SocketAddr] {
        &self.public
    }

    /// The address of the admin listener.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin[0]
    }

    /// Waits until it says so itself.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        eventually(PATIENCE, "it is ready", || {
            let ready = http::get(self.addr(), "/readyz");
            ready.status == 200 && ready.json()["status"] == "ready"
        });
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as `TERM`; several: at once, one after the other.
    #[track_caller]
    pub(crate) fn signal(&self, names: &[&str]) {
        let pid = self.pid();
        let line: String = names.iter().map(|name| format!("kill -s {name} {pid};")).collect();
        let status = Command::new("sh").args(["-c", &line]).status().expect("sh runs");
        assert!(status.success(), "the process is there to be signalled: {names:?}");
    }

    /// Ends it without a chance to clean up, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Exit {
        self.wait_within(PATIENCE)
    }

    /// Waits for its end, which must come in time.
    #[track_caller]
    pub(crate) fn wait_within(&mut self, within: Duration) -> Exit {
        let start = now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                self.log.wait_for_its_end();
                return Exit { code: status.code() };
            }
            assert!(start.elapsed() < within, "the process ends within {within:?}");
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits for its end by itself, with `code`.
    #[track_caller]
    pub(crate) fn assert_exit(&mut self, code: i32) {
        assert_eq!(self.wait().code, Some(code), "exit code");
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// From now on nobody reads its log, until somebody does again.
    pub(crate) fn leave_log_unread(&self, unread: bool) {
        self.log.leave_unread(unread);
    }

    /// Waits for a log line that contains all `words`, and returns the first such.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, words: &[&str]) -> String {
        let line = self.log.wait_for(PATIENCE, |line| words.iter().all(|word| line.contains(word)));
        line.unwrap_or_else(|| panic!("no log line with {words:?}"))
    }

    #[track_caller]
    fn wait_until_it_listens(&mut self, public_wanted: usize, admin_wanted: usize) {
        let start = now();
        eventually(PATIENCE, "the log names the ports", || {
            if !self.is_running() {
                self.log.wait_for_its_end();
                panic!("it ended instead of serving:\n{}", self.log.text());
            }
            self.read_addresses();
            self.public.len() >= public_wanted && self.admin.len() >= admin_wanted
        });
        eventually(PATIENCE.saturating_sub(start.elapsed()), "it answers", || self.answers());
        self.read_addresses();
    }

    fn answers(&mut self) -> bool {
        let addr = self.public[0];
        let Some(mut http) = Http::try_connect(addr) else { return false };
        let sent = http
            .try_send(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"));
        sent && http.try_response().is_some_and(|response| response.status == 200)
    }

    fn read_addresses(&mut self) {
        let text = self.log.text();
        let lines = || text.lines().filter(|line| line.contains("listening on"));
        let addresses = |line: &str| -> Vec<SocketAddr> {
            let rest = line.split("listening on").nth(1).unwrap_or_default();
            let words = rest.split(|c: char| c.is_whitespace() || ",/\"".contains(c));
            words.filter_map(|word| word.parse().ok()).collect()
        };
        self.public = lines().filter(|line| !line.contains("admin")).flat_map(addresses).collect();
        self.admin = lines().filter(|line| line.contains("admin")).flat_map(addresses).collect();
    }
}

/// Makes a command run as another user.
#[track_caller]
pub(crate) fn as_user(command: &mut Command, uid: u32) {
    let ours = tempfile::tempfile().and_then(|file| file.metadata()).expect("a file can be made");
    assert_eq!(ours.uid(), 0, "a test of what several users may do: run it as root");
    command.uid(uid).gid(uid).current_dir("/");
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self.log.leave_unread(false);
        if thread::panicking() {
            eprintln!("--- log of process {} ---\n{}---", self.child.id(), self.log.text());
        }
    }
}

/// Lines of a process's standard error, read by a thread as they come.
#[derive(Clone, Debug)]
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    unread: bool,
    ended: bool,
}

impl Log {
    fn read(pipe: ChildStderr) -> Self {
        let log = Self(Arc::default());
        let writer = log.clone();
        thread::spawn(move || {
            let (lines, changed) = &*writer.0;
            for line in BufReader::new(pipe).lines() {
                let line = line.unwrap_or_else(|error| format!("(unreadable: {error})"));
                let mut lines = lines.lock().expect("no writer panics");
                lines.lines.push(without_colours(&line));
                changed.notify_all();
                let is_unread = |lines: &mut Lines| lines.unread;
                drop(changed.wait_while(lines, is_unread).expect("no reader panics"));
            }
            lines.lock().expect("no writer panics").ended = true;
            changed.notify_all();
        });
        log
    }

    fn leave_unread(&self, unread: bool) {
        self.0.0.lock().expect("no writer panics").unread = unread;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        let lines = self.0.0.lock().expect("no writer panics");
        lines.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    fn wait_for(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("no writer panics");
        let missing = |l: &mut Lines| !l.ended && !l.lines.iter().any(|line| wanted(line));
        let (lines, _) = changed.wait_timeout_while(lines, within, missing).expect("as above");
        lines.lines.iter().find(|line| wanted(line)).cloned()
    }

    fn wait_for_its_end(&self) {
        let (lines, changed) = &*self.0;
        let lines = lines.lock().expect("no writer panics");
        let open = |l: &mut Lines| !l.ended;
        drop(changed.wait_timeout_while(lines, PATIENCE, open).expect("as above"));
    }
}

/// A line without terminal colours.
fn without_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    clean
}
