//! The old process' side of an upgrade in place: the whole server, in parcels.
//!
//! It runs on the control thread. In the pause the shards halt first, until nothing is under way,
//! and passes go on meanwhile; then the broker, once all shards have heard the same; then all of
//! them stop. From there on nothing changes until the new process has all, or everything goes on.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::TcpStream,
    os::fd::{AsFd as _, OwnedFd},
    rc::Rc,
    sync::Arc,
};

use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};

use super::{
    acceptor::AdminIntake,
    orders::Orders,
    parts::PerShard,
    predecessor::{ListenerKind, ListenerRecord, PredecessorRecord},
    process::Process,
    process_record::ProcessRecord,
    unix_socket::UnixSocket,
    upgrades::Source,
};
use crate::{
    broker::{BrokerGiving, HaltedBroker, Reach},
    clock::Millis,
    handover::{Content, ControlSocket, Failure, Giver, Parcel, PartKind},
    http::ConnectionRecord,
    hub::LongPayloads,
    limits::{
        HANDOVER_BATCH_MAX, HANDOVER_CALM_BYTES, HANDOVER_QUIET_DEADLINE, HANDOVER_ROUNDS_MAX,
        LEVEL_DEADLINE,
    },
    record,
    shard::{
        gate::Gate,
        handover::{Order, Part, PartOf},
        listener::{PublicListener, Transport},
    },
};

/// A listening socket of this process, for a new one.
pub(super) type HandedListener = (ListenerRecord, Arc<OwnedFd>);

/// The parts of the server that a hand-over needs.
#[derive(Clone)]
pub(super) struct Handed {
    pub(super) process: Arc<Process>,
    pub(super) listeners: Rc<[HandedListener]>,
    pub(super) orders: Orders,
    /// The control thread's own.
    pub(super) gate: Rc<Gate>,
    pub(super) admin: Option<Rc<AdminIntake>>,
    /// After COMMIT: the shards that still hold something of the new process'.
    pub(super) letting_go: Rc<RefCell<Vec<oneshot::Receiver<()>>>>,
}

/// Further descriptors of all listening sockets: they are the process' as long as it lives.
pub(super) fn listeners(tcp: &PerShard, unix: &[UnixSocket]) -> io::Result<Rc<[HandedListener]>> {
    let handed = |kind, file, socket: OwnedFd| (ListenerRecord { kind, file }, Arc::new(socket));
    let mut all = Vec::new();
    for PublicListener { socket, entrance } in
        tcp.by_shard.iter().flatten().chain(&tcp.accepted_here)
    {
        let kind = match entrance.transport {
            Transport::Plain => ListenerKind::Public,
            Transport::Tls => ListenerKind::Tls,
        };
        all.push(handed(kind, None, socket.try_clone()?.into()));
    }
    if let Some(admin) = &tcp.admin {
        all.push(handed(ListenerKind::Admin, None, admin.try_clone()?.into()));
    }
    for socket in unix {
        all.push(handed(ListenerKind::Unix, socket.file(), socket.duplicate()?));
    }
    Ok(all.into())
}

impl Handed {
    /// After COMMIT: resolves when no shard holds anything of the new process' any more.
    pub(super) async fn let_go(&self) {
        let letting_go = std::mem::take(&mut *self.letting_go.borrow_mut());
        // An error means that the shard's thread has ended, and with it what it held.
        join_all(letting_go).await;
    }
}

/// A server that hands itself over.
pub(super) struct ServerGiving {
    server: Handed,
    /// The control socket.
    control: io::Result<HandedListener>,
    broker: Option<BrokerGiving>,
    /// The rounds of the broker's chunks so far, and the bytes of the present one.
    rounds: usize,
    round_bytes: usize,
    /// There are no further rounds before the pause.
    is_broker_ahead: bool,
    /// Kept until this process goes on, or has nothing to go on with.
    halted: Option<HaltedBroker>,
    parcels: VecDeque<Parcel<Arc<OwnedFd>>>,
    /// The part of the shards that is being given, and of which shard.
    of: PartOf,
    shard: usize,
    /// Shared data that is in a part of a shard already.
    payloads: Arc<LongPayloads>,
    clients: u64,
    /// Connections of the admin listener.
    admin: Option<Box<dyn Iterator<Item = (ConnectionRecord, TcpStream)>>>,
    paused_at: Millis,
}

