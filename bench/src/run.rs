//! One scenario, from the first connect to the report: who starts when, what is read when.
//!
//! The conductor's thread sends and receives nothing itself. It reads CPU, memory and counters
//! at the two ends of the measured window, and every wait of its has an end.

mod measure;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use self::measure::{Meter, Window};
use crate::{
    args::{Mode, RunArgs},
    clients::{self, Counters, Outcome, Share, Stage},
    clock, output,
    process::Machine,
    publish::{self, Press, Published},
    report::Report,
    schedule::Schedule,
    target::Target,
};

/// Between two looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Idle clients are left alone this long before memory is read.
const MEMORY_PAUSE: Duration = Duration::from_millis(500);
/// From "go" to the first message: all publishers are up by then.
const START_PAUSE: Duration = Duration::from_millis(50);
/// Descriptors besides clients and publishers: epoll sets, /proc, standard streams.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Runs the scenario.
pub(crate) fn run(args: &RunArgs) -> Result<Report> {
    args.check()?;
    let target = Target::from_args(args)?;
    raise_descriptor_limit(args)?;
    if let Some(cpus) = &args.pin {
        pin(cpus)?;
    }
    sharpen_timers();
    let mut meter = Meter::start(&args.server_pid)?;
    let stage = Arc::new(stage(args, target));
    let bar = progress_bar(args);
    let crowd = start_clients(args, &stage)?;
    let result = conduct(args, &stage, &mut meter, &bar);
    stage.stop.store(result.is_err(), Relaxed);
    let deadline = clock::now_ns() + args.settle.ns();
    while crowd.iter().any(|thread| !thread.is_finished()) && clock::now_ns() < deadline {
        meter.watch_memory();
        show(&bar, &stage);
        clock::pause(LOOK_INTERVAL);
    }
    meter.end();
    stage.stop.store(true, Relaxed);
    let mut outcome = Outcome::new();
    for thread in crowd {
        outcome.merge(join(thread)??);
    }
    bar.finish_and_clear();
    let (published, window) = result.map_err(|error| match &outcome.first_failure {
        Some(failure) => error.context(format!("first failure: {failure}")),
        None => error,
    })?;
    Ok(meter.report(args, Machine::describe(), &outcome, &published, &window))
}

/// From the first connect to the last publish.
fn conduct(
    args: &RunArgs,
    stage: &Arc<Stage>,
    meter: &mut Meter,
    bar: &ProgressBar,
) -> Result<(Published, Window)> {
    let started_ns = clock::now_ns();
    let deadline = started_ns + args.connect_timeout.ns();
    let settled = |stage: &Stage| stage.sum(|c| &c.opened) + stage.sum(|c| &c.failed);
    while settled(stage) < args.clients as u64 {
        if clock::now_ns() > deadline {
            bail!(
                "{} of {} clients after {} s",
                settled(stage),
                args.clients,
                args.connect_timeout.0
            );
        }
        show(bar, stage);
        clock::pause(Duration::from_millis(10));
    }
    ensure!(stage.sum(|c| &c.opened) > 0, "no client could connect to {}", args.url);
    meter.connected(clock::as_secs(clock::now_ns() - started_ns));
    clock::pause(MEMORY_PAUSE);
    meter.idle();
    if args.mode == Mode::Idle {
        let from = meter.window_edge(stage, 0);
        pass_time(clock::now_ns() + args.seconds.ns(), stage, meter, bar);
        meter.idle();
        let window = meter.window(from, meter.window_edge(stage, 0));
        stage.sent.get_or_init(Vec::new);
        return Ok((Published::new(), window));
    }
    publish_and_measure(args, stage, meter, bar)
}

