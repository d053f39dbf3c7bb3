//! The connections of a shard, from accept to their ends, or until they are clients.
//!
//! Storms are paced: only a limited number is served before other tasks have their turn. The
//! placement decides whether a connection stays here; one that was moved here stays. All can be
//! made to stop, and go on here or in another process.

use std::{cell::Cell, future::poll_fn, io, pin::pin, rc::Rc, sync::Arc, task::ready};

use bytes::Bytes;
use tracing::debug;

use super::{
    core::Core,
    gate::Gate,
    handshake_pacer::{HandshakePacer, HandshakeTurn},
    listener::{Accepted, Entrance, Entrances, Transport, bound_kernel_memory},
    placement::{Moved, Newcomer, Placement},
    proxy_header::{self, Known},
    stream::{PlainStream, Stream, TlsAcceptor, TlsStream, Uncounted},
};
use crate::{
    admission::AddressLimits,
    conn::{Connected, Endpoint},
    http::{self, ConnectionRecord, Place, Places, Purpose, Upgraded},
    limits::{NEWCOMERS_PER_TURN, TLS_HANDSHAKES_PER_TURN},
    metrics::Placed,
    peer::{Announced, ClientAddress, FarEnd, PeerAddress},
};

/// The state shared by all ways into the shard.
///
/// # Handing connections over
/// First the gates of all threads are closed. Then every shard suspends its connections and waits
/// until none is under way, or no longer; those that have stopped are recorded. Then they go on
/// here, or the other process has them. There they were restored behind a closed gate, and begin
/// when its shard resumes.
pub(super) struct ConnectionIntake {
    core: Rc<Core>,
    context: Rc<http::Context>,
    places: Rc<Places>,
    pacer: HandshakePacer,
    /// Handshakes of TLS cost so much more that they have turns of their own.
    tls_pacer: HandshakePacer,
    /// Where there is a listener for it.
    tls: Option<Rc<TlsAcceptor>>,
    ways: Ways,
    /// Connections that a loop has taken and not seated yet.
    in_hand: Cell<usize>,
}

/// The ways to one shard.
pub(super) struct Ways {
    pub(super) placement: Arc<Placement>,
    /// The shard's number.
    pub(super) index: usize,
    pub(super) entrances: Arc<Entrances>,
}

/// The beginning of a connection, as far as it is known already.
#[derive(Default)]
struct Beginning {
    unparsed: Bytes,
    /// `None`: whether a proxy announces its client is still to be seen.
    announced: Option<Announced>,
}

impl ConnectionIntake {
    /// Behind a closed gate it is suspended from the beginning.
    pub(super) fn new(
        core: Rc<Core>,
        context: Rc<http::Context>,
        places: Rc<Places>,
        tls: Option<TlsAcceptor>,
        ways: Ways,
    ) -> Rc<Self> {
        if core.entrance.is_closed() {
            places.suspend();
        }
        Rc::new(Self {
            core,
            context,
            places,
            pacer: HandshakePacer::new(NEWCOMERS_PER_TURN),
            tls_pacer: HandshakePacer::new(TLS_HANDSHAKES_PER_TURN),
            tls: tls.map(Rc::new),
            ways,
            in_hand: Cell::new(0),
        })
    }

    /// Every connection stops where nothing is owed to its peer. The gate is closed.
    pub(super) fn suspend(&self) {
        self.places.suspend();
    }

    /// How many connections have not stopped yet: those with requests under way, and those that the
    /// shard has not got to. The gates of all threads are closed, or more may come.
    pub(super) fn under_way(&self) -> usize {
        let on_their_way = self.ways.placement.on_their_way(self.ways.index);
        on_their_way + self.in_hand.get() + self.places.under_way()
    }

