//! One client: connect, upgrade, then read and check until someone closes.
//!
//! Answers pings and Close frames, nothing else. It leaves the connection's end to the server, as
//! the RFC wants it, so that the kernel's memory of ended connections is not among the clients'
//! ports. A stalled client leaves the epoll set after its handshake and never reads; what became
//! of it is asked once, at the end.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use testkit::http::header;

use crate::{
    dial::{self, is_for_later},
    form::{Event, EventReader, Form},
    frame::{ControlOpcode, FrameError, FrameReader, client_control},
    stamp::Stamp,
    stream::Stream,
    tls::ClientTls,
};

/// Reads from a stalled client at the end: more than any receive buffer holds.
const STALLED_READS_MAX: usize = 256;
/// 1000, normal closure.
const CODE_NORMAL: [u8; 2] = [0x03, 0xe8];

/// The record of what happens to clients; `at` is a client's number in its thread.
pub trait Books {
    /// Now, on the clock of the messages' stamps.
    fn now_ns(&self) -> u64;
    /// A client's handshake is done; its TLS was resumed by a ticket.
    fn opened(&mut self, is_resumed: bool);
    /// A client could not be opened.
    fn failed(&mut self, error: &io::Error);
    /// A whole message has arrived.
    fn message(&mut self, at: usize, stamp: Option<Stamp>, payload_bytes: u64, received_ns: u64);
    /// A client was closed with this code, or ended as `eof`, `reset` or `protocol`.
    fn closed(&mut self, word: &str);
}

/// How a client begins.
#[derive(Debug)]
pub struct Opening {
    /// The server.
    pub address: SocketAddr,
    /// None: whatever the kernel picks.
    pub source: Option<SocketAddr>,
    /// It speaks TLS.
    pub tls: Option<ClientTls>,
    /// The upgrade request.
    pub handshake: Vec<u8>,
    /// The form that it asks for.
    pub form: Form,
    /// The server has to agree to permessage-deflate.
    pub compression: bool,
    /// It does not read, or not before it is told to.
    pub stalls: bool,
    /// Bytes that its socket takes without its reading; none: as the kernel has it.
    pub receive_buffer: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Reading,
    Stalled,
    /// The server's Close frame was answered.
    Closing,
    Closed,
}

/// A client.
#[derive(Debug)]
pub struct Connection {
    stream: Option<Stream>,
    state: State,
    stalls: bool,
    compression: bool,
    /// The upgrade request, then the answer to it as far as it has come, then empty.
    handshake: Vec<u8>,
    reader: Reader,
}

/// By what the bytes are understood.
#[derive(Debug)]
enum Reader {
    Frames(FrameReader),
    Events(EventReader),
}

impl Reader {
    fn of(form: Form) -> Self {
        match form {
            Form::Plain => Self::Frames(FrameReader::default()),
            Form::V1 => Self::Frames(FrameReader::in_json()),
            Form::Sse => Self::Events(EventReader::default()),
        }
    }

    fn read(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), FrameError> {
        match self {
            Self::Frames(frames) => frames.read(bytes, sink),
            Self::Events(events) => {
                events.read(bytes, sink);
                Ok(())
            }
        }
    }
}

impl Connection {
    /// A client that could not even start.
    pub fn none() -> Self {
        Self {
            stream: None,
            state: State::Closed,
            stalls: false,
            compression: false,
            handshake: Vec::new(),
            reader: Reader::of(Form::Plain),
        }
    }

    /// Begins to connect client number `at`.
    pub fn start(opening: Opening, at: usize, registry: &Registry) -> io::Result<Self> {
        let Opening { address, source, tls, handshake, form, compression, stalls, .. } = opening;
        let socket = dial::begin(address, source, opening.receive_buffer)?;
        let socket = TcpStream::from_std(socket.into());
        let session = tls.map(|tls| tls.session()).transpose().map_err(io::Error::other)?;
        let mut stream = Stream::new(socket, session);
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(stream.socket(), Token(at), interest)?;
        let (stream, reader) = (Some(stream), Reader::of(form));
        Ok(Self { stream, state: State::Connecting, stalls, compression, handshake, reader })
    }

    /// Connected and reading; false for stalled ones.
    pub fn is_reading(&self) -> bool {
        self.state == State::Reading
    }

    /// The socket can be written or read; `at_end`: nothing more will come.
    pub fn on_event(
        &mut self,
        at: usize,
        at_end: bool,
        buffer: &mut [u8],
        registry: &Registry,
        books: &mut impl Books,
    ) {
        let begun = match self.state {
            State::Connecting => self.ask_for_upgrade(),
            State::Upgrading => self.read_answer(at, buffer, registry, books),
            _ => Ok(()),
        };
        if let Err(error) = begun {
            self.end();
            books.failed(&error);
        }
        if matches!(self.state, State::Reading | State::Closing) {
            self.read_frames(at, at_end, buffer, books);
        }
    }

    fn ask_for_upgrade(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if dial::ask_for_upgrade(stream, &self.handshake)? {
            self.handshake.clear();
            self.state = State::Upgrading;
        }
        Ok(())
    }

