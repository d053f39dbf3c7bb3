//! `wsbcast health [URL]`: one blocking GET, for containers without curl.
//!
//! It knows just enough HTTP to read a status line. No runtime. A server that listens by TLS alone
//! is asked by TLS, and whatever certificate it shows is taken: it is on the same host, and clients
//! find out by themselves whether its name is right.

mod any_certificate;

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, Stream};
use thiserror::Error;

use crate::{
    clock::Clock,
    limits::HEALTH_CHECK_DEADLINE,
    peer::{ClientAddress, TrustedProxies, proxy_header::LOCAL_HEADER},
};

/// A listener of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `HOST:PORT`, or `unix:PATH`.
    pub address: String,
    /// Peers of whom it expects a PROXY header.
    pub announced: TrustedProxies,
    /// It speaks TLS.
    pub is_tls: bool,
}

/// Why the process does not count as healthy.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// No server answers.
    #[error("{0}: {1}")]
    Unreachable(String, io::Error),
    /// The answer is not HTTP.
    #[error("{0}: the answer is no HTTP")]
    NotHttp(String),
    /// The server answers that it is not healthy.
    #[error("{0}: status {1}")]
    Status(String, u16),
}

/// Requests `path` from the first of `targets` that can be reached, with `host` in the request.
///
/// # Errors
/// If the answer is no 2xx; the last target's error if none can be reached.
pub fn check(clock: Clock, targets: &[Target], host: &str, path: &str) -> Result<(), Unhealthy> {
    let no_target = || Unhealthy::Unreachable(host.to_owned(), io::ErrorKind::NotFound.into());
    let mut result = Err(no_target());
    for target in targets {
        result = match get(clock, target, host, path) {
            Ok(head) => return judge(&target.address, &head),
            Err(error) => Err(Unhealthy::Unreachable(target.address.clone(), error)),
        };
    }
    result
}

fn judge(target: &str, head: &[u8]) -> Result<(), Unhealthy> {
    match status(head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(Unhealthy::Status(target.to_owned(), status)),
        None => Err(Unhealthy::NotHttp(target.to_owned())),
    }
}

/// The first bytes of the answer: at least a status line, if it is HTTP.
fn get(clock: Clock, target: &Target, host: &str, path: &str) -> io::Result<Vec<u8>> {
    let (stream, seen_at) = connect(&target.address)?;
    let stream = &stream;
    stream.set_write_timeout(Some(HEALTH_CHECK_DEADLINE))?;
    stream.set_read_timeout(Some(HEALTH_CHECK_DEADLINE))?;
    if target.announced.trust(seen_at) {
        let mut bare = stream;
        bare.write_all(LOCAL_HEADER)?;
    }
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut plain = stream;
    if target.is_tls {
        let mut session = session().map_err(io::Error::other)?;
        let mut secure = Stream::new(&mut session, &mut plain);
        secure.write_all(request.as_bytes())?;
        return read_line(clock, &mut secure, stream);
    }
    plain.write_all(request.as_bytes())?;
    read_line(clock, &mut plain, stream)
}

fn session() -> Result<ClientConnection, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(any_certificate::AnyCertificate(provider)))
        .with_no_client_auth();
    let name = "localhost".try_into().expect("it is a name");
    ClientConnection::new(Arc::new(config), name)
}

/// A connection, and the address at which the server sees it.
fn connect(address: &str) -> io::Result<(TcpStream, ClientAddress)> {
    #[cfg(unix)]
    if let Some(path) = address.strip_prefix("unix:") {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        // It bounds connecting, too.
        socket.set_write_timeout(Some(HEALTH_CHECK_DEADLINE))?;
        socket.connect(&socket2::SockAddr::unix(path)?)?;
        return Ok((socket.into(), ClientAddress::Unix));
    }
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
    for address in address.to_socket_addrs()? {
        result = TcpStream::connect_timeout(&address, HEALTH_CHECK_DEADLINE);
        if result.is_ok() {
            break;
        }
    }
    let stream = result?;
    let seen_at = stream.local_addr()?.into();
    Ok((stream, seen_at))
}

/// Reads to the end of the first line; the deadline is for all of it.
fn read_line(clock: Clock, stream: &mut impl Read, socket: &TcpStream) -> io::Result<Vec<u8>> {
    let until = clock.now() + HEALTH_CHECK_DEADLINE;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while line.len() < 4 * buffer.len() && !line.contains(&b'\n') {
        // Zero would mean "no timeout".
        let left = (until - clock.now()).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&buffer[..count]),
            // Unix' error for a timeout; "resource temporarily unavailable" would mislead.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if clock.now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(line)
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = std::str::from_utf8(rest.get(2..5)?).ok()?;
    digits.parse().ok()
}
