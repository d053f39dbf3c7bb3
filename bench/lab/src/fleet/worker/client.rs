//! One client of a worker: connect, upgrade, read until the server closes.
//!
//! It answers pings and the Close frame, and leaves the connection's end to the server, as the
//! RFC wants it; so the kernel's memory of ended connections is not among the clients' ports.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{Interest, Registry, Token, event::Event as Readiness, net::TcpStream};
use testkit::clock;
use wsload::{
    dial::{self, is_for_later},
    event::Event,
    frame::{ControlOpcode, FrameReader, client_control},
    target::HANDSHAKE_KEY,
};

use super::books::Books;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Open,
    /// The server's Close frame was answered.
    Closing,
    Over,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    stream: Option<TcpStream>,
    frames: FrameReader,
    /// The number of the next message.
    next: u32,
    state: State,
}

/// The upgrade request of every client.
pub(super) fn handshake(address: SocketAddr) -> Vec<u8> {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {HANDSHAKE_KEY}\r\n\r\n"
    )
    .into_bytes()
}

impl Client {
    /// One that could not even start.
    pub(super) fn none() -> Self {
        Self { stream: None, frames: FrameReader::default(), next: 0, state: State::Over }
    }

    /// Begins to connect.
    pub(super) fn connect(
        address: SocketAddr,
        source: SocketAddr,
        at: usize,
        registry: &Registry,
    ) -> io::Result<Self> {
        let socket = dial::begin(address, Some(source))?;
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream: Some(stream), state: State::Connecting, ..Self::none() })
    }

    /// The socket can be written or read.
    pub(super) fn on_event(
        &mut self,
        event: &Readiness,
        at: usize,
        registry: &Registry,
        handshake: &[u8],
        buffer: &mut [u8],
        books: &mut Books,
    ) {
        let begun = match self.state {
            State::Connecting => self.ask_for_upgrade(handshake),
            State::Upgrading => self.read_answer(at, registry, buffer, books),
            State::Open | State::Closing => {
                self.read_frames(event.is_read_closed(), buffer, books);
                Ok(())
            }
            State::Over => Ok(()),
        };
        if let Err(error) = begun {
            self.end();
            books.failed(&error);
        }
    }

    fn ask_for_upgrade(&mut self, handshake: &[u8]) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if dial::ask_for_upgrade(stream, handshake)? {
            self.state = State::Upgrading;
        }
        Ok(())
    }

    /// The answer comes in one piece: over loopback, and far below a segment's size.
    fn read_answer(
        &mut self,
        at: usize,
        registry: &Registry,
        buffer: &mut [u8],
        books: &mut Books,
    ) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let taken = match stream.read(buffer) {
            Err(error) if is_for_later(&error) => return Ok(()),
            result => result?,
        };
        let answer = dial::upgrade_answer(&buffer[..taken]);
        let head_bytes = answer.ok_or_else(|| io::Error::other("no whole answer"))??;
        registry.reregister(stream, Token(at), Interest::READABLE)?;
        self.state = State::Open;
        books.opened();
        self.take(&buffer[head_bytes..taken], books);
        Ok(())
    }

    fn read_frames(&mut self, at_end: bool, buffer: &mut [u8], books: &mut Books) {
        while let Some(stream) = &mut self.stream {
            match stream.read(buffer) {
                Ok(0) => self.ended("eof", books),
                Ok(taken) => {
                    self.take(&buffer[..taken], books);
                    // A short read emptied the socket; more bytes are a new event. An end that
                    // has been announced is not.
                    if taken < buffer.len() && !at_end {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => return,
                Err(_) => self.ended("reset", books),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], books: &mut Books) {
        let now_ns = clock::monotonic_ns();
        let (next, mut answer, mut closed) = (&mut self.next, Vec::new(), None);
        let result = self.frames.read(bytes, &mut |event| match event {
            Event::Message { stamp, .. } => books.message(next, stamp, now_ns),
            Event::Ping(payload) => {
                answer.extend_from_slice(&client_control(ControlOpcode::Pong, payload));
            }
            Event::Close(code) => {
                closed = Some(code.map_or_else(|| "1005".to_owned(), |code| code.to_string()));
                let payload = code.map(u16::to_be_bytes);
                let payload = payload.as_ref().map_or(&[][..], <[u8; 2]>::as_slice);
                answer.extend_from_slice(&client_control(ControlOpcode::Close, payload));
            }
        });
        if let Some(stream) = self.stream.as_mut().filter(|_| !answer.is_empty()) {
            // A server that has no room for an answer has closed, or will.
            let _ = stream.write(&answer);
        }
        if let Some(word) = closed.filter(|_| self.state == State::Open) {
            self.state = State::Closing;
            books.closed(&word, now_ns);
        } else if result.is_err() {
            self.ended("protocol", books);
        }
    }

    /// The connection is gone; news only if no Close frame told of it.
    fn ended(&mut self, word: &str, books: &mut Books) {
        if self.state == State::Open {
            books.closed(word, clock::monotonic_ns());
        }
        self.end();
    }

    fn end(&mut self) {
        self.stream = None;
        self.state = State::Over;
    }
}
