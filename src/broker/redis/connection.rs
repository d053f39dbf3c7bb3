//! An own connection to Redis or to a sentinel: frames in, commands out.
//!
//! Not fred's client: its event channel loses messages when a shard is slow and cannot hold Redis
//! back, one refused SUBSCRIBE shifts all its later answers, and it decodes whatever comes, without
//! bounds. Here the socket is read only when there is room for what comes, answers are matched with
//! commands in order, and frames are bounded (`frames`). Address, TLS and credentials are fred's.

use std::{io, time::Duration};

use bytes::BytesMut;
use fred::{
    prelude::{Config, Server},
    types::config::TlsConnector,
};
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::frames::{BadFrame, Bounds, Scanner};
use crate::limits::{
    REDIS_CONNECT_DEADLINE, REDIS_ERROR_BYTES_MAX, REDIS_SILENCE_MAX, SUBSCRIBER_READ_BYTES,
};

/// Why a subscriber's connection ended.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("Redis closed the connection")]
    Closed,
    #[error("Redis was silent for too long")]
    Silent,
    #[error("Redis refused: {0}")]
    Refused(String),
    #[error("Redis did not tell in time what a subscription depends on")]
    Unanswered,
    #[error("Redis is elsewhere now")]
    Left,
    #[error("this server says that it is no master")]
    NoMaster,
    #[error("what came was no RESP3: {0}")]
    Protocol(String),
    #[error("what came was no frame of Redis: {0}")]
    Frame(#[from] BadFrame),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection that was greeted.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: Input,
    output: BytesMut,
}

/// What has come and is not decoded yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: BytesMut,
    scanner: Scanner,
}

impl Input {
    /// Waits for more.
    ///
    /// # Cancel safety
    /// May be dropped: nothing read is lost.
    pub(super) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), ConnectionError> {
        self.bytes.reserve(SUBSCRIBER_READ_BYTES);
        match stream.read_buf(&mut self.bytes).await? {
            0 => Err(ConnectionError::Closed),
            _ => Ok(()),
        }
    }

    /// The next whole frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<BytesFrame>, ConnectionError> {
        let Some(end) = self.scanner.end_of_frame(&self.bytes)? else { return Ok(None) };
        let mut frame = self.bytes.split_to(end);
        match decode_bytes_mut(&mut frame) {
            Ok(Some((decoded, length, _))) if length == end => Ok(Some(decoded)),
            Ok(_) => Err(ConnectionError::Protocol("its parts do not fit".to_owned())),
            Err(error) => Err(ConnectionError::Protocol(escaped(&error.to_string()))),
        }
    }
}

impl Connection {
    /// Connects to `server` and switches to RESP3.
    ///
    /// # Errors
    /// When it cannot be reached or does not greet within [`REDIS_CONNECT_DEADLINE`].
    pub(super) async fn open(config: &Config, server: &Server) -> Result<Self, ConnectionError> {
        let opening = async {
            let mut connection = Self {
                stream: connect(config, server).await?,
                input: Input::default(),
                output: BytesMut::new(),
            };
            connection.greet(config).await?;
            Ok(connection)
        };
        within(REDIS_CONNECT_DEADLINE, opening).await
    }

    async fn greet(&mut self, config: &Config) -> Result<(), ConnectionError> {
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &config.password {
            hello.extend(["AUTH", config.username.as_deref().unwrap_or("default"), password]);
        }
        let answer = self.answer_to(&hello).await?;
        match refusal(&answer) {
            Some(error) => Err(ConnectionError::Refused(error)),
            None => Ok(()),
        }
    }

    /// Asks something on a connection that is used for nothing else, within
    /// [`REDIS_CONNECT_DEADLINE`].
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<BytesFrame, ConnectionError> {
        within(REDIS_CONNECT_DEADLINE, self.answer_to(words)).await
    }

    async fn answer_to(&mut self, words: &[&str]) -> Result<BytesFrame, ConnectionError> {
        self.command(words);
        self.flush().await?;
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// Puts a command into the output.
    pub(super) fn command(&mut self, words: &[&str]) {
        encode(&mut self.output, words);
    }

    /// Writes the output. Not while reading: commands are short, and Redis takes them whether we
    /// read or not.
    pub(super) async fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let Self { stream, output, .. } = self;
        within(REDIS_SILENCE_MAX, async {
            stream.write_all_buf(output).await?;
            stream.flush().await?;
            Ok(())
        })
        .await
    }

    /// Waits for more input.
    ///
    /// # Cancel safety
    /// May be dropped: nothing read is lost.
    pub(super) async fn read(&mut self) -> Result<(), ConnectionError> {
        self.input.read(&mut self.stream).await
    }

    /// Its ways, once nothing is waited for; frames may have `bounds` from now on.
    pub(super) fn into_parts(self, bounds: Bounds) -> (Box<dyn Stream>, Input) {
        let input = Input { scanner: Scanner::new(bounds), ..self.input };
        (self.stream, input)
    }

    /// The next whole frame of the input.
    pub(super) fn next_frame(&mut self) -> Result<Option<BytesFrame>, ConnectionError> {
        self.input.next_frame()
    }
}

/// Puts a command behind what is in `output`.
pub(super) fn encode(output: &mut BytesMut, words: &[impl AsRef<[u8]>]) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// The text of an error answer, as it may be told.
pub(super) fn refusal(frame: &BytesFrame) -> Option<String> {
    match frame {
        BytesFrame::SimpleError { data, .. } => Some(escaped(data)),
        BytesFrame::BlobError { data, .. } => Some(escaped(&String::from_utf8_lossy(data))),
        _ => None,
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

async fn connect(config: &Config, server: &Server) -> Result<Box<dyn Stream>, ConnectionError> {
    let stream = TcpStream::connect((&*server.host, server.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    let TlsConnector::Rustls(connector) = &tls.connector;
    let name = server.tls_server_name.as_ref().unwrap_or(&server.host).to_string();
    let name = name.try_into().map_err(|_| io::Error::other("the host is no name for TLS"))?;
    Ok(Box::new(connector.connect(name, stream).await?))
}

async fn within<T>(
    deadline: Duration,
    future: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::time::timeout(deadline, future).await.unwrap_or(Err(ConnectionError::Silent))
}
