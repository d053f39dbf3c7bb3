//! From the listening socket to a client: accept, HTTP, hand-over.
//!
//! The number of HTTP connections is bounded by places. Past it, connections that wait for their
//! peer make room; only where none does, newcomers wait: one of each listener here, the others in
//! the kernel. Storms are paced: only a
//! limited number of connections is accepted, and served, before other tasks have their turn. The
//! placement decides whether a connection stays here; one that was moved here stays. When
//! descriptors run out, accepting pauses, says so once a second, and resumes by itself.

use std::{cell::Cell, future::poll_fn, io, pin::pin, rc::Rc, sync::Arc, task::ready};

use tokio::{task::yield_now, time::sleep};
use tracing::debug;

use super::{
    core::Core,
    handshake_pacer::{HandshakePacer, HandshakeTurn},
    listener::{Accepted, Entrance, Transport, bound_kernel_memory},
    placement::{Moved, Newcomer, Placement},
    proxy_header,
    stream::{Listener, PlainStream, Stream, TlsAcceptor, TlsStream, Uncounted},
};
use crate::{
    admission::AddressLimits,
    conn::{Connected, Endpoint},
    http::{self, Place, Places, Purpose, Upgraded},
    limits::{ACCEPT_BACKOFF, NEWCOMERS_PER_TURN, TLS_HANDSHAKES_PER_TURN},
    metrics::{Placed, ShardMetrics},
    peer::{ClientAddress, PeerAddress},
    telemetry::seldom,
};

/// The state shared by all ways into the shard.
pub(super) struct ConnectionIntake {
    core: Rc<Core>,
    context: Rc<http::Context>,
    places: Rc<Places>,
    pacer: HandshakePacer,
    /// Handshakes of TLS cost so much more that they have turns of their own.
    tls_pacer: HandshakePacer,
    /// Where there is a listener for it.
    tls: Option<Rc<TlsAcceptor>>,
    placement: Arc<Placement>,
    /// This shard.
    index: usize,
}

impl ConnectionIntake {
    pub(super) fn new(
        core: Rc<Core>,
        context: Rc<http::Context>,
        places: Rc<Places>,
        tls: Option<TlsAcceptor>,
        placement: Arc<Placement>,
        index: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            core,
            context,
            places,
            pacer: HandshakePacer::new(NEWCOMERS_PER_TURN),
            tls_pacer: HandshakePacer::new(TLS_HANDSHAKES_PER_TURN),
            tls: tls.map(Rc::new),
            placement,
            index,
        })
    }

    /// A connection from this shard's own socket: it stays, unless others have fewer.
    pub(super) fn welcome(
        self: &Rc<Self>,
        stream: PlainStream,
        entrance: Entrance,
        peer: PeerAddress,
    ) {
        if !self.placement.passes_on(self.index) {
            let newcomer = self.placement.newcomer(self.index);
            return self.open(stream, entrance, peer, newcomer);
        }
        match stream.into_std() {
            Ok(stream) => {
                let accepted = Accepted { stream, entrance };
                self.placement.place(accepted, Placed::Balance, self.core.clock.now());
            }
            Err(error) => debug!(%peer, %error, "lost on its way to another shard"),
        }
    }

    fn open(
        self: &Rc<Self>,
        stream: PlainStream,
        entrance: Entrance,
        peer: PeerAddress,
        newcomer: Newcomer,
    ) {
        let intake = self.clone();
        let Entrance { listener, transport } = entrance;
        self.places.seat(listener, move |place| async move {
            let pacer = match transport {
                Transport::Plain => &intake.pacer,
                Transport::Tls => &intake.tls_pacer,
            };
            let upgraded = {
                let mut serving = pin!(intake.serve(stream, transport, peer, &place));
                let mut turn = HandshakeTurn::default();
                poll_fn(|cx| {
                    let its_turn = pacer.poll(&mut turn, cx);
                    place.set_queued(its_turn.is_pending());
                    ready!(its_turn);
                    let served = serving.as_mut().poll(cx);
                    // One byte of a handshake must not pay for all that is to come.
                    if transport == Transport::Tls && place.is_fresh() {
                        turn.spend();
                    }
                    served
                })
                .await
            };
            drop(place);
            if let Some(upgraded) = upgraded {
                intake.connect(upgraded, peer);
            }
            // Last: a client is in the gauge by now.
            drop(newcomer);
        });
    }

    /// Hears what a proxy announces, then speaks HTTP, below TLS where that is spoken.
    async fn serve(
        &self,
        mut stream: PlainStream,
        transport: Transport,
        peer: PeerAddress,
        place: &Place,
    ) -> Option<Upgraded<Stream>> {
        let settings = &self.context.settings;
        let far_end = proxy_header::far_end(&mut stream, peer, settings).await?;
        // A trusted proxy begins them for many.
        let is_proxy = far_end.may_forward(&settings.trusted_proxies);
        let counted = (!is_proxy).then(|| far_end.client());
        let limits = self.limits();
        if let Some(address) = limits.zip(counted).and_then(|(limits, one)| limits.key(one)) {
            place.set_address(address);
        }
        let uncounted = Rc::new(Cell::new(counted));
        match self.speaking(transport, stream, far_end.client(), uncounted.clone()) {
            Ok(stream) => {
                let _counted = Silence { intake: self, transport, uncounted, place };
                http::serve(stream, far_end, &self.context, place).await
            }
            Err(error) => {
                debug!(%peer, %error, "lost before it spoke");
                None
            }
        }
    }

    fn limits(&self) -> Option<&AddressLimits> {
        self.context.public.as_ref().map(|public| &*public.address_limits)
    }

    /// The stream that HTTP reads.
    fn speaking(
        &self,
        transport: Transport,
        stream: PlainStream,
        client: ClientAddress,
        uncounted: Uncounted,
    ) -> io::Result<Stream> {
        match (transport, &self.tls) {
            (Transport::Plain, _) => Ok(Stream::Plain(stream)),
            (Transport::Tls, Some(acceptor)) => {
                let stream = TlsStream::new(stream, acceptor.clone(), client, uncounted)?;
                Ok(Stream::Tls(Box::new(stream)))
            }
            (Transport::Tls, None) => Err(io::Error::other("there are no certificates")),
        }
    }

    /// The 101 is out: the stream leaves the runtime and becomes a client of the table.
    fn connect(&self, upgraded: Upgraded<Stream>, peer: PeerAddress) {
        let Upgraded { stream, leftover, purpose, encoding, arrival } = upgraded;
        let (stream, session) = match stream.into_parts() {
            Ok(parts) => parts,
            Err(error) => return debug!(%peer, %error, "lost after its handshake"),
        };
        bound_kernel_memory(&stream);
        let now = self.core.clock.now();
        let connected = Connected { stream, session, leftover, arrival };
        match purpose {
            Purpose::Client(ticket) => {
                ticket.connect(connected, now);
            }
            Purpose::Echo => self.core.with(|clients| {
                let key = clients.admit(Endpoint::Echo, encoding, &[]);
                clients.connect(key, connected, now);
            }),
        }
    }
}

