//! A WebSocket client of raw bytes over a blocking socket.
//!
//! It does what the test says and nothing by itself, except that [`Client::message`] and what is
//! built on it answer pings, as every real client does.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use testkit::http::UPGRADE_ACCEPT;
pub(crate) use testkit::http::{UPGRADE_KEY as KEY, upgrade_request};

use super::{
    PATIENCE,
    frames::{self, Frame},
    http::{Arrival, Http, Response},
    now,
};

/// A receive buffer as small as the kernel allows: such a client stalls soon.
const STALLED_RECEIVE_BYTES: usize = 4096;

/// One thing that came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Frame(Frame),
    /// The server ended the connection in good order.
    Eof,
    /// The connection was reset.
    Reset,
}

/// One upgraded connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) http: Http,
    /// The 101, with its headers.
    pub(crate) upgrade: Response,
}

/// A connection with as little room in its kernel as possible.
#[track_caller]
pub(crate) fn little_room(addr: SocketAddr) -> Http {
    let socket =
        Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket can be made");
    socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES).expect("a new socket takes options");
    socket.connect_timeout(&addr.into(), PATIENCE).expect("somebody listens");
    Http::over(TcpStream::from(socket))
}

impl Client {
    /// A client of the default channel.
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::open(addr, "/ws")
    }

    /// A client of `target`, such as `/ws?channel=a`.
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr, target: &str) -> Self {
        Self::try_open(Http::connect(addr), addr, target, "")
            .unwrap_or_else(|response| panic!("{target} upgrades: {response:?}"))
    }

    /// Asks for the upgrade; the answer if it is not 101.
    #[track_caller]
    pub(crate) fn try_connect(addr: SocketAddr) -> Result<Self, Response> {
        Self::try_open(Http::connect(addr), addr, "/ws", "")
    }

    /// A client with as little room in its kernel as possible, so that it stalls when it does
    /// not read.
    #[track_caller]
    pub(crate) fn with_little_room(addr: SocketAddr, target: &str) -> Self {
        Self::try_open(little_room(addr), addr, target, "")
            .unwrap_or_else(|response| panic!("{target} upgrades: {response:?}"))
    }

    /// Upgrades over a connection and with headers made by the test.
    #[track_caller]
    pub(crate) fn try_open(
        mut http: Http,
        addr: SocketAddr,
        target: &str,
        headers: &str,
    ) -> Result<Self, Response> {
        http.send(upgrade_request(addr, target, headers));
        let upgrade = http.response();
        if upgrade.status == 101 { Ok(Self::upgraded(http, upgrade)) } else { Err(upgrade) }
    }

    /// A client from a connection on which a 101 has just been read.
    #[track_caller]
    pub(crate) fn upgraded(http: Http, upgrade: Response) -> Self {
        assert_eq!(upgrade.status, 101, "{upgrade:?}");
        assert!(upgrade.header_is("upgrade", "websocket"), "{upgrade:?}");
        assert!(upgrade.header_is("connection", "upgrade"), "{upgrade:?}");
        assert_eq!(upgrade.header("sec-websocket-accept"), Some(UPGRADE_ACCEPT), "{upgrade:?}");
        Self { http, upgrade }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.http.send(bytes);
    }

    /// Sends a whole text message.
    #[track_caller]
    pub(crate) fn send_text(&mut self, text: &str) {
        self.send(frames::masked(true, frames::TEXT, text.as_bytes()));
    }

    /// The next event; without one the test fails.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Event {
        self.event_within(PATIENCE).expect("something comes from the server in time")
    }

    /// The next event, if it comes in time.
    #[track_caller]
    pub(crate) fn event_within(&mut self, within: Duration) -> Option<Event> {
        let start = now();
        loop {
            if let Some(frame) = self.http.inbox.take_frame() {
                return Some(Event::Frame(frame));
            }
            match self.http.arrival(within.saturating_sub(start.elapsed())) {
                Arrival::Bytes => {}
                Arrival::Eof => {
                    let rest = self.http.inbox.rest();
                    assert!(rest.is_empty(), "the connection ends inside a frame: {rest:?}");
                    return Some(Event::Eof);
                }
                Arrival::Reset => return Some(Event::Reset),
                Arrival::Nothing => return None,
            }
        }
    }

    /// The next frame of any kind.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        match self.event() {
            Event::Frame(frame) => frame,
            end => panic!("a frame, not {end:?}"),
        }
    }

    /// The next data frame, which is a whole message; answers pings before it.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Frame {
        let frame = self.frame_but_pings();
        let whole = frame.fin && matches!(frame.opcode, frames::TEXT | frames::BINARY);
        assert!(whole, "a whole message, not {frame:?} {:?}", frame.text());
        frame
    }

    /// The next message, if it comes in time; answers pings before it.
    #[track_caller]
    pub(crate) fn message_within(&mut self, within: Duration) -> Option<Frame> {
        let start = now();
        loop {
            match self.event_within(within.saturating_sub(start.elapsed()))? {
                Event::Frame(frame) if frame.opcode == frames::PING => self.pong(&frame),
                Event::Frame(frame) if frame.opcode < 8 => return Some(frame),
                other => panic!("a message, not {other:?}"),
            }
        }
    }

    /// The next message, which is text.
    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        let frame = self.message();
        assert_eq!(frame.opcode, frames::TEXT, "{frame:?}");
        String::from_utf8(frame.payload).expect("a text frame is UTF-8")
    }

    /// The next message, which is text and equals `text`.
    #[track_caller]
    pub(crate) fn assert_text(&mut self, text: &str) {
        assert_eq!(self.text(), text);
    }

    /// Messages up to the one that equals `last`, which is left out.
    #[track_caller]
    pub(crate) fn texts_until(&mut self, last: &str) -> Vec<String> {
        std::iter::repeat_with(|| self.text()).take_while(|text| text != last).collect()
    }

    /// The next frame that is no ping, and it must be a close frame: its code and reason.
    #[track_caller]
    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        self.frame_but_pings().close()
    }

    /// Messages up to the close frame, and the close frame's code and reason.
    #[track_caller]
    pub(crate) fn texts_until_close(&mut self) -> (Vec<String>, (u16, String)) {
        let mut texts = Vec::new();
        loop {
            let frame = self.frame_but_pings();
            if frame.opcode == frames::CLOSE {
                return (texts, frame.close());
            }
            texts.push(frame.text());
        }
    }

    /// Asserts a close with `code`, answers it, and sees the server end the connection.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self, code: u16) -> String {
        let (got, reason) = self.close_frame();
        assert_eq!(got, code, "{reason}");
        self.http.try_send(frames::masked_close(code, ""));
        self.assert_end();
        reason
    }

    /// Asserts that the connection ends in good order, without another frame.
    #[track_caller]
    pub(crate) fn assert_end(&mut self) {
        let event = self.event();
        assert_eq!(event, Event::Eof, "the server ends the connection");
    }

    /// Leaves as RFC 6455 wants it; the texts that were still under way.
    #[track_caller]
    pub(crate) fn leave(mut self) -> Vec<String> {
        self.send(frames::masked_close(1000, "done"));
        let (texts, (code, _)) = self.texts_until_close();
        assert_eq!(code, 1000, "a client's own code is answered");
        self.assert_end();
        texts
    }

    /// Answers a ping.
    #[track_caller]
    pub(crate) fn pong(&mut self, ping: &Frame) {
        self.http.try_send(frames::masked(true, frames::PONG, &ping.payload));
    }

    #[track_caller]
    fn frame_but_pings(&mut self) -> Frame {
        let start = now();
        loop {
            let waited = start.elapsed();
            assert!(waited < PATIENCE, "nothing but pings for {waited:?}");
            let frame = self.frame();
            match frame.opcode {
                frames::PING => self.pong(&frame),
                frames::PONG => {}
                _ => return frame,
            }
        }
    }
}
