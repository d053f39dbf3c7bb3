//! The log holds nothing up, whatever becomes of its lines, and no stranger can make it long.
//!
//! Standard error is a pipe that nobody reads, a slow one, one whose reader is gone, a full disk
//! or a stopped terminal: the server serves, drains and ends as ever.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::support::{
    PATIENCE,
    client::Client,
    eventually, free_address,
    http::{Http, get},
    let_pass,
    metrics::{Metrics, metric},
    now,
    publish::Publisher,
    redis::RedisServer,
    server::{Launch, Server},
};

/// More than a pipe and the queue hold, in lines and in bytes.
const LINES: usize = 20_000;
/// Longer than signals count as one.
const APART: Duration = Duration::from_millis(450);

/// A server that logs much, to a pipe that is full.
fn unread(args: &[&str]) -> Server {
    let args = [args, &["--log-level", "debug"]].concat();
    let server = Launch::on_a_free_port(&args).start();
    server.leave_log_unread(true);
    server
}

/// Makes the server log a line each, at `debug`.
fn refused_requests(addr: SocketAddr, count: usize) {
    let at_a_time = count.min(50);
    let request =
        format!("POST /broadcast?channel=! HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\n\r\n");
    let mut http = Http::connect(addr);
    for _ in 0..count / at_a_time {
        http.send(request.repeat(at_a_time));
        for _ in 0..at_a_time {
            assert_eq!(http.response().status, 400);
        }
    }
}

/// It serves: probes, clients, publishers.
fn serves(addr: SocketAddr) -> Client {
    get(addr, "/livez").assert_status(200);
    let mut client = Client::connect(addr);
    assert_eq!(Publisher::new(addr).publish("heard").status, 202);
    client.assert_text("heard");
    client
}

/// A log that nobody reads holds up no client; the number of lines it lost is told when it goes on.
#[test]
fn an_unread_log_holds_up_nobody() {
    let mut server = unread(&[]);
    refused_requests(server.addr(), LINES);
    let client = serves(server.addr());
    let dropped = metric(server.addr(), "wsbcast_log_lines_dropped_total", &[]);
    assert!(dropped > 1_000.0, "{dropped}");

    server.leave_log_unread(false);
    let told = server.wait_for_log(&["log lines were dropped"]);
    let lines: f64 = told.split("lines=").nth(1).expect(&told).trim().parse().expect(&told);
    assert!(lines >= dropped, "{told}");
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    client.leave();
    server.assert_exit(0);
    let log = server.log();
    assert!(log.lines().last().is_some_and(|last| last.contains("drained: exiting")), "{log}");
    assert_eq!(log.matches("log lines were dropped").count(), 1, "one line");
}

/// Signals drain and end the process also while nobody reads its log.
#[test]
fn signals_work_while_nobody_reads_the_log() {
    let mut server = unread(&[]);
    refused_requests(server.addr(), LINES);
    let client = serves(server.addr());
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    client.leave();
    let start = now();
    eventually(PATIENCE, "it ends", || !server.is_running());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let mut server = unread(&[]);
    refused_requests(server.addr(), LINES);
    // This client cannot be told to leave.
    let _stalled = Client::with_little_room(server.addr(), "/ws");
    for _ in 0..6 {
        Publisher::new(server.addr()).publish_to_all("x".repeat(1000 * 1000));
    }
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    let_pass(APART);
    server.signal(&["TERM"]);
    let_pass(Duration::from_millis(320));
    let third = now();
    if server.is_running() {
        server.signal(&["TERM"]);
    }
    eventually(PATIENCE, "it ends", || !server.is_running());
    // The log's own deadline is a second, which a third signal used to wait for.
    assert!(third.elapsed() < Duration::from_millis(900), "{:?}", third.elapsed());
    server.leave_log_unread(false);
    server.assert_exit(3);
}

