//! From the listening socket to a client: accept, HTTP, hand-over.
//!
//! The number of HTTP connections is bounded by places. Past it, connections that wait for their
//! peer make room; only where none does, newcomers wait in the kernel. Storms are paced: only a
//! limited number of connections is accepted, and served, before other tasks have their turn. The
//! placement decides whether a connection stays here; one that was moved here stays. When
//! descriptors run out, accepting pauses, says so once a second, and resumes by itself.

use std::{future::poll_fn, io, pin::pin, rc::Rc, sync::Arc, task::ready};

use tokio::{task::yield_now, time::sleep};
use tracing::debug;

use super::{
    core::Core,
    handshake_pacer::{HandshakePacer, HandshakeTurn},
    listener::bound_kernel_memory,
    placement::{Moved, Newcomer, Placement},
    proxy_header,
    stream::{Listener, Stream},
};
use crate::{
    conn::{Connected, Endpoint},
    http::{self, Place, Places, Purpose, Upgraded},
    limits::{ACCEPT_BACKOFF, NEWCOMERS_PER_TURN},
    metrics::{Placed, ShardMetrics},
    peer::PeerAddress,
    telemetry::seldom,
};

/// The state shared by all ways into the shard.
pub(super) struct ConnectionIntake {
    core: Rc<Core>,
    context: Rc<http::Context>,
    places: Rc<Places>,
    pacer: HandshakePacer,
    placement: Arc<Placement>,
    /// This shard.
    index: usize,
}

impl ConnectionIntake {
    pub(super) fn new(
        core: Rc<Core>,
        context: Rc<http::Context>,
        places: Rc<Places>,
        placement: Arc<Placement>,
        index: usize,
    ) -> Self {
        Self { core, context, places, pacer: HandshakePacer::default(), placement, index }
    }

    /// A connection from this shard's own socket: it stays, unless others have fewer.
    fn welcome(self: &Rc<Self>, stream: Stream, peer: PeerAddress) {
        if !self.placement.passes_on(self.index) {
            let newcomer = self.placement.newcomer(self.index);
            return self.open(stream, peer, newcomer);
        }
        match stream.into_std() {
            Ok(stream) => self.placement.place(stream, Placed::Balance, self.core.clock.now()),
            Err(error) => debug!(%peer, %error, "lost on its way to another shard"),
        }
    }

    fn open(self: &Rc<Self>, stream: Stream, peer: PeerAddress, newcomer: Newcomer) {
        let intake = self.clone();
        self.places.seat(move |place| async move {
            let upgraded = {
                let mut serving = pin!(intake.serve(stream, peer, &place));
                let mut turn = HandshakeTurn::default();
                poll_fn(|cx| {
                    let its_turn = intake.pacer.poll(&mut turn, cx);
                    place.set_queued(its_turn.is_pending());
                    ready!(its_turn);
                    serving.as_mut().poll(cx)
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

    /// Hears what a proxy announces, then speaks HTTP.
    async fn serve(
        &self,
        mut stream: Stream,
        peer: PeerAddress,
        place: &Place,
    ) -> Option<Upgraded<Stream>> {
        let settings = &self.context.settings;
        let far_end = proxy_header::far_end(&mut stream, peer, settings).await?;
        http::serve(stream, far_end, &self.context, place).await
    }

    /// The 101 is out: the stream leaves the runtime and becomes a client of the table.
    fn connect(&self, upgraded: Upgraded<Stream>, peer: PeerAddress) {
        let Upgraded {
            stream,
            leftover,
            purpose,
            encoding,
            publisher,
            client,
            forwarded,
            guard,
            address_guard,
        } = upgraded;
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "lost after its handshake"),
        };
        bound_kernel_memory(&stream);
        let now = self.core.clock.now();
        let connected =
            Connected { stream, leftover, publisher, client, forwarded, guard, address_guard };
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

/// Logs that accepting fails.
pub fn complain(error: &io::Error) {
    seldom!(warn, "cannot accept connections; trying again", %error);
}

/// Gives newcomers their turns, forever.
pub(super) async fn give_turns(intake: Rc<ConnectionIntake>) -> &'static str {
    intake.pacer.give().await;
    "turns"
}

/// Accepts connections, forever.
pub(super) async fn accept(intake: Rc<ConnectionIntake>, listener: Listener) -> &'static str {
    let mut accepted = 0_usize;
    loop {
        accepted += 1;
        if accepted.is_multiple_of(NEWCOMERS_PER_TURN) {
            yield_now().await;
        }
        intake.places.room().await;
        match listener.accept().await {
            Ok((stream, peer)) => intake.welcome(stream, peer.into()),
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
        intake.places.room().await;
        let Moved { stream, newcomer, why } = intake.placement.moved(intake.index).await;
        metrics.connections_placed.add(why as usize, 1);
        match PeerAddress::of(&stream) {
            Some(peer) => intake.open(Stream::Bare(stream), peer, newcomer),
            None => debug!("a connection was gone before it got here"),
        }
    }
}

/// The error concerns the connection that was to be accepted, not the listener.
pub fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
