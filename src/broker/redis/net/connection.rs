//! A connection of our own to Redis or to a sentinel: frames in, commands out.
//!
//! Not fred's client: its event channel loses messages when a shard is slow and cannot hold Redis
//! back, one refused SUBSCRIBE shifts all its later answers, and it decodes whatever comes, without
//! bounds. Here the socket is read only when there is room for what comes, answers are matched with
//! commands in order, and frames are bounded (`frames`). Address, TLS and credentials are fred's.

use std::{cell::Cell, io, time::Duration};

use bytes::BytesMut;
use fred::{
    prelude::{Config, Server},
    types::config::TlsConnector,
};
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
};

pub(crate) use super::connection_error::ConnectionError;
use super::{
    connection_error::{Stage, escaped},
    frames::{BadFrame, Bounds, Scanner},
};
use crate::limits::{
    REDIS_BEGINNING_BYTES, REDIS_CONNECT_DEADLINE, REDIS_SILENCE_MAX, SUBSCRIBER_READ_BYTES,
};

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection that was greeted.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    input: Input,
    output: BytesMut,
}

/// The bytes received and not decoded yet.
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
    pub(crate) async fn read(
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
    pub(crate) fn next_frame(&mut self) -> Result<Option<BytesFrame>, ConnectionError> {
        let Some(end) = self.scanner.end_of_frame(&self.bytes)? else { return Ok(None) };
        let mut frame = self.bytes.split_to(end);
        match decode_bytes_mut(&mut frame) {
            Ok(Some((decoded, length, _))) if length == end => Ok(Some(decoded)),
            Ok(_) => Err(ConnectionError::Protocol("its parts do not fit".to_owned())),
            Err(error) => Err(ConnectionError::Protocol(escaped(&error.to_string()))),
        }
    }

    /// The error that the sender of this is no Redis.
    fn foreign(&self) -> ConnectionError {
        const TLS_ALERT: &[u8] = &[0x15, 0x03];
        if self.bytes.starts_with(TLS_ALERT) {
            return ConnectionError::TlsOnly;
        }
        let beginning = &self.bytes[..self.bytes.len().min(REDIS_BEGINNING_BYTES)];
        ConnectionError::Foreign(escaped(&String::from_utf8_lossy(beginning)))
    }
}

impl Connection {
    /// Connects to `server` and switches to RESP3.
    ///
    /// # Errors
    /// When it cannot be reached or does not greet within [`REDIS_CONNECT_DEADLINE`].
    pub(crate) async fn open(config: &Config, server: &Server) -> Result<Self, ConnectionError> {
        let stage = Cell::new(Stage::Naming);
        let opening = async {
            let stream = connect(config, server, &stage).await?;
            stage.set(Stage::Greeting);
            let (input, output) = (Input::default(), BytesMut::new());
            let mut connection = Self { stream, input, output };
            match connection.greet(config).await {
                Ok(()) => Ok(connection),
                Err(error) if error.is_end() => Err(ConnectionError::ClosedAtOnce),
                Err(ConnectionError::Frame(BadFrame::Header | BadFrame::Line)) => {
                    Err(connection.input.foreign())
                }
                Err(error) => Err(error),
            }
        };
        let opened = tokio::time::timeout(REDIS_CONNECT_DEADLINE, opening).await;
        opened.unwrap_or_else(|_| Err(ConnectionError::Late(stage.get())))
    }

    async fn greet(&mut self, config: &Config) -> Result<(), ConnectionError> {
        let mut hello = vec!["HELLO", "3"];
        if let Some(password) = &config.password {
            let username = config.username.as_deref().unwrap_or("default");
            hello.extend(["AUTH", username, password]);
        }
        let answer = self.answer_to(&hello).await?;
        match refusal(&answer) {
            Some(error) => Err(ConnectionError::Refused(error)),
            None => Ok(()),
        }
    }

    /// Asks something on a connection that is used for nothing else, within
    /// [`REDIS_CONNECT_DEADLINE`].
    pub(crate) async fn ask(&mut self, words: &[&str]) -> Result<BytesFrame, ConnectionError> {
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
    pub(crate) fn command(&mut self, words: &[&str]) {
        encode(&mut self.output, words);
    }

    /// Writes the output. Not while reading: commands are short, and Redis takes them whether we
    /// read or not.
    pub(crate) async fn flush(&mut self) -> Result<(), ConnectionError> {
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
    pub(crate) async fn read(&mut self) -> Result<(), ConnectionError> {
        self.input.read(&mut self.stream).await
    }

    /// Its ways, once nothing is waited for; frames may have `bounds` from now on.
    pub(super) fn into_parts(self, bounds: Bounds) -> (Box<dyn Stream>, Input) {
        let input = Input { scanner: Scanner::new(bounds), ..self.input };
        (self.stream, input)
    }

    /// The next whole frame of the input.
    pub(crate) fn next_frame(&mut self) -> Result<Option<BytesFrame>, ConnectionError> {
        self.input.next_frame()
    }
}

/// Appends a command to `output`.
pub(super) fn encode(output: &mut BytesMut, words: &[impl AsRef<[u8]>]) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        let word = word.as_ref();
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// The text of an error answer, in a form that may be shown.
pub(crate) fn refusal(frame: &BytesFrame) -> Option<String> {
    match frame {
        BytesFrame::SimpleError { data, .. } => Some(escaped(data)),
        BytesFrame::BlobError { data, .. } => Some(escaped(&String::from_utf8_lossy(data))),
        _ => None,
    }
}

async fn connect(
    config: &Config,
    server: &Server,
    stage: &Cell<Stage>,
) -> Result<Box<dyn Stream>, ConnectionError> {
    #[cfg(test)]
    if let Some(stream) = super::memory::connect(server) {
        return Ok(Box::new(stream?));
    }
    let addresses: Vec<_> = lookup_host((&*server.host, server.port)).await?.collect();
    stage.set(Stage::Connecting);
    let stream = TcpStream::connect(&*addresses).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &config.tls else { return Ok(Box::new(stream)) };
    stage.set(Stage::Tls);
    let TlsConnector::Rustls(connector) = &tls.connector;
    let name = server.tls_server_name.as_ref().unwrap_or(&server.host).to_string();
    let name = name.try_into().map_err(|_| io::Error::other("the host is no name for TLS"))?;
    let stream = connector.connect(name, stream).await.map_err(ConnectionError::Tls)?;
    Ok(Box::new(stream))
}

async fn within<T>(
    deadline: Duration,
    future: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    tokio::time::timeout(deadline, future).await.unwrap_or(Err(ConnectionError::Silent))
}
