//! A real Chromium without a screen, on one page of a [`Stage`]; killed when dropped.
//!
//! Debian's package, which `scripts/test` installs. A profile of its own each time, so nothing is
//! remembered from one test to the next.

use std::{
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::stage::Stage;

/// One browser on one page.
pub(crate) struct Page {
    pub(crate) stage: Stage,
    browser: Child,
    _profile: TempDir,
    orders: usize,
}

impl Page {
    /// Opens the page of `stage`.
    pub(crate) fn open(stage: Stage) -> Self {
        Self::in_home(stage, |_| {})
    }

    /// Opens the page of `stage`, in a browser that trusts the authority of the file at `path` too.
    pub(crate) fn open_trusting(stage: Stage, path: &str) -> Self {
        Self::in_home(stage, |home| trust(home, path))
    }

    /// Opens the page of `stage` for a user with a home of its own, which is made ready before.
    fn in_home(stage: Stage, make_ready: impl FnOnce(&Path)) -> Self {
        // A process that dies a moment later than the others may leave something of it behind.
        let profile = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room for it");
        make_ready(profile.path());
        let mut command = Command::new("chromium");
        command
            .env("HOME", profile.path())
            .args(["--headless=new", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"])
            // Its sandbox needs what containers and root do not have; it sees our own page only.
            .args(["--no-sandbox", "--disable-background-networking", "--disable-extensions"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(stage.page())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let browser = match command.spawn() {
            Ok(browser) => browser,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("these tests need chromium on the PATH; scripts/test installs it with apt")
            }
            Err(error) => panic!("chromium starts: {error}"),
        };
        let mut page = Self { stage, browser, _profile: profile, orders: 0 };
        page.run("0");
        page
    }

    /// Runs `script` in the page; its value, once that is settled.
    #[track_caller]
    pub(crate) fn run(&mut self, script: &str) -> Value {
        let done = self.try_run(script);
        assert_eq!(done["kind"], "done", "{script}: {done}");
        done["value"].clone()
    }

    /// Runs `script` in the page, which may throw.
    #[track_caller]
    pub(crate) fn try_run(&mut self, script: &str) -> Value {
        self.stage.order(script);
        self.orders += 1;
        let is_end = |one: &&Value| one["kind"] == "done" || one["kind"] == "thrown";
        let nth = self.orders - 1;
        self.stage.wait(script, |news| news.iter().filter(is_end).nth(nth).cloned())
    }

    /// Waits until `condition`, in JavaScript, holds in the page.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, condition: &str) {
        self.run(&format!(
            "new Promise((resolve) => {{
                const look = () => ({condition} ? resolve(0) : setTimeout(look, 5));
                look();
            }})"
        ));
    }

    /// Makes a client with these options in JavaScript, and waits until messages come.
    #[track_caller]
    pub(crate) fn connect(&mut self, options: &str) {
        let before = self.states("open").len();
        self.run(&format!("connect({options})"));
        self.wait_for_state("open", before);
    }

    /// Waits for the state `state` after it was reached `before` times.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, state: &str, before: usize) -> Value {
        self.stage.wait(state, |news| states(news, state).get(before).cloned())
    }

    /// All that was told of a state so far.
    pub(crate) fn states(&self, state: &str) -> Vec<Value> {
        self.stage.wait("news", |news| Some(states(news, state)))
    }

    /// Waits for `count` messages of `channel`; their data and positions.
    #[track_caller]
    pub(crate) fn messages(&self, channel: &str, count: usize) -> Vec<(Value, String)> {
        self.stage.wait(&format!("{count} messages of {channel}"), |news| {
            let is_ours = |one: &&Value| one["kind"] == "message" && one["channel"] == channel;
            let place = |one: &Value| one["position"].as_str().unwrap_or_default().to_owned();
            let all: Vec<_> =
                news.iter().filter(is_ours).map(|one| (one["data"].clone(), place(one))).collect();
            (all.len() >= count).then_some(all)
        })
    }

    /// The gaps that were told so far.
    pub(crate) fn gaps(&self) -> Vec<Value> {
        let is_gap = |one: &&Value| one["kind"] == "gap";
        self.stage.wait("news", |news| Some(news.iter().filter(is_gap).cloned().collect()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Its many processes are one group.
        let group = format!("-{}", self.browser.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.browser.wait();
    }
}

/// Adds an authority to the trust store of the user whose home this is, as `certutil` does.
fn trust(home: &Path, authority: &str) {
    let store = home.join(".pki/nssdb");
    std::fs::create_dir_all(&store).expect("there is room for it");
    let store = format!("sql:{}", store.display());
    for args in [
        &["-N", "--empty-password"][..],
        &["-A", "-n", "authority of a test", "-t", "C,,", "-i", authority],
    ] {
        let status = Command::new("certutil").args(["-d", &store]).args(args).status();
        let status = status.expect("certutil is on the PATH; scripts/test installs it with apt");
        assert!(status.success(), "certutil {args:?}");
    }
}

fn states(news: &[Value], state: &str) -> Vec<Value> {
    let is_it = |one: &&Value| one["kind"] == "state" && one["state"] == state;
    news.iter().filter(is_it).cloned().collect()
}
