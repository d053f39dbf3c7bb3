//! Keeps the service manager, such as systemd, informed of the server; without one it does nothing.
//!
//! It runs on the control thread, beside the drain's coordinator, and looks at what others know
//! anyway: the phase, the clients left, the shards' beats. Events between two looks are noted in
//! [`Milestones`], which also wakes it. It decides nothing and changes nothing of the server. A
//! manager that does not hear is told again with the next look; the log says so once.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};
use tracing::warn;

use super::reload::Reloads;
use crate::{
    broker::{Health, Reach},
    clock::{Clock, Millis},
    drain::{Control, Phase},
    limits::{NOTIFY_LOOK_INTERVAL, NOTIFY_LOOKS_PER_WATCHDOG},
    service_manager::{Notifier, Stage, State, Told},
    shard::placement::Placement,
};

/// The server's events that its manager is told of.
#[derive(Debug, Default)]
pub(super) struct Milestones {
    stage: Cell<Stage>,
    reloads: Cell<u64>,
    is_over: Cell<bool>,
    news: Notify,
}

impl Milestones {
    /// "Ready" was logged.
    pub(super) fn is_ready(&self) {
        self.reach(Stage::Ready);
    }

    /// A signal asks for the end.
    pub(super) fn is_stopping(&self) {
        self.reach(Stage::Stopping);
    }

    /// A reload has begun.
    pub(super) fn reloads(&self) {
        self.reloads.set(self.reloads.get() + 1);
        self.news.notify_one();
    }

    /// Another process has taken this one's place, and tells the manager itself.
    pub(super) fn is_over(&self) {
        self.is_over.set(true);
        self.news.notify_one();
    }

    fn reach(&self, stage: Stage) {
        self.stage.set(stage.max(self.stage.get()));
        self.news.notify_one();
    }
}

/// The server as its manager sees it.
pub(super) struct Supervised {
    pub(super) notifier: Arc<Notifier>,
    pub(super) milestones: Rc<Milestones>,
    pub(super) clock: Clock,
    pub(super) control: Arc<Control>,
    pub(super) health: Arc<Health>,
    pub(super) placement: Arc<Placement>,
    pub(super) shards: usize,
    pub(super) reloads: Reloads,
    /// It has taken over from another process.
    pub(super) is_successor: bool,
}

/// Tells the manager what is due, as long as the process is the one that it manages.
///
/// # Cancel safety
/// May be dropped: each notice is sent at once.
pub(super) async fn run(server: Supervised) {
    let watchdog = server.notifier.watchdog();
    let interval = match watchdog {
        Some(limit) => NOTIFY_LOOK_INTERVAL.min(limit / NOTIFY_LOOKS_PER_WATCHDOG),
        None => NOTIFY_LOOK_INTERVAL,
    };
    let interval = interval.max(Duration::from_millis(1));
    let mut told = Told::nothing(watchdog);
    let mut has_failed = false;
    while !server.milestones.is_over.get() {
        let now = server.clock.now();
        let (notices, next) = told.next(&server.state(now), now);
        match server.notifier.send(&notices) {
            Ok(()) => told = next,
            Err(error) if !has_failed => {
                has_failed = true;
                warn!(%error, "the service manager (NOTIFY_SOCKET) does not hear this process");
            }
            Err(_) => {}
        }
        // Either way it is time for the next look.
        let _ = timeout(interval, server.milestones.news.notified()).await;
    }
}

impl Supervised {
    fn state(&self, now: Millis) -> State {
        let silent = (0..self.shards).find(|&shard| self.is_silent(shard, now));
        State {
            stage: self.milestones.stage.get(),
            is_successor: self.is_successor,
            status: self.status(now, silent),
            reloads: self.milestones.reloads.get(),
            is_reloading: self.reloads.is_running(),
            is_live: silent.is_none(),
        }
    }

    /// A shard that has ended is not silent.
    fn is_silent(&self, shard: usize, now: Millis) -> bool {
        self.placement.excuse(shard, now);
        self.control.phase() != Phase::Stopped && self.placement.is_silent(shard, now)
    }

    fn status(&self, now: Millis, silent: Option<usize>) -> String {
        let (phase, clients) = (self.control.phase(), self.control.barrier.clients());
        let mut status = match self.control.remaining(now) {
            Some(left) if phase > Phase::Serving => {
                let (phase, left) = (phase.word(), left.as_secs());
                format!("draining ({phase}): {} left, {left} s left", in_words(clients))
            }
            _ => match self.milestones.stage.get() {
                Stage::Starting => format!("starting: {}", in_words(clients)),
                _ => format!("serving {}", in_words(clients)),
            },
        };
        match self.health.reach() {
            Reach::Embedded | Reach::Up => {}
            Reach::NeverReached => status += "; waiting for Redis",
            Reach::Lost => status += "; Redis is lost",
        }
        if let Some(shard) = silent {
            status += &format!("; shard {shard} is silent");
        }
        status
    }
}

fn in_words(clients: usize) -> String {
    format!("{clients} client{}", if clients == 1 { "" } else { "s" })
}
