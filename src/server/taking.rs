//! The new process' side of an upgrade in place: a whole server that waits, then takes all over.
//!
//! It is built like any other, but behind closed gates, with the old process' listeners. Clients
//! are dealt over its shards, of which there may be more or fewer than the old process had: those
//! of a shard go to the one of the same number if both have as many, otherwise each batch to the
//! shard that has fewest. Until COMMIT no socket is touched.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use socket2::Socket;
use tracing::info;

use super::{
    Server, StartError,
    control_sockets::ControlSockets,
    parts::{NamedListener, Parts},
    predecessor::{ListenerKind, ListenerRecord, Predecessor, PredecessorRecord},
    process_record::ProcessRecord,
    running::{Running, Start},
    signals::Signals,
};
use crate::{
    bans::BansFull,
    broker::BrokerTaking,
    clock::{Clock, Millis},
    config::{Config, VERSION},
    conn::{RestoredTables, TablesTaking},
    handover::{self, ControlSocket, Failure, Identity, Link, Parcel, PartKind, Step, Taker},
    limits::{HANDOVER_PART_DEADLINE, HANDOVER_SUBSCRIBED_DEADLINE},
    record,
    shard::handover::{Order, Part, Taken},
    socket_file::SocketFileRecord,
};

/// Takes over from the process that listens at `path`. `install_signals` is called once all is
/// there.
///
/// # Errors
/// The old process goes on, or there is none.
pub(super) async fn take_over(
    config: Config,
    parts: Parts,
    path: &Path,
    install_signals: impl FnOnce(Clock) -> io::Result<Signals>,
) -> Result<TakenOver, Failure> {
    let connected = Link::connect(path);
    let link = connected.map_err(|error| Failure::Link { step: Step::Greeting, error })?;
    let taking = ServerTaking::new(config, parts, install_signals);
    handover::take_over(link, Identity::own(VERSION), taking).await
}

/// A server that takes over.
pub(super) struct ServerTaking<F> {
    /// For [`Taker::build`], which is called once.
    settings: Option<(Config, Parts)>,
    /// Installs the handlers of signals.
    install_signals: Option<F>,
    built: Option<Built>,
}

/// A server that was built, and waits.
struct Built {
    running: Running,
    signals: Option<Signals>,
    broker: Option<BrokerTaking>,
    process: ProcessRecord,
    control: ControlSockets,
    old_shards: u32,
    /// The number of clients that every shard has got so far.
    dealt: Vec<u64>,
    tables: Tables,
}

/// The data that clients of the old process' shards share.
enum Tables {
    /// It comes.
    Taking(TablesTaking),
    /// All of it is here, and clients come.
    Here(Arc<RestoredTables>),
}

/// A server that has taken over, and serves from here on.
pub(super) struct TakenOver {
    pub(super) running: Running,
    pub(super) signals: Signals,
    pub(super) control: Option<ControlSocket>,
}

impl<F: FnOnce(Clock) -> io::Result<Signals>> ServerTaking<F> {
    pub(super) fn new(config: Config, parts: Parts, install_signals: F) -> Self {
        Self {
            settings: Some((config, parts)),
            install_signals: Some(install_signals),
            built: None,
        }
    }
}

impl<F: FnOnce(Clock) -> io::Result<Signals>> Taker for ServerTaking<F> {
    type Started = TakenOver;

