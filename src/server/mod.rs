//! Bind and run: the shards, the broker, the admin listener, the shutdown's sequence.
//!
//! [`Server::bind`] takes every port before any thread starts, so that a taken one is a clear
//! error, and [`Server::of`] takes sockets and a broker from the caller; [`Server::run`] starts the
//! shards, drives the drain on the calling thread (the control thread) and returns how it ended.
//! Signals come in through a channel. The broker outlives the last connection.

mod acceptor;
mod certificates;
mod coordinator;
mod death;
mod descriptors;
mod exit;
mod notice;
mod parts;
mod passed;
mod presence;
mod process;
mod ready;
mod reload;
mod rights;
mod secret_files;
mod settings;
mod shard_watch;
pub mod signals;
mod stand_in;
mod start_error;
mod supervision;
mod unix_socket;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, thread};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    admission::AddressLimits,
    broker::{self, HandleOwner, Reach, Sink},
    clock::Clock,
    config::Config,
    drain::Control,
    http,
    hub::Budget,
    limits::{BROKER_EXIT_WAIT, FORCED_EXIT_DEADLINE},
    metrics::{Placed, ShardMetrics},
    service_manager::Notifier,
    shard::{
        self, Setup,
        listener::{Entrance, PublicListener, Transport},
        mailbox::{Mail, Mailbox},
        placement::Placement,
    },
    tls::ServerConfig,
    token::Verifier,
};
use certificates::Certificates;
use coordinator::{Coordinator, Inputs};
use death::Death;
pub use descriptors::TooFew;
use exit::End;
pub use exit::Exit;
use parts::PerShard;
pub use parts::{BadListeners, Listeners, MakeBroker, NamedListener, Parts};
pub use passed::BadSocket;
use passed::Sorted;
use process::Process;
use reload::Reloads;
use shard_watch::ShardWatch;
use signals::Signals;
pub use start_error::StartError;
use supervision::{Milestones, Supervised};
pub use unix_socket::UnixListenError;
use unix_socket::UnixSocket;

/// A server whose ports are taken and whose threads are not yet started.
pub struct Server {
    config: Config,
    listeners: PerShard,
    /// Their files are there as long as the server.
    unix: Vec<UnixSocket>,
    mailboxes: Vec<Arc<Mailbox>>,
    placement: Arc<Placement>,
    process: Arc<Process>,
    /// The settings of TLS, if there are certificates.
    tls: Option<Arc<ServerConfig>>,
    /// Some listeners were bound by others, in whatever way.
    has_given: bool,
    service_manager: Arc<Notifier>,
}