impl ServerGiving {
    pub(super) fn new(server: Handed, control: &ControlSocket) -> Self {
        let file = Some(control.record());
        let kind = ListenerKind::Control;
        let socket = control.as_fd().try_clone_to_owned();
        Self {
            server,
            control: socket.map(|socket| (ListenerRecord { kind, file }, Arc::new(socket))),
            broker: None,
            rounds: 0,
            round_bytes: 0,
            is_broker_ahead: false,
            halted: None,
            parcels: VecDeque::new(),
            of: PartOf::Table,
            shard: 0,
            payloads: Arc::default(),
            clients: 0,
            admin: None,
            paused_at: Millis::default(),
        }
    }

    /// Nothing begins any more; resolves when nothing is under way.
    async fn halt(&self) -> Result<(), String> {
        if let Some(admin) = &self.server.admin {
            admin.suspend();
        }
        // A connection that a shard has passed on to one that had stopped already stops as well.
        for _ in 0..2 {
            self.server.orders.ask_all(Order::Halt).await?;
        }
        if let Some(admin) = &self.server.admin {
            admin.all_stopped().await;
        }
        Ok(())
    }

    /// The next connections of the admin listener.
    fn next_admin(&mut self) -> Option<Parcel<Arc<OwnedFd>>> {
        let admin = self.server.admin.as_ref()?;
        let connections = self.admin.get_or_insert_with(|| Box::new(admin.suspended()));
        let Part { bytes, streams } = Part::of_http(connections)?;
        let descriptors = streams.into_iter().map(|stream| Arc::new(stream.into())).collect();
        Some(Parcel { descriptors, ..Parcel::new(PartKind::Http, Content::Bytes(bytes)) })
    }

    /// From here on nothing changes.
    async fn stop(&mut self) -> Result<(), String> {
        let Some(mut broker) = self.broker.take() else { return Ok(()) };
        let level = broker.level(LEVEL_DEADLINE).await;
        self.halted = Some(level.map_err(|error| error.to_string())?);
        // A message of a request that takes too long would be in neither process.
        self.server.process.broker.retire();
        self.server.orders.ask_all(Order::Stop).await?;
        self.parcels.extend(broker.finish().map(Self::chunk));
        let process = &self.server.process;
        let record = ProcessRecord {
            bans: process.verifier.bans().record(),
            upgrades: process.upgrades.record(),
            drain: process.control.record(process.clock.now()),
            paused_at_ms: self.paused_at.0,
        };
        let content = Content::Bytes(record::to_bytes(&record));
        self.parcels.push_back(Parcel::new(PartKind::Process, content));
        Ok(())
    }

    fn chunk(bytes: Vec<u8>) -> Parcel<Arc<OwnedFd>> {
        Parcel::new(PartKind::Broker, Content::Bytes(bytes))
    }
}

impl Source for ServerGiving {
    fn clients(&self) -> u64 {
        self.clients
    }
}

impl Giver for ServerGiving {
    type Descriptor = Arc<OwnedFd>;

    async fn manifest(&mut self) -> Result<Parcel<Self::Descriptor>, String> {
        let Handed { process, listeners, orders, .. } = &self.server;
        let control =
            self.control.as_ref().map_err(|error| format!("the control socket: {error}"))?;
        let listeners: Vec<_> = listeners.iter().chain([control]).collect();
        if listeners.len() > HANDOVER_BATCH_MAX {
            let (count, max) = (listeners.len(), HANDOVER_BATCH_MAX);
            return Err(format!(
                "it has {count} listening sockets, at most {max} can be passed on"
            ));
        }
        self.broker = process.broker.give();
        if self.broker.is_none() {
            return Err("its broker was handed in, and cannot be handed on".to_owned());
        }
        let record = PredecessorRecord {
            clock_ms: process.clock.now().0,
            listeners: listeners.iter().map(|(record, _)| record.clone()).collect(),
            shards: u32::try_from(orders.len()).unwrap_or(u32::MAX),
            has_redis: process.broker.health().reach() != Reach::Embedded,
            may_stay: listeners.iter().any(|(record, _)| record.kind == ListenerKind::Tls),
        };
        let content = Content::Bytes(record::to_bytes(&record));
        let descriptors = listeners.iter().map(|(_, socket)| socket.clone()).collect();
        Ok(Parcel { descriptors, ..Parcel::new(PartKind::Process, content) })
    }

