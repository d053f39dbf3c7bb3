//! A program, a server that gives and one that takes, which do next to nothing and count.

use std::{
    cell::{Cell, RefCell},
    future::pending,
    os::fd::OwnedFd,
    path::Path,
    rc::Rc,
};

use tokio::sync::Notify;

use super::{Failure, Giver, Launch, Launched, Parcel, Source};
use crate::handover::{Content, Identity, Link, PartKind, Taker};

/// Where a child is, and how it is to behave.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// It is not the process that connects.
    pub(super) is_foreign: Cell<bool>,
    /// There is no program.
    pub(super) is_missing: Cell<bool>,
    pub(super) started: Cell<u32>,
    pub(super) free: Cell<u32>,
    pub(super) let_go: Cell<u32>,
    pub(super) dropped: Cell<u32>,
    pub(super) end: RefCell<Option<String>>,
    pub(super) ended: Notify,
    /// Told at each start.
    pub(super) starts: Notify,
}

impl Fate {
    pub(super) fn end(&self, words: &str) {
        *self.end.borrow_mut() = Some(words.to_owned());
        self.ended.notify_one();
    }
}

pub(super) struct FakeProgram(pub(super) Rc<Fate>);

pub(super) struct FakeChild(Rc<Fate>);

impl Launch for FakeProgram {
    type Child = FakeChild;

    fn launch(&self, _control_socket: &Path) -> Result<FakeChild, String> {
        if self.0.is_missing.get() {
            return Err("the program is not there".to_owned());
        }
        self.0.started.set(self.0.started.get() + 1);
        self.0.starts.notify_one();
        Ok(FakeChild(self.0.clone()))
    }
}

impl Launched for FakeChild {
    fn pid(&self) -> u32 {
        if self.0.is_foreign.get() { 1 } else { std::process::id() }
    }

    async fn ended(&mut self) -> String {
        loop {
            if let Some(words) = self.0.end.borrow().clone() {
                return words;
            }
            self.0.ended.notified().await;
        }
    }

    fn set_free(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
    }

    fn let_go(self) {
        self.0.let_go.set(self.0.let_go.get() + 1);
    }

    fn end_at_once(self) {
        self.let_go();
    }
}

impl Drop for FakeChild {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

/// A server that gives: how often it was told to go on, and to end.
#[derive(Debug, Default)]
pub(super) struct Gifts {
    pub(super) resumed: Cell<u32>,
    pub(super) committed: Cell<u32>,
    /// It fails to pause.
    pub(super) fails: Cell<bool>,
    /// It takes for ever to pause.
    pub(super) hangs: Cell<bool>,
    pub(super) pausing: Notify,
}

pub(super) struct FakeGiver(pub(super) Rc<Gifts>);

impl Source for FakeGiver {
    fn clients(&self) -> u64 {
        7
    }
}

impl Giver for FakeGiver {
    type Descriptor = OwnedFd;

    async fn manifest(&mut self) -> Result<Parcel<OwnedFd>, String> {
        Ok(Parcel::new(PartKind::Process, Content::Bytes(Vec::new())))
    }

    async fn ahead(&mut self) -> Result<Option<Parcel<OwnedFd>>, String> {
        Ok(None)
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.0.pausing.notify_one();
        if self.0.hangs.get() {
            pending::<()>().await;
        }
        if self.0.fails.get() { Err("a shard is silent".to_owned()) } else { Ok(()) }
    }

    async fn state(&mut self) -> Result<Option<Parcel<OwnedFd>>, String> {
        Ok(None)
    }

    fn resume(&mut self, _failure: &Failure) {
        self.0.resumed.set(self.0.resumed.get() + 1);
    }

    fn commit(&mut self) {
        self.0.committed.set(self.0.committed.get() + 1);
    }
}

pub(super) struct FakeTaker;

impl Taker for FakeTaker {
    type Started = Link;

    async fn build(&mut self, _old: &Identity, _: Parcel<OwnedFd>) -> Result<(), String> {
        Ok(())
    }

    async fn take_ahead(&mut self, _piece: Parcel<OwnedFd>) -> Result<(), String> {
        Ok(())
    }

    async fn ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    async fn restore(&mut self, _part: Parcel<OwnedFd>) -> Result<(), String> {
        Ok(())
    }

    async fn prepare(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn start(self, link: Link) -> Link {
        link
    }
}
