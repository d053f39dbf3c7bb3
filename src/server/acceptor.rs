//! The control thread's own accepting: the admin listener, and public connections for the shards.
//!
//! Public ones where the system can't spread connections over several sockets, and for a shard
//! that is silent (`stand_in`). It gives them away and never speaks HTTP with them.

use std::{io, rc::Rc, sync::Arc};

use tokio::{net::TcpListener, time::sleep};

use super::unix_socket::{Watched, accept};
use crate::{
    clock::Clock,
    http::{self, Places},
    limits::ACCEPT_BACKOFF,
    metrics::Placed,
    shard::{
        accept::{complain, is_of_one_connection},
        listener::{Accepted, Entrance},
        placement::Placement,
    },
};

/// Serves the admin routes, forever.
pub(super) async fn serve_admin(
    listener: TcpListener,
    places: Rc<Places>,
    context: Rc<http::Context>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                places.room().await;
                let context = context.clone();
                places.seat(0, move |place| async move {
                    let upgraded = http::serve(stream, peer, &context, &place).await;
                    debug_assert!(upgraded.is_none(), "admin listeners upgrade nothing");
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                complain(&error);
                places.make_room();
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Accepts and gives each connection to the live shard that holds least, forever.
///
/// # Cancel safety
/// May be dropped: what was accepted is given away before the next await.
pub(super) async fn hand_out(
    listener: TcpListener,
    entrance: Entrance,
    placement: Arc<Placement>,
    why: Placed,
    clock: Clock,
) {
    let accept = async || {
        let stream = listener.accept().await.and_then(|(stream, _)| stream.into_std())?;
        Ok(Accepted { stream, entrance })
    };
    give_away(accept, placement, why, clock).await;
}

/// The same for a Unix socket.
pub(super) async fn hand_out_unix(
    listener: Watched,
    entrance: Entrance,
    placement: Arc<Placement>,
    clock: Clock,
) {
    let accept = async || {
        let stream = accept(&listener).await?;
        Ok(Accepted { stream, entrance })
    };
    give_away(accept, placement, Placed::Acceptor, clock).await;
}

async fn give_away(
    accept: impl AsyncFn() -> io::Result<Accepted>,
    placement: Arc<Placement>,
    why: Placed,
    clock: Clock,
) {
    loop {
        // No shard can take it: it waits in the kernel.
        placement.room(clock).await;
        match accept().await {
            Ok(accepted) => placement.place(accepted, why, clock.now()),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                complain(&error);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}
