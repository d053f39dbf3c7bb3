//! Upgrades: a new process takes the place of this one, which goes on if that fails.
//!
//! The loop runs on the control thread beside the drain's coordinator. It lets one upgrade begin at
//! a time, starts the new process where none has come by itself, and tells those who asked, the
//! log and the service manager how it went. A [`Source`] decides what is handed over, and how.

use std::{path::Path, sync::Arc};

use tokio::time::timeout;
use tracing::{info, warn};

use super::control_door::{ControlDoor, Wish};
use crate::{
    clock::Clock,
    drain::{Control, Phase},
    handover::{
        Asker, ControlSocket, Done, Failure, Given, Giver, NewProcess, Parcel, RefusedFor, Step,
        Turn, Turns, Visitor, give,
    },
    limits::{SUCCESSOR_LAST_WORD, SUCCESSOR_START_DEADLINE},
    metrics::upgrade_counts::{UpgradeCounts, UpgradeResult},
    service_manager::Notifier,
    telemetry::seldom,
};

/// The answer to all but the first.
const BUSY: &str = "busy: another upgrade is under way";

/// A way to start a new process.
pub(super) trait Launch {
    /// The process.
    type Child: Launched;

    /// Starts it, to take over from the process that listens at `control_socket`. The error is a
    /// sentence's end for people, in lower case.
    fn launch(&self, control_socket: &Path) -> Result<Self::Child, String>;
}

/// A process that was started to take over. It is ended if it is dropped before it is free.
pub(super) trait Launched {
    /// Its number.
    fn pid(&self) -> u32;

    /// How it ended, as soon as it has: a sentence's end for people, in lower case. May be dropped.
    async fn ended(&mut self) -> String;

    /// It serves now: from here on nobody ends it.
    fn set_free(&mut self);

    /// Nobody waits for it any more: it gets a moment to end by itself, unless it is free.
    fn let_go(self);

    /// It is ended, and does nothing any more.
    fn end_at_once(self);
}

/// A giver that knows how many clients it gives.
pub(super) trait Source: Giver {
    /// Clients that the new process has got, once it has.
    fn clients(&self) -> u64;
}

/// The loop's parts.
pub(super) struct Upgrades<L> {
    pub(super) door: ControlDoor,
    /// One that was handed in may be taken: by the rest of an earlier process.
    pub(super) turns: Turns,
    pub(super) program: L,
    /// Why this process can't be replaced, if it can't.
    pub(super) obstacle: Option<&'static str>,
    pub(super) clock: Clock,
    pub(super) control: Arc<Control>,
    pub(super) service_manager: Arc<Notifier>,
    pub(super) counts: Arc<UpgradeCounts>,
}

/// The end of it all: a new process serves.
#[derive(Debug)]
pub(super) struct HandedOver {
    /// The link to the new process, and the pause.
    pub(super) given: Given,
    /// To be kept until nothing of this process is left.
    pub(super) turn: Turn,
    /// Clients that were handed over.
    pub(super) clients: u64,
}

/// The origin of an upgrade.
enum Origin {
    /// A new process that has come by itself.
    NewProcess(NewProcess),
    /// `wsbcast upgrade`.
    Asker(Asker),
    /// A signal, by name.
    Signal(&'static str),
}

impl Origin {
    fn word(&self) -> &'static str {
        match self {
            Self::NewProcess(_) => "--take-over",
            Self::Asker(_) => "wsbcast upgrade",
            Self::Signal(name) => name,
        }
    }
}

impl From<Wish> for Origin {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Visitor(Visitor::NewProcess(new)) => Self::NewProcess(new),
            Wish::Visitor(Visitor::Asker(asker)) => Self::Asker(asker),
            Wish::Signal(name) => Self::Signal(name),
        }
    }
}

/// A new process, and those who have a part in it.
struct Candidate<C> {
    new: NewProcess,
    child: Option<C>,
    asker: Option<Asker>,
}

/// An upgrade that has failed.
struct RolledBack {
    reason: String,
    asker: Option<Asker>,
}