    /// Resolves when no connection is under way any more.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(super) async fn all_stopped(&self) {
        while self.under_way() > 0 {
            self.places.stopped().await;
        }
    }

    /// The connections that have stopped and can go on in another process, each with another
    /// descriptor of its socket, made when the iterator gets to it: not those by TLS.
    pub(super) fn suspended(
        &self,
    ) -> impl Iterator<Item = (ConnectionRecord, std::net::TcpStream)> + use<> {
        let entrances = self.ways.entrances.clone();
        self.places.suspended().map(move |(listener, mut record, stream)| {
            record.listener = entrances.name(listener).to_owned();
            (record, stream)
        })
    }

    /// All connections that have stopped go on here.
    pub(super) fn resume(&self) {
        self.places.resume();
    }

    /// Another process has the connections that were recorded: they are closed here, and nothing is
    /// said. The others end with the answers that they wait for; those by TLS are served until
    /// then.
    pub(super) fn let_go(&self) {
        self.places.let_go();
    }

    /// A connection of another process is here, and begins when the shard resumes. `stream` does
    /// not block, and is not touched before.
    pub(super) fn restore(self: &Rc<Self>, record: &ConnectionRecord, stream: std::net::TcpStream) {
        let Some(peer) = PeerAddress::of(&stream) else {
            return debug!("a connection was gone before it got here");
        };
        let listener = self.ways.entrances.plain(&record.listener);
        let newcomer = self.ways.placement.newcomer(self.ways.index);
        let beginning =
            Beginning { unparsed: record.unparsed().clone(), announced: record.announced() };
        let (intake, stream) = (self.clone(), PlainStream::Bare(stream));
        self.places.restore(listener, record, move |place| {
            intake.drive(stream, Transport::Plain, peer, beginning, place, newcomer)
        });
    }

    /// A connection from this shard's own socket: it stays, unless others have fewer.
    pub(super) fn welcome(
        self: &Rc<Self>,
        stream: PlainStream,
        entrance: Entrance,
        peer: PeerAddress,
    ) {
        // A connection on its way would be waited for when all are to stop.
        if self.core.entrance.is_closed() || !self.ways.placement.passes_on(self.ways.index) {
            let newcomer = self.ways.placement.newcomer(self.ways.index);
            return self.open(stream, entrance, peer, newcomer);
        }
        match stream.into_std() {
            Ok(stream) => {
                let accepted = Accepted { stream, entrance };
                self.ways.placement.place(accepted, Placed::Balance, self.core.clock.now());
            }
            Err(error) => debug!(%peer, %error, "lost on its way to another shard"),
        }
    }

    /// A connection that stays here.
    pub(super) fn open(
        self: &Rc<Self>,
        stream: PlainStream,
        entrance: Entrance,
        peer: PeerAddress,
        newcomer: Newcomer,
    ) {
        let intake = self.clone();
        let Entrance { listener, transport } = entrance;
        self.places.seat(listener, move |place| {
            intake.drive(stream, transport, peer, Beginning::default(), place, newcomer)
        });
    }

    /// Serves a connection to its end, or until it is a client.
    async fn drive(
        self: Rc<Self>,
        stream: PlainStream,
        transport: Transport,
        peer: PeerAddress,
        beginning: Beginning,
        place: Place,
        newcomer: Newcomer,
    ) {
        let pacer = match transport {
            Transport::Plain => &self.pacer,
            Transport::Tls => &self.tls_pacer,
        };
        let upgraded = {
            let mut serving = pin!(self.serve(stream, transport, peer, beginning, &place));
            let mut turn = HandshakeTurn::default();
            poll_fn(|cx| {
                // It takes none to stop.
                if !place.is_suspending() {
                    let its_turn = pacer.poll(&mut turn, cx);
                    place.set_queued(its_turn.is_pending());
                    ready!(its_turn);
                }
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
            // A handshake that took too long in the pause of a hand-over changes nothing then.
            self.core.output.opened().await;
            self.connect(upgraded, peer);
        }
        // Last: a client is in the gauge by now.
        drop(newcomer);
    }

    /// Hears what a proxy announces, then speaks HTTP, below TLS where that is spoken.
    async fn serve(
        &self,
        stream: PlainStream,
        transport: Transport,
        peer: PeerAddress,
        beginning: Beginning,
        place: &Place,
    ) -> Option<Upgraded<Stream>> {
        let settings = &self.context.settings;
        let Beginning { unparsed, announced } = beginning;
        let Known { stream, far_end, unparsed } = match announced {
            Some(announced) => Known { stream, far_end: FarEnd { peer, announced }, unparsed },
            None => proxy_header::far_end(stream, unparsed, peer, place, settings).await?,
        };
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
                http::serve_on(stream, unparsed, far_end, &self.context, place).await
            }
            Err(error) => {
                debug!(%peer, %error, "lost before it spoke");
                None
            }
        }
    }

    /// Waits for a place, with a connection that a loop has taken; behind a closed gate it takes
    /// one that is to spare, and stops in it.
    pub(super) async fn room(&self) -> InHand<'_> {
        let in_hand = InHand::of(self);
        let _closed = self.core.entrance.while_open(self.places.room()).await;
        in_hand
    }

    /// Another resource than places is short.
    pub(super) fn make_room(&self) {
        self.places.make_room();
    }

    /// Closed while nothing may be accepted.
    pub(super) fn gate(&self) -> &Gate {
        &self.core.entrance
    }

    /// The next connection that another thread has accepted for this shard.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(super) async fn moved(&self) -> Moved {
        self.ways.placement.moved(self.ways.index).await
    }

    /// Gives newcomers their turns, forever.
    pub(super) async fn give_turns(&self) {
        tokio::join!(self.pacer.give(), self.tls_pacer.give());
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

/// Counts a connection that a loop has taken, until it is seated.
pub(super) struct InHand<'a>(&'a ConnectionIntake);

impl<'a> InHand<'a> {
    fn of(intake: &'a ConnectionIntake) -> Self {
        intake.in_hand.set(intake.in_hand.get() + 1);
        Self(intake)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        let ConnectionIntake { in_hand, places, .. } = self.0;
        in_hand.set(in_hand.get() - 1);
        places.one_has_stopped();
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
