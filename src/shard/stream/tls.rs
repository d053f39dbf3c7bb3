//! A connection that speaks TLS, while HTTP is spoken on it: the handshake, then records.
//!
//! The runtime watches it from the beginning: nothing is read before the connection's turn has come
//! (`handshake_pacer`), since the first bytes cost a handshake. A client that speaks plain HTTP is
//! told so, plainly.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;

use super::plain::PlainStream;
use crate::{
    admission::AddressLimits,
    clock::Clock,
    http::{Wire, log_unreadable, owner::Owner},
    limits::TLS_HTTP_READ_BYTES,
    metrics::{Limit, ShardMetrics, TlsHandshake},
    peer::ClientAddress,
    tls::{HandshakeKind, Input, Scratch, ServerConfig, Session},
};

/// The body of the answer to a request that came without TLS.
const TLS_REQUIRED: &str = "{\"error\":\"tls_required\",\"hint\":\"TLS is spoken on this port: \
                            https:// and wss:// lead here\"}\n";

/// All that the connections of a shard share.
#[derive(Debug)]
pub(in crate::shard) struct TlsAcceptor {
    config: Arc<ServerConfig>,
    scratch: RefCell<Scratch>,
    metrics: Arc<ShardMetrics>,
    limits: Arc<AddressLimits>,
    clock: Clock,
}

impl TlsAcceptor {
    pub(in crate::shard) fn new(
        config: Arc<ServerConfig>,
        metrics: Arc<ShardMetrics>,
        limits: Arc<AddressLimits>,
        clock: Clock,
    ) -> Self {
        Self { config, scratch: RefCell::default(), metrics, limits, clock }
    }

    /// Counts a handshake that `client` begins; whether it goes on.
    fn admits(&self, client: ClientAddress) -> bool {
        if self.limits.tls_handshake(client, self.clock.now()).is_ok() {
            return true;
        }
        self.metrics.limited.add(Limit::TlsHandshakes as usize, 1);
        self.limits.is_dry_run()
    }
}

/// A connection by TLS.
#[derive(Debug)]
pub(in crate::shard) struct TlsStream {
    plain: PlainStream,
    session: Box<Session>,
    acceptor: Rc<TlsAcceptor>,
    outcome: Outcome,
    client: ClientAddress,
    uncounted: Uncounted,
}

/// The client, until it is counted for its first bytes; none, if it is not counted at all.
pub(in crate::shard) type Uncounted = Rc<Cell<Option<ClientAddress>>>;

/// Counts how a handshake ended, once.
#[derive(Debug)]
struct Outcome(Option<Arc<ShardMetrics>>);

impl Outcome {
    fn is(&mut self, result: TlsHandshake) {
        if let Some(metrics) = self.0.take() {
            metrics.tls_handshakes.add(result as usize, 1);
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.is(TlsHandshake::Unfinished);
    }
}

impl TlsStream {
    /// A connection of `client` that has sent nothing yet.
    /// Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    pub(in crate::shard) fn new(
        mut plain: PlainStream,
        acceptor: Rc<TlsAcceptor>,
        client: ClientAddress,
        uncounted: Uncounted,
    ) -> io::Result<Self> {
        plain.register()?;
        let session = Box::new(Session::new(acceptor.config.clone())?);
        let outcome = Outcome(Some(acceptor.metrics.clone()));
        Ok(Self { plain, session, acceptor, outcome, client, uncounted })
    }

    /// The stream below, and the session.
    pub(super) fn into_parts(self) -> (PlainStream, Box<Session>) {
        (self.plain, self.session)
    }

