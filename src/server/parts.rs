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

use thiserror::Error;
use tracing::warn;

use crate::{
    broker::{self, Sink},
    clock::Clock,
    config::Config,
    service_manager::Notifier,
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
    /// The service manager that has started the process; by default there is none.
    pub service_manager: Notifier,
}

impl Parts {
    /// The parts that the process's environment hands in.
    #[must_use]
    pub fn from_env() -> Self {
        let service_manager = Notifier::from_env().unwrap_or_else(|error| {
            warn!(%error, "NOTIFY_SOCKET cannot be used: no service manager is told anything");
            Notifier::default()
        });
        Self { service_manager, ..Self::default() }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_broker = self.broker.is_some();
        f.debug_struct("Parts")
            .field("listeners", &self.listeners)
            .field("broker", &has_broker)
            .field("service_manager", &self.service_manager)
            .finish()
    }
}

/// Listening sockets, wherever they come from.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For clients. Of each address there are as many as shards, and where the system does not
    /// spread connections over sockets of one port ([`SPREADS`]), one. In any order.
    pub public: Vec<TcpListener>,
    /// The same for clients that speak TLS; the settings have the certificates.
    pub public_tls: Vec<TcpListener>,
    /// For the admin routes.
    pub admin: Option<TcpListener>,
}

/// Listeners that were handed in can't be served.
#[derive(Debug, Error)]
pub enum BadListeners {
    /// Some shard would have none on this address, or some socket would have no shard.
    #[error(
        "{got} of the sockets handed in listen on {address}, and there have to be {wanted}: one \
         for each shard"
    )]
    Number {
        /// The address that they listen on.
        address: SocketAddr,
        /// How many they are.
        got: usize,
        /// How many they have to be.
        wanted: usize,
    },
    /// Some are for clients that speak TLS, and there are no certificates.
    #[error("sockets for TLS were handed in, and there is no --tls-cert")]
    NoCertificates,
    /// None of them is for clients.
    #[error("no socket for clients was handed in")]
    None,
    /// The system does not let one be used.
    #[error("a socket that was handed in cannot be used: {0}")]
    Unusable(#[from] io::Error),
}

impl Listeners {
    /// Takes the ports that `config` names.
    ///
    /// # Errors
    /// When a port is taken, or an address does not exist here.
    pub fn bind(config: &Config) -> Result<Self, ListenError> {
        let mut public = Vec::new();
        for listen in &config.listen {
            match listener::bind(listen.addr, config.threads, "--listen") {
                Err(error @ ListenError::NoSuchAddress(..)) if listen.is_default => {
                    warn!(%error, "default address skipped");
                }
                bound => public.extend(bound?),
            }
        }
        let mut public_tls = Vec::new();
        for address in &config.tls_listen {
            public_tls.extend(listener::bind(*address, config.threads, "--tls-listen")?);
        }
        let admin = match config.admin_listen {
            Some(address) => listener::bind(address, 1, "--admin-listen")?.pop(),
            None => None,
        };
        Ok(Self { public, public_tls, admin })
    }

    /// Sets up sockets that another process has bound like those that are bound here; returns
    /// their addresses, each with its protocol.
    pub(super) fn adopt(
        &self,
        shards: usize,
    ) -> Result<Vec<(SocketAddr, Transport)>, BadListeners> {
        for socket in self.public.iter().chain(&self.public_tls).chain(&self.admin) {
            listener::adopt(socket)?;
        }
        let addresses = self.addresses()?;
        if addresses.is_empty() {
            return Err(BadListeners::None);
        }
        let wanted = if SPREADS { shards } else { 1 };
        for Bound { address, sockets, .. } in &addresses {
            let got = sockets.len();
            if got != wanted {
                return Err(BadListeners::Number { address: *address, got, wanted });
            }
        }
        Ok(addresses.into_iter().map(|bound| (bound.address, bound.transport)).collect())
    }

    pub(super) fn admin_address(&self) -> Result<Option<SocketAddr>, BadListeners> {
        Ok(self.admin.as_ref().map(TcpListener::local_addr).transpose()?)
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

    /// Gives each shard one socket of each address.
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
            if SPREADS {
                by_shard.iter_mut().zip(own).for_each(|(shard, socket)| shard.push(socket));
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