impl<L: Launch> Upgrades<L> {
    /// Lets upgrades be asked for until one is done. `make` makes the giver of one.
    ///
    /// # Cancel safety
    /// May be dropped: an upgrade under way is rolled back.
    pub(super) async fn run<G: Source>(
        mut self,
        mut make: impl FnMut(&ControlSocket) -> G,
    ) -> HandedOver {
        loop {
            let wish = self.door.next().await;
            let Some((origin, turn)) = self.admit(wish) else { continue };
            info!(by = origin.word(), "an upgrade begins");
            match self.upgrade(origin, turn, &mut make).await {
                Ok(handed) => return handed,
                Err(RolledBack { reason, asker }) => {
                    self.counts.count(UpgradeResult::RolledBack);
                    warn!(reason, "the upgrade is rolled back: this process goes on");
                    if let Some(asker) = asker {
                        asker.rolled_back(&reason).await;
                    }
                }
            }
        }
    }

    /// The turn, unless there is a reason against an upgrade.
    fn admit(&mut self, wish: Wish) -> Option<(Origin, Turn)> {
        let refused = if self.control.phase() >= Phase::Stopped {
            Some((RefusedFor::Restarting, "restarting: this process ends"))
        } else {
            self.obstacle.map(|obstacle| (RefusedFor::Unsupported, obstacle))
        };
        match refused {
            Some((reason, text)) => turn_away(&mut self.door, &self.counts, wish, reason, text),
            None => match self.turns.take() {
                Some(turn) => return Some((wish.into(), turn)),
                None => busy(&mut self.door, &self.counts, wish),
            },
        }
        None
    }

    async fn upgrade<G: Source>(
        &mut self,
        origin: Origin,
        mut turn: Turn,
        make: &mut impl FnMut(&ControlSocket) -> G,
    ) -> Result<HandedOver, RolledBack> {
        let Candidate { new, mut child, asker } = match origin {
            Origin::NewProcess(new) => Candidate { new, child: None, asker: None },
            Origin::Asker(asker) => self.candidate(Some(asker)).await?,
            Origin::Signal(_) => self.candidate(None).await?,
        };
        let pid = new.peer().pid.unwrap_or_else(|| new.identity().pid);
        let version = new.identity().version.clone();
        info!(pid, version, "a new process takes over");
        let mut giver = Told {
            giver: make(&self.door.socket),
            asker: asker.as_ref(),
            child: child.as_mut(),
            service_manager: &self.service_manager,
            pid,
        };
        let given = {
            let giving = give(new, &mut giver, &mut turn, self.clock);
            tokio::pin!(giving);
            loop {
                tokio::select! {
                    biased;
                    given = &mut giving => break given,
                    wish = self.door.next() => busy(&mut self.door, &self.counts, wish),
                }
            }
        };
        let clients = giver.giver.clients();
        drop(giver);
        match given {
            Ok(given) => {
                self.door.socket.hand_on();
                let pause_ms = u64::try_from(given.pause.as_millis()).unwrap_or(u64::MAX);
                info!(pid, version, pause_ms, clients, "the upgrade is done: a new process serves");
                if let Some(asker) = asker {
                    asker.done(Done { pid, pause_ms, clients }).await;
                }
                child.into_iter().for_each(Launched::let_go);
                Ok(HandedOver { given, turn, clients })
            }
            Err(failure) => {
                let reason = with_end(failure, child.as_mut()).await;
                child.into_iter().for_each(Launched::let_go);
                Err(RolledBack { reason, asker })
            }
        }
    }

