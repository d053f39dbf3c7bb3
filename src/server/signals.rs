//! Requests to the process from outside: signals and console events.
//!
//! The server takes [`Signal`]s from a channel, so that tests can send them without a process;
//! [`from_os`] fills that channel from the system. It must be called before "ready" is logged.
//! [`prepare`] is called before anything: what the parent left of signals, and those that the
//! process's own writes raise, must keep nobody from draining it.

#[cfg(unix)]
use std::thread;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc;

#[cfg(unix)]
use nix::sys::signal::{SigSet, Signal as Number};

#[cfg(unix)]
use super::exit::Exit;
use crate::{
    clock::{Clock, Millis},
    drain::Signalled,
    limits::SIGNAL_MERGE,
};
#[cfg(unix)]
use crate::{limits::THIRD_SIGNAL_DEADLINE, telemetry};

/// Signals that wait to be looked at; more than a person can send meanwhile.
const SIGNALS_WAITING_MAX: usize = 16;

/// Something the operator (or the system) wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT, SIGQUIT, Ctrl+C, Ctrl+Break: drain; the second time stop, the third exit.
    Terminate(&'static str),
    /// The system ends the process soon: close everyone now (Windows).
    ConsoleClose(&'static str),
    /// SIGHUP: files that were read at the start are read again.
    Reload(&'static str),
    /// SIGUSR2: a new process is to take this one's place.
    Upgrade(&'static str),
    /// SIGUSR1: it asks for nothing that there is, and would end the process if nobody caught it.
    Ignored(&'static str),
}

/// The receiving end of the door.
#[derive(Debug)]
pub struct Signals {
    received: mpsc::Receiver<Signal>,
    /// Whether those that were passed on so far count no longer.
    are_forgotten: Arc<AtomicBool>,
}

impl Signals {
    /// The next signal; `None`: there will be none.
    ///
    /// # Cancel safety
    /// May be dropped: no signal is lost.
    pub async fn recv(&mut self) -> Option<Signal> {
        self.received.recv().await
    }

    /// A signal that has come already.
    pub(super) fn try_recv(&mut self) -> Option<Signal> {
        self.received.try_recv().ok()
    }

    /// The drain that signals have begun was taken back: the next one counts as the first.
    pub fn forget(&self) {
        self.are_forgotten.store(true, Ordering::Release);
    }
}

/// A door that only the caller can use.
#[must_use]
pub fn channel() -> (mpsc::Sender<Signal>, Signals) {
    let (sender, received) = mpsc::channel(SIGNALS_WAITING_MAX);
    (sender, Signals { received, are_forgotten: Arc::default() })
}

/// Sets the mask of the calling thread, and of all that it starts. Signals with a meaning get
/// through, though the parent had them blocked. Those that our own writes raise are blocked, and
/// the write returns an error or continues instead: SIGXFSZ, of a log that has grown to
/// RLIMIT_FSIZE; SIGTTOU, of a job in the background whose terminal is set to `tostop`; SIGPIPE,
/// which Rust's runtime ignores already.
pub fn prepare() {
    #[cfg(unix)]
    {
        let of_writes = [Number::SIGXFSZ, Number::SIGTTOU, Number::SIGPIPE];
        // It fails only for a number that is no signal.
        let _ = SigSet::from_iter(of_writes).thread_block();
        let _ = SigSet::from_iter(HANDLED).thread_unblock();
    }
}

/// The signals that [`from_os`] catches, even if the parent had them ignored, as `nohup` and shells
/// do: they are sent to this process on purpose.
#[cfg(unix)]
const HANDLED: [Number; 6] = [
    Number::SIGINT,
    Number::SIGTERM,
    Number::SIGQUIT,
    Number::SIGHUP,
    Number::SIGUSR1,
    Number::SIGUSR2,
];

/// Installs the handlers, and starts a thread that passes caught signals to the control thread.
/// Should the control thread hang for any reason, the third signal to terminate still ends the
/// process.
///
/// # Errors
/// When the system refuses a handler or the thread.
#[cfg(unix)]
pub fn from_os(clock: Clock) -> io::Result<Signals> {
    let (sender, signals) = channel();
    let are_forgotten = signals.are_forgotten.clone();
    let numbers = HANDLED.map(|number| number as i32);
    let mut caught = signal_hook::iterator::Signals::new(numbers)?;
    let forward = move || {
        let mut terminations = Terminations::default();
        for number in caught.forever() {
            let signal = match Number::try_from(number) {
                Ok(end @ (Number::SIGTERM | Number::SIGINT | Number::SIGQUIT)) => {
                    Signal::Terminate(end.as_str())
                }
                Ok(reload @ Number::SIGHUP) => Signal::Reload(reload.as_str()),
                Ok(upgrade @ Number::SIGUSR2) => Signal::Upgrade(upgrade.as_str()),
                other => Signal::Ignored(other.map_or("", Number::as_str)),
            };
            let is_to_end = matches!(signal, Signal::Terminate(_));
            // Ignored signals leave room for the others.
            if is_to_end || sender.capacity() > SIGNALS_WAITING_MAX / 2 {
                // Full: the control thread has not looked for a long time; gone: the process ends.
                let _ = sender.try_send(signal);
            }
            if are_forgotten.swap(false, Ordering::AcqRel) {
                terminations = Terminations::default();
            }
            match is_to_end.then(|| terminations.add(clock.now())) {
                None | Some(0 | 1) => {}
                // The control thread may have left already, and wait for the log.
                Some(2) => telemetry::hurry(),
                Some(_) => end_in_any_case(clock),
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(signals)
}

/// The control thread gets a moment to end the process by itself.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "whoever was to return to main does not")]
fn end_in_any_case(clock: Clock) -> ! {
    let end = clock.now() + THIRD_SIGNAL_DEADLINE;
    while clock.now() < end {
        thread::park_timeout(THIRD_SIGNAL_DEADLINE);
    }
    std::process::exit(Exit::CutOff.code().into())
}

/// Counts signals to terminate; those close together count as one.
#[derive(Debug, Default)]
pub(super) struct Terminations(Signalled);

impl Terminations {
    /// These have come to another process, which this one goes on with.
    pub(super) fn continuing(signalled: Signalled) -> Self {
        Self(signalled)
    }

    /// Those that have come.
    pub(super) fn signalled(&self) -> Signalled {
        self.0
    }

    /// The count with one more at `now`; 0 if that one does not count.
    pub(super) fn add(&mut self, now: Millis) -> u32 {
        let Signalled { count, last } = &mut self.0;
        let merged = last.is_some_and(|last| now - last < SIGNAL_MERGE);
        *last = Some(now);
        if merged {
            return 0;
        }
        *count += 1;
        *count
    }

    /// How many have counted.
    pub(super) fn count(&self) -> u32 {
        self.0.count
    }
}

/// Installs the console-control handlers. Must be called inside the control thread's runtime.
///
/// # Errors
/// When the system refuses a handler.
#[cfg(windows)]
pub fn from_os(_clock: Clock) -> io::Result<Signals> {
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};

    let (sender, signals) = channel();
    let (mut interrupt, mut break_) = (ctrl_c()?, ctrl_break()?);
    let (mut close, mut logoff, mut shutdown) = (ctrl_close()?, ctrl_logoff()?, ctrl_shutdown()?);
    tokio::task::spawn_local(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signal::Terminate("Ctrl+C"),
                _ = break_.recv() => Signal::Terminate("Ctrl+Break"),
                _ = close.recv() => Signal::ConsoleClose("console closed"),
                _ = logoff.recv() => Signal::ConsoleClose("logoff"),
                _ = shutdown.recv() => Signal::ConsoleClose("system shutdown"),
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(signals)
}
