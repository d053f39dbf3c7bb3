//! The barrier that ends a drain: clients and requests hold it by guards, counted across threads.
//!
//! A client's guard lives from before its 101 until its descriptor is dropped, a request's until
//! its answer is written. The last guard dropped wakes the waiting task; nothing here polls or
//! sleeps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering, fence},
};

use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Counts {
    clients: AtomicUsize,
    requests: AtomicUsize,
    cut_off: AtomicUsize,
    last_call: AtomicBool,
    attended: AtomicBool,
    changed: Notify,
}

/// Counts the clients and requests that hold the drain open, across all threads.
#[derive(Clone, Debug, Default)]
pub struct Barrier(Arc<Counts>);

/// One client (until its descriptor is dropped) or one request in progress.
#[derive(Debug)]
pub struct Guard {
    counts: Arc<Counts>,
    /// None: the request came too late to be waited for.
    guarded: Option<Guarded>,
}

/// The kind of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guarded {
    Client,
    Request,
}

impl Barrier {
    /// A client's guard: taken before its 101 is written, and before the phase is looked at.
    #[must_use]
    pub fn client(&self) -> Guard {
        let guard = self.guard(Guarded::Client);
        // Pairs with the fence in `clients`: a thread that changes the phase and then counts
        // includes every client that has not seen the new phase.
        fence(Ordering::SeqCst);
        guard
    }

    /// A request's guard: from its headers to the end of its answer. After the last call it counts
    /// for nothing.
    #[must_use]
    pub fn request(&self) -> Guard {
        if self.0.last_call.load(Ordering::Acquire) {
            return Guard { counts: self.0.clone(), guarded: None };
        }
        self.guard(Guarded::Request)
    }

    fn guard(&self, guarded: Guarded) -> Guard {
        self.0.count(guarded).fetch_add(1, Ordering::AcqRel);
        Guard { counts: self.0.clone(), guarded: Some(guarded) }
    }

    /// The last client has left: requests that begin from now on are not waited for, since busy
    /// publishers could otherwise keep the process alive by turns.
    pub fn last_call(&self) {
        self.0.last_call.store(true, Ordering::Release);
    }

    /// Clients that hold the drain.
    #[must_use]
    pub fn clients(&self) -> usize {
        fence(Ordering::SeqCst);
        self.0.clients.load(Ordering::Acquire)
    }

    /// Requests in progress.
    #[must_use]
    pub fn requests(&self) -> usize {
        fence(Ordering::SeqCst);
        self.0.requests.load(Ordering::Acquire)
    }

    /// Clients that were dropped before their Close frame was completely in the kernel.
    #[must_use]
    pub fn cut_off(&self) -> usize {
        self.0.cut_off.load(Ordering::Acquire)
    }

    /// Counts a client that is cut off by the shutdown.
    pub fn count_cut_off(&self) {
        self.0.cut_off.fetch_add(1, Ordering::AcqRel);
    }

    /// From now on the last guard dropped wakes the task that waits for [`Barrier::left`]. Before a
    /// drain no task waits, and waking another thread after each request would cost more than the
    /// request. To be called before the count that decides whether to wait.
    pub fn attend(&self) {
        self.0.attended.store(true, Ordering::SeqCst);
    }

    /// The drain was taken back: no task waits, and clients that it has cut off are no concern of
    /// the next one.
    pub fn stand_down(&self) {
        self.0.attended.store(false, Ordering::SeqCst);
        self.0.cut_off.store(0, Ordering::Release);
    }

    /// Resolves when the last client or the last request has left since the last call; only after
    /// [`Barrier::attend`] has been called.
    ///
    /// # Cancel safety
    /// May be dropped: a departure in between is remembered.
    pub async fn left(&self) {
        self.0.changed.notified().await;
    }
}

impl Counts {
    fn count(&self, guarded: Guarded) -> &AtomicUsize {
        match guarded {
            Guarded::Client => &self.clients,
            Guarded::Request => &self.requests,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(guarded) = self.guarded else { return };
        // Both are sequentially consistent: either this thread sees that a task attends, or the
        // task that has begun to attend counts one fewer.
        if self.counts.count(guarded).fetch_sub(1, Ordering::SeqCst) == 1
            && self.counts.attended.load(Ordering::SeqCst)
        {
            self.counts.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_after_the_last_call_are_not_waited_for() {
        let barrier = Barrier::default();
        let before = barrier.request();
        barrier.last_call();
        let after = barrier.request();
        assert_eq!(barrier.requests(), 1);
        drop(before);
        assert_eq!(barrier.requests(), 0);
        drop(after);
        assert_eq!(barrier.requests(), 0);
    }

    #[test]
    fn leaving_wakes_nobody_before_somebody_attends() {
        let barrier = Barrier::default();
        drop(barrier.request());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let waits = async {
            tokio::select! {
                biased;
                () = barrier.left() => false,
                () = std::future::ready(()) => true,
            }
        };
        assert!(runtime.block_on(waits));
    }

    /// The barrier opens when the last guard of any thread is dropped.
    #[test]
    fn the_barrier_opens_with_the_last_guard() {
        let barrier = Barrier::default();
        barrier.attend();
        let guards: Vec<_> = (0..8).map(|_| barrier.client()).collect();
        let request = barrier.request();
        assert_eq!((barrier.clients(), barrier.requests()), (8, 1));
        let threads: Vec<_> =
            guards.into_iter().map(|guard| std::thread::spawn(move || drop(guard))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(barrier.clients(), 0);
        drop(request);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(barrier.left());
    }
}
