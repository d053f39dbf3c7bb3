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
//! | [`Order::Take`] | | clients are here, and no socket is touched |
//! | [`Order::Taken`] | | all clients are here: their channels are |
//! | [`Order::Begin`] | | it serves |
//!
//! A shard of a new process is built behind closed gates, and waits for these.

use std::{net::TcpStream, rc::Rc, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::{core::Core, intake::ConnectionIntake, slices::in_slices, tasks};
use crate::{
    conn::{RestoredTables, TableRecording},
    drain::Control,
    http::ConnectionRecord,
    hub::{Key, LongPayloads},
    limits::HANDOVER_BATCH_MAX,
    record,
};

/// The subject of a [`Part`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartOf {
    /// Data that the clients of a shard share: all of it, of all shards, comes before clients.
    Table,
    /// Clients, with a socket each.
    Clients,
    /// HTTP connections, with a socket each.
    Http,
}

/// A part of a shard's state.
#[derive(Debug)]
pub struct Part {
    /// Records.
    pub bytes: Vec<u8>,
    /// At most [`HANDOVER_BATCH_MAX`]: further descriptors of the sockets of clients.
    pub streams: Vec<TcpStream>,
}

impl Part {
    /// The next HTTP connections of many; none: that were all.
    pub fn of_http(
        connections: &mut dyn Iterator<Item = (ConnectionRecord, TcpStream)>,
    ) -> Option<Self> {
        let (records, streams): (Vec<_>, Vec<_>) = connections.take(HANDOVER_BATCH_MAX).unzip();
        (!records.is_empty()).then(|| Self { bytes: record::to_bytes(&records), streams })
    }

    /// The HTTP connections in it.
    ///
    /// # Errors
    /// When there are none, or a socket lacks or is too many.
    pub fn into_http(
        self,
    ) -> Result<impl Iterator<Item = (ConnectionRecord, TcpStream)> + use<>, Fault> {
        let records: Vec<ConnectionRecord> = record::from_bytes(&self.bytes)
            .map_err(|error| format!("a record of HTTP connections: {error}"))?;
        if records.len() != self.streams.len() {
            let (records, sockets) = (records.len(), self.streams.len());
            return Err(format!("{records} HTTP connections with {sockets} sockets"));
        }
        Ok(records.into_iter().zip(self.streams))
    }
}

/// Clients that a new process takes.
#[derive(Debug)]
pub struct Taken {
    /// The shard of the old process.
    pub from: u32,
    /// The data that the clients of all its shards share.
    pub tables: Arc<RestoredTables>,
    /// The clients, and their sockets.
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
    /// The next part of the state with this subject; none: that was all. The payloads are those
    /// that other shards have given.
    Next(PartOf, Arc<LongPayloads>, oneshot::Sender<Result<Option<Part>, Fault>>),
    /// The hand-over has failed.
    Resume,
    /// All that was recorded is another process'.
    LetGo(oneshot::Sender<()>),
    /// Clients that were not recorded go on here until they are closed.
    Remain,
    /// Clients of an old process' shard.
    Take(Taken, oneshot::Sender<Result<(), Fault>>),
    /// HTTP connections of an old process.
    TakeHttp(Part, oneshot::Sender<Result<(), Fault>>),
    /// That was all: the broker is to know the clients' channels.
    Taken(oneshot::Sender<()>),
    /// The old process has given all up.
    Begin,
}

/// A shard's part in a hand-over.
pub(super) struct Shift {
    core: Rc<Core>,
    control: Arc<Control>,
    intake: Rc<ConnectionIntake>,
    /// The order to halt that waits for its answer.
    halting: Option<oneshot::Sender<()>>,
    giving: Option<Giving>,
}

/// The state that is still to be given, and the clients that were.
struct Giving {
    recording: TableRecording,
    keys: Vec<Key>,
    /// The HTTP connections, once it is their turn.
    http: Option<HttpConnections>,
}

/// HTTP connections that have stopped, with another descriptor each.
type HttpConnections = Box<dyn Iterator<Item = (ConnectionRecord, TcpStream)>>;

