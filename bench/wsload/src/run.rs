//! One scenario, from the first connect to the report: the order of starts and of readings.
//!
//! The conductor's thread sends and receives nothing itself. It reads CPU, memory and counters at
//! the two ends of the measured window and every slice in between, and each of its waits has an
//! end.

mod display;
mod measure;
mod setup;
mod timeline;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use testkit::clock;

use self::{
    display::Display,
    measure::{Meter, Results, Window},
    timeline::Recorder,
};
use crate::{
    args::{Mode, RunArgs},
    clients::{Outcome, Stage},
    publish::{self, Press, Published, Schedule},
    report::Report,
    storm::{self, StormOutcome, StormPlan},
    target::Target,
};

/// Between two looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// While clients connect: the end of it is a figure.
const CONNECT_LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Idle clients are left alone this long before memory is read.
const MEMORY_PAUSE: Duration = Duration::from_millis(500);
/// From "go" to the first message: all publishers are up by then.
const START_PAUSE: Duration = Duration::from_millis(50);

/// Runs the scenario.
pub(crate) fn run(args: &RunArgs) -> Result<Report> {
    args.check()?;
    let target = Target::from_args(args)?;
    setup::raise_descriptor_limit(args)?;
    if let Some(cpus) = &args.pin {
        setup::pin(cpus)?;
    }
    setup::sharpen_timers();
    let meter = Meter::start(&args.server_pid)?;
    let stage = Arc::new(setup::stage(args, target));
    let crowd = setup::start_clients(args, &stage)?;
    let recorder = Recorder::new(&stage, &args.server_pid);
    let display = Display::new(args);
    let mut conductor = Conductor { args, stage, meter, recorder, display, press: None };
    let conducted = conductor.conduct();
    conductor.stage.stop.store(conducted.is_err(), Relaxed);
    let outcome = conductor.gather(crowd)?;
    let (published, storm, window) = conducted.map_err(|error| match &outcome.first_failure {
        Some(failure) => error.context(format!("first failure: {failure}")),
        None => error,
    })?;
    let Conductor { meter, recorder, .. } = conductor;
    let timeline = recorder.finish(&outcome.slices, window.edges_ns());
    let results = Results { outcome, published, storm, window, timeline };
    Ok(meter.report(args, results))
}

/// The outcome of a run, and the window in which it was measured.
type Conducted = (Published, Option<StormOutcome>, Window);

struct Conductor<'a> {
    args: &'a RunArgs,
    stage: Arc<Stage>,
    meter: Meter,
    recorder: Recorder,
    display: Display,
    /// Once publishing has begun.
    press: Option<Arc<Press>>,
}

