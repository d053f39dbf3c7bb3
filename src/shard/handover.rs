//! A shard on either side of a hand-over: the control thread gives orders, this carries them out.
//!
//! | order | old process | new process |
//! |---|---|---|
//! | [`Order::Halt`] | nothing new begins; answered once nothing is under way | |
//! | [`Order::Stop`] | all mail is in the logs, nothing is written any more | |
//! | [`Order::Next`] | the next part of the state | |
//! | [`Order::Resume`] | it goes on, whatever came before | |
//! | [`Order::LetGo`] | what was recorded is another process' | |
//! | [`Order::Remain`] | clients that could not change process go on until they are closed | |
//! | [`Order::Take`] | | a part of the state is here, no socket is touched |
//! | [`Order::Taken`] | | all clients are here: their channels are |
//! | [`Order::Begin`] | | it serves |
//!
//! A shard of a new process is built behind closed gates, and waits for these.

use std::{collections::HashMap, net::TcpStream, rc::Rc, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{core::Core, intake::ConnectionIntake, mailbox::Mailbox, slices::in_slices, tasks};
use crate::{
    conn::{ClientRecord, RestoredTable, TableRecord},
    drain::Control,
    hub::Key,
    limits::HANDOVER_BATCH_MAX,
    record,
};

/// The subject of a [`Part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartOf {
    /// Data that the clients of a shard share.
    Table,
    /// Clients, with a socket each.
    Clients,
}

/// A part of a shard's state.
#[derive(Debug)]
pub struct Part {
    /// Its subject.
    pub of: PartOf,
    /// Records.
    pub bytes: Vec<u8>,
    /// At most [`HANDOVER_BATCH_MAX`]: further descriptors of the sockets of an old process, those
    /// of a new one.
    pub streams: Vec<TcpStream>,
}

/// A part that a new process takes.
#[derive(Debug)]
pub struct Taken {
    /// The shard of the old process.
    pub from: u32,
    /// The part.
    pub part: Part,
}

/// A part can't be made or taken: a sentence's end, in lower case.
pub type Fault = String;

/// The orders. A sender of an answer that is gone means that nobody waits for it.
#[derive(Debug)]
pub enum Order {
    /// Nothing new begins.
    Halt(oneshot::Sender<()>),
    /// Nothing is written any more. Commands that are still under way will not have
    /// happened for their clients.
    Stop(oneshot::Sender<()>),
    /// The next part of the state; none: that was all.
    Next(oneshot::Sender<Result<Option<Part>, Fault>>),
    /// The hand-over has failed.
    Resume,
    /// All that was recorded is another process'.
    LetGo(oneshot::Sender<()>),
    /// Clients that were not recorded go on here until they are closed.
    Remain,
    /// A part of an old process' shard.
    Take(Taken, oneshot::Sender<Result<(), Fault>>),
    /// That was all: the broker is to know the clients' channels.
    Taken(oneshot::Sender<()>),
    /// The old process has given all up.
    Begin,
}

/// A shard's part in a hand-over.
pub(super) struct Shift {
    core: Rc<Core>,
    mailbox: Arc<Mailbox>,
    control: Arc<Control>,
    intake: Rc<ConnectionIntake>,
    /// The order to halt that waits for its answer.
    halting: Option<oneshot::Sender<()>>,
    giving: Option<Giving>,
    /// By the old process' shards.
    tables: HashMap<u32, RestoredTable>,
}

/// The state that is still to be given.
struct Giving {
    table: Option<TableRecord>,
    clients: std::vec::IntoIter<(Key, ClientRecord)>,
    keys: Vec<Key>,
}

impl Shift {
    /// A shard of a new process is closed until an order opens it.
    pub(super) fn new(
        core: Rc<Core>,
        mailbox: Arc<Mailbox>,
        control: Arc<Control>,
        intake: Rc<ConnectionIntake>,
    ) -> Self {
        let tables = HashMap::new();
        Self { core, mailbox, control, intake, halting: None, giving: None, tables }
    }

