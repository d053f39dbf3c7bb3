//! The control thread's own accepting: the admin listener, and public connections for the shards.
//!
//! Public ones where the system can't spread connections over several sockets, and for a shard
//! that is silent (`stand_in`). It gives them away and never speaks HTTP with them.

use std::{cell::Cell, io, rc::Rc, sync::Arc};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tracing::debug;

use super::unix_socket::{Watched, accept};
use crate::{
    clock::Clock,
    http::{self, ConnectionRecord, Place, Places},
    limits::ACCEPT_BACKOFF,
    metrics::Placed,
    peer::FarEnd,
    shard::{
        accept::{complain, is_of_one_connection},
        gate::Gate,
        listener::{Accepted, Entrance},
        placement::Placement,
    },
};

/// The way to the admin routes. Its connections are handed over as those of a shard.
pub(super) struct AdminIntake {
    gate: Rc<Gate>,
    places: Rc<Places>,
    context: Rc<http::Context>,
    /// A connection is accepted and not seated yet.
    has_in_hand: Cell<bool>,
}

impl AdminIntake {
    /// Behind a closed gate it is suspended from the beginning.
    pub(super) fn new(gate: Rc<Gate>, places: Rc<Places>, context: Rc<http::Context>) -> Rc<Self> {
        if gate.is_closed() {
            places.suspend();
        }
        Rc::new(Self { gate, places, context, has_in_hand: Cell::new(false) })
    }

    /// Every connection stops where nothing is owed to its peer. The gate is closed.
    pub(super) fn suspend(&self) {
        self.places.suspend();
    }

    /// How many connections have not stopped yet.
    pub(super) fn under_way(&self) -> usize {
        usize::from(self.has_in_hand.get()) + self.places.under_way()
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

    /// The connections that have stopped, each with another descriptor of its socket, made when the
    /// iterator gets to it.
    pub(super) fn suspended(
        &self,
    ) -> impl Iterator<Item = (ConnectionRecord, std::net::TcpStream)> + use<> {
        self.places.suspended().map(|(_, record, stream)| (record, stream))
    }

    /// All connections that have stopped go on here.
    pub(super) fn resume(&self) {
        self.places.resume();
    }

    /// Another process has the connections that were recorded: they are closed here, and nothing is
    /// said. The others end with the answers that they wait for.
    pub(super) fn let_go(&self) {
        self.places.let_go();
    }

    /// A connection of another process is here, and begins when this resumes. `stream` does not
    /// block, and is not touched before.
    pub(super) fn restore(self: &Rc<Self>, record: &ConnectionRecord, stream: std::net::TcpStream) {
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(%error, "a connection cannot be watched"),
        };
        let Ok(peer) = stream.peer_addr() else {
            return debug!("a connection was gone before it got here");
        };
        let (intake, unparsed) = (self.clone(), record.unparsed().clone());
        self.places
            .restore(0, record, move |place| intake.drive(stream, unparsed, peer.into(), place));
    }

    /// Serves the admin routes, forever.
    pub(super) async fn serve(self: Rc<Self>, listener: TcpListener) {
        loop {
            match self.gate.while_open(listener.accept()).await {
                None => self.gate.opened().await,
                Some(Ok((stream, peer))) => {
                    self.has_in_hand.set(true);
                    // Behind a closed gate it takes a place that is to spare, and stops in it.
                    let _closed = self.gate.while_open(self.places.room()).await;
                    let intake = self.clone();
                    self.places.seat(0, move |place| {
                        intake.drive(stream, Bytes::new(), peer.into(), place)
                    });
                    self.has_in_hand.set(false);
                }
                Some(Err(error)) if is_of_one_connection(&error) => {}
                Some(Err(error)) => {
                    complain(&error);
                    self.places.make_room();
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn drive(
        self: Rc<Self>,
        stream: TcpStream,
        unparsed: Bytes,
        far_end: FarEnd,
        place: Place,
    ) {
        let upgraded = http::serve_on(stream, unparsed, far_end, &self.context, &place).await;
        debug_assert!(upgraded.is_none(), "admin listeners upgrade nothing");
    }
}

/// The way of accepted connections to the shards.
#[derive(Clone)]
pub(super) struct HandOut {
    /// Nothing is accepted while it is closed.
    pub(super) gate: Rc<Gate>,
    pub(super) placement: Arc<Placement>,
    pub(super) clock: Clock,
}

impl HandOut {
    /// Accepts and gives each connection to the live shard that holds least, forever.
    ///
    /// # Cancel safety
    /// May be dropped: what was accepted is given away before the next await.
    pub(super) async fn tcp(self, listener: TcpListener, entrance: Entrance, why: Placed) {
        let accept = async || {
            let stream = listener.accept().await.and_then(|(stream, _)| stream.into_std())?;
            Ok(Accepted { stream, entrance })
        };
        self.give_away(accept, why).await;
    }

    /// The same for a Unix socket.
    pub(super) async fn unix(self, listener: Watched, entrance: Entrance) {
        let accept = async || {
            let stream = accept(&listener).await?;
            Ok(Accepted { stream, entrance })
        };
        self.give_away(accept, Placed::Acceptor).await;
    }

    async fn give_away(self, accept: impl AsyncFn() -> io::Result<Accepted>, why: Placed) {
        let Self { gate, placement, clock } = self;
        loop {
            let accepted = gate.while_open(async {
                // No shard can take it: it waits in the kernel.
                placement.room(clock).await;
                accept().await
            });
            match accepted.await {
                None => gate.opened().await,
                Some(Ok(accepted)) => placement.place(accepted, why, clock.now()),
                Some(Err(error)) if is_of_one_connection(&error) => {}
                Some(Err(error)) => {
                    complain(&error);
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
