//! The end of a server that another process takes the place of, and until then the wait for it.

use std::{path::Path, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal as Number, kill},
    unistd::Pid,
};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{
    StartError,
    control_door::ControlDoor,
    coordinator::Coordinator,
    exit::End,
    following,
    giving::{Handed, ServerGiving},
    obstacles::obstacle,
    signals::{Signal, Signals},
    successor::Program,
    upgrade_signal::UpgradeSignal,
    upgrades::{HandedOver, Upgrades},
};
pub(super) use crate::handover::ControlSocket;
use crate::{
    config::VERSION,
    handover::{Given, Identity, Turns},
    limits::{FORCED_EXIT_DEADLINE, UNFOLLOWED_CLOSE_OVER},
    service_manager::Notifier,
    shard::handover::Order,
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
        turns: Turns,
    ) -> (Self, UpgradeSignal) {
        let (signal, signals) = UpgradeSignal::channel();
        let process = &server.process;
        let upgrades = Upgrades {
            door: ControlDoor::new(socket, signals, Identity::own(VERSION)),
            turns,
            program,
            obstacle: obstacle(),
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
    /// Resolves when nothing of the other process' is here any more, and nothing of this one's
    /// either. None: nothing was left at once; else how the rest ended, closed over `close_over`.
    pub(super) async fn finish(
        self,
        coordinator: &mut Coordinator,
        close_over: Duration,
    ) -> Option<End> {
        let Self { server, handed: HandedOver { given, clients: handed_over, turn: _turn } } = self;
        let Given { mut link, .. } = given;
        if timeout(FORCED_EXIT_DEADLINE, server.let_go()).await.is_err() {
            warn!("a shard hangs: exiting without it");
        }
        pass_on(coordinator.signals(), link.peer().pid);
        let Handed { process, orders, .. } = server;
        let barrier = &process.control.barrier;
        let (clients, requests) = (barrier.clients(), barrier.requests());
        if clients + requests == 0 {
            return None;
        }
        let close_over_s = close_over.as_secs();
        info!(
            handed_over,
            clients, requests, close_over_s, "these could not change process, and are closed"
        );
        process.control.set_others_serve(true);
        coordinator.leave(close_over);
        orders.give_all(|| Order::Remain);
        let end = tokio::select! {
            end = coordinator.run() => Some(end),
            () = following::follow(&process, &mut link) => None,
        };
        if end.is_some() {
            return end;
        }
        coordinator.leave(UNFOLLOWED_CLOSE_OVER);
        Some(coordinator.run().await)
    }
}

/// Passes signals on that came in the pause: they were meant for whoever serves.
fn pass_on(signals: &mut Signals, pid: Option<u32>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    while let Some(signal) = signals.try_recv() {
        let (Some(pid), Some(number)) = (pid, number(signal)) else { continue };
        if let Err(error) = kill(pid, number) {
            debug!(%error, %number, "a signal was not passed on");
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