    /// Rounds, until one of them is so short that the pause can have the next one.
    async fn ahead(&mut self) -> Result<Option<Parcel<Self::Descriptor>>, String> {
        let Some(broker) = &mut self.broker else { return Ok(None) };
        while !self.is_broker_ahead {
            if let Some(chunk) = broker.next_chunk() {
                self.round_bytes += chunk.len();
                return Ok(Some(Self::chunk(chunk)));
            }
            self.rounds += 1;
            let is_calm = self.round_bytes <= HANDOVER_CALM_BYTES;
            self.is_broker_ahead = is_calm || self.rounds == HANDOVER_ROUNDS_MAX;
            self.round_bytes = 0;
        }
        Ok(broker.next_channels().await.map(Self::chunk))
    }

    async fn pause(&mut self) -> Result<(), String> {
        self.server.orders.are_done()?;
        self.paused_at = self.server.process.clock.now();
        self.server.gate.close();
        // A command that is still under way then is as if this process ended with it.
        let _ = timeout(HANDOVER_QUIET_DEADLINE, self.halt()).await;
        Ok(())
    }

    async fn state(&mut self) -> Result<Option<Parcel<Self::Descriptor>>, String> {
        if let Some(broker) = &mut self.broker {
            // Nobody comes to a channel any more; the new process subscribes to these.
            if let Some(chunk) = broker.next_channels().await {
                return Ok(Some(Self::chunk(chunk)));
            }
            self.stop().await?;
        }
        if let Some(parcel) = self.parcels.pop_front() {
            return Ok(Some(parcel));
        }
        loop {
            if self.shard == self.server.orders.len() {
                let next = match self.of {
                    PartOf::Table => PartOf::Clients,
                    PartOf::Clients => PartOf::Http,
                    PartOf::Http => return Ok(self.next_admin()),
                };
                (self.of, self.shard) = (next, 0);
            }
            let next = |answer| Order::Next(self.of, self.payloads.clone(), answer);
            let Some(part) = self.server.orders.ask(self.shard, next).await?? else {
                self.shard += 1;
                continue;
            };
            let Part { bytes, streams } = part;
            let kind = match self.of {
                PartOf::Table => PartKind::Shard,
                PartOf::Clients => PartKind::Clients,
                PartOf::Http => PartKind::Http,
            };
            if kind == PartKind::Clients {
                self.clients += streams.len() as u64;
            }
            let descriptors = streams.into_iter().map(|stream| Arc::new(stream.into())).collect();
            let shard = u32::try_from(self.shard).ok();
            return Ok(Some(Parcel { kind, shard, content: Content::Bytes(bytes), descriptors }));
        }
    }

    fn resume(&mut self, _failure: &Failure) {
        self.halted = None;
        self.server.process.broker.go_on();
        self.server.orders.give_all(|| Order::Resume);
        self.server.gate.open();
        if let Some(admin) = &self.server.admin {
            admin.resume();
        }
    }

    fn commit(&mut self) {
        if let Some(admin) = &self.server.admin {
            admin.let_go();
        }
        // Clients that stay hear on.
        self.halted = None;
        let mut letting_go = self.server.letting_go.borrow_mut();
        self.server.orders.give_all(|| {
            let (done, is_done) = oneshot::channel();
            letting_go.push(is_done);
            Order::LetGo(done)
        });
    }
}
