//! Sockets that are handed in one by one: which listener each is, and which are left to bind.
//!
//! A socket takes the place of the listener that an option names by the same address. Where its
//! address does not tell, its name does: it then stands for all listeners of that kind. A socket
//! that is none of these, or does not listen, keeps the server from starting. Nothing is bound
//! here.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

use socket2::{SockAddr, Socket, Type};
use thiserror::Error;

use super::{
    parts::{Listeners, NamedListener},
    predecessor::Predecessor,
    unix_socket::UnixSocket,
};
use crate::config::Listening;

/// A socket that was handed in is no listener of this server.
#[derive(Debug, Error)]
pub enum BadSocket {
    /// It is not one that accepts connections.
    #[error("the socket `{0}` that was handed in does not listen: it has to be a stream's")]
    NotListening(String),
    /// No option names it, and its name is no listener's.
    #[error(
        "the socket `{name}` that was handed in listens on {address}, which no option names: add \
         --listen {address}, or name it `public`, `tls`, `admin` or `unix` (FileDescriptorName=)"
    )]
    Strange {
        /// The name under which it was handed in.
        name: String,
        /// Where it listens.
        address: String,
    },
    /// Its name says something else than the option that has its address.
    #[error("the socket `{name}` that was handed in listens on {address}, which {option} names")]
    Misnamed {
        /// The name under which it was handed in.
        name: String,
        /// Where it listens.
        address: String,
        /// The option that names this address.
        option: &'static str,
    },
    /// A Unix socket is named as one of TCP, or the other way round.
    #[error("the socket `{0}` that was handed in is of the wrong family: {1}")]
    WrongFamily(String, String),
    /// There is one admin listener at most.
    #[error("more than one socket was handed in for --admin-listen")]
    SeveralAdmins,
    /// The system does not let it be used.
    #[error("the socket `{0}` that was handed in cannot be used: {1}")]
    Unusable(String, #[source] io::Error),
}

/// The kinds of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Tls,
    Admin,
    Unix,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "public" => Self::Public,
            "tls" => Self::Tls,
            "admin" => Self::Admin,
            "unix" => Self::Unix,
            _ => return None,
        })
    }

    fn option(self) -> &'static str {
        match self {
            Self::Public | Self::Unix => "--listen",
            Self::Tls => "--tls-listen",
            Self::Admin => "--admin-listen",
        }
    }
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Port(SocketAddr),
    /// Every IPv6 address, and every IPv4 address by the same socket: systemd's usual form.
    BothPorts(SocketAddr),
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) | Self::BothPorts(address) => address.fmt(f),
            Self::File(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Place {
    /// None: the socket accepts no connections of a stream.
    fn of(socket: &Socket) -> io::Result<Option<Self>> {
        if socket.r#type()? != Type::STREAM || !listens(socket)? {
            return Ok(None);
        }
        let address = socket.local_addr()?;
        Ok(match address.as_socket() {
            Some(at) if at.ip().is_unspecified() && at.is_ipv6() && !socket.only_v6()? => {
                Some(Self::BothPorts(at))
            }
            Some(at) => Some(Self::Port(at)),
            None => file(&address).map(Self::File),
        })
    }

    /// Whether it is the address that an option names.
    fn is(&self, wanted: SocketAddr) -> bool {
        match self {
            Self::Port(at) => *at == wanted,
            Self::BothPorts(at) => at.port() == wanted.port() && wanted.ip().is_unspecified(),
            Self::File(_) => false,
        }
    }
}

/// The sockets by kind, and the listeners that are left to bind.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) listeners: Listeners,
    pub(super) unix: Vec<UnixSocket>,
    pub(super) left: Listening,
}

