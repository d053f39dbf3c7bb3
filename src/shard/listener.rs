//! Listening sockets: bound once, before any thread starts, with a clear error for a taken port.
//!
//! On Unix every shard gets a socket of its own on the same port (SO_REUSEPORT) and the kernel
//! spreads the connections. Elsewhere one socket is bound and one acceptor gives connections to
//! the shards (server/). Nothing here accepts.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use crate::limits::KERNEL_UNSENT_BYTES_MAX;

/// Whether the system spreads connections over several sockets of one port.
pub const SPREADS: bool = cfg!(unix);

/// Connections that wait to be accepted, per socket; the system may allow fewer.
pub(crate) const ACCEPT_QUEUE_MAX: i32 = 4096;

/// The protocol below HTTP on the connections of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP alone.
    Plain,
    /// TLS.
    Tls,
}

/// The listener that a connection comes through, as all threads know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Its number among the public listeners of the process, from 0.
    pub listener: usize,
    /// The protocol of its connections.
    pub transport: Transport,
}

/// The names of the public listeners, by their numbers: how another process knows them.
#[derive(Debug, Default)]
pub struct Entrances(Box<[(Transport, String)]>);

impl Entrances {
    /// Of these addresses, in the order of their numbers.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = (Transport, String)>) -> Self {
        Self(all.into_iter().collect())
    }

    /// The name of a listener.
    pub(super) fn name(&self, listener: usize) -> &str {
        self.0.get(listener).map_or("", |(_, name)| name)
    }

    /// The number of a plain listener by its name; that of another one if there is none such.
    pub(super) fn plain(&self, name: &str) -> usize {
        let plain = || {
            let all = self.0.iter().enumerate();
            all.filter(|(_, (transport, _))| *transport == Transport::Plain)
        };
        let named = plain().find(|(_, (_, own))| own == name);
        named.or_else(|| plain().next()).map_or(0, |(number, _)| number)
    }
}

/// A listening socket for clients.
#[derive(Debug)]
pub struct PublicListener {
    /// The socket.
    pub socket: TcpListener,
    /// The listener that it belongs to.
    pub entrance: Entrance,
}

/// An accepted connection of which nothing was read.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, which does not block.
    pub stream: TcpStream,
    /// The listener that it has come through.
    pub entrance: Entrance,
}

/// An address can't be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another process, maybe another wsbcast, has the port.
    #[error("cannot listen on {0}: the port is taken by another process; choose one with {1}")]
    Taken(SocketAddr, ListenOption),
    /// The machine has no such address (or no IPv6).
    #[error("cannot listen on {0}: this machine has no such address; name one with {1}")]
    NoSuchAddress(SocketAddr, ListenOption),
    /// An address that every network interface has.
    #[error(
        "cannot listen on {0}: a link-local address needs the number of its interface, as in \
         [fe80::1%2]:8000 (see ip link); name it with {1}"
    )]
    NoInterface(SocketAddr, ListenOption),
    /// A port that only privileged processes may bind.
    #[error(
        "cannot listen on {0}: a port below 1024 needs the capability CAP_NET_BIND_SERVICE \
         (systemd: AmbientCapabilities=) or a lower net.ipv4.ip_unprivileged_port_start; or choose \
         another one with {1}"
    )]
    Forbidden(SocketAddr, ListenOption),
    /// Anything else.
    #[error("cannot listen on {0} (by {1}): {2}")]
    Other(SocketAddr, ListenOption, io::Error),
}

/// The option that names a listener.
pub type ListenOption = &'static str;