    fn read_answer(
        &mut self,
        at: usize,
        buffer: &mut [u8],
        registry: &Registry,
        books: &mut impl Books,
    ) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(taken) => self.handshake.extend_from_slice(&buffer[..taken]),
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let answer = match self.reader {
            Reader::Frames(_) => dial::upgrade_answer(&self.handshake),
            Reader::Events(_) => dial::stream_answer(&self.handshake),
        };
        let Some(answer) = answer else { return Ok(()) };
        let head_bytes = answer?;
        let text = String::from_utf8_lossy(&self.handshake[..head_bytes]);
        if self.compression && header(&text, "sec-websocket-extensions").is_none() {
            return Err(io::Error::other("the server agreed to no compression"));
        }
        books.opened(stream.is_resumed());
        if self.stalls {
            self.state = State::Stalled;
            registry.deregister(stream.socket())?;
        } else {
            self.state = State::Reading;
            registry.reregister(stream.socket(), Token(at), Interest::READABLE)?;
        }
        let rest = std::mem::take(&mut self.handshake).split_off(head_bytes);
        self.take(at, &rest, books);
        Ok(())
    }

    fn read_frames(&mut self, at: usize, at_end: bool, buffer: &mut [u8], books: &mut impl Books) {
        while let Some(stream) = &mut self.stream {
            match stream.read(buffer) {
                Ok(0) => self.ended("eof", books),
                Ok(taken) => {
                    self.take(at, &buffer[..taken], books);
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

    fn take(&mut self, at: usize, bytes: &[u8], books: &mut impl Books) {
        if self.state == State::Closing {
            return;
        }
        let received_ns = books.now_ns();
        let (mut answers, mut close) = (Vec::new(), None);
        let result = self.reader.read(bytes, &mut |event| match event {
            Event::Message { stamp, payload_bytes } => {
                books.message(at, stamp, payload_bytes, received_ns);
            }
            Event::Ping(payload) => {
                answers.extend_from_slice(&client_control(ControlOpcode::Pong, payload));
            }
            Event::Close(code) => {
                close = Some(code);
                let payload = code.map(u16::to_be_bytes);
                let payload = payload.as_ref().map_or(&[][..], <[u8; 2]>::as_slice);
                answers.extend_from_slice(&client_control(ControlOpcode::Close, payload));
            }
        });
        if let Some(stream) = self.stream.as_mut().filter(|_| !answers.is_empty()) {
            // A server that has no room for an answer has closed, or will.
            let _ = stream.write(&answers);
        }
        if let Some(code) = close {
            self.state = State::Closing;
            books.closed(&close_word(code));
        } else if result.is_err() {
            self.ended("protocol", books);
        }
    }

    /// The connection is gone; news only if no Close frame told of it.
    fn ended(&mut self, word: &str, books: &mut impl Books) {
        if self.state != State::Closing {
            books.closed(word);
        }
        self.end();
    }

    fn end(&mut self) {
        self.stream = None;
        self.state = State::Closed;
    }

    /// Stops to read.
    pub fn stall(&mut self, registry: &Registry) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.state == State::Reading) else {
            return Ok(());
        };
        self.state = State::Stalled;
        registry.deregister(stream.socket())
    }

    /// A stalled client reads again, as number `at`.
    pub fn read_on(&mut self, at: usize, registry: &Registry) -> io::Result<()> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.state == State::Stalled) else {
            return Ok(());
        };
        self.state = State::Reading;
        registry.register(stream.socket(), Token(at), Interest::READABLE)
    }

    /// Sends bytes of its own making, which fit into an empty send buffer.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        stream.write_all(bytes)
    }

    /// The end of the run: says goodbye, or tells what became of a stalled client.
    pub fn finish(&mut self, buffer: &mut [u8]) -> Option<String> {
        let stream = self.stream.as_mut()?;
        let mut word = None;
        if self.state == State::Stalled {
            word = Some(last_word(stream, &mut self.reader, buffer));
        } else if self.state == State::Reading && matches!(self.reader, Reader::Frames(_)) {
            let _ = stream.write(&client_control(ControlOpcode::Close, &CODE_NORMAL));
        }
        self.end();
        word
    }
}

/// The end of a socket that was not read: how it ends once all that is still in it is read.
fn last_word(stream: &mut Stream, reader: &mut Reader, buffer: &mut [u8]) -> String {
    let mut word = "open".to_owned();
    for _ in 0..STALLED_READS_MAX {
        match stream.read(buffer) {
            Ok(0) if word == "open" => return "eof".to_owned(),
            Ok(0) => return word,
            Ok(taken) => {
                let result = reader.read(&buffer[..taken], &mut |event| {
                    if let Event::Close(code) = event {
                        word = close_word(code);
                    }
                });
                if result.is_err() {
                    return "protocol".to_owned();
                }
            }
            Err(error) if is_for_later(&error) => return word,
            Err(_) if word == "open" => return "reset".to_owned(),
            Err(_) => return word,
        }
    }
    word
}

fn close_word(code: Option<u16>) -> String {
    code.map_or_else(|| "1005".to_owned(), |code| code.to_string())
}