fn publish_and_measure(
    args: &RunArgs,
    stage: &Arc<Stage>,
    meter: &mut Meter,
    bar: &ProgressBar,
) -> Result<(Published, Window)> {
    let start_ns = clock::now_ns() + clock::as_ns(START_PAUSE);
    let from_ns = start_ns + args.warmup.ns();
    let end_ns = from_ns + args.seconds.ns();
    stage.timed_ns.get_or_init(|| (from_ns, end_ns));
    let press = Arc::new(Press {
        target: stage.target.clone(),
        run: stage.run,
        message_bytes: args.size,
        payload: args.payload,
        schedule: Schedule { start_ns, end_ns, rate: args.rate },
        is_open_loop: args.mode == Mode::Live,
        messages_max: args.max_messages as u64,
        slots: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        is_measured: AtomicBool::new(false),
    });
    let publishers: Vec<_> = (0..args.publishers as u32)
        .map(|publisher| publish::start(Arc::clone(&press), publisher))
        .collect::<Result<_>>()?;
    pass_time(from_ns, stage, meter, bar);
    let from = meter.window_edge(stage, press.accepted.load(Relaxed));
    pass_time(end_ns, stage, meter, bar);
    let to = meter.window_edge(stage, press.accepted.load(Relaxed));
    press.is_measured.store(true, Relaxed);
    let window = meter.window(from, to);
    let mut published = Published::new();
    for publisher in publishers {
        published.merge(join(publisher)?);
    }
    stage.sent.get_or_init(|| published.sent.clone());
    Ok((published, window))
}

/// Waits, with an eye on the server's memory and the bar.
fn pass_time(until_ns: u64, stage: &Stage, meter: &mut Meter, bar: &ProgressBar) {
    loop {
        let now = clock::now_ns();
        if now >= until_ns {
            return;
        }
        meter.watch_memory();
        show(bar, stage);
        clock::wait_until(until_ns.min(now + clock::as_ns(LOOK_INTERVAL)));
    }
}

fn stage(args: &RunArgs, target: Target) -> Stage {
    Stage {
        target,
        // The process id tells runs on one server apart, the clock runs of one id.
        run: std::process::id() << 8 ^ clock::now_ns() as u32,
        publishers: args.publishers,
        message_bytes: args.size as u64,
        timed_ns: OnceLock::new(),
        sent: OnceLock::new(),
        stop: AtomicBool::new(false),
        counters: (0..args.threads).map(|_| Counters::default()).collect(),
    }
}

fn start_clients(args: &RunArgs, stage: &Arc<Stage>) -> Result<Vec<JoinHandle<Result<Outcome>>>> {
    (0..args.threads)
        .map(|thread| {
            let share = Share {
                thread,
                threads: args.threads,
                clients: args.clients,
                stalled: args.stalled,
            };
            clients::start(Arc::clone(stage), share)
        })
        .collect()
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    match thread.join() {
        Ok(value) => Ok(value),
        Err(_) => bail!("a thread of the load generator panicked: its figures are lost"),
    }
}

fn raise_descriptor_limit(args: &RunArgs) -> Result<()> {
    let (soft_before, hard) = rlimit::Resource::NOFILE.get().context("the descriptor limit")?;
    let soft = rlimit::increase_nofile_limit(hard).context("raising the descriptor limit")?;
    let wanted = (args.clients + args.publishers) as u64 + DESCRIPTORS_RESERVED;
    if !args.json {
        output::remark(&format!("descriptor limit {soft} (was {soft_before}), {wanted} wanted"));
    }
    ensure!(
        wanted <= soft,
        "{} clients want {wanted} descriptors, the limit is {soft}: raise it (ulimit -Hn)",
        args.clients
    );
    Ok(())
}

/// Before any thread exists, so that all inherit it.
fn pin(cpus: &str) -> Result<()> {
    let id = std::process::id().to_string();
    let output = std::process::Command::new("taskset")
        .args(["-p", "-c", cpus, &id])
        .output()
        .context("--pin needs taskset")?;
    ensure!(
        output.status.success(),
        "--pin {cpus}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Sleeping publishers wake 50 µs late unless told otherwise; threads started later inherit this.
/// Where it is not allowed the report's lateness shows it.
fn sharpen_timers() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}

/// Drawn on a terminal only.
fn progress_bar(args: &RunArgs) -> ProgressBar {
    let seconds = match args.mode {
        Mode::Idle => args.seconds.0,
        Mode::Live | Mode::Burst => args.warmup.0 + args.seconds.0,
    };
    let bar =
        if args.json { ProgressBar::hidden() } else { ProgressBar::new(seconds.ceil() as u64) };
    let style = ProgressStyle::with_template("[{elapsed_precise}] about {len} s; {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn show(bar: &ProgressBar, stage: &Stage) {
    if !bar.is_hidden() {
        let opened = stage.sum(|c| &c.opened);
        let deliveries = stage.sum(|c| &c.deliveries);
        bar.set_message(format!("{opened} clients, {deliveries} deliveries"));
        bar.tick();
    }
}
