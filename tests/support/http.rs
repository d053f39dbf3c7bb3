//! An HTTP/1.1 client of raw bytes: requests exactly as the test writes them, answers read whole.
//!
//! One [`Http`] is one connection; what it sends in which packets, and how often, is the test's.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, frames::Inbox, now};

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a header that stands there once; `None` if it is missing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} stands twice: {self:?}");
        Some(&value.1)
    }

    /// Whether a header's value is `value`, case aside.
    pub(crate) fn header_is(&self, name: &str, value: &str) -> bool {
        self.header(name).is_some_and(|v| v.eq_ignore_ascii_case(value))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: no JSON: {self:?}"))
    }

    /// Asserts the status, and for errors the promised form: `{"error":"…","hint":"…"}`, the error
    /// one word in snake_case, and a line that ends.
    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?} {}", self.text());
        if status >= 400 {
            let json = self.json();
            let word = json["error"].as_str().unwrap_or_default();
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(!word.is_empty() && word.chars().all(is_word), "one word: {json}");
            assert_eq!(self.body.last(), Some(&b'\n'), "a line that ends: {}", self.text());
            assert!(json["hint"].is_string(), "an error says what to do: {json}");
        }
        self
    }
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Bytes are in the inbox.
    Bytes,
    /// The peer ended its side in good order.
    Eof,
    /// The connection was reset.
    Reset,
    /// Nothing came in time.
    Nothing,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Inbox,
}

impl Http {
    /// Connects, or fails the test.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)
            .unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        Self::over(stream)
    }

    /// Connects from another of loopback's addresses.
    pub(crate) fn connect_from(source: [u8; 4], addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("127.0.0.0/8 is all loopback");
        socket.connect_timeout(&addr.into(), PATIENCE).expect("somebody listens");
        Self::over(socket.into())
    }

    /// Connects if somebody listens.
    pub(crate) fn try_connect(addr: SocketAddr) -> Option<Self> {
        TcpStream::connect_timeout(&addr, PATIENCE).ok().map(Self::over)
    }

    /// Speaks HTTP over a stream made by the test.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open socket takes options");
        stream.set_write_timeout(Some(PATIENCE)).expect("an open socket takes options");
        Self { stream, inbox: Inbox::default() }
    }

    /// Writes `bytes`, in one go where the kernel allows.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the peer takes bytes");
    }

    /// Writes `bytes`; false when the peer is gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Ends the sending side.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads once, for at most `within`.
    pub(crate) fn arrival(&mut self, within: Duration) -> Arrival {
        let within = within.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(within)).expect("an open socket takes options");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Arrival::Eof,
            Ok(count) => {
                self.inbox.push(&buffer[..count]);
                Arrival::Bytes
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Arrival::Nothing
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Arrival::Bytes,
            Err(_) => Arrival::Reset,
        }
    }

    /// Reads one answer whole.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response().expect("an answer before the end of the connection")
    }

    /// Reads one answer whole; `None` when the connection ends before its first byte.
    #[track_caller]
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let mut response = self.try_head()?;
        response.body = self.body(&response);
        Some(response)
    }

    /// Reads an answer's head and leaves its body; `None` when the connection ends before it.
    #[track_caller]
    pub(crate) fn try_head(&mut self) -> Option<Response> {
        let start = now();
        let head = loop {
            if let Some(head) = self.inbox.take_through(b"\r\n\r\n") {
                break head;
            }
            assert!(start.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
            match self.arrival(PATIENCE) {
                Arrival::Bytes => {}
                end if self.inbox.rest().is_empty() && end != Arrival::Nothing => return None,
                other => panic!("{other:?} in an answer's head: {:?}", self.inbox),
            }
        };
        let (status, headers) = parse_head(&head);
        Some(Response { status, headers, body: Vec::new() })
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub(crate) fn request(&mut self, raw: impl AsRef<[u8]>) -> Response {
        self.send(raw);
        self.response()
    }

    /// Asserts that the peer ends the connection, in good order, without another byte.
    #[track_caller]
    pub(crate) fn assert_end(&mut self) {
        let end = self.arrival(PATIENCE);
        assert_eq!(end, Arrival::Eof, "then the connection ends: {:?}", self.inbox);
    }

    #[track_caller]
    fn body(&mut self, response: &Response) -> Vec<u8> {
        if response.status < 200 || matches!(response.status, 204 | 304) {
            return Vec::new();
        }
        if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("content-length is a number");
            return self.exactly(length);
        }
        if response.header_is("transfer-encoding", "chunked") {
            return self.chunks();
        }
        while self.arrival(PATIENCE) == Arrival::Bytes {}
        self.inbox.take(self.inbox.rest().len()).unwrap_or_default()
    }

    #[track_caller]
    fn exactly(&mut self, length: usize) -> Vec<u8> {
        loop {
            if let Some(bytes) = self.inbox.take(length) {
                return bytes;
            }
            let arrival = self.arrival(PATIENCE);
            assert_eq!(arrival, Arrival::Bytes, "an answer's body is cut: {:?}", self.inbox);
        }
    }

    #[track_caller]
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(line) = self.inbox.take_through(b"\r\n") {
                    break line;
                }
                assert_eq!(self.arrival(PATIENCE), Arrival::Bytes, "a chunk's length is cut");
            };
            let digits = std::str::from_utf8(&line).expect("a chunk's length is text").trim();
            let length = usize::from_str_radix(digits, 16).expect("a chunk's length is hex");
            body.extend(self.exactly(length));
            self.exactly(2);
            if length == 0 {
                return body;
            }
        }
    }
}

fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = std::str::from_utf8(head).expect("an answer's head is text");
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().expect("split gives one");
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_else(|| panic!("a status line: {status_line:?}"));
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    (status, headers)
}

/// A request without a body, on a connection of its own.
#[track_caller]
pub(crate) fn get(addr: SocketAddr, target: &str) -> Response {
    once(addr, format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"))
}

/// A POST on a connection of its own; `headers` are whole lines.
#[track_caller]
pub(crate) fn post_with(addr: SocketAddr, target: &str, headers: &str, body: &[u8]) -> Response {
    let host = if headers.starts_with("Host:") || headers.contains("\r\nHost:") {
        String::new()
    } else {
        format!("Host: {addr}\r\n")
    };
    let length = body.len();
    let mut raw = format!(
        "POST {target} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    raw.extend_from_slice(body);
    once(addr, raw)
}

/// A POST on a connection of its own.
#[track_caller]
pub(crate) fn post(addr: SocketAddr, target: &str, body: &str) -> Response {
    post_with(addr, target, "", body.as_bytes())
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn once(addr: SocketAddr, raw: impl AsRef<[u8]>) -> Response {
    Http::connect(addr).request(raw)
}
