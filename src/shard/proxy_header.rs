//! The PROXY header of a connection, read from its socket before anything else.
//!
//! Where `--proxy-protocol` is on, trusted proxies must begin with one. Others speak for
//! themselves: a header of theirs is left for HTTP to refuse. No byte behind the header is taken:
//! it may be TLS's, or a request's. So it is looked at before it is read.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

use bytes::Bytes;
use thiserror::Error;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    time::{error::Elapsed, timeout_at},
};
use tracing::debug;

use super::stream::PlainStream;
use crate::{
    http::{HttpSettings, Place},
    limits::PROXY_HEADER_LOOK_BYTES,
    peer::{
        Announced, FarEnd, PeerAddress,
        proxy_header::{self, NoProxyHeader, ProxyHeader},
    },
    telemetry::seldom,
};

/// Why a trusted proxy's connection ends.
#[derive(Debug, Error)]
enum NotAnnounced {
    #[error("no PROXY header in time")]
    Late(#[from] Elapsed),
    #[error("lost before its PROXY header: {0}")]
    Lost(#[from] io::Error),
    #[error(transparent)]
    NoHeader(#[from] NoProxyHeader),
}

/// A connection whose far end is known.
pub(super) struct Known {
    pub(super) stream: PlainStream,
    pub(super) far_end: FarEnd,
    /// Bytes of it that were read before and are no header.
    pub(super) unparsed: Bytes,
}

/// Finds out the far end of `stream`, whose other end is at `peer`, and of which `unparsed` were
/// read before; `None`: the connection is to be closed, or another process has it.
///
/// # Cancel safety
/// May be dropped: the stream is then, too.
pub(super) async fn far_end(
    mut stream: PlainStream,
    unparsed: Bytes,
    peer: PeerAddress,
    place: &Place,
    settings: &HttpSettings,
) -> Option<Known> {
    if !settings.proxy_protocol || !settings.trusted_proxies.trust(peer.into()) {
        return Some(Known { stream, far_end: peer.into(), unparsed });
    }
    let mut header = Vec::from(unparsed);
    loop {
        let until = place.head_due();
        let announced =
            async { timeout_at(until, announced(&mut stream, &mut header, place)).await? };
        match announced.await {
            Ok(Some(announced)) => {
                let far_end = FarEnd { peer, announced };
                return Some(Known { stream, far_end, unparsed: Bytes::new() });
            }
            Ok(None) => stream = place.suspend(stream, header.clone().into()).await?,
            Err(error @ NotAnnounced::NoHeader(_)) => {
                seldom!(warn, "a trusted proxy is refused: --proxy-protocol is on", %peer, %error);
                return None;
            }
            // A balancer that looks whether the port is open.
            Err(error) => {
                debug!(%peer, %error, "a trusted proxy announced nothing");
                return None;
            }
        }
    }
}

/// `None`: the connection is to stop, with the bytes of its header that have come.
async fn announced(
    stream: &mut PlainStream,
    header: &mut Vec<u8>,
    place: &Place,
) -> Result<Option<Announced>, NotAnnounced> {
    loop {
        let known = header.len();
        if !look_further(stream, header, place).await? {
            return Ok(None);
        }
        if header.len() == known {
            return Err(NotAnnounced::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let seen = proxy_header::read(header)?;
        if let ProxyHeader::Finished { length, .. } = seen {
            header.truncate(length);
        }
        take(stream, header.len() - known).await?;
        if let ProxyHeader::Finished { announced, .. } = seen {
            return Ok(Some(announced));
        }
    }
}

/// Appends the next bytes of the stream, which stay in it; none at its end. `false`: the connection
/// is to stop.
async fn look_further(
    stream: &mut PlainStream,
    header: &mut Vec<u8>,
    place: &Place,
) -> io::Result<bool> {
    poll_fn(|cx| {
        if place.is_suspending() {
            return Poll::Ready(Ok(false));
        }
        // On the stack, and only for this look: a waiting connection holds no buffer.
        let mut bytes = [0; PROXY_HEADER_LOOK_BYTES];
        let peeked = stream.poll_peek(cx, &mut bytes);
        if peeked.is_pending() {
            place.waits(cx);
        }
        let count = ready!(peeked)?;
        header.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(true))
    })
    .await
}

/// Takes bytes that were looked at out of the stream.
async fn take(stream: &mut PlainStream, count: usize) -> io::Result<()> {
    poll_fn(|cx| {
        let mut bytes = [0; PROXY_HEADER_LOOK_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes[..count]);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        let is_all = buffer.remaining() == 0;
        Poll::Ready(if is_all { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) })
    })
    .await
}
