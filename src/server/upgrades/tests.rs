//! Upgrades with a giver, a child and a new process that do little, on one thread.

mod fakes;

use std::{
    cell::RefCell,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_local, yield_now},
};

use super::*;
use crate::{
    drain::{Cause, DrainSettings, Machine},
    handover::{AskError, Identity, Link, Outcome, Refused, ask_upgrade, take_over},
    limits::{HANDOVER_GREETING_DEADLINE, HANDOVER_VISITORS_MAX},
    metrics::upgrade_counts::UpgradeRecord,
};
use fakes::{FakeGiver, FakeProgram, FakeTaker, Fate, Gifts};

/// A process with its control socket.
struct World {
    _folder: TempDir,
    path: PathBuf,
    fate: Rc<Fate>,
    gifts: Rc<Gifts>,
    turns: Turns,
    control: Arc<Control>,
    counts: Arc<UpgradeCounts>,
    signals: mpsc::Sender<&'static str>,
    manager: UnixDatagram,
    running: JoinHandle<HandedOver>,
}

impl World {
    fn new() -> Self {
        Self::with_obstacle(None)
    }

    fn with_obstacle(obstacle: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let socket = ControlSocket::bind(&path).unwrap();
        let (signals, received) = mpsc::channel(1);
        let (fate, gifts) = (Rc::new(Fate::default()), Rc::new(Gifts::default()));
        let (turns, control, counts) = (Turns::default(), Arc::default(), Arc::default());
        let name = format!("wsbcast-upgrades-{}-{:?}", path.display(), folder);
        let manager = SocketAddr::from_abstract_name(&name.as_bytes()[..60]).unwrap();
        let manager = UnixDatagram::bind_addr(&manager).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notifier = Notifier::at(format!("@{}", &name[..60]).as_ref(), None).unwrap();
        let upgrades = Upgrades {
            door: ControlDoor::new(socket, received, Identity::own("1")),
            turns: turns.clone(),
            program: FakeProgram(fate.clone()),
            obstacle,
            clock: Clock::start(),
            control: Arc::clone(&control),
            service_manager: Arc::new(notifier),
            counts: Arc::clone(&counts),
        };
        let given = gifts.clone();
        let running = spawn_local(upgrades.run(move |_| FakeGiver(given.clone())));
        Self {
            _folder: folder,
            path,
            fate,
            gifts,
            turns,
            control,
            counts,
            signals,
            manager,
            running,
        }
    }

    fn ask(&self) -> JoinHandle<Result<Outcome, AskError>> {
        let path = self.path.clone();
        spawn_local(async move { ask_upgrade(&path, Identity::own("1"), |_| {}).await })
    }

    fn take_over(&self) -> JoinHandle<Result<Link, Failure>> {
        let link = Link::connect(&self.path).unwrap();
        spawn_local(take_over(link, Identity::own("2"), FakeTaker))
    }

    async fn refusal(&self) -> Refused {
        refusal(self.ask().await.unwrap())
    }

    fn counted(&self) -> [u64; 2] {
        let UpgradeRecord { rolled_back, refused, .. } = self.counts.record();
        [rolled_back, refused]
    }

    fn committed(&self) -> [u32; 2] {
        [self.gifts.committed.get(), self.gifts.resumed.get()]
    }
}