    /// Starts a new process and waits until it comes.
    async fn candidate(&mut self, asker: Option<Asker>) -> Result<Candidate<L::Child>, RolledBack> {
        let mut child = match self.program.launch(self.door.socket.path()) {
            Ok(child) => child,
            Err(reason) => return Err(RolledBack { reason, asker }),
        };
        info!(pid = child.pid(), "a new process starts");
        if let Some(asker) = &asker {
            asker.progress(Step::Greeting);
        }
        let coming = timeout(SUCCESSOR_START_DEADLINE, self.comes(&mut child)).await;
        let reason = match coming {
            Ok(Ok(new)) => return Ok(Candidate { new, child: Some(child), asker }),
            Ok(Err(ended)) => format!("the new process did not get ready: {ended}"),
            Err(_) => {
                let within = SUCCESSOR_START_DEADLINE.as_secs();
                // Nobody would know it as a child if it came now.
                child.end_at_once();
                let reason = format!("the new process did not get ready within {within} s");
                return Err(RolledBack { reason, asker });
            }
        };
        child.let_go();
        Err(RolledBack { reason, asker })
    }

    /// The visit of the new process, unless it ends before.
    async fn comes(&mut self, child: &mut L::Child) -> Result<NewProcess, String> {
        let pid = Some(child.pid());
        loop {
            tokio::select! {
                wish = self.door.next() => match wish {
                    Wish::Visitor(Visitor::NewProcess(new)) if new.peer().pid == pid => {
                        return Ok(new);
                    }
                    wish => busy(&mut self.door, &self.counts, wish),
                },
                ended = child.ended() => return Err(ended),
            }
        }
    }
}

/// The reason for a failure, with the end of the child if that was it.
async fn with_end<C: Launched>(failure: Failure, child: Option<&mut C>) -> String {
    let reason = failure.to_string();
    if let (Failure::Link { .. }, Some(child)) = (&failure, child)
        && let Ok(ended) = timeout(SUCCESSOR_LAST_WORD, child.ended()).await
    {
        return format!("{reason}: {ended}");
    }
    reason
}

fn busy(door: &mut ControlDoor, counts: &UpgradeCounts, wish: Wish) {
    turn_away(door, counts, wish, RefusedFor::Busy, BUSY);
}

/// Begins nothing, and says why.
fn turn_away(
    door: &mut ControlDoor,
    counts: &UpgradeCounts,
    wish: Wish,
    reason: RefusedFor,
    text: &str,
) {
    counts.count(UpgradeResult::Refused);
    let origin = Origin::from(wish);
    seldom!(warn, "an upgrade is refused", by = origin.word(), reason = text);
    match origin {
        Origin::NewProcess(new) => door.refuse(Visitor::NewProcess(new), reason, text.to_owned()),
        Origin::Asker(asker) => door.refuse(Visitor::Asker(asker), reason, text.to_owned()),
        Origin::Signal(_) => {}
    }
}

/// A giver whose steps are told to whom they matter.
struct Told<'a, G, C> {
    giver: G,
    asker: Option<&'a Asker>,
    child: Option<&'a mut C>,
    service_manager: &'a Notifier,
    /// Of the new process.
    pid: u32,
}

impl<G: Giver, C: Launched> Giver for Told<'_, G, C> {
    type Descriptor = G::Descriptor;

    async fn manifest(&mut self) -> Result<Parcel<G::Descriptor>, String> {
        self.giver.manifest().await
    }

    async fn ahead(&mut self) -> Result<Option<Parcel<G::Descriptor>>, String> {
        self.giver.ahead().await
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.giver.pause().await
    }

    async fn state(&mut self) -> Result<Option<Parcel<G::Descriptor>>, String> {
        self.giver.state().await
    }

    fn resume(&mut self, failure: &Failure) {
        self.giver.resume(failure);
    }

    fn commit(&mut self) {
        // Before anything else: it must never be ended any more.
        if let Some(child) = &mut self.child {
            child.set_free();
        }
        self.giver.commit();
        if let Err(error) = self.service_manager.main_pid(self.pid) {
            warn!(%error, pid = self.pid, "the service manager does not hear of the new process");
        }
    }

    fn progress(&mut self, step: Step) {
        if step == Step::Pausing {
            info!(pid = self.pid, "the new process is ready: clients are handed over");
        }
        if let Some(asker) = self.asker {
            asker.progress(step);
        }
        self.giver.progress(step);
    }
}

#[cfg(test)]
mod tests;
