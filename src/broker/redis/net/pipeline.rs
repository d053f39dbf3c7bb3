//! Many commands on their way on one connection, answered in order: what a command connection sends
//! through.
//!
//! Made for what a command connection has to be sure of. Commands go out in the order of their
//! first polls. When the connection ends, it is known of each unanswered command whether some byte
//! of it was written: if none was, it is `Canceled`, as is one that too much waits before. Nothing
//! here repairs a connection, and what comes back is bounded before it is decoded (`frames`), as on
//! every other connection.

#[cfg(test)]
pub(crate) mod by_hand;

use std::{cell::RefCell, collections::VecDeque, convert::Infallible, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use fred::{
    error::{Error, ErrorKind},
    types::Value,
};
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Notify, oneshot},
    task::{JoinHandle, spawn_local},
    time::timeout,
};

use super::{
    connection::{Connection, ConnectionError, Input, Stream, encode, refusal},
    frames::Bounds,
};
use crate::{
    clock::{Clock, Millis},
    limits::{
        PUBLISH_CONFIRM_DEADLINE, REDIS_READY_DEADLINE, REDIS_SILENCE_MAX, REDIS_UNSENT_BYTES_MAX,
    },
};

/// The sending end. Clones send on the same connection.
#[derive(Clone, Debug)]
pub(crate) struct Client(Rc<Shared>);

/// The connection's task; it closes the socket when its owner is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionTask(pub(crate) JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: RefCell<State>,
    /// There is something to be written.
    filled: Notify,
}

/// # Invariants
/// - `waiting` are the commands without an answer, in order.
/// - The content of `output` ends at the byte `appended`, counted from the connection's first.
#[derive(Debug)]
struct State {
    output: BytesMut,
    waiting: VecDeque<Waiting>,
    appended: u64,
    /// Bytes that were handed to the system.
    written: u64,
    /// When something was last read, or the connection was made.
    heard: Millis,
    is_over: bool,
}

impl State {
    fn new(now: Millis) -> Self {
        Self {
            output: BytesMut::new(),
            waiting: VecDeque::new(),
            appended: 0,
            written: 0,
            heard: now,
            is_over: false,
        }
    }

    /// Whether so many bytes more may wait to be written. The issuers of the waiting commands may
    /// long have given up. A single command always may.
    fn has_room(&self, length: usize) -> bool {
        let unsent = self.appended - self.written;
        unsent == 0 || unsent + length as u64 <= REDIS_UNSENT_BYTES_MAX as u64
    }
}

#[derive(Debug)]
struct Waiting {
    /// The number of its first byte.
    begins: u64,
    answer: oneshot::Sender<Result<Value, Error>>,
}

impl Client {
    /// Takes over a connection that was greeted. Its answers may have `bounds`.
    pub(crate) fn start(
        clock: Clock,
        connection: Connection,
        bounds: Bounds,
    ) -> (Self, ConnectionTask) {
        let client = Self::new(clock);
        let (stream, input) = connection.into_parts(bounds);
        let (reader, writer) = tokio::io::split(stream);
        let ending = Ending(client.0.clone());
        let task = spawn_local(async move {
            let shared = ending.0.clone();
            let error = shared.run(reader, input, writer).await;
            tracing::debug!(%error, "a connection for commands has ended");
        });
        (client, ConnectionTask(task))
    }

    fn new(clock: Clock) -> Self {
        let state = RefCell::new(State::new(clock.now()));
        Self(Rc::new(Shared { clock, state, filled: Notify::new() }))
    }

    /// When something was last read, or the connection was made.
    pub(crate) fn heard(&self) -> Millis {
        self.0.state.borrow().heard
    }

    /// `command` is EVAL with a script's source, or EVALSHA with its name.
    pub(crate) async fn script(
        &self,
        command: &'static str,
        script: String,
        keys: Vec<String>,
        args: Vec<Value>,
    ) -> Result<Value, Error> {
        let mut words = vec![command.into(), script.into(), keys.len().to_string().into()];
        words.extend(keys.into_iter().map(Bytes::from));
        words.extend(args.into_iter().map(bytes_of));
        self.call(words, PUBLISH_CONFIRM_DEADLINE).await
    }

    pub(crate) async fn script_load(&self, source: String) -> Result<(), Error> {
        let words = ["SCRIPT".into(), "LOAD".into(), source.into()].to_vec();
        self.call(words, REDIS_READY_DEADLINE).await.map(|_| ())
    }

    /// Waits for the answer as long as a connection is kept: how many heard it there.
    pub(crate) async fn publish(&self, channel: &str, payload: String) -> Result<u64, Error> {
        let channel = Bytes::copy_from_slice(channel.as_bytes());
        let words = ["PUBLISH".into(), channel, payload.into()].to_vec();
        self.call(words, REDIS_SILENCE_MAX).await?.convert()
    }

