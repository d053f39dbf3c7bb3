//! Parts of a server that a caller may hand in: listening sockets and a broker.
//!
//! By default these are made as the settings say. An embedding program, a test, or a process that
//! takes over from an older one hands in its own; these are checked before any thread starts.
//! Nothing here accepts or publishes.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use socket2::Socket;
use thiserror::Error;
use tracing::warn;

#[cfg(target_os = "linux")]
use super::successor::Program;
use super::{descriptors::open_now, predecessor::Predecessor};
use crate::{
    broker::{self, Sink},
    clock::Clock,
    config::{ListenAddr, Listening},
    service_manager::{Notifier, passed_sockets},
    shard::listener::{self, Entrance, ListenError, PublicListener, SPREADS, Transport},
};

/// Makes the broker of a process, which is to deliver to these sinks: one per shard, in order. The
/// clock is the server's.
pub type MakeBroker = Box<dyn FnOnce(Clock, Vec<Arc<dyn Sink>>) -> Arc<broker::Shared>>;

/// The parts that are handed in; by default there are none, and all are made as the settings say.
#[derive(Default)]
pub struct Parts {
    /// Listening sockets. Their addresses take the place of the settings'.
    pub listeners: Option<Listeners>,
    /// The broker: [`broker::Shared::handed_in`] makes one of the caller's own.
    pub broker: Option<MakeBroker>,
    /// Listening sockets for some of the listeners, each found by its address or its name; the
    /// others are bound as the settings say. Not beside `listeners`.
    pub passed: Vec<NamedListener>,
    /// The old process that `passed` is from, if one is taken over.
    pub predecessor: Option<Predecessor>,
    /// The service manager that has started the process; by default there is none.
    pub service_manager: Notifier,
    /// How many descriptors were open before the server opened any, as [`Parts::from_env`] has it:
    /// those of the parent process. For a server that takes over.
    pub open_at_start: Option<u64>,
    /// The program of the process, for an upgrade in place; without it none can be asked for.
    #[cfg(target_os = "linux")]
    pub program: Option<Program>,
}

/// A listening socket, wherever it comes from.
#[derive(Debug)]
pub struct NamedListener {
    /// `public`, `tls`, `admin` or `unix` say which listener it is where its address does not; any
    /// other name says nothing.
    pub name: String,
    /// The socket, of TCP or Unix.
    pub socket: Socket,
}

impl Parts {
    /// The parts that the process's environment hands in. To be called once.
    ///
    /// # Errors
    /// When the environment names sockets that are not there.
    pub fn from_env() -> Result<Self, BadListeners> {
        let open_at_start = open_now();
        let service_manager = Notifier::from_env().unwrap_or_else(|error| {
            warn!(%error, "NOTIFY_SOCKET cannot be used: no service manager is told anything");
            Notifier::default()
        });
        let passed = passed_sockets().map_err(BadListeners::Environment)?;
        let passed = passed.into_iter().map(|(name, socket)| NamedListener { name, socket });
        Ok(Self {
            service_manager,
            passed: passed.collect(),
            open_at_start: Some(open_at_start),
            #[cfg(target_os = "linux")]
            program: own_program(),
            ..Self::default()
        })
    }
}

