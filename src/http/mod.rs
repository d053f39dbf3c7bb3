//! HTTP/1.1 on the listeners: the handshakes, the publishing API, the ops routes.
//!
//! One connection is one future on its shard's thread ([`serve`]). hyper reads requests and
//! writes answers; what it has no opinion on is here: who may do what, every deadline, lingering
//! after a refusal, the drain guards. After a 101, or the head of an event stream, the bare
//! connection is handed back and HTTP is over.
//! Nothing here knows a hub, a log or Redis: channels are admitted through a closure, messages
//! leave through the [`Broker`] trait, and ops answers come from closures of whoever built them.

pub mod access;
mod answer;
mod batch;
mod body;
mod client;
mod connection;
mod form;
pub mod health_client;
mod note;
pub mod ops;
pub mod owner;
mod pace;
mod pages;
mod places;
mod publish;
mod query;
mod route;
mod seen;
mod sse;
mod taking_turns;
#[cfg(test)]
mod tests;
mod unreadable;
mod upgrade;

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use self::owner::Owner;
pub use self::{
    pace::BatchRoom,
    places::{Place, Places, Room},
};
pub use crate::conn::{Endpoint, Wanted};
use crate::{
    broker::{Broker, Position, Principal},
    channel::ChannelName,
    drain::{Control, Guard},
    hub::{Audience, Encoding},
    metrics::ShardMetrics,
};

/// What the options say about HTTP.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `/echo` exists.
    pub echo: bool,
    /// permessage-deflate is agreed to.
    pub compression: bool,
    /// Clients may broadcast their own messages (`--client-publish broadcast`), each if it may
    /// publish at all.
    pub client_publish: bool,
    /// Clients of the whole process; past it handshakes are answered 503.
    pub connections_max: usize,
    /// Longest published message; past it 413.
    pub broadcast_bytes_max: usize,
    /// Between two requests of a connection; then closed.
    pub idle_timeout: Duration,
    /// `--on-broker-loss reject`: a lost broker then makes the process unready.
    pub reject_on_broker_loss: bool,
    /// All public listeners are loopback, so they carry the admin routes too.
    pub admin_on_public: bool,
    /// Who may publish and administer.
    pub access: access::Rules,
}

/// What the connections of one thread's listeners share.
pub struct Context {
    /// The options.
    pub settings: Settings,
    /// The drain: phase, guards, the door to start it.
    pub control: Arc<Control>,
    /// What the ops routes report.
    pub ops: ops::Sources,
    /// Of a public listener; `None` makes it an admin listener.
    pub public: Option<Public>,
}

/// What only public listeners need.
pub struct Public {
    /// Where published messages go.
    pub broker: Rc<dyn Broker>,
    /// Awaited before a 101 leaves.
    pub admit: Rc<Admit>,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Room for the messages of batches at the broker.
    pub batch_room: BatchRoom,
    /// How many clients hear a channel.
    pub audience: Arc<Audience>,
}

/// Makes sure that the shard holds subscriptions of the channels, in its hub and at the broker,
/// so that nothing published after the 101 is missed by the client, and that what it asks for of
/// the past will come before that.
pub type Admit =
    dyn Fn(Vec<Wanted>, Encoding) -> LocalBoxFuture<'static, Result<Admission, NotAdmitted>>;

/// Why a client whose handshake is in order is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The shard has no room for so many: [`crate::limits::CHANNELS_PER_SHARD_MAX`], or
    /// [`crate::limits::SUBSCRIPTION_COST_BYTES`].
    TooManyChannels,
    /// As many channels are being settled as may be: [`crate::limits::SETTLING_CHANNELS_MAX`].
    Busy,
    /// The client has got further elsewhere than this shard: it would be sent again what it has.
    Behind,
}

/// A client that is about to be let in.
pub struct Admission {
    /// Keeps the channels subscribed until the client's own subscription replaces it; dropped
    /// when the connection dies before it is handed over.
    pub ticket: Box<dyn Any>,
    /// The client will get everything after these; a channel whose position nobody knows is left
    /// out.
    pub positions: Vec<(ChannelName, Position)>,
}

/// A connection that HTTP is done with: its 101, or the head of an event stream, is in the kernel.
pub struct Upgraded<I> {
    /// The stream; nothing of it is buffered elsewhere but `leftover`.
    pub stream: I,
    /// What the client sent behind its request, already read: the first bytes of frames.
    pub leftover: Bytes,
    /// What it asked for.
    pub endpoint: Endpoint,
    /// What was agreed about the form of messages.
    pub encoding: Encoding,
    /// As whom it publishes, if its messages may be broadcast.
    pub publisher: Option<Principal>,
    /// What [`Public::admit`] returned; of `/echo` nothing.
    pub ticket: Option<Box<dyn Any>>,
    /// Whom a proxy says it speaks for; kept only if the log tells of clients.
    pub forwarded: Option<Box<str>>,
    /// Holds the drain open; to be dropped with the descriptor.
    pub guard: Guard,
}

impl<I> fmt::Debug for Upgraded<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded")
            .field("endpoint", &self.endpoint)
            .field("publisher", &self.publisher)
            .field("leftover", &self.leftover.len())
            .finish_non_exhaustive()
    }
}

/// What HTTP is spoken on.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Whose the other end is; asked once at most, while it is connected.
    fn owner(&self) -> Owner;

    /// Ready once the other end is known to have broken the connection off: it wants no answer.
    /// One that has shut its sending side may still wait for it.
    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()>;
}

impl Wire for tokio::net::TcpStream {
    fn owner(&self) -> Owner {
        owner::of(&self.into())
    }

    fn poll_reset(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        // Readable is also one that has more to say, or nothing.
        match self.poll_read_ready(cx) {
            Poll::Ready(_) if matches!(self.take_error(), Ok(None)) => Poll::Pending,
            ready => ready.map(drop),
        }
    }
}

/// Speaks HTTP on `stream` until it ends (`None`) or becomes a WebSocket or an event stream.
///
/// # Cancel safety
/// May be dropped: the connection is then reset or closed, guards and admission are released. A
/// publication in progress may or may not go out.
pub async fn serve<I>(
    stream: I,
    peer: SocketAddr,
    context: &Rc<Context>,
    place: &Place,
) -> Option<Upgraded<I>>
where
    I: Wire,
{
    let handed = connection::run(stream, peer, context.clone(), place.standing()).await?;
    let upgrade::Handover { endpoint, encoding, publisher, ticket, forwarded, guard, .. } =
        handed.handover;
    let connection::Handed { stream, leftover, .. } = handed;
    Some(Upgraded { stream, leftover, endpoint, encoding, publisher, ticket, forwarded, guard })
}