    /// Reads once, and decrypts that.
    fn read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> io::Result<Input> {
        let Self { plain, session, acceptor, uncounted, .. } = self;
        let is_greeting = session.is_handshaking() && !session.has_unfinished_record();
        session.read(&mut acceptor.scratch.borrow_mut(), into, |into| {
            let mut buffer = ReadBuf::new(into);
            now(Pin::new(plain).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            // No record begins with a letter; the methods of HTTP do.
            if is_greeting && read.first().is_some_and(u8::is_ascii_uppercase) {
                return Err(io::Error::other(PlainHttp));
            }
            // Before the library sees a byte: what follows is the expensive part.
            if !read.is_empty() && uncounted.take().is_some_and(|client| !acceptor.admits(client)) {
                return Err(io::Error::other(TooMany));
            }
            Ok(read.len())
        })
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let plain = &mut self.plain;
        let mut send = |record: &[u8]| now(Pin::new(&mut *plain).poll_write(cx, record));
        later(self.session.flush(&mut send))
    }

    /// Notes how the handshake went, if it is over.
    fn look_at_handshake(&mut self) {
        if let Some(kind) = self.session.handshake_kind().filter(|_| !self.session.is_handshaking())
        {
            self.outcome.is(match kind {
                HandshakeKind::Resumed => TlsHandshake::Resumed,
                HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => {
                    TlsHandshake::Full
                }
            });
        }
    }

    /// Gives up; the peer is told, if it takes that at once.
    fn fail(&mut self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        if error.get_ref().is_some_and(|inner| inner.is::<PlainHttp>()) {
            self.outcome.is(TlsHandshake::PlainHttp);
            let answer = plain_answer();
            log_unreadable(self.client, answer.len());
            let _ = Pin::new(&mut self.plain).poll_write(cx, answer.as_bytes());
        } else if error.get_ref().is_some_and(|inner| inner.is::<TooMany>()) {
            self.outcome.is(TlsHandshake::Limited);
        } else if error.kind() == io::ErrorKind::InvalidData {
            debug!(%error, "TLS failed");
            self.outcome.is(TlsHandshake::Failed);
            let _ = self.flush(cx);
        }
        error
    }
}

/// A request of plain HTTP has come where a handshake should.
#[derive(Debug, thiserror::Error)]
#[error("plain HTTP on a port for TLS")]
struct PlainHttp;

/// The client's address begins more handshakes than it may.
#[derive(Debug, thiserror::Error)]
#[error("too many TLS handshakes of one address")]
struct TooMany;

fn plain_answer() -> String {
    let length = TLS_REQUIRED.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{TLS_REQUIRED}"
    )
}

/// The result of a stream as that of a socket that does not block.
fn now<T>(result: Poll<io::Result<T>>) -> io::Result<T> {
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The other way round.
fn later<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl Wire for TlsStream {
    fn owner(&self) -> Owner {
        self.plain.owner()
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.plain.poll_reset(cx)
    }

    fn held_bytes(&self) -> usize {
        self.session.held_input_bytes() + self.session.held_output_bytes()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // While it lasts, a handshake is a conversation.
            if self.flush(cx)?.is_pending() && self.session.is_handshaking() {
                return Poll::Pending;
            }
            let room = buffer.remaining().min(TLS_HTTP_READ_BYTES);
            let input = self.read(cx, buffer.initialize_unfilled_to(room));
            self.look_at_handshake();
            match input {
                Ok(Input::Nothing) => {}
                Ok(Input::Plaintext(count)) => {
                    buffer.advance(count);
                    // Tickets, for one. If they are not taken, they go out with the answer.
                    let _ = self.flush(cx)?;
                    return Poll::Ready(Ok(()));
                }
                Ok(Input::End) => {
                    let _ = self.flush(cx)?;
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(self.fail(cx, error))),
            }
        }
    }
}

/// A write that returns has put all that it took into the kernel; see [`Session::write`].
impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if parts.iter().all(|part| part.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let Self { plain, session, acceptor, .. } = &mut *self;
        let mut send = |record: &[u8]| now(Pin::new(&mut *plain).poll_write(cx, record));
        later(session.write(parts, &mut acceptor.scratch.borrow_mut(), &mut send))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.close();
        ready!(self.flush(cx))?;
        Pin::new(&mut self.plain).poll_shutdown(cx)
    }
}
