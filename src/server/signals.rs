//! What the outside asks of the process: the one door for signals and console events.
//!
//! The server takes [`Signal`]s from a channel, so that tests can send them without a process;
//! [`from_os`] fills that channel from the system. It must be called before "ready" is logged.

use std::io;

use tokio::sync::mpsc;

/// Signals that wait to be looked at; more than a person can send meanwhile.
const SIGNALS_WAITING_MAX: usize = 16;

/// Something the operator (or the system) wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM, SIGINT, SIGQUIT, Ctrl+C, Ctrl+Break: drain; the second time stop, the third exit.
    Terminate(&'static str),
    /// The system ends the process soon: close everyone now (Windows).
    ConsoleClose(&'static str),
    /// SIGHUP, SIGUSR1, SIGUSR2: they ask for nothing that there is, and would end the process if
    /// nobody caught them.
    Ignored(&'static str),
}

/// The receiving end of the door.
pub type Signals = mpsc::Receiver<Signal>;

/// A door that only the caller can use.
#[must_use]
pub fn channel() -> (mpsc::Sender<Signal>, Signals) {
    mpsc::channel(SIGNALS_WAITING_MAX)
}

/// Installs the handlers. Must be called inside the control thread's runtime.
///
/// # Errors
/// When the system refuses a handler.
#[cfg(unix)]
pub fn from_os() -> io::Result<Signals> {
    use futures_util::StreamExt as _;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

    let (sender, signals) = channel();
    let numbers = [SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2];
    let mut caught = signal_hook_tokio::Signals::new(numbers)?;
    tokio::task::spawn_local(async move {
        while let Some(number) = caught.next().await {
            let signal = match number {
                SIGTERM => Signal::Terminate("SIGTERM"),
                SIGINT => Signal::Terminate("SIGINT"),
                SIGQUIT => Signal::Terminate("SIGQUIT"),
                SIGUSR1 => Signal::Ignored("SIGUSR1"),
                SIGUSR2 => Signal::Ignored("SIGUSR2"),
                _ => Signal::Ignored("SIGHUP"),
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(signals)
}

/// Installs the console-control handlers. Must be called inside the control thread's runtime.
///
/// # Errors
/// When the system refuses a handler.
#[cfg(windows)]
pub fn from_os() -> io::Result<Signals> {
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