impl Parts {
    /// Descriptors that this process has opened itself, but for listeners. One that takes over has
    /// a runtime already, and the way to the old process.
    pub(super) fn own_descriptors(&self) -> u64 {
        match (&self.predecessor, self.open_at_start) {
            (Some(_), Some(then)) => open_now().saturating_sub(then + self.passed.len() as u64),
            _ => self.service_manager.descriptors(),
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_broker = self.broker.is_some();
        f.debug_struct("Parts")
            .field("listeners", &self.listeners)
            .field("broker", &has_broker)
            .field("passed", &self.passed)
            .field("predecessor", &self.predecessor)
            .field("service_manager", &self.service_manager)
            .finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn own_program() -> Option<Program> {
    let own = Program::of_this_process(std::env::args_os());
    own.inspect_err(|error| warn!(%error, "the file of the own program is not known")).ok()
}

/// Listening sockets, wherever they come from.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients, in any order. Where the system spreads connections over sockets of one port
    /// ([`SPREADS`]) and an address has at least as many as there are shards, each shard accepts
    /// from its part of them. From fewer one thread accepts for all shards.
    pub public: Vec<TcpListener>,
    /// The same for clients that speak TLS; the settings have the certificates.
    pub public_tls: Vec<TcpListener>,
    /// For the admin routes.
    pub admin: Option<TcpListener>,
}

/// Listeners that were handed in can't be served.
#[derive(Debug, Error)]
pub enum BadListeners {
    /// Some are for clients that speak TLS, and there are no certificates.
    #[error("sockets for TLS were handed in, and there is no --tls-cert")]
    NoCertificates,
    /// None of them is for clients.
    #[error("no socket for clients was handed in")]
    None,
    /// The environment names sockets that are not there.
    #[error("LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES do not fit each other: {0}")]
    Environment(#[source] io::Error),
    /// The system does not let one be used.
    #[error("a socket that was handed in cannot be used: {0}")]
    Unusable(#[from] io::Error),
}

impl Listeners {
    /// Takes the ports that are `wanted`, for so many shards.
    ///
    /// # Errors
    /// When a port is taken, or an address does not exist here.
    pub fn bind(wanted: &Listening, shards: usize) -> Result<Self, ListenError> {
        let mut public = Vec::new();
        for listen in &wanted.listen {
            match listener::bind(listen.addr, shards, "--listen") {
                Err(error @ ListenError::NoSuchAddress(..)) if listen.is_default => {
                    warn!(%error, "default address skipped");
                }
                bound => public.extend(bound?),
            }
        }
        let mut public_tls = Vec::new();
        for address in &wanted.tls_listen {
            public_tls.extend(listener::bind(*address, shards, "--tls-listen")?);
        }
        let admin = match wanted.admin_listen {
            Some(address) => listener::bind(address, 1, "--admin-listen")?.pop(),
            None => None,
        };
        Ok(Self { public, public_tls, admin })
    }

    /// Whether one of them is for clients.
    pub(super) fn has_public(&self) -> bool {
        !(self.public.is_empty() && self.public_tls.is_empty())
    }

    /// Sets up sockets that another process has bound like those that are bound here.
    pub(super) fn adopt(&self) -> io::Result<()> {
        self.public.iter().chain(&self.public_tls).chain(&self.admin).try_for_each(listener::adopt)
    }

    /// These and `others`.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.public.extend(others.public);
        self.public_tls.extend(others.public_tls);
        Self { admin: self.admin.or(others.admin), ..self }
    }

    /// Their addresses, and the admin listener's.
    pub(super) fn listening(&self) -> io::Result<Listening> {
        let [plain, tls] = self.addresses_by_transport()?;
        let named = |addr| ListenAddr { addr, is_default: false };
        Ok(Listening {
            listen: plain.into_iter().map(named).collect(),
            tls_listen: tls,
            listen_unix: Vec::new(),
            admin_listen: self.admin_address()?,
        })
    }

    fn admin_address(&self) -> io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// The addresses of the plain ones, and those of the ones by TLS.
    fn addresses_by_transport(&self) -> io::Result<[Vec<SocketAddr>; 2]> {
        let bound = self.addresses()?;
        Ok([Transport::Plain, Transport::Tls].map(|transport| {
            let of_it = bound.iter().filter(|bound| bound.transport == transport);
            of_it.map(|bound| bound.address).collect()
        }))
    }

    /// How many sockets these are.
    pub(super) fn count(&self) -> u64 {
        (self.public.len() + self.public_tls.len() + usize::from(self.admin.is_some())) as u64
    }

    /// The public sockets by their addresses, as numbers in the list of all of them, those for TLS
    /// last; in the order given.
    fn addresses(&self) -> io::Result<Vec<Bound>> {
        let plain = self.public.iter().map(|socket| (socket, Transport::Plain));
        let tls = self.public_tls.iter().map(|socket| (socket, Transport::Tls));
        let mut addresses: Vec<Bound> = Vec::new();
        for (number, (socket, transport)) in plain.chain(tls).enumerate() {
            let address = socket.local_addr()?;
            let is_it =
                |known: &&mut Bound| known.address == address && known.transport == transport;
            match addresses.iter_mut().find(is_it) {
                Some(known) => known.sockets.push(number),
                None => addresses.push(Bound { address, transport, sockets: vec![number] }),
            }
        }
        Ok(addresses)
    }

    /// Divides the sockets of each address among the shards; those of an address that has too few
    /// are for one thread, which gives each connection to the shard that holds least.
    pub(super) fn per_shard(self, shards: usize) -> io::Result<PerShard> {
        let bound = self.addresses()?;
        let all = self.public.into_iter().chain(self.public_tls);
        let mut all: Vec<_> = all.map(Some).collect();
        let mut by_shard: Vec<Vec<PublicListener>> = (0..shards).map(|_| Vec::new()).collect();
        let mut accepted_here = Vec::new();
        for (listener, Bound { transport, sockets, .. }) in bound.iter().enumerate() {
            let entrance = Entrance { listener, transport: *transport };
            let own = sockets.iter().filter_map(|number| {
                Some(PublicListener { socket: all[*number].take()?, entrance })
            });
            if SPREADS && sockets.len() >= shards {
                own.enumerate().for_each(|(n, socket)| by_shard[n % shards].push(socket));
            } else {
                accepted_here.extend(own);
            }
        }
        let addresses = bound.iter().map(|bound| (bound.address, bound.transport)).collect();
        Ok(PerShard { by_shard, accepted_here, addresses, admin: self.admin })
    }
}

/// An address with its sockets, as numbers.
struct Bound {
    address: SocketAddr,
    transport: Transport,
    sockets: Vec<usize>,
}

/// Sockets, grouped by the thread that accepts from them.
pub(super) struct PerShard {
    /// One list per shard; where one thread accepts for all, they are all in `accepted_here`.
    pub(super) by_shard: Vec<Vec<PublicListener>>,
    pub(super) accepted_here: Vec<PublicListener>,
    /// The addresses that clients connect to, and the protocol of each.
    pub(super) addresses: Vec<(SocketAddr, Transport)>,
    pub(super) admin: Option<TcpListener>,
}