/// A command that fails ends also when nobody reads why: errors before there is a log go to the
/// same standard error.
#[test]
fn a_failing_command_ends_though_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let nobody = free_address();
    for (args, code) in [
        (&["--threads", "x"][..], 2),
        (&["--no-such-option"], 2),
        (&["health", "ftp://"], 2),
        (&["health", &format!("http://{nobody}")], 1),
        (&["--listen", &taken], 1),
    ] {
        let (_unread, writer) = std::io::pipe().unwrap();
        let mut filler = writer.try_clone().unwrap();
        // It has its full length once this blocks, and ends with the pipe.
        std::thread::spawn(move || filler.write_all(&[b'x'; 1 << 20]));
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsbcast"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        let mut command = Raw(command.spawn().unwrap());
        let mut status = None;
        eventually(PATIENCE, "it ends", || {
            status = command.0.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(code), "{args:?}");
    }
}

/// Lines that could not be written are told with the reason as soon as the log goes on.
#[test]
fn unwritten_lines_are_told_with_their_reason() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("log");
    let addr = free_address();
    let to_a_file = format!("ulimit -f 8; exec 2>>{}", path.display());
    let args = ["--listen", &addr.to_string(), "--log-level", "debug"];
    let mut server = Launch::on_a_free_port(&args).after(&to_a_file).spawn();
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    // Far more than the file takes, far fewer than the queue does: none waits in vain for a turn.
    refused_requests(addr, 500);
    // All of them, or what is still in the queue would fill the file again.
    eventually(PATIENCE, "lines that can't be written are counted", || {
        let written = std::fs::read_to_string(&path).unwrap().matches("reason=").count();
        metric(addr, "wsbcast_log_lines_dropped_total", &[]) + written as f64 >= 500.0
    });
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    refused_requests(addr, 1);
    eventually(PATIENCE, "it is told", || {
        let log = std::fs::read_to_string(&path).unwrap();
        let told = log.lines().find(|line| line.contains("log lines could not be written"));
        told.is_some_and(|told| told.contains("too large"))
            && !log.contains("nobody took them in time")
    });
    server.signal(&["TERM"]);
    server.assert_exit(0);
}

/// A Redis that refuses every publish fills no log, and so holds up nobody either. At `info` 269
/// refused publishes used to fill the pipe, and then nothing was answered.
#[test]
fn a_refusing_redis_is_one_line_in_the_log() {
    let redis = RedisServer::start();
    let start = |level| {
        let args = ["--redis-url", &redis.url(), "--log-level", level];
        let server = Launch::on_a_free_port(&args).start();
        eventually(PATIENCE, "it is ready", || get(server.addr(), "/readyz").status == 200);
        server
    };
    let (noisy, quiet) = (start("debug"), start("info"));
    noisy.leave_log_unread(true);
    assert_eq!(redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    for server in [&noisy, &quiet] {
        let lines: String = (0..500).map(|n| format!("{{\"data\":{n}}}\n")).collect();
        let headers = "Content-Type: application/x-ndjson\r\n";
        for _ in 0..4 {
            let start = now();
            crate::support::http::post_with(server.addr(), "/broadcast", headers, lines.as_bytes());
            assert!(start.elapsed() < PATIENCE);
        }
        serves(server.addr());
    }
    quiet.wait_for_log(&["Redis refuses"]);
    let log = quiet.log();
    let lines = log.lines().filter(|line| line.contains("Redis refuses")).count();
    assert!(lines <= 6, "first, then a count every 10 s: {lines} lines\n{log}");
}

/// Runs on while it logs much; its metrics at the end.
fn runs_on(addr: SocketAddr) -> Metrics {
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    refused_requests(addr, 3_000);
    serves(addr);
    Metrics::of(addr)
}

/// Lines for a full disk, or for a reader that is gone, are counted.
#[test]
fn lines_that_cannot_be_written_are_counted() {
    let folder = tempfile::TempDir::new().unwrap();
    // Past RLIMIT_FSIZE a write raises SIGXFSZ besides, which used to end the process.
    let to_a_file_of_4_kib = format!("ulimit -f 8; exec 2>{}/log", folder.path().display());
    for before in ["exec 2>/dev/full", "exec 2>&-", "exec 2>/dev/null", &to_a_file_of_4_kib] {
        let addr = free_address();
        let args = ["--listen", &addr.to_string(), "--log-level", "debug"];
        let mut server = Launch::on_a_free_port(&args).after(before).spawn();
        let metrics = runs_on(addr);
        let is_lost = before.ends_with("full") || before.starts_with("ulimit");
        eventually(PATIENCE, "lines that can't be written are counted", || {
            let dropped = metric(addr, "wsbcast_log_lines_dropped_total", &[]);
            // In 4 KiB some of the first have room.
            if is_lost { dropped >= 2_900.0 } else { true }
        });
        assert!(is_lost || metrics.sum("wsbcast_log_lines_dropped_total", &[]) == 0.0, "{before}");
        server.signal(&["TERM"]);
        server.assert_exit(0);
    }

    let (reader, writer) = std::io::pipe().unwrap();
    let addr = free_address();
    let mut server = Raw::start(addr, writer.into());
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    drop(reader);
    runs_on(addr);
    eventually(PATIENCE, "lines that can't be written are counted", || {
        metric(addr, "wsbcast_log_lines_dropped_total", &[]) >= 3_000.0
    });
    server.terminate();
}

/// A slow reader of the log gets as many lines as fit, and each of them whole.
#[test]
fn a_slow_reader_gets_whole_lines() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let addr = free_address();
    let mut server = Raw::start(addr, writer.into());
    eventually(PATIENCE, "it serves", || Http::try_connect(addr).is_some());
    let slow = std::thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), [0; 1000]);
        loop {
            match reader.read(&mut piece).unwrap() {
                0 => return String::from_utf8(all).unwrap(),
                count => all.extend_from_slice(&piece[..count]),
            }
            std::thread::park_timeout(Duration::from_micros(100));
        }
    });
    refused_requests(addr, 1_000);
    serves(addr);
    server.terminate();
    let log = slow.join().unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("publication refused")).count(), 1_000);
    assert!(log.lines().all(|line| line.starts_with("20")), "whole lines");
    assert!(log.lines().last().is_some_and(|last| last.contains("drained: exiting")));
}

