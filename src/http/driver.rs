//! Drives one HTTP connection from accept to its end: hyper, every deadline, the drain, lingering.
//!
//! hyper parses and encodes; this future decides how long each stage may last (hyper has but one
//! timeout, which runs between requests too), closes idle connections when the drain begins,
//! takes the stream back after a 101 or for an event stream, and reads on for a while after
//! refusing a body, since a reset would destroy the answer before the publisher sees it.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
};

use bytes::Bytes;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{sleep_until, timeout, timeout_at},
};
use tracing::debug;

use crate::{
    drain::{Control, Phase},
    http::{
        access_log,
        connection::{
            handover::Handover,
            peer::Peer,
            places::{Stage, Standing},
            state::{ConnectionState, Watched},
            wire::Wire,
        },
        context::{Context, HttpSettings},
        owner::Owner,
        routes::route,
        unreadable,
    },
    limits,
    peer::{FarEnd, PeerAddress},
};

/// The first read before hyper takes over: usually a whole handshake.
const FIRST_READ_BYTES: usize = 2048;

/// A stream after HTTP: the bytes read after the handshake, and the purpose.
pub(super) struct Handed<I> {
    pub(super) stream: I,
    pub(super) leftover: Bytes,
    pub(super) handover: Handover,
}

/// The end of hyper's part.
enum Spoken<I> {
    /// The connection's.
    Over,
    /// Of HTTP.
    Handed(Handed<I>),
    /// For now: nothing is owed to the peer, and these bytes were read and not parsed.
    Stopped(I, Bytes),
}

/// Why the driver stopped.
#[derive(Debug)]
enum End {
    /// hyper is done.
    Http(hyper::Result<()>),
    /// The stream is wanted for an answer that has a head of its own.
    Ours,
    /// All connections are to stop.
    Stopped,
    /// Idle while draining, or after another process has taken over.
    Drained,
    /// A stage lasted too long.
    TimedOut,
}

/// Speaks HTTP until the connection ends or leaves it; `unparsed` were read from it before.
///
/// hyper, whose buffers are most of what a connection costs, comes in with the first bytes: in a
/// storm thousands are connected and have sent nothing yet.
pub(super) async fn run<I>(
    mut stream: I,
    mut unparsed: Bytes,
    far_end: FarEnd,
    context: Rc<Context>,
    standing: Rc<Standing>,
) -> Option<Handed<I>>
where
    I: Wire + 'static,
{
    let mut peer = None;
    loop {
        while standing.is_suspending() {
            let announced = Some(far_end.announced);
            stream = standing.suspend(stream, unparsed.clone(), announced).await?;
        }
        if unparsed.is_empty() && standing.stage() == Stage::Fresh {
            let until = standing.since() + limits::HTTP_HEAD_DEADLINE;
            match timeout_at(until, first_bytes(&mut stream, &standing)).await {
                Ok(Ok(Some(first))) if !first.is_empty() => unparsed = first,
                Ok(Ok(None)) => continue,
                silent => {
                    debug!(peer = %far_end.peer, ?silent, "a connection that asked for nothing");
                    return None;
                }
            }
        }
        let peer = *peer.get_or_insert_with(|| Peer {
            address: far_end.peer,
            client: far_end.client(),
            may_forward: far_end.may_forward(&context.settings.trusted_proxies),
            owner: whose(&stream, &unparsed, far_end.peer, &context),
        });
        let speaking = speak(stream, unparsed, standing.clone(), peer, context.clone());
        match Box::pin(speaking).await {
            Spoken::Over => return None,
            Spoken::Handed(handed) => return Some(handed),
            Spoken::Stopped(stopped, rest) => (stream, unparsed) = (stopped, rest),
        }
    }
}

