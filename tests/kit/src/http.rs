//! Answers over HTTP, as far as a tool must understand them: status, length, whether the
//! connection stays; and the request for a WebSocket.
//!
//! Parsing is pure: bytes in, facts out; bodies are skipped. A chunked answer is understood to end
//! with the connection. [`Connection`] blocks, with a deadline; [`ask`] has one of its own.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// One question and its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// An answer longer than this is not one of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The sample key of RFC 6455 §1.3: nothing here depends on a key's being random, and the simplest
/// servers know only this one.
pub const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The server's answer to it.
pub const UPGRADE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The request for a WebSocket; `headers` are whole lines beyond the necessary ones.
pub fn upgrade_request(host: impl Display, target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {UPGRADE_KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of three digits.
    pub status: u16,
    /// Bytes up to the empty line, with it.
    pub head_bytes: usize,
    /// Bytes behind it, as far as they are told.
    pub body_bytes: usize,
    /// The server reads another request from this connection.
    pub keeps_alive: bool,
}

impl Answer {
    /// The answer that `bytes` start with; none while its head is incomplete.
    pub fn parse(bytes: &[u8]) -> Option<Result<Self, &'static str>> {
        let head_bytes = match bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) => at + 4,
            None if bytes.len() > ANSWER_BYTES_MAX => return Some(Err("an endless answer")),
            None => return None,
        };
        let Ok(head) = std::str::from_utf8(&bytes[..head_bytes]) else {
            return Some(Err("an answer that is not text"));
        };
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| head.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok());
        let Some(status) = status else { return Some(Err("not an HTTP/1 answer")) };
        let body_bytes = match header(head, "content-length").map(str::parse::<usize>) {
            Some(Ok(length)) if length <= ANSWER_BYTES_MAX => Some(length),
            Some(_) => return Some(Err("a bad Content-Length")),
            None => None,
        };
        let says_close =
            header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Some(Ok(Self {
            status,
            head_bytes,
            body_bytes: body_bytes.unwrap_or(0),
            keeps_alive: body_bytes.is_some() && !says_close && head.starts_with("HTTP/1.1"),
        }))
    }

    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The value of a header, by its name in any case.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects; this and everything after it takes no longer than `deadline`.
    pub fn open(address: SocketAddr, deadline: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, deadline)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(deadline))?;
        stream.set_write_timeout(Some(deadline))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a part of a request; the rest is to be asked with.
    pub fn begin(&mut self, part: &[u8]) -> io::Result<()> {
        self.stream.write_all(part)
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        let head = self.answer.windows(4).position(|window| window == b"\r\n\r\n");
        head.map_or(&[], |at| &self.answer[at + 4..])
    }

    /// Sends a request and reads its answer whole.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        self.answer.clear();
        let mut piece = [0; 4096];
        loop {
            let taken = match self.stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.answer.extend_from_slice(&piece[..taken]);
            let Some(answer) = Answer::parse(&self.answer) else { continue };
            let answer = answer.map_err(io::Error::other)?;
            if self.answer.len() >= answer.head_bytes + answer.body_bytes {
                return Ok(answer);
            }
        }
    }
}

/// One HTTP request on a connection of its own.
pub fn ask(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let answer = Connection::open(address, ANSWER_DEADLINE).and_then(|mut to| to.ask(request));
    answer.with_context(|| format!("asking {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_once_its_head_is_whole() {
        let text = b"HTTP/1.1 202 Accepted\r\ncontent-LENGTH: 5\r\n\r\nhello";
        let head_bytes = text.len() - 5;
        for cut in 0..head_bytes {
            assert_eq!(Answer::parse(&text[..cut]), None, "cut at {cut}");
        }
        let expected = Answer { status: 202, head_bytes, body_bytes: 5, keeps_alive: true };
        assert_eq!(Answer::parse(text), Some(Ok(expected)));
        assert!(expected.is_success());
    }

    /// Only an answer of known length keeps the connection.
    #[test]
    fn only_known_lengths_keep_the_connection() {
        let keeps = |text: &[u8]| Answer::parse(text).unwrap().unwrap().keeps_alive;
        assert!(keeps(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keeps(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keeps(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(!keeps(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["SSH-2.0\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
            assert!(Answer::parse(text.as_bytes()).unwrap().is_err());
        }
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").unwrap().is_err());
        assert!(Answer::parse(&[b'x'; ANSWER_BYTES_MAX + 1]).unwrap().is_err());
    }
}