    /// Carries out `orders`, as long as the shard lives.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> &'static str {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.carry_out(order).await,
                    // The control thread ends; the drain's phases say when this thread does.
                    None => std::future::pending().await,
                },
                () = quiet(&self.core), if self.halting.is_some() => {
                    // Nobody waits: the next order says how it goes on.
                    let _ = self.halting.take().map(|done| done.send(()));
                }
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Halt(done) => {
                self.core.input.close();
                self.core.with(|clients| clients.halt());
                self.halting = Some(done);
            }
            Order::Stop(done) => {
                self.halting = None;
                tasks::append_all(&self.core);
                self.core.output.close();
                let _ = done.send(());
            }
            Order::Next(answer) => {
                let _ = answer.send(self.next());
            }
            Order::Resume | Order::Remain => self.resume(),
            Order::LetGo(done) => {
                self.let_go().await;
                let _ = done.send(());
            }
            Order::Take(taken, answer) => {
                let _ = answer.send(self.take(taken));
            }
            Order::Taken(done) => {
                self.core.broker.keep(self.core.with(|clients| clients.all_channels()));
                let _ = done.send(());
            }
            Order::Begin => self.begin().await,
        }
    }

    fn next(&mut self) -> Result<Option<Part>, Fault> {
        let core = &self.core;
        let giving = self.giving.get_or_insert_with(|| {
            let now = core.clock.now();
            let (table, clients) = core.with(|clients| clients.record(now));
            let keys = clients.iter().map(|(key, _)| *key).collect();
            Giving { table: Some(table), clients: clients.into_iter(), keys }
        });
        if let Some(table) = giving.table.take() {
            let bytes = record::to_bytes(&table);
            return Ok(Some(Part { of: PartOf::Table, bytes, streams: Vec::new() }));
        }
        let batch: Vec<_> = giving.clients.by_ref().take(HANDOVER_BATCH_MAX).collect();
        if batch.is_empty() {
            return Ok(None);
        }
        let clients = core.clients.borrow();
        let duplicate = |(key, _): &(Key, ClientRecord)| clients.duplicate(*key);
        let streams: Result<Vec<_>, _> = batch.iter().map(duplicate).collect();
        let streams = streams.map_err(|error| format!("a client's socket: {error}"))?;
        let records: Vec<_> = batch.into_iter().map(|(_, record)| record).collect();
        Ok(Some(Part { of: PartOf::Clients, bytes: record::to_bytes(&records), streams }))
    }

    fn resume(&mut self) {
        (self.halting, self.giving) = (None, None);
        self.core.output.open();
        self.core.input.open();
        self.core.with(|clients| clients.go_on());
    }

    /// The gates stay closed for those that are left; the caller says how it goes on with them.
    async fn let_go(&mut self) {
        let mut keys = self.giving.take().map(|giving| giving.keys).unwrap_or_default();
        in_slices(&self.core, |clients, go| {
            while go() {
                match keys.pop() {
                    Some(key) => clients.let_go(key),
                    None => return true,
                }
            }
            false
        })
        .await;
    }

    fn take(&mut self, Taken { from, part }: Taken) -> Result<(), Fault> {
        let Part { of, bytes, streams } = part;
        let unreadable = |error| format!("a record of shard {from}: {error}");
        match of {
            PartOf::Table => {
                let table: TableRecord = record::from_bytes(&bytes).map_err(unreadable)?;
                let table = self.core.with(|clients| clients.take_over_table(table));
                self.tables.insert(from, table);
                Ok(())
            }
            PartOf::Clients => {
                let records: Vec<ClientRecord> = record::from_bytes(&bytes).map_err(unreadable)?;
                self.restore(from, records, streams)
            }
        }
    }

    fn restore(
        &mut self,
        from: u32,
        records: Vec<ClientRecord>,
        streams: Vec<TcpStream>,
    ) -> Result<(), Fault> {
        if records.len() != streams.len() {
            return Err(format!("{} clients with {} sockets", records.len(), streams.len()));
        }
        let table = self.tables.get(&from).ok_or("clients came before their shard")?;
        let now = self.core.clock.now();
        for (record, stream) in records.into_iter().zip(streams) {
            let guard = self.control.barrier.client();
            let restored =
                self.core.with(|clients| clients.restore(record, stream, guard, table, now));
            restored.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn begin(&mut self) {
        self.tables = HashMap::new();
        self.core.output.open();
        let now = self.core.clock.now();
        in_slices(&self.core, |clients, go| clients.begin_restored(now, go)).await;
        self.core.input.open();
        self.intake.resume();
        debug!(clients = self.core.with(|clients| clients.live()), "a shard has taken over");
    }
}

/// Resolves when nothing is under way for any client.
async fn quiet(core: &Rc<Core>) {
    while core.with(|clients| clients.under_way()) > 0 {
        core.settled.notified().await;
    }
}
