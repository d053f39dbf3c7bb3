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

use thiserror::Error;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    time::{error::Elapsed, timeout},
};
use tracing::debug;

use super::stream::PlainStream;
use crate::{
    http::HttpSettings,
    limits::{HTTP_HEAD_DEADLINE, PROXY_HEADER_LOOK_BYTES},
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

/// The far end of `stream`, whose other end is at `peer`; `None`: the connection is to be closed.
///
/// # Cancel safety
/// May be dropped together with the stream.
pub(super) async fn far_end(
    stream: &mut PlainStream,
    peer: PeerAddress,
    settings: &HttpSettings,
) -> Option<FarEnd> {
    if !settings.proxy_protocol || !settings.trusted_proxies.trust(peer.into()) {
        return Some(peer.into());
    }
    let announced = async { timeout(HTTP_HEAD_DEADLINE, announced(stream)).await? };
    match announced.await {
        Ok(announced) => Some(FarEnd { peer, announced }),
        Err(error @ NotAnnounced::NoHeader(_)) => {
            seldom!(warn, "a trusted proxy is refused: --proxy-protocol is on", %peer, %error);
            None
        }
        // A balancer that looks whether the port is open.
        Err(error) => {
            debug!(%peer, %error, "a trusted proxy announced nothing");
            None
        }
    }
}

async fn announced(stream: &mut PlainStream) -> Result<Announced, NotAnnounced> {
    let mut header = Vec::new();
    loop {
        let known = header.len();
        look_further(stream, &mut header).await?;
        if header.len() == known {
            return Err(NotAnnounced::Lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let seen = proxy_header::read(&header)?;
        if let ProxyHeader::Finished { length, .. } = seen {
            header.truncate(length);
        }
        take(stream, header.len() - known).await?;
        if let ProxyHeader::Finished { announced, .. } = seen {
            return Ok(announced);
        }
    }
}

/// Appends the next bytes of the stream, which stay in it; none at its end.
async fn look_further(stream: &mut PlainStream, header: &mut Vec<u8>) -> io::Result<()> {
    poll_fn(|cx| {
        // On the stack, and only for this look: a waiting connection holds no buffer.
        let mut bytes = [0; PROXY_HEADER_LOOK_BYTES];
        let count = ready!(stream.poll_peek(cx, &mut bytes))?;
        header.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(()))
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