#[track_caller]
fn refusal(asked: Result<Outcome, AskError>) -> Refused {
    match asked {
        Err(AskError::Failed(Failure::Refused(refused))) => *refused,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rolled_back(asked: Result<Outcome, AskError>) -> String {
    match asked {
        Ok(Outcome::RolledBack(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// An upgrade that was asked for starts a process, and hands over to it when it comes. Everybody
/// is told.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_that_is_asked_for_is_done() {
    let world = World::new();
    let steps = Rc::new(RefCell::new(Vec::new()));
    let (path, told) = (world.path.clone(), steps.clone());
    let asked = spawn_local(async move {
        ask_upgrade(&path, Identity::own("1"), |step| told.borrow_mut().push(step)).await
    });
    world.fate.starts.notified().await;
    let new = world.take_over();
    let pid = std::process::id();
    match asked.await.unwrap().unwrap() {
        Outcome::Done(done) => assert_eq!((done.pid, done.clients), (pid, 7)),
        other @ Outcome::RolledBack(_) => panic!("{other:?}"),
    }
    let path = world.path.clone();
    assert_eq!(world.committed(), [1, 0]);
    assert_eq!((world.fate.free.get(), world.fate.let_go.get()), (1, 1));
    let handed = world.running.await.unwrap();
    assert_eq!((handed.clients, handed.given.new.version.as_str()), (7, "2"));
    assert_eq!(world.counts.record(), UpgradeRecord::default(), "the new process counts it");
    new.await.unwrap().unwrap();
    let mut heard = [0; 100];
    let length = world.manager.recv(&mut heard).unwrap();
    assert_eq!(std::str::from_utf8(&heard[..length]).unwrap(), format!("MAINPID={pid}\n"));
    assert!(path.exists(), "the socket is the new process'");
    assert!(world.turns.take().is_none(), "the rest of this process has the turn");
    drop(handed);
    assert!(world.turns.take().is_some());
    let steps = steps.borrow();
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!((steps.first(), steps.last()), (Some(&Step::Greeting), Some(&Step::Commit)));
}

/// A signal does the same, and nobody need be told.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_by_a_signal_is_done() {
    let world = World::new();
    world.signals.send("SIGUSR2").await.unwrap();
    world.fate.starts.notified().await;
    let new = world.take_over();
    world.running.await.unwrap();
    new.await.unwrap().unwrap();
    assert_eq!(world.gifts.committed.get(), 1);
}

/// A new process that comes by itself needs no child.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_process_that_comes_by_itself_takes_over() {
    let world = World::new();
    let new = world.take_over();
    world.running.await.unwrap();
    new.await.unwrap().unwrap();
    assert_eq!((world.gifts.committed.get(), world.fate.started.get()), (1, 0));
}

/// While one upgrade waits for its process, all others are sent away; when it has failed, the next
/// one is done.
#[tokio::test(flavor = "local", start_paused = true)]
async fn one_upgrade_goes_on_at_a_time() {
    let world = World::new();
    world.fate.is_foreign.set(true);
    let first = world.ask();
    world.fate.starts.notified().await;
    let refused = world.refusal().await;
    assert_eq!((refused.reason, refused.text.as_str()), (RefusedFor::Busy, BUSY));
    // It is not the child that was started.
    let stranger = world.take_over().await.unwrap().unwrap_err();
    assert!(matches!(stranger, Failure::Refused(refused) if refused.reason == RefusedFor::Busy));
    world.signals.send("SIGUSR2").await.unwrap();
    while world.counted() != [0, 3] {
        yield_now().await;
    }
    assert_eq!(world.fate.started.get(), 1);
    world.fate.end("it has ended with exit code 2");
    let reason = rolled_back(first.await.unwrap());
    assert_eq!(reason, "the new process did not get ready: it has ended with exit code 2");
    assert_eq!((world.counted(), world.committed()), ([1, 3], [0, 0]));
    assert_eq!((world.fate.free.get(), world.fate.let_go.get()), (0, 1));

    world.take_over().await.unwrap().unwrap();
    world.running.await.unwrap();
}

/// The same while clients are handed over.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_hand_over_is_not_disturbed() {
    let world = World::new();
    world.gifts.hangs.set(true);
    let new = world.take_over();
    world.gifts.pausing.notified().await;
    assert_eq!(world.refusal().await.reason, RefusedFor::Busy);
    assert_eq!(world.committed(), [0, 0]);
    new.await.unwrap().unwrap_err();
    assert_eq!(world.committed(), [0, 1]);
}

/// A hand-over that fails is rolled back with the reason, and the child ends; the next one may be
/// done.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_that_fails_is_rolled_back() {
    let world = World::new();
    world.gifts.fails.set(true);
    let asked = world.ask();
    world.fate.starts.notified().await;
    let new = world.take_over();
    let reason = rolled_back(asked.await.unwrap());
    assert!(reason.contains("a shard is silent"), "{reason}");
    let told = new.await.unwrap().unwrap_err().to_string();
    assert!(told.contains("a shard is silent"), "{told}");
    assert_eq!((world.committed(), world.counted()), ([0, 1], [1, 0]));
    assert_eq!((world.fate.free.get(), world.fate.let_go.get()), (0, 1));
    world.gifts.fails.set(false);
    world.take_over().await.unwrap().unwrap();
    assert_eq!(world.committed(), [1, 1]);
}

/// The way in which the new process ended is part of the reason.
#[tokio::test(flavor = "local", start_paused = true)]
async fn the_end_of_the_new_process_is_a_reason() {
    let world = World::new();
    world.gifts.hangs.set(true);
    let asked = world.ask();
    world.fate.starts.notified().await;
    let new = world.take_over();
    world.gifts.pausing.notified().await;
    new.abort();
    world.fate.end("signal 9 has ended it");
    let reason = rolled_back(asked.await.unwrap());
    assert!(reason.ends_with("closed the connection: signal 9 has ended it"), "{reason}");
}

/// A child that does not come is not waited for for ever; a program that is not there not at all.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_child_that_does_not_come_is_given_up() {
    let world = World::new();
    let clock = Clock::start();
    let reason = rolled_back(world.ask().await.unwrap());
    assert_eq!(reason, "the new process did not get ready within 30 s");
    let waited = clock.now() - crate::clock::Millis::default();
    assert!(waited >= SUCCESSOR_START_DEADLINE, "{waited:?}");
    assert_eq!(world.fate.let_go.get(), 1);
    world.fate.is_missing.set(true);
    assert_eq!(rolled_back(world.ask().await.unwrap()), "the program is not there");
    assert_eq!(world.counted(), [2, 0]);
}

