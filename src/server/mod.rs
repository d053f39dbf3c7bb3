//! Bind and run: the shards, the broker, the admin listener, the shutdown's sequence.
//!
//! [`Server::bind`] takes every port before any thread starts, so that a taken one is a clear
//! error, and [`Server::of`] takes sockets and a broker from the caller; [`Server::run`] starts the
//! shards, drives the drain on the calling thread (the control thread) and returns how it ended.
//! Signals come in through a channel. The broker outlives the last connection.

mod acceptor;
mod certificates;
#[cfg(target_os = "linux")]
mod control_door;
#[cfg(target_os = "linux")]
mod control_sockets;
mod coordinator;
mod death;
mod descriptors;
mod exit;
#[cfg(target_os = "linux")]
mod follow_record;
#[cfg(target_os = "linux")]
mod followed;
#[cfg(target_os = "linux")]
mod following;
#[cfg(target_os = "linux")]
mod giving;
mod notice;
#[cfg(target_os = "linux")]
mod obstacles;
mod orders;
mod parts;
mod passed;
mod predecessor;
mod presence;
mod process;
#[cfg(target_os = "linux")]
mod process_record;
mod ready;
mod reload;
mod rights;
mod running;
mod secret_files;
mod settings;
mod shard_watch;
pub mod signals;
mod stand_in;
mod start_error;
#[cfg(target_os = "linux")]
mod successor;
mod supervision;
#[cfg(target_os = "linux")]
mod taking;
mod unix_socket;
mod upgrade_signal;
#[cfg(target_os = "linux")]
mod upgrades;
#[cfg_attr(not(target_os = "linux"), path = "no_upgrading.rs")]
mod upgrading;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::runtime::{Builder, LocalOptions};
use tracing::warn;

use crate::{
    admission::AddressLimits,
    broker::{self, Sink},
    clock::Clock,
    config::Config,
    drain::Control,
    hub::Budget,
    metrics::ShardMetrics,
    service_manager::Notifier,
    shard::{
        listener::Transport,
        mailbox::{Mail, Mailbox},
        placement::Placement,
    },
    tls::ServerConfig,
    token::Verifier,
};
use certificates::Certificates;
pub use descriptors::TooFew;
use exit::End;
pub use exit::Exit;
#[cfg(target_os = "linux")]
use followed::Followed;
use parts::PerShard;
pub use parts::{BadListeners, Listeners, MakeBroker, NamedListener, Parts};
pub use passed::BadSocket;
use passed::Sorted;
pub use predecessor::Predecessor;
use process::Process;
use signals::Signals;
pub use start_error::StartError;
#[cfg(target_os = "linux")]
pub use successor::Program;
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
    /// The program that a new process runs.
    #[cfg(target_os = "linux")]
    program: Option<Program>,
    /// A replaced process that still has clients.
    #[cfg(target_os = "linux")]
    followed: Option<Arc<Followed>>,
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
        let own = parts.own_descriptors();
        let given = match parts.listeners {
            Some(listeners) if !listeners.has_public() => return Err(BadListeners::None.into()),
            Some(listeners) => Sorted { listeners, ..Sorted::default() },
            None => passed::sort(parts.passed, config.listening(), parts.predecessor.as_ref())?,
        };
        given.listeners.adopt().map_err(BadListeners::from)?;
        config = config.listening_on(given.all().map_err(BadListeners::from)?)?;
        if !config.tls_listen.is_empty() && config.certificates.is_none() {
            return Err(BadListeners::NoCertificates.into());
        }
        // Before the others are bound, or these would lack descriptors first.
        let shares = descriptors::share_out(&config, given.count(), own)?;
        let has_given = given.count() > 0;
        let bound = Listeners::bind(&given.left, config.threads)?;
        let listeners = given.listeners.and(bound).per_shard(config.threads)?;
        let mut unix = given.unix;
        unix.extend(UnixSocket::bind_all(&given.left.listen_unix)?);
        if listeners.addresses.is_empty() && unix.is_empty() {
            return Err(StartError::NoAddress);
        }
        let clock = clock_after(parts.predecessor.as_ref());
        let mailboxes: Vec<_> =
            (0..config.threads).map(|_| Arc::new(Mailbox::new(clock))).collect();
        #[cfg(target_os = "linux")]
        let followed = Followed::of(parts.predecessor.as_ref());
        let sinks = mailboxes.iter().map(|mailbox| mailbox.clone() as Arc<dyn Sink>);
        #[cfg(target_os = "linux")]
        let sinks = sinks.chain(followed.iter().map(|old| old.clone() as Arc<dyn Sink>));
        let sinks: Vec<_> = sinks.collect();
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
            upgrades: Arc::default(),
            certificates: config.certificates.clone().map(Certificates::new).map(Arc::new),
        });
        let connections_max = shares.shard.connections_max();
        Ok(Self {
            listeners,
            unix,
            mailboxes,
            placement: Arc::new(Placement::new(&process.shards, connections_max)),
            process,
            tls: config.certificates.as_ref().map(|store| store.server_config()),
            config,
            has_given,
            service_manager: Arc::new(parts.service_manager),
            #[cfg(target_os = "linux")]
            program: parts.program,
            #[cfg(target_os = "linux")]
            followed,
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
        on_control_thread(async move {
            let control_socket = self.control_socket()?;
            let signals = signals(self.process.clock)?;
            let running = self.start(running::Start::AtOnce).await?;
            running.serve(signals, control_socket).await
        })
    }

    /// Before any thread starts, so that a taken path is a clear error.
    fn control_socket(&self) -> Result<Option<upgrading::ControlSocket>, StartError> {
        self.config.control_socket.as_deref().map(upgrading::listen).transpose()
    }

    /// Takes over from the process that listens at the control socket `path`, as the settings say
    /// otherwise, then serves until drained.
    ///
    /// # Errors
    /// Also when the old process goes on: it refuses, or this one could not take its place.
    #[cfg(target_os = "linux")]
    pub fn take_over(config: Config, parts: Parts, path: &Path) -> Result<Exit, StartError> {
        on_control_thread(async move {
            let failed = |failure| StartError::TakeOver { path: path.to_owned(), failure };
            let taken = taking::take_over(config, parts, path, signals::from_os).await;
            let taken = taken.map_err(failed)?;
            taken.running.serve(taken.signals, taken.control).await
        })
    }

    /// Takes over from another process; not on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn take_over(_config: Config, _parts: Parts, _path: &Path) -> Result<Exit, StartError> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }
}

/// The clock of a server, which continues that of the old process.
fn clock_after(old: Option<&Predecessor>) -> Clock {
    old.map_or_else(Clock::start, |old| Clock::started_before(Duration::from_millis(old.clock_ms)))
}

/// Runs the control thread's part on the calling thread.
fn on_control_thread(
    part: impl Future<Output = Result<Exit, StartError>>,
) -> Result<Exit, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let exit = runtime.block_on(part);
    // A task that does not end must not hold up the exit.
    runtime.shutdown_background();
    exit
}

/// The addresses of plain listeners, and those by TLS.
fn by_transport(addresses: &[(SocketAddr, Transport)]) -> [Vec<SocketAddr>; 2] {
    [Transport::Plain, Transport::Tls].map(|wanted| {
        let of_it = addresses.iter().filter(|(_, transport)| *transport == wanted);
        of_it.map(|(address, _)| *address).collect()
    })
}