/// The owner of the connection, where it can decide anything. `None`: it is not asked, since the
/// connection begins with a handshake or a stream, and then is for that alone. Handshakes come in
/// storms, and the question costs as much as an accept.
fn whose<I: Wire>(stream: &I, first: &[u8], peer: PeerAddress, context: &Context) -> Option<Owner> {
    let HttpSettings { access, admin_on_public, client_publish, trusted_proxies, .. } =
        &context.settings;
    let on_public = context.public.is_some() && *admin_on_public;
    let decides = on_public || access.tokens.is_empty();
    // A trusted proxy speaks for others, whatever user it runs as.
    let may_be_ours = peer.is_of_this_machine() && !trusted_proxies.trust(peer.into());
    if !decides || !may_be_ours {
        return Some(Owner::Stranger);
    }
    let is_stream = [&b"GET /ws"[..], b"GET /sse", b"GET /echo"].iter().any(|beginning| {
        first.strip_prefix(*beginning).is_some_and(|rest| matches!(rest, [b' ' | b'?', ..]))
    });
    let is_for_listening = is_stream && context.public.is_some() && !client_publish.is_on();
    (!is_for_listening).then(|| stream.owner())
}

/// The first bytes that can be read; empty: the end; `None`: the connection is to stop. The stream
/// is charged for all that it holds before.
async fn first_bytes<I: Wire>(stream: &mut I, standing: &Standing) -> io::Result<Option<Bytes>> {
    poll_fn(|cx| {
        if standing.is_suspending() {
            return Poll::Ready(Ok(None));
        }
        // On the stack, and only for this look: a waiting connection holds no buffer.
        let mut bytes = [0; FIRST_READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        let result = Pin::new(&mut *stream).poll_read(cx, &mut buffer);
        standing.hold_buffers(stream.held_bytes())?;
        if result.is_pending() {
            standing.waits(cx);
        }
        ready!(result)?;
        Poll::Ready(Ok(Some(Bytes::copy_from_slice(buffer.filled()))))
    })
    .await
}

async fn speak<I>(
    stream: I,
    first: Bytes,
    standing: Rc<Standing>,
    peer: Peer,
    context: Rc<Context>,
) -> Spoken<I>
where
    I: Wire,
{
    let state = Rc::new(ConnectionState::new(standing, context.settings.idle_timeout));
    let control = context.control.clone();
    let service = service_fn({
        let (state, context) = (state.clone(), context.clone());
        move |request| route::answer(context.clone(), state.clone(), peer, request)
    });
    let Peer { address: peer, client, .. } = peer;
    let io = TokioIo::new(Watched::new(stream, first, state.clone()));
    let mut connection = builder().serve_connection(io, service);
    let end = drive(&mut connection, &state, &control, peer).await;
    if matches!(end, End::Drained | End::TimedOut) {
        debug!(%peer, ?end, stage = ?state.stage(), "HTTP connection closed");
        return Spoken::Over;
    }
    let parts = connection.into_parts();
    // Copied: even an empty view would keep hyper's read buffer alive with the client.
    let leftover = || Bytes::copy_from_slice(&parts.read_buf);
    let (mut stream, first) = parts.io.into_inner().into_parts();
    if matches!(end, End::Stopped) {
        return Spoken::Stopped(stream, [leftover(), first].concat().into());
    }
    if !first.is_empty() {
        // It is unknown where the peer's next bytes begin.
        debug!(%peer, ?end, "hyper has left bytes unread; the connection ends");
        return Spoken::Over;
    }
    match (&end, state.take_handover()) {
        // hyper ends an upgraded connection only after it has flushed the 101.
        (End::Http(Ok(())), Some(handover)) if handover.head.is_none() => {
            return Spoken::Handed(Handed { stream, leftover: leftover(), handover });
        }
        (End::Ours, Some(handover)) => {
            state.enter(Stage::Answering);
            let head = handover.head.as_deref().unwrap_or_default();
            return match timeout(limits::HTTP_ANSWER_DEADLINE, stream.write_all(head)).await {
                Ok(Ok(())) => Spoken::Handed(Handed { stream, leftover: leftover(), handover }),
                lost => {
                    debug!(%peer, ?lost, "lost before its stream began");
                    Spoken::Over
                }
            };
        }
        _ => {}
    }
    let origins = context.public.as_ref().map(|_| &context.settings.origins);
    let (refused, now) = (state.refused(), context.clock.unix_time());
    if let End::Http(Err(error)) = &end
        && let Some(answer) = unreadable::answer(error, refused, origins, &parts.read_buf, now)
    {
        state.enter(Stage::Answering);
        state.write_by_hand();
        access_log::unreadable(client, answer.len());
        // A client that does not read it has been refused all the same.
        let _ = timeout(limits::HTTP_ANSWER_DEADLINE, stream.write_all(&answer)).await;
    }
    end_gently(stream, &state).await;
    Spoken::Over
}

/// Ends the connection so that the peer sees the last answer.
async fn end_gently<I: Wire>(mut stream: I, state: &ConnectionState) {
    if state.wants_lingering() {
        state.enter(Stage::Lingering);
        linger(&mut stream).await;
    }
    // Closed before the guard goes: a peer that holds the drain open may still be sending.
    drop(stream);
    state.release();
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // A publisher may shut its sending side right after the request and wait for the answer.
        .half_close(true)
        // `ConnectionState` has deadlines that tell a slow request from an idle connection.
        .header_read_timeout(None)
        .max_headers(limits::HTTP_HEADERS_MAX)
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX);
    builder
}

