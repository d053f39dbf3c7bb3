//! The drain as the threads share it: the control thread publishes phases, the others follow.
//!
//! A phase is published together with the whole state, so every thread knows how much time is left.
//! Any thread may give commands; the control thread alone drives the machine.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Barrier, Command, Commands, Departures, DrainSettings, DrainState, Holders, Machine, Outcome,
    Phase, Refused,
    commands::Door,
    record::{DrainRecord, Signalled},
};
use crate::clock::Millis;

/// The drain's state as all threads know it: the phase, the barrier, and a way to command it.
///
/// Only the control thread drives it ([`Control::publish`]); all others read and ask.
#[derive(Debug)]
pub struct Control {
    /// The clients and requests that hold the drain open.
    pub barrier: Barrier,
    /// The longest connected of these clients.
    pub holders: Holders,
    /// The rate at which clients leave.
    pub departures: Departures,
    phase: watch::Sender<Phase>,
    published: Mutex<Published>,
    door: Door,
    others_serve: AtomicBool,
    /// For another process that goes on with the drain.
    signalled: Mutex<Signalled>,
}

/// The state as all threads know it.
#[derive(Debug, Default)]
struct Published {
    drain: Option<DrainState>,
    revision: u64,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            barrier: Barrier::default(),
            holders: Holders::default(),
            departures: Departures::default(),
            phase: watch::Sender::new(Phase::Serving),
            published: Mutex::default(),
            door: Door::default(),
            others_serve: AtomicBool::new(false),
            signalled: Mutex::default(),
        }
    }
}

impl Control {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The drain as it was published last; `None` while serving.
    #[must_use]
    pub fn drain(&self) -> Option<DrainState> {
        self.published().drain
    }

    /// A receiver that wakes at each change of phase, and where other times were set for one.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Gives a command to the control thread; resolves when it is done, and all threads can know.
    ///
    /// # Errors
    /// When it is refused; then nothing has changed.
    ///
    /// # Cancel safety
    /// May be dropped: the command stays given.
    pub async fn ask(&self, command: Command) -> Result<Outcome, Refused> {
        self.door.ask(command).await
    }

    /// The commands, for the control thread; `None` if they were taken before.
    #[must_use]
    pub fn commands(&self) -> Option<Commands> {
        self.door.take()
    }

    /// Publishes the machine's phase to all threads; also to those that know the phase already, if
    /// its times have changed otherwise than by passing.
    pub fn publish(&self, machine: &Machine, phase: Phase) {
        if phase > Phase::Serving {
            self.barrier.attend();
        } else if self.phase() > Phase::Serving {
            self.barrier.stand_down();
            self.holders.clear();
            self.departures.clear();
        }
        let revision = machine.revision();
        let drain = machine.drain().map(|drain| DrainState { phase, ..drain });
        let before = std::mem::replace(&mut *self.published(), Published { drain, revision });
        self.phase.send_if_modified(|current| {
            let changed = *current != phase || before.revision != revision;
            *current = phase;
            changed
        });
    }

    /// So many signals to terminate have come.
    pub fn set_signalled(&self, signalled: Signalled) {
        *self.signalled.lock().unwrap_or_else(PoisonError::into_inner) = signalled;
    }

    /// The drain as it was published last, and the signals, for another process.
    #[must_use]
    pub fn record(&self, now: Millis) -> DrainRecord {
        DrainRecord::new(self.drain(), self.signalled(), now)
    }

    /// The drain of another process, and the signals that have come to it, go on here: all threads
    /// know it, and a machine may continue it. Without one nothing changes.
    pub fn go_on(&self, settings: DrainSettings, record: &DrainRecord, now: Millis) {
        self.set_signalled(record.signalled(now));
        let Some(drain) = record.drain(now) else { return };
        let mut machine = Machine::continuing(settings, Some(drain));
        // The end is the control thread's to see.
        let phase = machine.advance(now, 1);
        self.publish(&machine, if phase < Phase::Stopped { phase } else { drain.phase });
    }

    /// The signals to terminate that have come.
    #[must_use]
    pub fn signalled(&self) -> Signalled {
        *self.signalled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether, as far as is known, another process accepts the clients that this one closes.
    #[must_use]
    pub fn others_serve(&self) -> bool {
        self.others_serve.load(Ordering::Relaxed)
    }

    /// Records whether another process accepts clients.
    pub fn set_others_serve(&self, others_serve: bool) {
        self.others_serve.store(others_serve, Ordering::Relaxed);
    }

    /// Time until the hard limit; `None` before the drain began.
    #[must_use]
    pub fn remaining(&self, now: Millis) -> Option<Duration> {
        Some(self.drain()?.deadline - now)
    }

    /// Time until the end of the closing window, and its whole length as it was meant to be;
    /// `None` before the drain began.
    #[must_use]
    pub fn closing_window(&self, now: Millis) -> Option<(Duration, Duration)> {
        let drain = self.drain()?;
        Some((drain.closing_until() - now, drain.close_over))
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        // Plain values are whole even if a thread has died over them.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Cause, Steering,
            machine::tests::{SETTINGS, at},
        },
        *,
    };

    /// Other times are published though the phase stays, whether they are nearer or further.
    #[test]
    fn other_times_are_told_within_a_phase() {
        let (control, mut machine) = (Control::default(), Machine::new(SETTINGS));
        let mut watch = control.watch();
        machine.start(at(0), Cause::Admin);
        let phase = machine.advance(at(81), 1);
        control.publish(&machine, phase);
        assert!(watch.has_changed().unwrap());
        assert_eq!(*watch.borrow_and_update(), Phase::Closing);
        machine.advance(at(82), 1);
        control.publish(&machine, Phase::Closing);
        assert!(!watch.has_changed().unwrap(), "nothing new");
        let over = |seconds| Steering {
            timeout: Some(Duration::from_secs(seconds)),
            close_over: Some(Duration::from_secs(seconds)),
            closes_now: false,
        };
        for seconds in [1, 30] {
            machine.steer(at(83), &over(seconds)).unwrap();
            control.publish(&machine, machine.drain().unwrap().phase);
            assert!(watch.has_changed().unwrap());
            assert_eq!(*watch.borrow_and_update(), Phase::Closing);
            assert_eq!(control.remaining(at(83)), Some(Duration::from_secs(seconds)));
        }
    }

    /// A command waits for the control thread; one that comes when that has ended is refused.
    #[tokio::test]
    async fn commands_are_done_by_the_control_thread_or_refused() {
        let control = Control::default();
        let mut commands = control.commands().unwrap();
        assert!(control.commands().is_none(), "one thread does them");
        let command = Command::Steer(Steering::default());
        let answer = Outcome { at: at(7), drain: None, has_begun: true };
        let doing = async {
            let asked = commands.recv().await.unwrap();
            assert_eq!(asked.command, command);
            asked.answer(Ok(answer));
        };
        let (given, ()) = tokio::join!(control.ask(command), doing);
        assert_eq!(given, Ok(answer));
        let ending = async { drop(commands) };
        let (waiting, ()) = tokio::join!(control.ask(command), ending);
        assert_eq!(waiting, Err(Refused::Ending), "it was on its way");
        assert_eq!(control.ask(command).await, Err(Refused::Ending));
    }
}