/// Counts a connection, when it ends, that has shown no request, or by TLS no byte.
struct Silence<'a> {
    intake: &'a ConnectionIntake,
    transport: Transport,
    uncounted: Uncounted,
    place: &'a Place,
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let silent = self.uncounted.take().filter(|_| self.place.is_silent());
        let Some((limits, client)) = self.intake.limits().zip(silent) else { return };
        let now = self.intake.core.clock.now();
        match self.transport {
            Transport::Plain => limits.silent(client, now),
            Transport::Tls => limits.silent_tls(client, now),
        }
    }
}

/// Logs that accepting fails.
pub fn complain(error: &io::Error) {
    seldom!(warn, "cannot accept connections; trying again", %error);
}

/// Gives newcomers their turns, forever.
pub(super) async fn give_turns(intake: Rc<ConnectionIntake>) -> &'static str {
    tokio::join!(intake.pacer.give(), intake.tls_pacer.give());
    "turns"
}

/// Accepts connections, forever.
pub(super) async fn accept(
    intake: Rc<ConnectionIntake>,
    listener: Listener,
    entrance: Entrance,
) -> &'static str {
    let mut accepted = 0_usize;
    loop {
        accepted += 1;
        if accepted.is_multiple_of(NEWCOMERS_PER_TURN) {
            yield_now().await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Only now: room that was found before would be others' by the time it is needed.
                intake.places.room().await;
                intake.welcome(stream, entrance, peer.into());
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                complain(&error);
                intake.places.make_room();
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Takes what other threads have accepted for this shard, forever.
pub(super) async fn take_moved(
    intake: Rc<ConnectionIntake>,
    metrics: Arc<ShardMetrics>,
) -> &'static str {
    loop {
        let Moved { accepted, newcomer, why } = intake.placement.moved(intake.index).await;
        intake.places.room().await;
        metrics.connections_placed.add(why as usize, 1);
        let Accepted { stream, entrance } = accepted;
        match PeerAddress::of(&stream) {
            Some(peer) => intake.open(PlainStream::Bare(stream), entrance, peer, newcomer),
            None => debug!("a connection was gone before it got here"),
        }
    }
}

/// The error concerns the connection that was to be accepted, not the listener.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