impl Conductor<'_> {
    /// From the first connect to the last publish.
    fn conduct(&mut self) -> Result<Conducted> {
        let args = self.args;
        let started_ns = clock::now_ns();
        let deadline = started_ns + args.connect_timeout.ns();
        loop {
            let settled = self.stage.sum(|c| &c.opened) + self.stage.sum(|c| &c.failed);
            if settled >= args.clients as u64 {
                break;
            }
            if clock::now_ns() > deadline {
                let seconds = args.connect_timeout.0;
                bail!("{settled} of {} clients after {seconds} s", args.clients);
            }
            self.look();
            clock::pause(CONNECT_LOOK_INTERVAL);
        }
        ensure!(self.stage.sum(|c| &c.opened) > 0, "no client could connect to {}", args.url);
        self.meter.connected(clock::as_secs(clock::now_ns() - started_ns));
        self.pass_time(clock::now_ns() + clock::as_ns(MEMORY_PAUSE));
        self.meter.idle();
        match args.mode {
            Mode::Idle => Ok(self.measure_idle()),
            Mode::Live | Mode::Burst => self.publish_and_measure(),
        }
    }

    fn measure_idle(&mut self) -> Conducted {
        self.display.phase("idle");
        let from = self.meter.window_edge(&self.stage, 0);
        self.pass_time(clock::now_ns() + self.args.seconds.ns());
        self.meter.idle();
        let window = self.meter.window(from, self.meter.window_edge(&self.stage, 0));
        self.stage.sent.get_or_init(Vec::new);
        (Published::new(), None, window)
    }

    fn publish_and_measure(&mut self) -> Result<Conducted> {
        let args = self.args;
        let start_ns = clock::now_ns() + clock::as_ns(START_PAUSE);
        let from_ns = start_ns + args.warmup.ns();
        let end_ns = from_ns + args.seconds.ns();
        self.stage.timed_ns.get_or_init(|| (from_ns, end_ns));
        let press = Arc::new(self.press(Schedule { start_ns, end_ns, rate: args.rate }));
        self.press = Some(Arc::clone(&press));
        let publishers: Vec<_> = (0..args.publishers as u32)
            .map(|publisher| publish::start(Arc::clone(&press), publisher))
            .collect::<Result<_>>()?;
        let storm = self.start_storm(from_ns, end_ns)?;
        self.display.phase("warming up");
        self.pass_time(from_ns);
        self.display.phase("measuring");
        let from = self.meter.window_edge(&self.stage, press.accepted.load(Relaxed));
        self.pass_time(end_ns);
        let to = self.meter.window_edge(&self.stage, press.accepted.load(Relaxed));
        press.is_measured.store(true, Relaxed);
        let window = self.meter.window(from, to);
        self.display.phase("settling");
        let mut published = Published::new();
        for publisher in publishers {
            published.merge(join(publisher)?);
        }
        self.stage.sent.get_or_init(|| published.sent.clone());
        let storm = storm.map(join).transpose()?.transpose()?;
        Ok((published, storm, window))
    }

    fn press(&self, schedule: Schedule) -> Press {
        Press {
            target: self.stage.target.clone(),
            run: self.stage.run,
            message_bytes: self.args.size,
            payload: self.args.payload,
            schedule,
            is_open_loop: self.args.mode == Mode::Live,
            messages_max: self.args.max_messages as u64,
            slots: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            is_measured: AtomicBool::new(false),
        }
    }

    fn start_storm(
        &self,
        from_ns: u64,
        to_ns: u64,
    ) -> Result<Option<JoinHandle<Result<StormOutcome>>>> {
        let args = self.args;
        let plan = StormPlan {
            clients: args.storm_clients,
            parallel: args.storm_parallel,
            hold: args.storm_hold,
            sends: args.storm_sends,
            source: args.storm_address,
            from_ns,
            to_ns,
        };
        (plan.clients > 0).then(|| storm::start(Arc::clone(&self.stage), plan)).transpose()
    }

    /// Waits for the last deliveries, and for the threads that count them.
    fn gather(&mut self, crowd: Vec<JoinHandle<Result<Outcome>>>) -> Result<Outcome> {
        let deadline = clock::now_ns() + self.args.settle.ns();
        while crowd.iter().any(|thread| !thread.is_finished()) && clock::now_ns() < deadline {
            self.look();
            clock::pause(CONNECT_LOOK_INTERVAL);
        }
        self.meter.end();
        self.stage.stop.store(true, Relaxed);
        let mut outcome = Outcome::new();
        for thread in crowd {
            outcome.merge(join(thread)??);
        }
        self.display.end();
        Ok(outcome)
    }

    /// Waits, with an eye on everything.
    fn pass_time(&mut self, until_ns: u64) {
        loop {
            let now = clock::now_ns();
            if now >= until_ns {
                return;
            }
            self.look();
            let next_ns = self.recorder.next_ns().min(now + clock::as_ns(LOOK_INTERVAL));
            clock::wait_until(until_ns.min(next_ns));
        }
    }

    fn look(&mut self) {
        let accepted = self.press.as_ref().map_or(0, |press| press.accepted.load(Relaxed));
        self.recorder.look(&self.stage, accepted);
        self.meter.watch_memory(self.recorder.now.server_rss_bytes);
        if let Some(press) = &self.press {
            let passed_ns = clock::now_ns().saturating_sub(press.schedule.start_ns);
            self.display.passed(Duration::from_nanos(passed_ns));
        }
        self.display.show(&self.stage, &self.recorder.now);
    }
}

fn join<T>(thread: JoinHandle<T>) -> Result<T> {
    match thread.join() {
        Ok(value) => Ok(value),
        Err(_) => bail!("a thread of the load generator panicked: its figures are lost"),
    }
}
