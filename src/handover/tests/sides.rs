//! Both sides as small as they can be: they serve, or they don't, and count what they are told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::pending,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    time::Duration,
};

use super::*;
use crate::clock::{Clock, Millis};

/// Whether, and where, a side misbehaves in its own part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Whim {
    /// The call at which it happens, from 0 on.
    pub(super) call: u32,
    pub(super) kind: WhimKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum WhimKind {
    #[default]
    None,
    Fails,
    Hangs,
    /// It takes this long, which may be too long.
    Takes(Duration),
}

/// A count of the calls, and what happens at one of them.
#[derive(Debug, Default)]
struct Calls {
    made: u32,
    whim: Whim,
}

impl Calls {
    async fn next(&mut self) -> Result<(), String> {
        // So that it can be killed here.
        tokio::task::yield_now().await;
        let call = self.made;
        self.made += 1;
        match self.whim.kind {
            kind if self.whim.call != call || kind == WhimKind::None => {}
            WhimKind::Fails => return Err(format!("call {call} fails")),
            WhimKind::Hangs => pending().await,
            WhimKind::Takes(time) => tokio::time::sleep(time).await,
            WhimKind::None => {}
        }
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// The old process, as a test sees it.
#[derive(Debug, Default)]
pub(super) struct OldState {
    pub(super) is_dead: Cell<bool>,
    pub(super) resumed: Cell<u32>,
    pub(super) committed: Cell<u32>,
    pub(super) failure: RefCell<String>,
    pub(super) paused_at: Cell<Option<Millis>>,
    /// From the pause to the end of the hand-over.
    pub(super) stood_still: Cell<Duration>,
    pub(super) steps: RefCell<Vec<Step>>,
}

/// The old process.
pub(super) struct Old {
    pub(super) state: Rc<OldState>,
    clock: Clock,
    calls: Calls,
    clients: Vec<Rc<OwnedFd>>,
    ahead: VecDeque<Parcel<Rc<OwnedFd>>>,
    parts: VecDeque<Parcel<Rc<OwnedFd>>>,
}

/// A client that is handed over: its far end.
pub(super) type FarEnd = UnixStream;

pub(super) const BATCHES: usize = 3;
pub(super) const BATCH: usize = 3;
/// Clients, and two listeners.
pub(super) const DESCRIPTORS: usize = BATCHES * BATCH + 2;

impl Old {
    /// One with clients; their far ends; `name` is that of its sheets.
    pub(super) fn new(name: &str, whim: Whim) -> (Self, Vec<FarEnd>) {
        let (near, far): (Vec<_>, Vec<_>) = (0..DESCRIPTORS).map(|_| traced()).unzip();
        let clients: Vec<_> = near.into_iter().map(Rc::new).collect();
        let sheet = |text: &[u8]| {
            let mut writer = SheetWriter::new(name).unwrap();
            writer.write_all(text).unwrap();
            Content::Sheet(writer.seal().unwrap())
        };
        let ahead = [
            Parcel::new(PartKind::Broker, sheet(b"history")),
            Parcel::new(PartKind::Broker, Content::Bytes(b"keys".to_vec())),
        ];
        let mut parts = VecDeque::from([
            Parcel::new(PartKind::Broker, Content::Bytes(b"journal".to_vec())),
            Parcel { shard: Some(0), ..Parcel::new(PartKind::Shard, sheet(b"logs")) },
        ]);
        for batch in clients[2..].chunks(BATCH) {
            // Every other one is too long for a message.
            let length = if parts.len() % 2 == 0 { 100 } else { 70_000 };
            let content = Content::Bytes(vec![1; length]);
            let descriptors = batch.to_vec();
            parts.push_back(Parcel {
                shard: Some(0),
                descriptors,
                ..Parcel::new(PartKind::Clients, content)
            });
        }
        let calls = Calls { made: 0, whim };
        let old = Self {
            state: Rc::default(),
            clock: Clock::start(),
            calls,
            clients,
            ahead: ahead.into(),
            parts,
        };
        (old, far)
    }

    pub(super) fn calls_made(&self) -> u32 {
        self.calls.made
    }

    fn end(&self) {
        if let Some(paused_at) = self.state.paused_at.get() {
            self.state.stood_still.set(self.clock.now() - paused_at);
        }
    }
}

impl Giver for Old {
    type Descriptor = Rc<OwnedFd>;

    async fn manifest(&mut self) -> Result<Parcel<Self::Descriptor>, String> {
        self.calls.next().await?;
        let content = Content::Bytes(b"listeners".to_vec());
        let descriptors = self.clients[..2].to_vec();
        Ok(Parcel { descriptors, ..Parcel::new(PartKind::Process, content) })
    }

    async fn ahead(&mut self) -> Result<Option<Parcel<Self::Descriptor>>, String> {
        self.calls.next().await?;
        Ok(self.ahead.pop_front())
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.state.paused_at.set(Some(self.clock.now()));
        self.calls.next().await
    }

    async fn state(&mut self) -> Result<Option<Parcel<Self::Descriptor>>, String> {
        self.calls.next().await?;
        Ok(self.parts.pop_front())
    }

    fn resume(&mut self, failure: &Failure) {
        // A process that was killed is told nothing.
        if !self.state.is_dead.get() {
            self.state.resumed.set(self.state.resumed.get() + 1);
            *self.state.failure.borrow_mut() = failure.to_string();
        }
        self.end();
    }

    fn commit(&mut self) {
        self.state.committed.set(self.state.committed.get() + 1);
        self.end();
    }

    fn progress(&mut self, step: Step) {
        self.state.steps.borrow_mut().push(step);
    }
}

/// The new process.
#[derive(Debug)]
pub(super) struct New {
    started: Rc<Cell<u32>>,
    calls: Calls,
    got: Vec<Parcel<OwnedFd>>,
}

impl New {
    /// One, and how often it was started.
    pub(super) fn with(whim: Whim) -> (Self, Rc<Cell<u32>>) {
        let started = Rc::new(Cell::new(0));
        let calls = Calls { made: 0, whim };
        (Self { started: started.clone(), calls, got: Vec::new() }, started)
    }

    async fn take(&mut self, parcel: Parcel<OwnedFd>) -> Result<(), String> {
        self.got.push(parcel);
        self.calls.next().await
    }
}

impl Taker for New {
    type Started = Vec<Parcel<OwnedFd>>;

    async fn build(&mut self, _: &Identity, manifest: Parcel<OwnedFd>) -> Result<(), String> {
        self.take(manifest).await
    }

    async fn take_ahead(&mut self, piece: Parcel<OwnedFd>) -> Result<(), String> {
        self.take(piece).await
    }

    async fn ready(&mut self) -> Result<(), String> {
        self.calls.next().await
    }

    async fn restore(&mut self, part: Parcel<OwnedFd>) -> Result<(), String> {
        self.take(part).await
    }

    async fn prepare(&mut self) -> Result<(), String> {
        self.calls.next().await
    }

    fn start(self, _link: Link) -> Self::Started {
        self.started.set(self.started.get() + 1);
        self.got
    }
}

/// The old process from the connection on.
pub(super) async fn serve(link: Link, old: &mut Old) -> Result<Given, Failure> {
    let mut turn = Turns::default().take().unwrap();
    let clock = old.clock;
    match receive(link, Identity::own("1.0.0")).await {
        Ok(Visitor::NewProcess(new)) => give(new, old, &mut turn, clock).await,
        Ok(Visitor::Asker(_)) => panic!("nobody asks"),
        // It was never paused.
        Err(failure) => {
            old.resume(&failure);
            Err(failure)
        }
    }
}