fn is_link_local(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Binds `count` sockets on `address`, which `option` names; port 0 picks one for all of them.
///
/// # Errors
/// When the port is taken, the address is not of this machine, or the system refuses.
pub fn bind(
    address: SocketAddr,
    count: usize,
    option: ListenOption,
) -> Result<Vec<TcpListener>, ListenError> {
    let named = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address, option),
        io::ErrorKind::InvalidInput if is_link_local(address) => {
            ListenError::NoInterface(address, option)
        }
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => {
            ListenError::NoSuchAddress(address, option)
        }
        io::ErrorKind::PermissionDenied if (1..1024).contains(&address.port()) => {
            ListenError::Forbidden(address, option)
        }
        _ if no_such_family(&error) => ListenError::NoSuchAddress(address, option),
        _ => ListenError::Other(address, option, error),
    };
    if SPREADS && address.port() != 0 {
        // With SO_REUSEPORT two servers of one user could share the port unnoticed.
        drop(open(address, false).map_err(named)?);
    }
    let first = open(address, SPREADS).map_err(named)?;
    let bound = first.local_addr().map_err(named)?;
    let mut listeners = vec![first];
    while SPREADS && listeners.len() < count {
        listeners.push(open(bound, true).map_err(named)?);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two addresses, on every system.
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    {
        // A restart must not wait for old connections; on Windows the option steals ports.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
    }
    #[cfg(not(unix))]
    let _ = share;
    make_ready(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(ACCEPT_QUEUE_MAX)?;
    Ok(socket.into())
}

/// Turns a socket that another process has bound into a listener like those that are bound here.
///
/// # Errors
/// When the system refuses that.
pub fn adopt(listener: &TcpListener) -> io::Result<()> {
    make_ready(&SockRef::from(listener))
}

fn make_ready(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Inherited by accepted connections.
    socket.set_tcp_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // Best effort, as in `bound_kernel_memory`.
    let _ = socket.set_tcp_notsent_lowat(KERNEL_UNSENT_BYTES_MAX);
    Ok(())
}

/// Stalled clients must not move their backlog into the kernel. Best effort: where the system lacks
/// the option, that costs memory, not correctness. On Linux it is inherited from the listener.
pub(super) fn bound_kernel_memory(stream: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = stream;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = SockRef::from(stream).set_send_buffer_size(KERNEL_UNSENT_BYTES_MAX as usize);
}

/// EAFNOSUPPORT has no `ErrorKind` of its own.
fn no_such_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = if cfg!(windows) {
        10_047
    } else if cfg!(target_os = "linux") {
        97
    } else {
        47
    };
    error.raw_os_error() == Some(EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn all_shards_listen_on_the_one_port_that_was_picked() {
        let listeners = bind(loopback(), 4, "--listen").unwrap();
        assert_eq!(listeners.len(), if SPREADS { 4 } else { 1 });
        let ports: std::collections::HashSet<_> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 1);
    }

    #[test]
    fn a_port_that_another_of_us_listens_on_is_taken() {
        let other = bind(loopback(), 2, "--listen").unwrap();
        let address = other[0].local_addr().unwrap();
        let error = bind(address, 2, "--listen").unwrap_err();
        assert!(matches!(error, ListenError::Taken(at, "--listen") if at == address), "{error}");
    }

    /// An accepted socket inherits the bound of unsent bytes and has no delay.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_accepted_socket_inherits_its_bounds() {
        let listener = bind(loopback(), 1, "--listen").unwrap().pop().unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), KERNEL_UNSENT_BYTES_MAX);
        assert!(socket.tcp_nodelay().unwrap());
    }

    #[test]
    fn a_foreign_address_is_named_as_such() {
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = bind(foreign, 1, "--admin-listen").unwrap_err();
        assert!(matches!(error, ListenError::NoSuchAddress(at, _) if at == foreign), "{error}");
        assert!(error.to_string().ends_with("name one with --admin-listen"), "{error}");
    }

    /// The error about a link-local address without its interface says what is missing.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_link_local_address_needs_its_interface() {
        let error = bind("[fe80::1]:0".parse().unwrap(), 1, "--listen").unwrap_err();
        assert!(error.to_string().contains("as in [fe80::1%2]:8000"), "{error}");
        assert!("[fe80::1%2]:8000".parse::<SocketAddr>().is_ok(), "what is shown can be given");
    }

    /// The error about a privileged port says so, and every error names its option.
    #[test]
    fn a_listen_error_names_its_option() {
        let low = SocketAddr::from(([0, 0, 0, 0], 80));
        let forbidden = ListenError::Forbidden(low, "--listen").to_string();
        for word in ["0.0.0.0:80", "CAP_NET_BIND_SERVICE", "--listen"] {
            assert!(forbidden.contains(word), "{forbidden}");
        }
        let other = ListenError::Other(low, "--admin-listen", io::ErrorKind::Other.into());
        assert!(other.to_string().contains("--admin-listen"), "{other}");
    }
}