    /// Waits for the answer to a PING, as long as a connection is kept.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.call(vec!["PING".into()], REDIS_SILENCE_MAX).await.map(|_| ())
    }

    /// Sends by its first poll, or not at all.
    async fn call(&self, words: Vec<Bytes>, within: Duration) -> Result<Value, Error> {
        let answer = {
            let mut state = self.0.state.borrow_mut();
            let length: usize = words.iter().map(Bytes::len).sum();
            if state.is_over || !state.has_room(length) {
                return Err(Error::new_canceled());
            }
            let (sender, answer) = oneshot::channel();
            let begins = state.appended;
            let before = state.output.len();
            encode(&mut state.output, &words);
            state.appended += (state.output.len() - before) as u64;
            state.waiting.push_back(Waiting { begins, answer: sender });
            answer
        };
        self.0.filled.notify_one();
        match timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::new(ErrorKind::IO, "the connection has ended")),
            Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
        }
    }
}

impl Shared {
    /// Returns by an error, or is dropped before the connection ends.
    async fn run(
        &self,
        reader: ReadHalf<Box<dyn Stream>>,
        input: Input,
        writer: WriteHalf<Box<dyn Stream>>,
    ) -> ConnectionError {
        tokio::select! {
            Err(error) = self.keep_reading(reader, input) => error,
            Err(error) = self.keep_writing(writer) => error,
        }
    }

    async fn keep_reading(
        &self,
        mut reader: ReadHalf<Box<dyn Stream>>,
        mut input: Input,
    ) -> Result<Infallible, ConnectionError> {
        loop {
            while let Some(frame) = input.next_frame()? {
                self.answered(frame)?;
            }
            input.read(&mut reader).await?;
            self.state.borrow_mut().heard = self.clock.now();
        }
    }

    async fn keep_writing(
        &self,
        mut writer: WriteHalf<Box<dyn Stream>>,
    ) -> Result<Infallible, ConnectionError> {
        loop {
            let mut piece = self.state.borrow_mut().output.split();
            if piece.is_empty() {
                self.filled.notified().await;
                continue;
            }
            while !piece.is_empty() {
                let written = writer.write_buf(&mut piece).await?;
                if written == 0 {
                    return Err(ConnectionError::Closed);
                }
                self.state.borrow_mut().written += written as u64;
            }
            writer.flush().await?;
        }
    }

    fn answered(&self, frame: BytesFrame) -> Result<(), ConnectionError> {
        if matches!(frame, BytesFrame::Push { .. }) {
            return Ok(());
        }
        let waiting = self.state.borrow_mut().waiting.pop_front();
        let Some(Waiting { answer, .. }) = waiting else {
            return Err(ConnectionError::Protocol("an answer to nothing".to_owned()));
        };
        // Or nobody waits for it any more.
        let _ = answer.send(value_of(frame));
        Ok(())
    }
}

/// The connection's end, for whatever reason: all waiting callers are told.
struct Ending(Rc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.state.borrow_mut();
        state.is_over = true;
        state.output = BytesMut::new();
        let written = state.written;
        for Waiting { begins, answer } in state.waiting.drain(..) {
            let error = match begins < written {
                true => Error::new(ErrorKind::IO, "the connection has ended"),
                false => Error::new_canceled(),
            };
            let _ = answer.send(Err(error));
        }
    }
}

fn bytes_of(arg: Value) -> Bytes {
    match arg {
        Value::Bytes(data) => data,
        Value::Integer(number) => number.to_string().into(),
        other => other.into_string().unwrap_or_default().into(),
    }
}

/// An answer; an error if Redis refuses.
pub(in crate::broker::redis) fn value_of(frame: BytesFrame) -> Result<Value, Error> {
    if let Some(error) = refusal(&frame) {
        return Err(Error::new(kind_of(&error), error));
    }
    Ok(match frame {
        BytesFrame::BlobString { data, .. }
        | BytesFrame::SimpleString { data, .. }
        | BytesFrame::VerbatimString { data, .. }
        | BytesFrame::BigNumber { data, .. } => Value::Bytes(data),
        BytesFrame::Number { data, .. } => Value::Integer(data),
        BytesFrame::Double { data, .. } => Value::Double(data),
        BytesFrame::Boolean { data, .. } => Value::Boolean(data),
        BytesFrame::Array { data, .. } => {
            Value::Array(data.into_iter().map(value_of).collect::<Result<_, _>>()?)
        }
        // No answer to the commands sent here.
        _ => Value::Null,
    })
}

fn kind_of(error: &str) -> ErrorKind {
    match error.split(' ').next() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => ErrorKind::Auth,
        Some("MOVED" | "ASK" | "CLUSTERDOWN") => ErrorKind::Cluster,
        _ => ErrorKind::Unknown,
    }
}