impl Server {
    /// Takes all ports, raises the descriptor limit, prepares the broker.
    ///
    /// # Errors
    /// When a port is taken, an address does not exist, or the Redis URL can't work.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::of(config, Parts::default())
    }

    /// Like [`Server::bind`], but with the sockets and the broker of `parts`; those that were not
    /// handed in are made as the settings say.
    ///
    /// # Errors
    /// Also when the sockets that are handed in do not fit the settings.
    pub fn of(mut config: Config, parts: Parts) -> Result<Self, StartError> {
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
        let given = match parts.listeners {
            Some(listeners) if !listeners.has_public() => return Err(BadListeners::None.into()),
            Some(listeners) => Sorted { listeners, ..Sorted::default() },
            None => passed::sort(parts.passed, config.listening())?,
        };
        given.listeners.adopt().map_err(BadListeners::from)?;
        config = config.listening_on(given.all().map_err(BadListeners::from)?)?;
        if !config.tls_listen.is_empty() && config.certificates.is_none() {
            return Err(BadListeners::NoCertificates.into());
        }
        // Before the others are bound, or these would lack descriptors first.
        let shares =
            descriptors::share_out(&config, given.count(), parts.service_manager.descriptors())?;
        let has_given = given.count() > 0;
        let bound = Listeners::bind(&given.left, config.threads)?;
        let listeners = given.listeners.and(bound).per_shard(config.threads)?;
        let mut unix = given.unix;
        for path in &given.left.listen_unix {
            unix.push(UnixSocket::bind(path)?);
        }
        if listeners.addresses.is_empty() && unix.is_empty() {
            return Err(StartError::NoAddress);
        }
        let clock = Clock::start();
        let mailboxes: Vec<_> =
            (0..config.threads).map(|_| Arc::new(Mailbox::new(clock))).collect();
        let sinks: Vec<_> =
            mailboxes.iter().map(|mailbox| mailbox.clone() as Arc<dyn Sink>).collect();
        let verifier = Arc::new(Verifier::new(clock, &config.tokens)?);
        let process = Arc::new(Process {
            clock,
            shards: (0..config.threads).map(|_| Arc::new(ShardMetrics::default())).collect(),
            control: Arc::new(Control::default()),
            sinks: sinks.clone().into(),
            broker: match parts.broker {
                Some(make) => make(clock, sinks),
                None => broker::Shared::new(clock, settings::broker(&config, &verifier), sinks)?,
            },
            budget: Arc::new(Budget::new(config.backlog_total_bytes)),
            address_limits: Arc::new(AddressLimits::new(config.address_limits.clone())),
            audience: Arc::default(),
            verifier,
            api_tokens: settings::api_tokens(&config.api_tokens).into(),
            shares,
            raw_counted: process::RawCounted::default(),
            certificates: config.certificates.clone().map(Certificates::new).map(Arc::new),
        });
        let placement = Arc::new(Placement::new(&process.shards, shares.shard.connections_max()));
        let tls = config.certificates.as_ref().map(|store| store.server_config());
        let service_manager = Arc::new(parts.service_manager);
        Ok(Self {
            config,
            listeners,
            unix,
            mailboxes,
            placement,
            process,
            tls,
            has_given,
            service_manager,
        })
    }

    /// Where clients can connect, those that speak TLS last.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        by_transport(&self.listeners.addresses).concat()
    }

    /// A way to run something on a shard's thread: how tests break one.
    pub fn caller(&self, shard: usize) -> impl Fn(Box<dyn FnOnce() + Send>) + Send + use<> {
        let mailbox = self.mailboxes[shard].clone();
        move |call| mailbox.post(Mail::Call(call))
    }

    /// Serves until drained. Signals of the operating system are the caller's to give:
    /// [`Server::run_with_os_signals`] does.
    ///
    /// # Errors
    /// When a thread or a runtime can't be had.
    pub fn run(self, signals: Signals) -> Result<Exit, StartError> {
        self.run_on_control_thread(|_| Ok(signals))
    }

    /// Serves until SIGTERM, SIGINT or a console event has drained it.
    ///
    /// # Errors
    /// When a thread, a runtime or a signal handler can't be had.
    pub fn run_with_os_signals(self) -> Result<Exit, StartError> {
        self.run_on_control_thread(signals::from_os)
    }

    fn run_on_control_thread(
        self,
        signals: impl FnOnce(Clock) -> io::Result<Signals>,
    ) -> Result<Exit, StartError> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let exit = runtime.block_on(async move {
            let signals = signals(self.process.clock)?;
            self.serve(signals).await
        });
        // A task that does not end must not hold up the exit.
        runtime.shutdown_background();
        exit
    }

    async fn serve(mut self, signals: Signals) -> Result<Exit, StartError> {
        let (deaths, deaths_seen) = mpsc::channel(self.config.threads);
        let (ended, mut ends) = mpsc::channel(self.config.threads);
        let duplicates = stand_in::duplicates(&self.listeners.by_shard)?;
        for index in 0..self.config.threads {
            self.start_shard(index, deaths.clone(), ended.clone())?;
        }
        drop(ended);
        let reloads = self.process.reloads(&self.config);
        let milestones = Rc::new(Milestones::default());
        if self.service_manager.has_manager() {
            let supervised = self.supervised(milestones.clone(), reloads.clone());
            tokio::task::spawn_local(supervision::run(supervised));
        }
        let broker = broker::connect(self.process.broker.clone(), HandleOwner::Control).await;
        self.start_control_tasks(&broker)?;
        if !duplicates.is_empty() {
            let (placement, control) = (self.placement.clone(), self.process.control.clone());
            let watch = stand_in::watch(duplicates, placement, control, self.process.clock);
            tokio::task::spawn_local(watch);
        }
        ready::say(&self, milestones.clone());

        let (clock, control) = (self.process.clock, self.process.control.clone());
        let drain = self.config.drain;
        let shards = ShardWatch::new(&self.process.shards);
        let inputs = Inputs { signals, deaths: deaths_seen, reloads, shards, milestones };
        let mut coordinator = Coordinator::new(clock, control, drain, inputs);
        let end = coordinator.run().await;
        if end == End::AtOnce {
            return Ok(Exit::CutOff);
        }
        let all_ended = async { while ends.recv().await.is_some() {} };
        let in_time = tokio::select! {
            in_time = timeout(FORCED_EXIT_DEADLINE, all_ended) => in_time.is_ok(),
            () = coordinator.third_signal() => return Ok(Exit::CutOff),
        };
        let _ = timeout(BROKER_EXIT_WAIT, broker.close()).await;
        let end = if coordinator.has_seen_death() { End::ShardDied } else { end };
        Ok(end.exit(in_time, self.process.control.barrier.cut_off()))
    }

    fn supervised(&self, milestones: Rc<Milestones>, reloads: Reloads) -> Supervised {
        Supervised {
            notifier: self.service_manager.clone(),
            milestones,
            clock: self.process.clock,
            control: self.process.control.clone(),
            health: self.process.broker.health(),
            placement: self.placement.clone(),
            shards: self.config.threads,
            reloads,
        }
    }

    fn start_shard(
        &mut self,
        index: usize,
        deaths: mpsc::Sender<Death>,
        ended: mpsc::Sender<()>,
    ) -> io::Result<()> {
        let process = self.process.clone();
        let listeners = self.listeners.addresses.len() + self.unix.len();
        let setup = Setup {
            clock: process.clock,
            index,
            shards: self.config.threads,
            listeners: std::mem::take(&mut self.listeners.by_shard[index]),
            mailbox: self.mailboxes[index].clone(),
            placement: self.placement.clone(),
            broker: process.broker.clone(),
            sinks: process.sinks.clone(),
            control: process.control.clone(),
            metrics: process.shards[index].clone(),
            budget: process.budget.clone(),
            address_limits: process.address_limits.clone(),
            audience: process.audience.clone(),
            tls: self.tls.clone(),
            verifier: process.verifier.clone(),
            settings: settings::shard(&self.config, listeners, process.shares, &process.api_tokens),
            sources: Arc::new(move || process.sources()),
        };
        thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
            // Dropped no matter how this thread ends.
            let _ended = ended;
            death::watch_this_thread(index, deaths.clone());
            if let Err(error) = shard::run(setup) {
                let cause = error.to_string();
                // Full: the control thread knows of a death already.
                let _ = deaths.try_send(Death { shard: index, cause });
            }
        })?;
        Ok(())
    }

    fn start_control_tasks(&mut self, broker: &Rc<dyn broker::Broker>) -> io::Result<()> {
        if let Some(interval) = self.config.notify.interval {
            let metrics = self.process.shards[0].clone();
            let (clock, text) = (self.process.clock, self.config.notify.text.clone());
            tokio::task::spawn_local(notice::run(clock, broker.clone(), metrics, interval, text));
        }
        if self.process.broker.health().reach() != Reach::Embedded {
            let control = self.process.control.clone();
            tokio::task::spawn_local(presence::run(broker.clone(), control));
        }
        if let Some(admin) = self.listeners.admin.take() {
            info!("admin listening on {}", admin.local_addr()?);
            let listener = tokio::net::TcpListener::from_std(admin)?;
            let context = Rc::new(self.process.admin_context(&self.config, broker.clone()));
            let counted = self.process.shards[0].clone();
            let room = self.process.shares.admin;
            let places = http::Places::new(self.process.clock, room, 1, counted);
            tokio::task::spawn_local(acceptor::serve_admin(listener, places, context));
        }
        if let Some(certificates) = &self.process.certificates {
            certificates.warn_of_ends(self.process.clock.unix_time());
            tokio::task::spawn_local(certificates.clone().watch(self.process.clock));
        }
        for PublicListener { socket, entrance } in self.listeners.accepted_here.drain(..) {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::task::spawn_local(acceptor::hand_out(
                listener,
                entrance,
                self.placement.clone(),
                Placed::Acceptor,
                self.process.clock,
            ));
        }
        for (socket, listener) in self.unix.iter().zip(self.listeners.addresses.len()..) {
            let (placement, clock) = (self.placement.clone(), self.process.clock);
            let entrance = Entrance { listener, transport: Transport::Plain };
            let accepting = acceptor::hand_out_unix(socket.watched()?, entrance, placement, clock);
            tokio::task::spawn_local(accepting);
        }
        Ok(())
    }
}

/// The addresses of plain listeners, and those by TLS.
fn by_transport(addresses: &[(SocketAddr, Transport)]) -> [Vec<SocketAddr>; 2] {
    [Transport::Plain, Transport::Tls].map(|wanted| {
        let of_it = addresses.iter().filter(|(_, transport)| *transport == wanted);
        of_it.map(|(address, _)| *address).collect()
    })
}