/// A server whose standard error a test has made itself.
struct Raw(Child);

impl Raw {
    fn start(addr: SocketAddr, stderr: OwnedFd) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsbcast"));
        command.args(["--listen", &addr.to_string(), "--threads", "2"]);
        command.args(["--log-level", "debug", "--notify-interval", "0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    fn terminate(&mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
        let mut status = None;
        eventually(PATIENCE, "it ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A terminal that its user has stopped stops nothing but the log.
#[test]
fn a_stopped_terminal_stops_only_the_log() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut keyboard = File::from(terminal.master);
    keyboard.write_all(b"\x13").unwrap();
    let addr = free_address();
    let mut server = Raw::start(addr, terminal.slave);
    runs_on(addr);
    server.terminate();
}

/// A job in the background of a terminal is not stopped by its own log. After `stty tostop` the
/// kernel stops a background job that writes to its terminal.
#[test]
fn a_background_job_is_not_stopped_by_its_log() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let _screen = File::from(terminal.master);
    let addr = free_address();
    let binary = env!("CARGO_BIN_EXE_wsbcast");
    let line = format!(
        "stty tostop; set -m; {binary} --listen {addr} --threads 2 & echo $!; read forever"
    );
    let mut shell = Command::new("setsid");
    shell.args(["--ctty", "sh", "-c", &line]);
    shell.stdin(terminal.slave.try_clone().unwrap()).stdout(Stdio::piped()).stderr(terminal.slave);
    let job = Job::of(shell.spawn().unwrap());
    eventually(PATIENCE, "it serves", || {
        Http::try_connect(addr).is_some_and(|mut http| {
            http.try_send(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"))
                && http.try_response().is_some_and(|answer| answer.status == 200)
        })
    });
    serves(addr);
    drop(job);
}

/// A shell, and the process in its background, whose number it says first.
struct Job(Child, String);

impl Job {
    fn of(mut shell: Child) -> Self {
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self(shell, said.trim().to_owned())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-s", "KILL", &self.1]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