/// Finds the listener of each socket among those that are `wanted`. All sockets of a `predecessor`
/// are listeners: clients may wait in them. They take no other one's place.
pub(super) fn sort(
    named: Vec<NamedListener>,
    wanted: Listening,
    predecessor: Option<&Predecessor>,
) -> Result<Sorted, BadSocket> {
    let mut sorted = Sorted { left: wanted.clone(), ..Sorted::default() };
    for NamedListener { name, socket } in named {
        let place = match Place::of(&socket) {
            Ok(Some(place)) => place,
            Ok(None) => return Err(BadSocket::NotListening(name)),
            Err(error) => return Err(BadSocket::Unusable(name, error)),
        };
        let kind = match (kind_at(&wanted, &place), Kind::named(&name)) {
            (Some(kind), Some(told)) if kind != told => {
                let (address, option) = (place.to_string(), kind.option());
                return Err(BadSocket::Misnamed { name, address, option });
            }
            (Some(kind), _) => {
                forget_place(&mut sorted.left, &place);
                kind
            }
            (None, Some(kind)) if predecessor.is_some() => {
                forget_picked(&mut sorted.left, kind, &place);
                kind
            }
            (None, Some(kind)) => {
                forget_kind(&mut sorted.left, kind);
                kind
            }
            (None, None) => return Err(BadSocket::Strange { name, address: place.to_string() }),
        };
        sorted.take(kind, place, name, socket)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(predecessor) = predecessor {
        predecessor.give_files(&mut sorted.unix);
    }
    if sorted.has_public() {
        // Defaults are for a server that would have no listener.
        sorted.left.listen.retain(|listener| !listener.is_default);
    }
    Ok(sorted)
}

impl Sorted {
    fn take(
        &mut self,
        kind: Kind,
        place: Place,
        name: String,
        socket: Socket,
    ) -> Result<(), BadSocket> {
        match (kind, place) {
            (Kind::Unix, Place::File(path)) => {
                let adopted = UnixSocket::adopt(socket, path);
                let adopted = adopted.map_err(|error| BadSocket::Unusable(name, error))?;
                self.unix.push(adopted);
            }
            (Kind::Unix, place) | (_, place @ Place::File(_)) => {
                return Err(BadSocket::WrongFamily(name, place.to_string()));
            }
            (Kind::Public, _) => self.listeners.public.push(socket.into()),
            (Kind::Tls, _) => self.listeners.public_tls.push(socket.into()),
            (Kind::Admin, _) => {
                if self.listeners.admin.replace(socket.into()).is_some() {
                    return Err(BadSocket::SeveralAdmins);
                }
            }
        }
        Ok(())
    }

    fn has_public(&self) -> bool {
        self.listeners.has_public() || !self.unix.is_empty()
    }

    /// How many sockets were handed in.
    pub(super) fn count(&self) -> u64 {
        self.listeners.count() + self.unix.len() as u64
    }

    /// All listeners: those of the sockets, and those that are left.
    pub(super) fn all(&self) -> io::Result<Listening> {
        let mut all = self.listeners.listening()?;
        all.listen.extend(&self.left.listen);
        all.tls_listen.extend(&self.left.tls_listen);
        all.listen_unix = self.unix.iter().map(|socket| socket.path().to_owned()).collect();
        all.listen_unix.extend_from_slice(&self.left.listen_unix);
        all.admin_listen = all.admin_listen.or(self.left.admin_listen);
        Ok(all)
    }
}

/// The kind of the listener that is wanted at a place.
fn kind_at(wanted: &Listening, place: &Place) -> Option<Kind> {
    if let Place::File(path) = place {
        return wanted.listen_unix.contains(path).then_some(Kind::Unix);
    }
    let is_at = |wanted: &SocketAddr| place.is(*wanted);
    if wanted.listen.iter().any(|wanted| is_at(&wanted.addr)) {
        Some(Kind::Public)
    } else if wanted.tls_listen.iter().any(is_at) {
        Some(Kind::Tls)
    } else {
        wanted.admin_listen.as_ref().is_some_and(is_at).then_some(Kind::Admin)
    }
}

fn forget_place(left: &mut Listening, place: &Place) {
    left.listen.retain(|wanted| !place.is(wanted.addr));
    left.tls_listen.retain(|wanted| !place.is(*wanted));
    left.listen_unix.retain(|path| *place != Place::File(path.clone()));
    left.admin_listen = left.admin_listen.filter(|wanted| !place.is(*wanted));
}

/// A port that the system has picked is not picked once more.
fn forget_picked(left: &mut Listening, kind: Kind, place: &Place) {
    let (Place::Port(at) | Place::BothPorts(at)) = place else { return };
    let is_left = |wanted: SocketAddr| wanted.port() != 0 || wanted.ip() != at.ip();
    match kind {
        Kind::Public => left.listen.retain(|wanted| is_left(wanted.addr)),
        Kind::Tls => left.tls_listen.retain(|wanted| is_left(*wanted)),
        Kind::Admin => left.admin_listen = left.admin_listen.filter(|wanted| is_left(*wanted)),
        Kind::Unix => {}
    }
}

fn forget_kind(left: &mut Listening, kind: Kind) {
    match kind {
        Kind::Public => left.listen.clear(),
        Kind::Tls => left.tls_listen.clear(),
        Kind::Admin => left.admin_listen = None,
        Kind::Unix => left.listen_unix.clear(),
    }
}

#[cfg(target_os = "linux")]
fn listens(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Not every system tells; there `accept` does.
#[cfg(not(target_os = "linux"))]
fn listens(_socket: &Socket) -> io::Result<bool> {
    Ok(true)
}

/// The path of a Unix socket.
#[cfg(unix)]
fn file(address: &SockAddr) -> Option<PathBuf> {
    address.as_pathname().map(PathBuf::from)
}

#[cfg(not(unix))]
fn file(_address: &SockAddr) -> Option<PathBuf> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
