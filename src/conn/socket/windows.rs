//! Clients' sockets on Windows: the runtime's own, a task per client that waits for readiness.
//!
//! There is no descriptor to nest one poll in another here. The state machine above is the same:
//! the tasks only say "ready", the shard's one event loop does the work.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{io::Interest, net::TcpStream, sync::Notify};

use super::ready::Ready;
use crate::hub::Key;

#[derive(Debug)]
struct Shared {
    stream: TcpStream,
    want_writable: Cell<bool>,
    /// Input was reported to the shard, which has not yet read until there was none.
    readable_told: Cell<bool>,
    /// Wakes the task when one of the two has changed.
    rearmed: Notify,
}

/// A connected client's socket.
#[derive(Debug)]
pub struct Live {
    shared: Rc<Shared>,
    task: tokio::task::AbortHandle,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Live {
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.shared.stream.try_read(buffer);
        if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.shared.readable_told.set(false);
            self.shared.rearmed.notify_one();
        }
        result
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.shared.stream.try_write_vectored(slices)
    }

    pub(super) fn give_up_after(&self, _silence: Duration) {
        // Windows itself gives up after some 20 s.
    }

    #[expect(clippy::unused_self, reason = "the same signature as on Unix")]
    pub(super) fn duplicate(&self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn peer_address(&self) -> Option<SocketAddr> {
        self.shared.stream.peer_addr().ok()
    }

    pub(super) fn acknowledged_bytes(&self) -> Option<u64> {
        None
    }

    pub(super) fn acknowledgement_age(&self) -> Option<Duration> {
        None
    }

    pub(super) fn shutdown_write(&self) {
        // Fails only when the peer is gone already, which the next read tells.
        let _ = socket2::SockRef::from(&self.shared.stream).shutdown(Shutdown::Write);
    }

    pub(super) fn reset_on_drop(&self) {
        // Best effort: without it the kernel keeps unsent bytes for a peer that takes none.
        let _ = socket2::SockRef::from(&self.shared.stream).set_linger(Some(Duration::ZERO));
    }
}

#[derive(Debug, Default)]
struct Queue {
    ready: RefCell<Vec<Ready>>,
    filled: Notify,
}

/// Starts the waiting tasks.
#[derive(Debug)]
pub struct Registry(Rc<Queue>);

impl Registry {
    pub(super) fn register(&self, stream: std::net::TcpStream, key: Key) -> io::Result<Live> {
        let shared = Rc::new(Shared {
            stream: TcpStream::from_std(stream)?,
            want_writable: Cell::new(false),
            readable_told: Cell::new(false),
            rearmed: Notify::new(),
        });
        let task = tokio::task::spawn_local(watch(shared.clone(), key, self.0.clone()));
        Ok(Live { shared, task: task.abort_handle() })
    }

    #[expect(clippy::unnecessary_wraps, reason = "the same signature as on Unix, where it fails")]
    pub(super) fn arm(&self, live: &mut Live, _key: Key, writable: bool) -> io::Result<()> {
        live.shared.want_writable.set(writable);
        live.shared.rearmed.notify_one();
        Ok(())
    }

    pub(super) fn deregister(&self, live: &mut Live) {
        live.task.abort();
    }
}

/// Reports readiness once; again after the shard has used it up, or asked again.
async fn watch(shared: Rc<Shared>, key: Key, queue: Rc<Queue>) {
    loop {
        let (told, wanted) = (shared.readable_told.get(), shared.want_writable.get());
        let ready = tokio::select! {
            ready = shared.stream.ready(Interest::READABLE), if !told => {
                shared.readable_told.set(true);
                let ended = ready.map_or(true, |ready| ready.is_read_closed());
                Ready { key, readable: true, writable: false, ended }
            }
            _ = shared.stream.ready(Interest::WRITABLE), if wanted => {
                shared.want_writable.set(false);
                Ready { key, readable: false, writable: true, ended: false }
            }
            () = shared.rearmed.notified() => continue,
        };
        queue.ready.borrow_mut().push(ready);
        queue.filled.notify_one();
    }
}

/// The shard's list of ready sockets.
#[derive(Debug)]
pub struct Poller(Rc<Queue>);

impl Poller {
    /// An empty list, and the door to it.
    ///
    /// # Errors
    /// Never; the signature is shared with Unix.
    pub fn new() -> io::Result<(Self, Registry)> {
        let queue = Rc::new(Queue::default());
        Ok((Self(queue.clone()), Registry(queue)))
    }

    /// Waits until some sockets are ready, and appends them to `into`.
    ///
    /// # Cancel safety
    /// May be dropped: nothing is taken before it resolves.
    ///
    /// # Errors
    /// Never; the signature is shared with Unix.
    pub async fn ready(&mut self, into: &mut Vec<Ready>) -> io::Result<()> {
        loop {
            into.append(&mut self.0.ready.borrow_mut());
            if !into.is_empty() {
                return Ok(());
            }
            self.0.filled.notified().await;
        }
    }
}