/// Polls hyper until it ends or is no longer needed, a stage lasts too long, the connection is to
/// stop, or the drain finds it idle.
async fn drive<C>(
    connection: &mut C,
    state: &ConnectionState,
    control: &Control,
    peer: PeerAddress,
) -> End
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut draining = pin!(begun(control));
    let mut is_draining = false;
    let mut alarm = pin!(sleep_until(state.due()));
    poll_fn(|cx| {
        if state.stops() {
            return Poll::Ready(End::Stopped);
        }
        if let Poll::Ready(result) = Pin::new(&mut *connection).poll(cx) {
            if let Err(error) = &result {
                debug!(%peer, %error, "HTTP connection failed");
            }
            return Poll::Ready(End::Http(result));
        }
        if state.is_ours() {
            return Poll::Ready(End::Ours);
        }
        if state.stops() {
            return Poll::Ready(End::Stopped);
        }
        if state.standing().has_let_go() && state.stage() == Stage::Idle {
            return Poll::Ready(End::Drained);
        }
        is_draining = is_draining || draining.as_mut().poll(cx).is_ready();
        while is_draining && state.stage() == Stage::Idle {
            if control.phase() >= Phase::Waiting {
                return Poll::Ready(End::Drained);
            }
            // The drain was taken back while the connection was busy.
            draining.set(begun(control));
            is_draining = draining.as_mut().poll(cx).is_ready();
        }
        // The alarm follows that lazily: most requests begin and end before it rings.
        if state.due() < alarm.deadline() {
            alarm.as_mut().reset(state.due());
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if state.is_overdue() {
                return Poll::Ready(End::TimedOut);
            }
            alarm.as_mut().reset(state.due());
        }
        state.standing().waits(cx);
        Poll::Pending
    })
    .await
}

/// Resolves when idle connections are to end.
async fn begun(control: &Control) {
    // An error means that the process is gone, and that is the same.
    let _ = control.watch().wait_for(|phase| *phase >= Phase::Waiting).await;
}

/// How many unwanted bytes could be read; 0: the end.
async fn thrown_away<I: AsyncRead + Unpin>(stream: &mut I) -> io::Result<usize> {
    poll_fn(|cx| {
        // A waiting connection holds no buffer.
        let mut bytes = [0; limits::LINGER_READ_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    })
    .await
}

/// Reads on after the last answer, so that what the peer still sends does not reset it away.
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(stream: &mut I) {
    let rest = async {
        // hyper may have shut it already; then this fails, and reading continues all the same.
        let _ = stream.shutdown().await;
        let mut left = limits::LINGER_BYTES_MAX;
        while left > 0 {
            match thrown_away(stream).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    // Past the deadline the peer gets its reset: it had its time to look.
    let _ = timeout(limits::LINGER_DEADLINE, rest).await;
}
