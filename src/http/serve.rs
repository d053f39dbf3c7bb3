//! One connection from accept to its end, or until it leaves HTTP.

use std::{fmt, rc::Rc};

use bytes::Bytes;

use crate::{
    conn::Arrival,
    http::{
        connection::{handover::Handover, places::Place, wire::Wire},
        context::{Context, Purpose},
        driver::{self, Handed},
    },
    hub::Encoding,
    peer::FarEnd,
};

/// A connection that HTTP is done with: its 101, or the head of an event stream, is in the kernel.
pub struct Upgraded<I> {
    /// The stream; apart from `leftover`, none of its bytes are buffered elsewhere.
    pub stream: I,
    /// Bytes that the client sent after its request, already read: the first bytes of frames.
    pub leftover: Bytes,
    /// Its purpose from here on.
    pub purpose: Purpose,
    /// The agreed encoding of messages.
    pub encoding: Encoding,
    /// The facts that its handshake has settled. Last: its guard is dropped after the stream.
    pub arrival: Arrival,
}

impl<I> fmt::Debug for Upgraded<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("is_echo", &matches!(self.purpose, Purpose::Echo))
            .field("publisher", &self.arrival.publisher)
            .field("leftover", &self.leftover.len())
            .finish_non_exhaustive()
    }
}

/// Speaks HTTP on `stream` until it ends (`None`) or becomes a WebSocket or an event stream.
///
/// # Cancel safety
/// May be dropped: the connection is then reset or closed, guards and admission are released. A
/// publication in progress may or may not go out.
pub async fn serve<I>(
    stream: I,
    far_end: impl Into<FarEnd>,
    context: &Rc<Context>,
    place: &Place,
) -> Option<Upgraded<I>>
where
    I: Wire + 'static,
{
    serve_on(stream, Bytes::new(), far_end.into(), context, place).await
}

/// Like [`serve`], on a stream from which `unparsed` were read before. Where all connections are to
/// stop, this one stops and goes on within the call; `None`, too, if another process has it then.
///
/// # Cancel safety
/// As of [`serve`].
pub async fn serve_on<I>(
    stream: I,
    unparsed: Bytes,
    far_end: FarEnd,
    context: &Rc<Context>,
    place: &Place,
) -> Option<Upgraded<I>>
where
    I: Wire + 'static,
{
    let (context, standing) = (context.clone(), place.standing());
    let handed = driver::run(stream, unparsed, far_end, context, standing).await?;
    let Handed { stream, leftover, handover } = handed;
    let Handover { purpose, encoding, arrival, .. } = handover;
    Some(Upgraded { stream, leftover, purpose, encoding, arrival })
}
