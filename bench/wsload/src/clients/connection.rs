//! One client: connect, upgrade, then read and check until someone closes.
//!
//! Answers pings and Close frames, nothing else. A stalled client leaves the epoll set after its
//! handshake and never reads; what became of it is asked once, at the end.

use std::io::{self, ErrorKind, Read as _, Write as _};

use mio::{Interest, Registry, Token, net::TcpStream};
use testkit::{clock, http::header};

use super::{Books, Outcome};
use crate::{
    dial::{self, is_for_later},
    event::Event,
    form::{EventReader, Form},
    frame::{ControlOpcode, FrameError, FrameReader, client_control},
    target::Target,
};

/// Reads from a stalled client at the end: more than any receive buffer holds.
const STALLED_READS_MAX: usize = 256;
/// 1000, normal closure.
const CODE_NORMAL: [u8; 2] = [0x03, 0xe8];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Upgrading,
    Reading,
    Stalled,
    Closed,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Option<TcpStream>,
    state: State,
    stalls: bool,
    /// The server has to agree to permessage-deflate.
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
    pub(crate) fn none() -> Self {
        Self {
            stream: None,
            state: State::Closed,
            stalls: false,
            compression: false,
            handshake: Vec::new(),
            reader: Reader::of(Form::Plain),
        }
    }

    /// Begins to connect client `index` of the run, number `at` of its thread.
    pub(crate) fn start(
        target: &Target,
        index: usize,
        stalls: bool,
        at: usize,
        registry: &Registry,
    ) -> io::Result<Self> {
        let socket = dial::begin(target.address, target.source(index))?;
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream: Some(stream),
            state: State::Connecting,
            stalls,
            compression: target.compression,
            handshake: target.handshake_of(index),
            reader: Reader::of(target.form),
        })
    }

    /// Connected and reading; false for stalled ones.
    pub(crate) fn is_reading(&self) -> bool {
        self.state == State::Reading
    }

    /// The socket can be written or read; `at_end`: nothing more will come.
    pub(crate) fn on_event(
        &mut self,
        at: usize,
        at_end: bool,
        buffer: &mut [u8],
        registry: &Registry,
        books: &mut Books,
    ) {
        let begun = match self.state {
            State::Connecting => self.ask_for_upgrade(),
            State::Upgrading => self.read_answer(at, buffer, registry, books),
            _ => Ok(()),
        };
        if let Err(error) = begun {
            self.state = State::Closed;
            self.stream = None;
            books.connect_failed(&error);
        }
        if self.state == State::Reading {
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
        books: &mut Books,
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
        books.outcome.opened += 1;
        if self.stalls {
            self.state = State::Stalled;
            registry.deregister(stream)?;
        } else {
            self.state = State::Reading;
            registry.reregister(stream, Token(at), Interest::READABLE)?;
        }
        let rest = std::mem::take(&mut self.handshake).split_off(head_bytes);
        self.take(at, &rest, books);
        Ok(())
    }

    fn read_frames(&mut self, at: usize, at_end: bool, buffer: &mut [u8], books: &mut Books) {
        while let Some(stream) = &mut self.stream {
            match stream.read(buffer) {
                Ok(0) => self.closed("eof", books),
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
                Err(_) => self.closed("reset", books),
            }
        }
    }

    fn take(&mut self, at: usize, bytes: &[u8], books: &mut Books) {
        let received_ns = clock::now_ns();
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
            self.closed(&close_word(code), books);
        } else if let Err(FrameError(_)) = result {
            books.outcome.protocol_errors += 1;
            self.closed("protocol", books);
        }
    }

    fn closed(&mut self, word: &str, books: &mut Books) {
        self.stream = None;
        self.state = State::Closed;
        books.outcome.gone += 1;
        *books.outcome.closed.entry(word.to_owned()).or_default() += 1;
    }

    /// The end of the run: says goodbye, or asks a stalled client what became of it.
    pub(crate) fn finish(&mut self, buffer: &mut [u8], outcome: &mut Outcome) {
        let Some(stream) = &mut self.stream else { return };
        if self.state == State::Stalled {
            let word = last_word(stream, &mut self.reader, buffer);
            *outcome.stalled.entry(word).or_default() += 1;
        } else if self.state == State::Reading && matches!(self.reader, Reader::Frames(_)) {
            let _ = stream.write(&client_control(ControlOpcode::Close, &CODE_NORMAL));
        }
        self.stream = None;
        self.state = State::Closed;
    }
}

/// What a socket nobody read says after all that is still in it.
fn last_word(stream: &mut TcpStream, reader: &mut Reader, buffer: &mut [u8]) -> String {
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
