//! Why a connection could not be made, or has ended, in words that say what to do about it.
//!
//! The operator reads them in the log, with the address that was connected to. Text from the server
//! is escaped: it may be anybody's.

use std::{fmt, io};

use fred::prelude::Server;
use thiserror::Error;

use super::frames::BadFrame;
use crate::limits::REDIS_ERROR_BYTES_MAX;

/// Why a connection ended, or was not made.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error("{}", in_words(.0))]
    Io(#[from] io::Error),
    #[error("{}", about_tls(.0))]
    Tls(io::Error),
    #[error("{0}")]
    Late(Stage),
    #[error("Redis closed the connection")]
    Closed,
    #[error(
        "the connection was closed before anything was answered: a port for TLS has the URL \
         rediss://, and a balancer in between may know of no server"
    )]
    ClosedAtOnce,
    #[error("Redis was silent for too long")]
    Silent,
    #[error("{}", about_refusal(.0))]
    Refused(String),
    #[error("Redis did not tell in time what a subscription depends on")]
    Unanswered,
    #[error("Redis is elsewhere now")]
    Left,
    #[error("its name leads to one server now and to another then")]
    Astray,
    #[error("this server says that it is no primary")]
    NotPrimary,
    #[error("what came was no RESP3: {0}")]
    Protocol(String),
    #[error("what answers there is no Redis: it begins with {0}")]
    Foreign(String),
    #[error("TLS is spoken there: its URL is rediss://")]
    TlsOnly,
    #[error("what came was no frame of Redis: {0}")]
    Frame(#[from] BadFrame),
}

impl ConnectionError {
    /// Whether the server has closed the connection, one way or another.
    pub(super) fn is_end(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        let ends = [BrokenPipe, ConnectionAborted, ConnectionReset];
        match self {
            Self::Closed => true,
            Self::Io(error) => ends.contains(&error.kind()),
            _ => false,
        }
    }
}

/// How far the opening of a connection has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Naming,
    Connecting,
    Tls,
    Greeting,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Naming => "this name was not resolved in time",
            Self::Connecting => "no connection was made in time",
            Self::Tls => "TLS was not answered in time (a server without TLS has the URL redis://)",
            Self::Greeting => "the connection was made, and nothing was answered in time",
        })
    }
}

/// The reason, with the address.
pub(crate) fn told(server: &Server, error: &dyn fmt::Display) -> String {
    format!("{}: {error}", address(server))
}

/// Host and port as a URL has them.
pub(crate) fn address(server: &Server) -> String {
    let Server { host, port, .. } = server;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The system's message without the error number, which is of no help.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    escaped(text.split(" (os error ").next().unwrap_or(&text))
}

fn about_tls(error: &io::Error) -> String {
    let words = in_words(error);
    if words.contains("invalid peer certificate") {
        return format!(
            "Redis' certificate is not trusted: its authority has to be one of the system's, or \
             of those in --redis-tls-ca or SSL_CERT_FILE, and it has to name the host that is \
             connected to ({words})"
        );
    }
    format!("no TLS came about (a server without TLS has the URL redis://): {words}")
}

/// The error of a server that refuses to go on, and what to do about it.
fn about_refusal(error: &str) -> String {
    const CURES: [(&str, &str); 11] = [
        ("NOAUTH", "the URL needs a user name and a password"),
        ("WRONGPASS", "the user name or the password in the URL is not right"),
        ("ERR AUTH", "the URL has a password, and this server knows none"),
        ("NOPERM", "the user lacks a right: docs/redis.md names all of them"),
        ("LOADING", "this server still reads its data"),
        ("MASTERDOWN", "this server is a replica that has lost its primary"),
        ("ERR DB index", "this server has fewer databases: see the number in the URL"),
        ("ERR This instance has cluster", "this is no cluster: use redis://"),
        ("ERR unknown command `HELLO`", "this server is older than Redis 6, or no Redis"),
        ("ERR unknown command 'HELLO'", "this server is older than Redis 6, or no Redis"),
        ("ERR max number of clients", "see maxclients in Redis"),
    ];
    match CURES.iter().find(|(code, _)| error.starts_with(code)) {
        Some((_, cure)) => format!("{cure} ({error})"),
        None => format!("Redis refused: {error}"),
    }
}

/// A stranger's text in one line of a log, and not all of it if it is long: it may hold what a
/// terminal obeys, or what looks like lines of ours.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        if escaped.len() >= REDIS_ERROR_BYTES_MAX {
            escaped.push('…');
            break;
        }
        let is_plain = character == '\'' || character == '"' || character == '\\';
        match is_plain {
            true => escaped.push(character),
            false => escaped.extend(character.escape_debug()),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_an_address_and_are_words() {
        let tls = |text: &str| ConnectionError::Tls(io::Error::other(text.to_owned()));
        let refused = |text: &str| ConnectionError::Refused(text.to_owned());
        let table = [
            (ConnectionError::Io(io::Error::from_raw_os_error(1)), ""),
            (tls("invalid peer certificate: UnknownIssuer"), "SSL_CERT_FILE"),
            (tls("received corrupt message of type InvalidContentType"), "redis://"),
            (refused("NOAUTH HELLO must be called"), "needs a user name and a password (NOAUTH"),
            (refused("ERR something else"), "Redis refused: ERR something else"),
            (ConnectionError::Late(Stage::Naming), "name was not resolved"),
            (ConnectionError::Late(Stage::Greeting), "nothing was answered"),
        ];
        for (error, expected) in table {
            for (host, address) in [("a", "a:7: "), ("::1", "[::1]:7: ")] {
                let text = told(&Server::new(host, 7), &error);
                assert!(text.starts_with(address) && text.contains(expected), "{text}");
                assert!(!text.contains("os error") && !text.contains("Os {"), "{text}");
            }
        }
    }

    /// A stranger's text stays one line of plain characters and short.
    #[test]
    fn a_peers_text_stays_one_short_plain_line() {
        let bad = "ERR \x1b[2J\r\n2026 ERROR forged\t\0\u{7f}\u{85}\u{202e}\u{2028}\u{feff}'\"\\";
        let text = escaped(bad);
        let is_odd = |c: char| c.is_control() || "\u{202e}\u{2028}\u{feff}".contains(c);
        assert!(!text.contains(is_odd), "{text:?}");
        assert!(text.starts_with("ERR \\u{1b}[2J\\r\\n2026 ERROR forged"), "{text}");
        assert!(text.ends_with("'\"\\"), "what is harmless stays: {text}");
        let long = escaped(&"\x1b".repeat(1 << 20));
        assert!(long.len() < REDIS_ERROR_BYTES_MAX + 16 && long.ends_with('…'), "{long}");
    }
}
