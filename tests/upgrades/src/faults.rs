//! Hand-overs that fail: new processes that are killed, stopped or refuse, at every step; and at
//! the end an old one that dies.
//!
//! The old process goes on each time, and nobody notices more than a pause.

use std::{fs, net::TcpListener, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum as _;
use rustix::process::Signal;
use testkit::{cli::name_of, clock, node::Process, output, wait::wait_for};

use super::{
    args::{Failing, FailingStep, RunArgs},
    report::Fault,
    server::{Running, START_DEADLINE},
    stage::Stage,
    taker::{EXIT_BUSY, EXIT_FAILED, EXIT_NOT_REACHED},
};

/// Until a new process has come to its step.
const STEP_DEADLINE: Duration = Duration::from_secs(30);
/// The old one gives up its pause by itself before that.
const PAUSE_GIVEN_UP: Duration = Duration::from_secs(3);
const SERVING_DEADLINE: Duration = Duration::from_secs(20);
/// A hand-over that has failed is through.
const BUSY_DEADLINE: Duration = Duration::from_secs(15);
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// So long everybody is looked at behind it.
const AFTERMATH: Duration = Duration::from_millis(300);
/// The old process is through with what it does once the new one is stopped.
const HALT_SEEN: Duration = Duration::from_millis(50);

/// All of them; what was seen is in `faults`, whatever comes then.
pub(crate) fn inflict(
    stage: &mut Stage,
    args: &RunArgs,
    upgrade_seconds: f64,
    faults: &mut Vec<Fault>,
) -> Result<()> {
    for step in FailingStep::value_variants() {
        for kind in Failing::value_variants() {
            let name = format!("{} at {}", name_of(kind), name_of(step));
            faults.push(watched(stage, args, &name, |stage| fail(stage, *step, *kind))?);
        }
    }
    let bad = ["--no-such-option".to_owned()];
    faults.push(watched(stage, args, "bad options", |stage| refused(stage, &bad))?);
    // Kept until it was tried.
    let taken = TcpListener::bind("127.0.0.1:0").context("a port")?;
    let address = taken.local_addr().context("a port")?.to_string();
    let listen = ["--listen".to_owned(), address];
    faults.push(watched(stage, args, "a port that is taken", |stage| refused(stage, &listen))?);
    drop(taken);
    for stop in 0..args.stops {
        let share = (stop as f64 + 0.5) / args.stops as f64;
        let moment = Duration::from_secs_f64(upgrade_seconds * share);
        let name = format!("stopped after {} ms", moment.as_millis());
        let threads = args.threads[stop % args.threads.len()];
        faults.push(watched(stage, args, &name, |stage| stopped(stage, threads, moment))?);
    }
    Ok(())
}

/// Does it, and sees that the server serves on.
fn watched(
    stage: &mut Stage,
    args: &RunArgs,
    name: &str,
    mut inflict: impl FnMut(&mut Stage) -> Result<String>,
) -> Result<Fault> {
    stage.crowd.window()?;
    let outcome = inflict(stage).with_context(|| name.to_owned())?;
    if let Some(code) = stage.server.running.ended()? {
        bail!("{name}: the server has ended with {code:?}: {}", stage.server.last_words());
    }
    stage.wait_until_it_delivers(SERVING_DEADLINE).with_context(|| name.to_owned())?;
    stage.wait_until_it_accepts(args, SERVING_DEADLINE).with_context(|| name.to_owned())?;
    clock::pause(AFTERMATH);
    let mut window = stage.crowd.window()?;
    if outcome == TAKEN_OVER {
        // It was this program that kept the new process from serving.
        window = Default::default();
    }
    output::remark(&format!("{name}: {outcome}, silence {} ms", window.silence_ms));
    Ok(Fault { name: name.to_owned(), outcome, window })
}

const ROLLED_BACK: &str = "rolled back";
const TAKEN_OVER: &str = "taken over all the same";

/// A new process that fails at a step.
fn fail(stage: &mut Stage, step: FailingStep, kind: Failing) -> Result<String> {
    let deadline_ns = clock::now_ns() + clock::as_ns(BUSY_DEADLINE);
    loop {
        let mut taker = start_taker(stage, step, kind)?;
        let mut code = None;
        wait_for("the new process to fail", STEP_DEADLINE, || {
            code = taker.ended()?;
            Ok(code.is_some() || is_stopped(taker.pid()))
        })?;
        match code {
            // Stopped: the old one has to go on by itself, from a pause too.
            None => {
                let is_in_pause = matches!(step, FailingStep::State | FailingStep::Prepared);
                clock::pause(if is_in_pause { PAUSE_GIVEN_UP } else { AFTERMATH });
                stage.wait_until_it_delivers(SERVING_DEADLINE)?;
            }
            // Killed.
            Some(None) => {}
            Some(Some(code)) if code == i32::from(EXIT_FAILED) => {}
            Some(Some(code)) if code == i32::from(EXIT_NOT_REACHED) => {
                return Ok("the step did not come".to_owned());
            }
            Some(Some(code)) if code == i32::from(EXIT_BUSY) => {
                ensure!(clock::now_ns() < deadline_ns, "the server is busy for {BUSY_DEADLINE:?}");
                clock::pause(BUSY_PAUSE);
                continue;
            }
            Some(Some(code)) => bail!("the new process ended with {code}"),
        }
        return Ok(ROLLED_BACK.to_owned());
    }
}

fn start_taker(stage: &Stage, step: FailingStep, kind: Failing) -> Result<Running> {
    let own = std::env::current_exe().context("this program's path")?;
    let control = stage.server.control.display().to_string();
    let (step, kind) = (name_of(&step), name_of(&kind));
    let words = ["taker", "--control-socket", &control, "--step", &step, "--kind", &kind];
    let words = words.map(str::to_owned);
    let process = Process::start(&own, &words, |command| {
        command.stdin(Stdio::null()).stdout(Stdio::null());
    });
    Ok(Running::Own(process?))
}

fn is_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

/// A real new process that can't serve with these options, and ends by itself.
fn refused(stage: &mut Stage, options: &[String]) -> Result<String> {
    let control = stage.server.control.display().to_string();
    let words = [&["--take-over".to_owned(), control][..], options].concat();
    let mut new = stage.server.launch(1, &words)?;
    let code = new.wait_for_end("the new process to refuse", STEP_DEADLINE)?;
    ensure!(code.is_some_and(|code| code != 0), "the new process ended with {code:?}");
    Ok(ROLLED_BACK.to_owned())
}

/// A real new process that is stopped at some moment. If the old one has handed over all the same
/// it goes on, else it is killed.
fn stopped(stage: &mut Stage, threads: usize, moment: Duration) -> Result<String> {
    let new = stage.server.launch_successor(threads)?;
    clock::pause(moment);
    new.signal(Signal::STOP)?;
    clock::pause(PAUSE_GIVEN_UP);
    match stage.server.running.ended()? {
        None => {
            stage.wait_until_it_delivers(SERVING_DEADLINE)?;
            Ok(ROLLED_BACK.to_owned())
        }
        Some(code) => {
            ensure!(code == Some(0), "the old process ended with {code:?}");
            new.signal(Signal::CONT)?;
            stage.server.running = new;
            Ok(TAKEN_OVER.to_owned())
        }
    }
}

/// The old process dies before it has handed over: clients see a crash, and the new one ends
/// without having served anybody. Then the same place is taken by a new server.
pub(crate) fn kill_the_old_one(
    stage: &mut Stage,
    args: &RunArgs,
    upgrade_seconds: f64,
) -> Result<Fault> {
    let present = stage.connected()?;
    for share in [0.5, 0.25, 0.1, 0.02] {
        let mut new = stage.server.launch_successor(args.threads[0])?;
        clock::pause(Duration::from_secs_f64(upgrade_seconds * share));
        new.signal(Signal::STOP)?;
        clock::pause(HALT_SEEN);
        if stage.server.running.ended()?.is_some() {
            // Too late: it has taken over.
            new.signal(Signal::CONT)?;
            stage.server.running = new;
            stage.server.wait_until_ready()?;
            continue;
        }
        stage.server.running.signal(Signal::KILL)?;
        stage.server.running.wait_for_end("the old process to die", START_DEADLINE)?;
        new.signal(Signal::CONT)?;
        let code = new.wait_for_end("the new process to end", STEP_DEADLINE)?;
        ensure!(code.is_some_and(|code| code != 0), "the new process ended with {code:?}");
        TcpListener::bind(stage.server.address).context("nobody has the port any more")?;
        wait_for("all clients to see it", SERVING_DEADLINE, || Ok(stage.gone()? >= present))?;
        // The control socket's file is still there, and nobody's.
        let control = stage.server.control.display().to_string();
        let words = ["--control-socket".to_owned(), control];
        stage.server.running = stage.server.launch(args.threads[0], &words)?;
        stage.server.wait_until_ready()?;
        let name = "old process killed".to_owned();
        let outcome = format!("{present} clients saw it, the new process ended with {code:?}");
        return Ok(Fault { name, outcome, window: Default::default() });
    }
    bail!("every hand-over was through before the old process could be killed")
}
