//! Drives the drain: signals, commands, departures and time in, phases out.
//!
//! It runs on the control thread, so a busy shard can't delay it. It decides nothing that the
//! phase machine can decide, and touches no client.

use std::{future, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use super::{
    death::Death,
    exit::End,
    reload::Reloads,
    shard_watch::ShardWatch,
    signals::{Signal, Signals, Terminations},
    supervision::Milestones,
    upgrade_signal::UpgradeSignal,
};
use crate::{
    clock::{Clock, Millis},
    drain::{
        Asked, Cause, Command, Commands, Control, DrainSettings, DrainState, Machine, Outcome,
        Phase, Refused, Steering,
    },
    limits::{
        CONSOLE_CLOSE_OVER, DRAIN_PROGRESS_INTERVAL, FORCED_EXIT_DEADLINE, LAST_REQUESTS_DEADLINE,
        SHARD_STALL_LIVE, SHARDS_LOOK_INTERVAL,
    },
    telemetry,
};

/// The log's line about the first thing that starts a drain.
const BEGINS: &str = "draining: new clients will be refused, those here are served on";

/// Where its events come from, and what it tells others by.
pub(super) struct Inputs {
    pub(super) signals: Signals,
    pub(super) deaths: mpsc::Receiver<Death>,
    pub(super) reloads: Reloads,
    /// Where the signal that asks for an upgrade goes.
    pub(super) upgrades: UpgradeSignal,
    pub(super) shards: ShardWatch,
    /// For the service manager.
    pub(super) milestones: Rc<Milestones>,
}

/// The state of the loop.
pub(super) struct Coordinator {
    clock: Clock,
    control: Arc<Control>,
    machine: Machine,
    signals: Signals,
    commands: Commands,
    deaths: mpsc::Receiver<Death>,
    reloads: Reloads,
    upgrades: UpgradeSignal,
    shards: ShardWatch,
    terminations: Terminations,
    /// For the service manager.
    milestones: Rc<Milestones>,
    next_progress: Option<Millis>,
    died: bool,
}

impl Coordinator {
    pub(super) fn new(
        clock: Clock,
        control: Arc<Control>,
        settings: DrainSettings,
        inputs: Inputs,
    ) -> Self {
        let Inputs { signals, deaths, reloads, upgrades, shards, milestones } = inputs;
        let commands = control.commands().expect("a server has one coordinator");
        Self {
            clock,
            machine: Machine::continuing(settings, control.drain()),
            terminations: Terminations::continuing(control.signalled()),
            control,
            signals,
            commands,
            deaths,
            reloads,
            upgrades,
            shards,
            milestones,
            next_progress: None,
            died: false,
        }
    }

    /// Resolves when the shards are to be shut down.
    pub(super) async fn run(&mut self) -> End {
        loop {
            let now = self.clock.now();
            // Told first, counted second: a handshake under way is either counted here or sees that
            // it is no longer accepted. While clients remain, time alone decides the phase.
            let by_time = self.machine.advance(now, 1);
            if by_time < Phase::Stopped {
                self.announce(by_time);
            }
            let clients = self.control.barrier.clients();
            let phase = self.machine.advance(now, clients);
            self.look(now, phase);
            if phase >= Phase::Waiting && self.only_hanging_shards_are_left(phase) {
                self.machine.stop(now);
                self.refuse_commands();
                let end = self.last_requests(0).await;
                self.announce(Phase::Stopped);
                // The verdict holds, though such a shard may yet wake.
                return if end == End::Stopped { End::ShardsHung } else { end };
            }
            if phase == Phase::Stopped {
                self.refuse_commands();
                let end = self.last_requests(clients).await;
                self.announce(Phase::Stopped);
                return end;
            }
            self.report(now, phase, clients);
            if self.wait(now).await {
                return End::AtOnce;
            }
        }
    }

    /// Nothing turns back from here: commands that wait, or come, are refused.
    fn refuse_commands(&mut self) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
    }

    /// While the process drains: how many clients leave, and whether the shards live.
    fn look(&mut self, now: Millis, phase: Phase) {
        if phase == Phase::Serving {
            return self.shards.rest();
        }
        self.shards.look(now);
        self.control.departures.record(now, self.shards.left_ever());
    }

    /// Whether a drain waits for nobody who could leave or be closed.
    fn only_hanging_shards_are_left(&self, phase: Phase) -> bool {
        let Some((shards, clients)) = self.shards.only_hanging() else { return false };
        let silent_for_s = SHARD_STALL_LIVE.as_secs();
        error!(
            ?shards,
            clients,
            silent_for_s,
            phase = phase.word(),
            "shards hang and hold the only clients left: ending without these, with exit code 3"
        );
        true
    }

    /// Waits for the next event; true: exit at once.
    async fn wait(&mut self, now: Millis) -> bool {
        let next_look = self.machine.drain().map(|_| now + SHARDS_LOOK_INTERVAL);
        let wake = [self.machine.next_change(), self.next_progress, next_look];
        let wake = wake.into_iter().flatten().min();
        let by_time = async {
            match wake {
                Some(wake) => sleep((wake - now).max(Duration::from_millis(1))).await,
                None => future::pending().await,
            }
        };
        let mut at_once = false;
        tokio::select! {
            Some(signal) = self.signals.recv() => at_once = self.on_signal(signal),
            Some(death) = self.deaths.recv() => self.on_death(&death),
            Some(asked) = self.commands.recv() => self.on_command(asked),
            () = self.control.barrier.left() => {}
            () = by_time => {}
        }
        at_once
    }

    /// Does a command, and tells everyone before it is answered.
    fn on_command(&mut self, asked: Asked) {
        let now = self.clock.now();
        if let Command::Plan(wish) = asked.command {
            let plan = self.machine.plan(now, &wish);
            return asked.answer(plan.map(|drain| Outcome {
                at: now,
                drain: Some(drain),
                has_begun: false,
            }));
        }
        let before = self.machine.drain();
        let done = match asked.command {
            Command::Steer(wish) | Command::Plan(wish) => self.steer(now, before, &wish),
            Command::Undrain { is_forced } => self.take_back(now, is_forced),
        };
        let by_time = self.machine.advance(now, 1);
        if by_time < Phase::Stopped {
            self.announce(by_time);
        }
        let drain = self.machine.drain();
        asked.answer(done.map(|()| Outcome {
            at: now,
            drain,
            has_begun: before.is_none() && drain.is_some(),
        }));
    }

    fn steer(
        &mut self,
        now: Millis,
        before: Option<DrainState>,
        wish: &Steering,
    ) -> Result<(), Refused> {
        let drain = self.machine.steer(now, wish)?;
        let closing_in_s = (drain.closing_from - now).as_secs();
        let remaining_s = (drain.deadline - now).as_secs();
        if before.is_none() {
            let cause = "POST /admin/drain";
            info!(cause, closing_in_s, remaining_s, "{BEGINS}");
        } else if before != Some(drain) {
            let close_over_s = drain.close_over.as_secs();
            info!(
                closing_in_s,
                close_over_s, remaining_s, "the drain goes on in another way, by POST /admin/drain"
            );
        }
        Ok(())
    }

    /// Back to serving. The signals so far are forgotten: the next one is a first one.
    fn take_back(&mut self, now: Millis, is_forced: bool) -> Result<(), Refused> {
        self.machine.take_back(now, is_forced)?;
        let signals = self.terminations.count();
        self.terminations = Terminations::default();
        self.signals.forget();
        let clients = self.control.barrier.clients();
        let cut_off = self.control.barrier.cut_off();
        let cause = "POST /admin/undrain";
        info!(cause, clients, cut_off, signals, "serving again: new clients are accepted");
        Ok(())
    }

    fn on_signal(&mut self, signal: Signal) -> bool {
        let now = self.clock.now();
        if matches!(signal, Signal::Terminate(_)) {
            self.milestones.is_stopping();
        }
        match signal {
            Signal::Reload(name) => {
                self.reloads.start(name);
                self.milestones.reloads();
            }
            Signal::Upgrade(name) => self.upgrades.pass_on(name),
            Signal::Ignored(name) => info!("{name} ignored: it asks for nothing that there is"),
            Signal::ConsoleClose(cause) => {
                info!(cause, "the system ends this process soon: closing everyone");
                self.machine.start_closing(now, CONSOLE_CLOSE_OVER, Cause::Signal);
            }
            Signal::Terminate(name) => match self.terminations.add(now) {
                0 => {}
                1 => self.on_first(name, now),
                2 => {
                    warn!(signal = name, "second signal: closing everyone with 1001 now");
                    telemetry::hurry();
                    self.machine.stop(now);
                }
                _ => {
                    warn!(signal = name, "third signal: exiting at once");
                    return true;
                }
            },
        }
        false
    }

    fn on_first(&mut self, signal: &str, now: Millis) {
        if self.machine.drain().is_some() {
            info!(
                signal,
                "first signal: the drain, begun by POST /admin/drain, goes on; the second one ends \
                 it"
            );
        } else {
            info!(cause = signal, "{BEGINS}");
        }
        self.machine.start(now, Cause::Signal);
    }

    fn on_death(&mut self, death: &Death) {
        if self.died {
            return;
        }
        self.died = true;
        error!(
            shard = death.shard,
            cause = %death.cause,
            "a shard died: closing the other shards' clients, then exiting with code 1"
        );
        self.machine.start_closing(self.clock.now(), FORCED_EXIT_DEADLINE, Cause::Failure);
    }

    /// Tells everyone; whether the phase is a new one.
    fn announce(&mut self, phase: Phase) -> bool {
        let changed = self.control.phase() != phase;
        self.control.set_signalled(self.terminations.signalled());
        self.control.publish(&self.machine, phase);
        if changed {
            info!(phase = phase.word(), "drain phase");
            self.next_progress = None;
        }
        changed
    }

    fn report(&mut self, now: Millis, phase: Phase, clients: usize) {
        let due = self.next_progress.is_none_or(|next| next <= now);
        if !matches!(phase, Phase::PreDelay | Phase::Waiting | Phase::Closing) || !due {
            return;
        }
        self.next_progress = Some(now + DRAIN_PROGRESS_INTERVAL);
        info!(
            clients,
            elapsed_s = self.machine.elapsed(now).as_secs(),
            remaining_s = self.machine.remaining(now).as_secs(),
            "SHUTDOWN: Waiting for clients..."
        );
        if let Some(longest) = self.control.holders.in_words(now) {
            info!(longest, "these hold the drain; a second signal ends it within a second");
        }
    }

    /// Once the last client has gone, requests in progress get a moment to be answered; those that
    /// begin now get none. A signal still counts meanwhile, and the second one ends the moment.
    async fn last_requests(&mut self, clients: usize) -> End {
        if self.died {
            return End::ShardDied;
        }
        if clients > 0 || self.terminations.count() > 1 {
            return End::Stopped;
        }
        let control = self.control.clone();
        control.barrier.last_call();
        let answered = timeout(LAST_REQUESTS_DEADLINE, async {
            while control.barrier.requests() > 0 {
                control.barrier.left().await;
            }
        });
        tokio::pin!(answered);
        loop {
            tokio::select! {
                _ = &mut answered => return End::Stopped,
                Some(signal) = self.signals.recv() => if self.on_signal(signal) {
                    return End::AtOnce;
                } else if self.terminations.count() > 1 {
                    return End::Stopped;
                },
            }
        }
    }

    /// The signals, for somebody else.
    #[cfg(target_os = "linux")]
    pub(super) fn signals(&mut self) -> &mut Signals {
        &mut self.signals
    }

    /// Another process serves: the clients that are left are closed over `window`.
    #[cfg(target_os = "linux")]
    pub(super) fn leave(&mut self, window: Duration) {
        // A command that came in the pause is for the other process: it is to be given again.
        self.refuse_commands();
        self.machine.start_closing(self.clock.now(), window, Cause::Failure);
    }

    /// Whether a shard has died, up to its very end.
    pub(super) fn has_seen_death(&mut self) -> bool {
        while let Ok(death) = self.deaths.try_recv() {
            self.on_death(&death);
        }
        self.died
    }

    /// A third signal while the shards shut down; resolves only then.
    ///
    /// # Cancel safety
    /// May be dropped: signals that came are counted, the others still wait.
    pub(super) async fn third_signal(&mut self) {
        while let Some(signal) = self.signals.recv().await {
            if self.on_signal(signal) {
                return;
            }
        }
        future::pending().await
    }
}

#[cfg(test)]
mod tests;
