//! A client's connection: its socket, and what it speaks TLS with.
//!
//! Both read and write like a socket that does not block. A read that fills less than it was given
//! has emptied the socket, by TLS too: that is what readers of an edge-triggered set count on.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;
use rustls::{ClientConnection, HandshakeKind};

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
}

impl Stream {
    /// The connection of `socket`; without a session it is plain.
    pub(crate) fn new(socket: TcpStream, session: Option<ClientConnection>) -> Self {
        Self { socket, session: session.map(Box::new) }
    }

    /// The part that an epoll set watches.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Whether TLS was resumed by a ticket.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = self.session.as_ref().and_then(|session| session.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self { socket, session } = self;
        let Some(session) = session else { return socket.read(into) };
        let mut filled = 0;
        loop {
            match session.reader().read(&mut into[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(count) => {
                    filled += count;
                    if filled == into.len() {
                        return Ok(filled);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end of the stream without a word of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(filled),
                Err(error) => return Err(error),
            }
            match session.read_tls(socket) {
                // An end behind something that was read is told again.
                Ok(0) => return Ok(filled),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => {
                    return Ok(filled);
                }
                Err(error) => return Err(error),
            }
            session
                .process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            send(session, socket)?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { socket, session } = self;
        let Some(session) = session else { return socket.write(bytes) };
        // Before the end of the handshake it is kept until then.
        let count = session.writer().write(bytes)?;
        send(session, socket)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Sends the words of TLS; those that the socket does not take go out with the next read or write.
fn send(session: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        match session.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