/// Where nobody could follow, and where the process ends, nothing begins.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_that_cannot_be_is_refused() {
    let world = World::with_obstacle(Some("unsupported: it is the first process"));
    let refused = world.refusal().await;
    assert_eq!(refused.reason, RefusedFor::Unsupported);
    assert_eq!(refused.text, "unsupported: it is the first process");
    world.take_over().await.unwrap().unwrap_err();

    let world = World::new();
    let mut machine = Machine::new(DrainSettings {
        pre_delay: Duration::ZERO,
        timeout: Duration::ZERO,
        close_over: Duration::ZERO,
    });
    let now = Clock::start().now();
    machine.start(now, Cause::Signal);
    world.control.publish(&machine, Phase::Closing);
    // A drain alone is no reason.
    let turn = world.turns.take().unwrap();
    assert_eq!(world.refusal().await.reason, RefusedFor::Busy);
    drop(turn);
    world.control.publish(&machine, Phase::Stopped);
    assert_eq!(world.refusal().await.reason, RefusedFor::Restarting);
    assert_eq!((world.fate.started.get(), world.counted()), (0, [0, 2]));
}

/// Visitors that say nothing make others wait no longer than they are waited for, however many
/// they are.
#[tokio::test(flavor = "local", start_paused = true)]
async fn silent_visitors_do_not_keep_others_out() {
    let world = World::new();
    let silent: Vec<_> =
        (0..HANDOVER_VISITORS_MAX).map(|_| Link::connect(&world.path).unwrap()).collect();
    yield_now().await;
    let clock = Clock::start();
    world.take_over().await.unwrap().unwrap();
    let waited = clock.now() - crate::clock::Millis::default();
    assert!(waited <= HANDOVER_GREETING_DEADLINE + Duration::from_millis(200), "{waited:?}");
    drop(silent);
}

/// A server that ends has its upgrade rolled back, and its child killed.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upgrade_ends_with_its_server() {
    let world = World::new();
    world.gifts.hangs.set(true);
    let _asked = world.ask();
    world.fate.starts.notified().await;
    let _new = world.take_over();
    world.gifts.pausing.notified().await;
    world.running.abort();
    world.running.await.unwrap_err();
    assert_eq!([world.gifts.committed.get(), world.gifts.resumed.get()], [0, 1]);
    assert_eq!((world.fate.free.get(), world.fate.dropped.get()), (0, 1));
    assert!(!world.path.exists(), "the socket's file goes with the server");
}
