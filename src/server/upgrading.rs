//! The end of a server that another process takes the place of, and until then the wait for it.

use std::{path::Path, sync::Arc};

use nix::{
    sys::signal::{Signal as Number, kill},
    unistd::Pid,
};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{
    StartError,
    control_door::ControlDoor,
    giving::{Handed, ServerGiving},
    signals::{Signal, Signals},
    successor::Program,
    upgrade_signal::UpgradeSignal,
    upgrades::{HandedOver, Upgrades},
};
pub(super) use crate::handover::ControlSocket;
use crate::{
    config::VERSION,
    handover::{Identity, Turns},
    limits::FORCED_EXIT_DEADLINE,
    service_manager::Notifier,
};

/// Listens at `path`.
///
/// # Errors
/// When somebody else does, or that is no path for a socket.
pub(super) fn listen(path: &Path) -> Result<ControlSocket, StartError> {
    Ok(ControlSocket::bind(path)?)
}

/// A server that another process may take the place of.
pub(super) struct Upgrading {
    upgrades: Upgrades<Option<Program>>,
    server: Handed,
}

impl Upgrading {
    /// Asked for at `socket`, or by the signal that is passed on.
    pub(super) fn new(
        socket: ControlSocket,
        server: Handed,
        program: Option<Program>,
        service_manager: Arc<Notifier>,
    ) -> (Self, UpgradeSignal) {
        let (signal, signals) = UpgradeSignal::channel();
        let process = &server.process;
        let upgrades = Upgrades {
            door: ControlDoor::new(socket, signals, Identity::own(VERSION)),
            turns: Turns::default(),
            program,
            obstacle: None,
            clock: process.clock,
            control: process.control.clone(),
            service_manager,
            counts: process.upgrades.clone(),
        };
        (Self { upgrades, server }, signal)
    }

    /// Resolves when another process serves.
    ///
    /// # Cancel safety
    /// May be dropped: an upgrade under way is rolled back.
    pub(super) async fn run(self) -> Replaced {
        let Self { upgrades, server } = self;
        let handed = upgrades.run(|socket| ServerGiving::new(server.clone(), socket)).await;
        Replaced { handed, server }
    }
}

/// A server whose place another process has taken.
pub(super) struct Replaced {
    handed: HandedOver,
    server: Handed,
}

impl Replaced {
    /// Resolves when nothing of the other process' is here any more. Signals that came in the pause
    /// were meant for whoever serves.
    pub(super) async fn finish(self, mut signals: Signals) {
        if timeout(FORCED_EXIT_DEADLINE, self.server.let_go()).await.is_err() {
            warn!("a shard hangs: exiting without it");
        }
        let pid = i32::try_from(self.handed.given.new.pid).map(Pid::from_raw);
        while let Some(signal) = signals.try_recv() {
            let (Ok(pid), Some(number)) = (pid, number(signal)) else { continue };
            if let Err(error) = kill(pid, number) {
                debug!(%error, %number, "a signal was not passed on");
            }
        }
    }
}

fn number(signal: Signal) -> Option<Number> {
    match signal {
        Signal::Terminate(name) | Signal::Reload(name) => name.parse().ok(),
        // A second upgrade right after this one is nobody's wish.
        Signal::Upgrade(_) | Signal::Ignored(_) | Signal::ConsoleClose(_) => None,
    }
}