    async fn build(&mut self, _old: &Identity, manifest: Parcel<OwnedFd>) -> Result<(), String> {
        let Parcel { content, descriptors, .. } = manifest;
        let bytes = content.into_bytes().map_err(|error| error.to_string())?;
        let old: PredecessorRecord =
            record::from_bytes(&bytes).map_err(|error| error.to_string())?;
        let (config, mut parts) = self.settings.take().ok_or("it is built already")?;
        if old.has_redis != config.redis.url.is_some() {
            let with = |has_redis| if has_redis { "with" } else { "without" };
            let (old, new) = (with(old.has_redis), with(!old.has_redis));
            return Err(format!("the old process runs {old} Redis, the new one {new}"));
        }
        let old_shards = old.shards;
        let PassedOn { predecessor, listeners, control } = old.passed_on(descriptors)?;
        parts.predecessor = Some(predecessor);
        // Those of the service manager are among the old process' as well.
        parts.passed = listeners;
        let control = ControlSockets::of(control, config.control_socket.as_deref());
        let control = control.map_err(|error| error.to_string())?;
        let running = async {
            Server::of(config, parts).map_err(told)?.start(Start::Later).await.map_err(told)
        };
        let running = running.await?;
        let broker = running.process().broker.take_over();
        let dealt = vec![0; running.orders().len()];
        let process = ProcessRecord::default();
        let signals = None;
        let tables = Tables::Taking(TablesTaking::default());
        self.built =
            Some(Built { running, signals, broker, process, control, old_shards, dealt, tables });
        Ok(())
    }

    async fn take_ahead(&mut self, piece: Parcel<OwnedFd>) -> Result<(), String> {
        self.built()?.take(piece).await
    }

    async fn ready(&mut self) -> Result<(), String> {
        let broker = self.built()?.broker.as_mut().ok_or("its broker was handed in")?;
        broker.subscribed(HANDOVER_SUBSCRIBED_DEADLINE).await.map_err(|error| error.to_string())
    }

    async fn restore(&mut self, part: Parcel<OwnedFd>) -> Result<(), String> {
        let built = self.built()?;
        built.take(part).await?;
        let broker = built.broker.as_mut().ok_or("its broker was handed in")?;
        // To channels that were named in this part, if there are some.
        broker.subscribed(HANDOVER_PART_DEADLINE).await.map_err(|error| error.to_string())
    }

