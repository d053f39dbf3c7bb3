//! An own connection to Redis or to a sentinel: frames in, commands out.
//!
//! Subscribing does not go through fred's client: its event channel loses messages when a shard
//! is slow and cannot hold Redis back, and one refused SUBSCRIBE shifts all its later answers.
//! Here the socket is read only when there is room for what comes, and answers are matched with
//! commands in order. Address, TLS and credentials are fred's.

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

use crate::limits::{
    REDIS_CONNECT_DEADLINE, REDIS_SILENCE_MAX, SUBSCRIBER_FRAME_BYTES_MAX, SUBSCRIBER_READ_BYTES,
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
    #[error("what came was no RESP3: {0}")]
    Protocol(String),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection that was greeted.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
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
                input: BytesMut::new(),
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
        self.output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.output.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
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
        if self.input.len() > SUBSCRIBER_FRAME_BYTES_MAX {
            return Err(ConnectionError::Protocol("a message is too long".to_owned()));
        }
        self.input.reserve(SUBSCRIBER_READ_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(ConnectionError::Closed),
            _ => Ok(()),
        }
    }

    /// The next whole frame of the input.
    pub(super) fn next_frame(&mut self) -> Result<Option<BytesFrame>, ConnectionError> {
        let decoded = decode_bytes_mut(&mut self.input)
            .map_err(|error| ConnectionError::Protocol(error.to_string()))?;
        Ok(decoded.map(|(frame, _, _)| frame))
    }
}

/// The text of an error answer.
pub(super) fn refusal(frame: &BytesFrame) -> Option<String> {
    match frame {
        BytesFrame::SimpleError { data, .. } => Some(data.to_string()),
        BytesFrame::BlobError { data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
        _ => None,
    }
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
