//! The first steps of every connection: the socket, the upgrade request, the answer to it.
//!
//! Shared by the clients that stay and the storm that does not. Nothing here waits, and nothing
//! here counts.

use std::{
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
};

use socket2::{Domain, Protocol, Socket, Type};
use testkit::http::{Answer, UPGRADE_ACCEPT, header};

use crate::stream::Stream;

/// Linux's "the connect goes on"; the standard library's name for it is not stable.
const EINPROGRESS: i32 = 115;

/// Begins to connect, from `source` if one is given, with a receive buffer of a size if one is.
pub(crate) fn begin(
    address: SocketAddr,
    source: Option<SocketAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Sends the upgrade request; false while the connect goes on.
pub(crate) fn ask_for_upgrade(stream: &mut Stream, request: &[u8]) -> io::Result<bool> {
    if let Some(error) = stream.socket().take_error()? {
        return Err(error);
    }
    match stream.socket().peer_addr() {
        Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
        result => result?,
    };
    // A few hundred bytes into an empty send buffer.
    stream.write_all(request)?;
    Ok(true)
}

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A proper answer, but not 101.
    Status(u16),
    /// No answer to what was asked.
    Nonsense(&'static str),
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => Self::other(format!("upgrade refused with {status}")),
            Refusal::Nonsense(what) => Self::other(what),
        }
    }
}

/// The length of the 101's head in `bytes`; none while it is incomplete.
pub(crate) fn upgrade_answer(bytes: &[u8]) -> Option<Result<usize, Refusal>> {
    let answer = match Answer::parse(bytes)? {
        Ok(answer) => answer,
        Err(what) => return Some(Err(Refusal::Nonsense(what))),
    };
    if answer.status != 101 {
        return Some(Err(Refusal::Status(answer.status)));
    }
    let text = String::from_utf8_lossy(&bytes[..answer.head_bytes]);
    if header(&text, "sec-websocket-accept") != Some(UPGRADE_ACCEPT) {
        let what = "upgrade without the right Sec-WebSocket-Accept";
        return Some(Err(Refusal::Nonsense(what)));
    }
    Some(Ok(answer.head_bytes))
}

/// The same of a stream of events: 200.
pub(crate) fn stream_answer(bytes: &[u8]) -> Option<Result<usize, Refusal>> {
    Some(match Answer::parse(bytes)? {
        Ok(answer) if answer.status == 200 => Ok(answer.head_bytes),
        Ok(answer) => Err(Refusal::Status(answer.status)),
        Err(what) => Err(Refusal::Nonsense(what)),
    })
}

/// Nothing is wrong: there is only nothing to do now.
pub(crate) fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