    async fn prepare(&mut self) -> Result<(), String> {
        let built = self.built.as_mut().ok_or(NOT_BUILT)?;
        let broker = built.broker.take().ok_or("its broker was handed in")?;
        built.running.orders().ask_all(Order::Taken).await?;
        broker.finish().map_err(|error| error.to_string())?;
        let bans = std::mem::take(&mut built.process.bans);
        let restored = built.running.process().verifier.bans().restore(bans);
        restored.map_err(|BansFull| "it has no room for all bans")?;
        let install = self.install_signals.take().ok_or("it is prepared already")?;
        built.signals =
            Some(install(built.running.process().clock).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn start(self, link: Link) -> TakenOver {
        let built = self.built.expect("it was prepared");
        let Built { mut running, signals, control, process, dealt, .. } = built;
        // Before anything is published here.
        let old_ended = running.accompany(link);
        // Before new clients come: they may be refused.
        running.continue_drain(&process.drain);
        running.begin();
        let control = control.claim();
        let state = running.process();
        let (pause, clients) =
            (state.clock.now() - Millis(process.paused_at_ms), dealt.iter().sum());
        state.upgrades.taken_over(&process.upgrades, pause, clients);
        let pause_ms = pause.as_millis();
        info!(clients, pause_ms, "taken over: this process serves from here on");
        let signals = signals.expect("it was prepared");
        running.old_ended = Some(old_ended);
        TakenOver { running, signals, control }
    }
}

const NOT_BUILT: &str = "it is not built yet";

fn told(error: StartError) -> String {
    error.to_string()
}

impl<F> ServerTaking<F> {
    fn built(&mut self) -> Result<&mut Built, String> {
        self.built.as_mut().ok_or_else(|| NOT_BUILT.to_owned())
    }
}

impl Built {
    async fn take(&mut self, parcel: Parcel<OwnedFd>) -> Result<(), String> {
        let Parcel { kind, shard, content, descriptors } = parcel;
        let bytes = content.into_bytes().map_err(|error| error.to_string())?;
        match kind {
            PartKind::Broker => {
                let broker = self.broker.as_mut().ok_or("its broker was handed in")?;
                broker.put(&bytes).map_err(|error| error.to_string())
            }
            PartKind::Process => {
                self.process = record::from_bytes(&bytes).map_err(|error| error.to_string())?;
                Ok(())
            }
            PartKind::Shard => {
                let from = shard.ok_or("a shard without its number")?;
                let Tables::Taking(tables) = &mut self.tables else {
                    return Err("a shard after clients".to_owned());
                };
                tables.put(from, &bytes).map_err(|error| error.to_string())
            }
            PartKind::Clients => {
                let from = shard.ok_or("clients without a shard")?;
                self.deal(from, bytes, descriptors).await
            }
            PartKind::Http => self.take_http(shard, bytes, descriptors).await,
        }
    }

    /// HTTP connections of a shard, or those of the admin listener.
    async fn take_http(
        &mut self,
        shard: Option<u32>,
        bytes: Vec<u8>,
        sockets: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let part = Part { bytes, streams: sockets.into_iter().map(Into::into).collect() };
        match shard {
            Some(from) => {
                let to = from as usize % self.dealt.len();
                self.running.orders().ask(to, |answer| Order::TakeHttp(part, answer)).await?
            }
            None => self.running.take_admin(part),
        }
    }

    async fn deal(
        &mut self,
        from: u32,
        bytes: Vec<u8>,
        sockets: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let tables = self.tables.here()?;
        let to = if self.old_shards as usize == self.dealt.len() {
            from as usize
        } else {
            let least = self.dealt.iter().enumerate().min_by_key(|(_, count)| **count);
            least.map_or(0, |(shard, _)| shard)
        };
        *self.dealt.get_mut(to).ok_or("an unknown shard")? += sockets.len() as u64;
        let streams = sockets.into_iter().map(Into::into).collect();
        let clients = Taken { from, tables, part: Part { bytes, streams } };
        self.running.orders().ask(to, |answer| Order::Take(clients, answer)).await?
    }
}

impl Tables {
    /// All of them: there are no more.
    fn here(&mut self) -> Result<Arc<RestoredTables>, String> {
        match self {
            Self::Here(tables) => Ok(tables.clone()),
            Self::Taking(taking) => {
                let tables = std::mem::take(taking).finish().map_err(|error| error.to_string())?;
                let tables = Arc::new(tables);
                *self = Self::Here(tables.clone());
                Ok(tables)
            }
        }
    }
}

/// The old process' listeners, sorted.
struct PassedOn {
    predecessor: Predecessor,
    listeners: Vec<NamedListener>,
    control: Option<(OwnedFd, SocketFileRecord)>,
}

impl PredecessorRecord {
    /// Brings the listeners and their descriptors together.
    ///
    /// # Errors
    /// When their numbers differ: a sentence's end, in lower case.
    fn passed_on(self, descriptors: Vec<OwnedFd>) -> Result<PassedOn, String> {
        if self.listeners.len() != descriptors.len() {
            let (said, came) = (self.listeners.len(), descriptors.len());
            return Err(format!("{said} listeners with {came} sockets"));
        }
        let predecessor = Predecessor {
            clock_ms: self.clock_ms,
            files: Vec::new(),
            follows: self.may_stay && !self.has_redis,
        };
        let mut passed = PassedOn { predecessor, listeners: Vec::new(), control: None };
        for (ListenerRecord { kind, file }, socket) in self.listeners.into_iter().zip(descriptors) {
            match (kind, file) {
                (ListenerKind::Control, Some(file)) => passed.control = Some((socket, file)),
                (kind, file) => {
                    let (name, socket) = (kind.name().to_owned(), Socket::from(socket));
                    let bound = socket.local_addr().ok();
                    let bound = bound.and_then(|bound| bound.as_pathname().map(Path::to_owned));
                    passed.predecessor.files.extend(bound.zip(file));
                    passed.listeners.push(NamedListener { name, socket });
                }
            }
        }
        Ok(passed)
    }
}
