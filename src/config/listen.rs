//! The addresses of a server's listeners, and whether they can be reached from other machines.
//!
//! Default addresses are skipped where the machine lacks them, while named ones are required.
//! Whether other machines can connect decides which rights need a token.

use std::{net::SocketAddr, path::PathBuf};

use thiserror::Error;

use super::{address::address, args, checker::Checker, values::Expected};

/// The beginning of a listener that is a Unix socket.
pub(super) const UNIX: &str = "unix:";
/// The system's bound (`sun_path` without its end).
pub(super) const UNIX_PATH_BYTES_MAX: usize = 107;

/// The addresses when the operator names none.
pub(super) const LISTEN_DEFAULT: [&str; 2] = ["127.0.0.1:8000", "[::1]:8000"];

/// More of one kind would be a mistake.
const LISTENERS_MAX: usize = 64;

/// A public listener's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address; port 0 picks one.
    pub addr: SocketAddr,
    /// It was not asked for: skipped with a log line where the machine lacks the address.
    pub is_default: bool,
}

/// Strangers would reach a server that lets every client publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "everybody who reaches a listener off loopback could publish: set --api-token or a key for \
     tokens (clients then show one in the handshake), or allow anyone with --insecure-api"
)]
pub struct OpenToStrangers;

/// Whether all of these can be reached from this machine only.
pub(super) fn is_loopback_only(listen: &[ListenAddr], tls_listen: &[SocketAddr]) -> bool {
    let plain = listen.iter().map(|listener| &listener.addr);
    plain.chain(tls_listen).all(|addr| addr.ip().to_canonical().is_loopback())
}

/// The listeners of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Public ones.
    pub listen: Vec<ListenAddr>,
    /// Public ones by TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// Public ones that are Unix sockets.
    pub listen_unix: Vec<PathBuf>,
    /// The one for the admin routes.
    pub admin_listen: Option<SocketAddr>,
}

/// Checks all addresses, and that they leave each other room. Naming a public listener of any kind
/// replaces the default.
pub(super) fn check(checker: &mut Checker, typed: &args::ListenOptions) -> Listening {
    let mut taken = Taken(Vec::new());
    if typed.listen.is_empty() && typed.tls_listen.is_empty() {
        let parse = |text: &str| text.parse().expect("the default addresses are valid");
        taken.0.extend(LISTEN_DEFAULT.map(|text| (parse(text), "the default of --listen")));
    }
    let is_default = !taken.0.is_empty();
    let (unix, plain) = split(&typed.listen);
    let listen_unix = unix_paths(checker, &unix);
    taken.check(checker, "listen", "--listen", &plain);
    let listen = taken.0.iter().map(|(addr, _)| ListenAddr { addr: *addr, is_default }).collect();
    let plain = taken.0.len();
    taken.check(checker, "tls-listen", "--tls-listen", &typed.tls_listen);
    let tls_listen = taken.0[plain..].iter().map(|(addr, _)| *addr).collect();
    let public = taken.0.len();
    taken.check(checker, "admin-listen", "--admin-listen", typed.admin_listen.as_slice());
    let admin_listen = taken.0.get(public).map(|(addr, _)| *addr);
    Listening { listen, tls_listen, listen_unix, admin_listen }
}

/// Addresses, with the words for the option that named each.
struct Taken(Vec<(SocketAddr, &'static str)>);

impl Taken {
    fn check(&mut self, checker: &mut Checker, option: &str, from: &'static str, typed: &[String]) {
        for text in typed.iter().take(LISTENERS_MAX + 1) {
            match address(text) {
                Ok(addr) => match self.collision(addr) {
                    Some(why) => checker.refuse(option, text, why),
                    None => self.0.push((addr, from)),
                },
                Err(expected) => checker.refuse(option, text, expected),
            }
        }
        if typed.len() > LISTENERS_MAX {
            checker.refuse(option, typed.len(), format!("at most {LISTENERS_MAX} listeners"));
        }
    }

    /// The listener that leaves no room for `addr`, in words.
    fn collision(&self, addr: SocketAddr) -> Option<String> {
        let other = |(other, _): &&(SocketAddr, _)| {
            let (one, two) = (addr.ip(), other.ip());
            let covers = one == two || one.is_unspecified() || two.is_unspecified();
            addr.port() != 0
                && addr.port() == other.port()
                && one.is_ipv4() == two.is_ipv4()
                && covers
        };
        let (other, from) = self.0.iter().find(other)?;
        Some(if *other == addr {
            format!("is a public listener already, by {from}")
        } else {
            let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            let wide = if addr.ip().is_unspecified() { "it" } else { "that" };
            format!("collides with {other} ({from}): {wide} covers every {family} address")
        })
    }
}

/// Those that are Unix sockets, and the others.
fn split(typed: &[String]) -> (Vec<String>, Vec<String>) {
    typed.iter().cloned().partition(|text| text.starts_with(UNIX))
}

/// The paths of Unix sockets.
fn unix_paths(checker: &mut Checker, typed: &[String]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for text in typed {
        match unix_path(text) {
            Ok(path) if paths.contains(&path) => {
                checker.refuse("listen", text, "is a public listener already, by --listen");
            }
            Ok(path) => paths.push(path),
            Err(expected) => checker.refuse("listen", text, expected),
        }
    }
    paths
}

/// The path in `unix:PATH`.
pub(super) fn unix_path(text: &str) -> Result<PathBuf, Expected> {
    let path = text.strip_prefix(UNIX).unwrap_or_default();
    if !cfg!(unix) {
        Err("this system has no Unix sockets".to_owned())
    } else if is_socket_path(path) {
        Ok(path.into())
    } else {
        Err(format!("expected unix: and the path of a file, at most {UNIX_PATH_BYTES_MAX} bytes"))
    }
}

/// Whether a Unix socket can be there.
pub(super) fn is_socket_path(path: &str) -> bool {
    (1..=UNIX_PATH_BYTES_MAX).contains(&path.len()) && !path.contains('\0') && !path.ends_with('/')
}
