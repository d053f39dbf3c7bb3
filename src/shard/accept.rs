//! From the listening socket to a client: accept, HTTP, hand-over.
//!
//! The number of HTTP connections is bounded by permits; past it connections wait in the kernel.
//! When descriptors run out, accepting pauses and says so once a second, and goes on by itself.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{debug, warn};

use super::{
    Admitted, Core,
    listener::bound_kernel_memory,
    stream::{Listener, Stream},
};
use crate::{
    clock,
    conn::{Connected, Endpoint},
    http::{self, Upgraded},
    limits::{ACCEPT_BACKOFF, ACCEPT_COMPLAINT_INTERVAL, HTTP_CONNECTIONS_PER_SHARD_MAX},
};

/// What every way into the shard shares.
pub(super) struct Door {
    core: Rc<Core>,
    context: Rc<http::Context>,
    permits: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(core: Rc<Core>, context: Rc<http::Context>) -> Self {
        let permits = Arc::new(Semaphore::new(HTTP_CONNECTIONS_PER_SHARD_MAX));
        Self { core, context, permits }
    }

    /// A connection that another thread has accepted.
    pub(super) fn take(self: &Rc<Self>, stream: std::net::TcpStream) {
        // Past the bound there is no queue to leave it in.
        if let (Ok(peer), Ok(permit)) =
            (stream.peer_addr(), self.permits.clone().try_acquire_owned())
        {
            self.open(Stream::Bare(stream), peer, permit);
        }
    }

    fn open(self: &Rc<Self>, stream: Stream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let door = self.clone();
        tokio::task::spawn_local(async move {
            let upgraded = http::serve(stream, peer, &door.context).await;
            drop(permit);
            if let Some(upgraded) = upgraded {
                door.connect(upgraded, peer);
            }
        });
    }

    /// The 101 is out: the stream leaves the runtime and becomes a client of the table.
    fn connect(&self, upgraded: Upgraded<Stream>, peer: SocketAddr) {
        let Upgraded { stream, leftover, endpoint, may_publish, admission, guard, .. } = upgraded;
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return debug!(%peer, %error, "lost after its handshake"),
        };
        bound_kernel_memory(&stream);
        let now = clock::now();
        let connected = Connected { stream, leftover, may_publish, guard };
        self.core.with(|clients| {
            let admitted = admission.and_then(|any| any.downcast::<Admitted>().ok());
            let key = match (endpoint, &admitted) {
                (Endpoint::Ws, Some(admitted)) => {
                    admitted.connected.set(true);
                    admitted.key
                }
                _ => clients.admit(endpoint, &[]),
            };
            clients.connect(key, connected, now);
        });
    }
}

/// Says that accepting fails: one line in a while, of all threads together.
pub fn complain(error: &io::Error) {
    static NEXT_MS: AtomicU64 = AtomicU64::new(0);
    let now = clock::now();
    let next = NEXT_MS.load(Ordering::Relaxed);
    let after = (now + ACCEPT_COMPLAINT_INTERVAL).0;
    let is_due = next <= now.0;
    if is_due && NEXT_MS.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        warn!(%error, "cannot accept connections; trying again");
    }
}

/// Accepts for ever.
pub(super) async fn accept(door: Rc<Door>, listener: Listener) -> &'static str {
    loop {
        let Ok(permit) = door.permits.clone().acquire_owned().await else { return "accept" };
        match listener.accept().await {
            Ok((stream, peer)) => door.open(stream, peer, permit),
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                complain(&error);
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// The error concerns the connection that was to be accepted, not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