impl Shift {
    /// A shard of a new process is closed until an order opens it.
    pub(super) fn new(core: Rc<Core>, control: Arc<Control>, intake: Rc<ConnectionIntake>) -> Self {
        Self { core, control, intake, halting: None, giving: None }
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
                () = quiet(&self.core, &self.intake), if self.halting.is_some() => {
                    // Nobody waits: the next order says how it goes on.
                    let _ = self.halting.take().map(|done| done.send(()));
                }
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Halt(done) => {
                self.core.close_entrance();
                self.intake.suspend();
                self.core.with(|clients| clients.halt());
                self.halting = Some(done);
            }
            Order::Stop(done) => {
                self.halting = None;
                tasks::append_all(&self.core);
                self.core.output.close();
                let _ = done.send(());
            }
            Order::Next(of, payloads, answer) => {
                let _ = answer.send(self.next(of, payloads));
            }
            Order::Resume => {
                self.go_on();
                self.core.entrance.open();
                self.intake.resume();
            }
            Order::Remain => self.go_on(),
            Order::LetGo(done) => {
                self.let_go().await;
                let _ = done.send(());
            }
            Order::Take(taken, answer) => {
                let _ = answer.send(self.take(taken));
            }
            Order::TakeHttp(part, answer) => {
                let _ = answer.send(self.take_http(part));
            }
            Order::Taken(done) => {
                let channels = self.core.with(|clients| clients.all_channels());
                let is_unplaced =
                    |channel: &&_| self.core.with(|clients| clients.position(channel).is_none());
                self.core.joins.take_unplaced(channels.iter().filter(is_unplaced).cloned());
                self.core.broker.keep(channels);
                let _ = done.send(());
            }
            Order::Begin => self.begin().await,
        }
    }

    fn next(&mut self, of: PartOf, payloads: Arc<LongPayloads>) -> Result<Option<Part>, Fault> {
        let core = &self.core;
        let Giving { recording, keys, .. } = self.giving.get_or_insert_with(|| {
            let now = core.clock.now();
            let recording = core.with(|clients| clients.record(now, payloads));
            Giving { recording, keys: Vec::new(), http: None }
        });
        if of == PartOf::Http {
            return Ok(self.next_http());
        }
        let clients = core.clients.borrow();
        if of == PartOf::Table {
            let chunk = recording.next_chunk(&clients);
            return Ok(chunk.map(|bytes| Part { bytes, streams: Vec::new() }));
        }
        let batch = recording.next_clients(&clients, HANDOVER_BATCH_MAX);
        if batch.is_empty() {
            return Ok(None);
        }
        let streams: Result<Vec<_>, _> =
            batch.iter().map(|(key, _)| clients.duplicate(*key)).collect();
        let streams = streams.map_err(|error| format!("a client's socket: {error}"))?;
        keys.extend(batch.iter().map(|(key, _)| *key));
        let records: Vec<Bytes> = batch.into_iter().map(|(_, record)| record.into()).collect();
        Ok(Some(Part { bytes: record::to_bytes(&records), streams }))
    }

    fn next_http(&mut self) -> Option<Part> {
        let giving = self.giving.as_mut()?;
        let http = giving.http.get_or_insert_with(|| Box::new(self.intake.suspended()));
        Part::of_http(http)
    }

    fn go_on(&mut self) {
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
        self.intake.let_go();
    }

    fn take_http(&self, part: Part) -> Result<(), Fault> {
        for (record, stream) in part.into_http()? {
            self.intake.restore(&record, stream);
        }
        Ok(())
    }

    fn take(&mut self, Taken { from, tables, part }: Taken) -> Result<(), Fault> {
        let Part { bytes, streams } = part;
        let told = |error: &dyn std::fmt::Display| format!("a record of shard {from}: {error}");
        let records: Vec<Bytes> = record::from_bytes(&bytes).map_err(|error| told(&error))?;
        if records.len() != streams.len() {
            return Err(format!("{} clients with {} sockets", records.len(), streams.len()));
        }
        let (table, now) = (tables.of(from), self.core.clock.now());
        for (record, stream) in records.iter().zip(streams) {
            let guard = self.control.barrier.client();
            let restored =
                self.core.with(|clients| clients.restore(record, stream, guard, table, now));
            restored.map_err(|error| told(&error))?;
        }
        Ok(())
    }

    async fn begin(&mut self) {
        self.core.output.open();
        let now = self.core.clock.now();
        in_slices(&self.core, |clients, go| clients.begin_restored(now, go)).await;
        self.core.input.open();
        self.core.entrance.open();
        self.intake.resume();
        debug!(clients = self.core.with(|clients| clients.live()), "a shard has taken over");
    }
}

/// Resolves when nothing is under way for any client, nor over HTTP.
async fn quiet(core: &Rc<Core>, intake: &ConnectionIntake) {
    loop {
        intake.all_stopped().await;
        if core.with(|clients| clients.under_way()) == 0 {
            return;
        }
        core.settled.notified().await;
    }
}
