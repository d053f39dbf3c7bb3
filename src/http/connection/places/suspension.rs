//! Connections stop, so that another process can go on with them.
//!
//! Each stops where its server owes its peer nothing: between two requests, or before the end of a
//! head or of what a proxy announces. From there its task waits here, with the stream and the bytes
//! that were read and not parsed, and keeps its place. Requests that are under way come to their
//! end before. Then all go on here ([`Places::resume`]), or another process has those that were
//! recorded ([`Places::let_go`]), and they are closed here without a word.

use std::{future::poll_fn, net::TcpStream, rc::Rc, task, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Place, Places, Stage, Standing,
    suspended::{Course, Suspended},
};
use crate::{
    http::connection::{
        record::{Awaited, ConnectionRecord},
        wire::Wire,
    },
    limits::HTTP_HEAD_DEADLINE,
    peer::Announced,
    telemetry::seldom,
};

impl Places {
    /// From here on every connection stops where nothing is owed to its peer.
    pub fn suspend(&self) {
        self.take_course(Course::Suspending);
    }

    /// All connections that have stopped go on here.
    pub fn resume(&self) {
        self.take_course(Course::Serving);
    }

    /// Another process has the connections that were recorded: they are closed here. Others go on
    /// until the answer that they are waiting for is sent.
    pub fn let_go(&self) {
        self.take_course(Course::LetGo);
    }

    fn take_course(&self, course: Course) {
        self.course.set(course);
        for (_, one) in &*self.seated.borrow() {
            if let (Course::Suspending, Some(suspended)) =
                (course, &mut *one.suspended.borrow_mut())
            {
                suspended.is_recorded = false;
            }
            if let Some(waker) = &*one.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// How many connections have not stopped yet. Those that only wait for their peer stop at
    /// their tasks' next turns.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.seated.borrow().iter().filter(|(_, one)| one.is_under_way()).count()
    }

    /// Resolves when one more connection has stopped, or is gone, since the last time.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// A caller that waits for [`Places::stopped`] looks again.
    pub fn one_has_stopped(&self) {
        if self.course.get() == Course::Suspending {
            self.stopped.notify_one();
        }
    }

    /// The connections that have stopped and can go on in another process, each with the number of
    /// its listener and another descriptor of its socket. Each is recorded when the iterator gets
    /// to it.
    pub fn suspended(&self) -> impl Iterator<Item = (usize, ConnectionRecord, TcpStream)> + use<> {
        let seated: Vec<_> = self.seated.borrow().iter().map(|(_, one)| one.clone()).collect();
        seated.into_iter().filter_map(|one| one.record())
    }

    /// Seats a connection of another process at a listener, by its number, and starts the task
    /// that drives it.
    pub fn restore<F>(
        self: &Rc<Self>,
        listener: usize,
        record: &ConnectionRecord,
        drive: impl FnOnce(Place) -> F,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let place = self.enter_at(listener);
        let one = &place.0;
        let now = one.now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap_or(now);
        one.accepted.set(ago(record.accepted_ago_ms));
        one.set_stage(match record.awaited {
            Awaited::FirstRequest => Stage::Fresh,
            Awaited::NextRequest => Stage::Idle,
            Awaited::Head => Stage::Head,
        });
        one.since.set(ago(record.since_ago_ms));
        one.has_published.set(record.has_published);
        Self::start(place, drive);
    }
}

impl Place {
    /// Whether the connection is to stop where nothing is owed to its peer.
    #[must_use]
    pub fn is_suspending(&self) -> bool {
        self.0.is_suspending()
    }

    /// When the first request's head has to be there, with all that comes before it.
    #[must_use]
    pub fn head_due(&self) -> Instant {
        self.0.since() + HTTP_HEAD_DEADLINE
    }

    /// The connection's task waits for its peer, and has to wake up if it is to stop.
    pub fn waits(&self, cx: &task::Context<'_>) {
        self.0.waits(cx);
    }

    /// The connection stops before its proxy has announced whose it is, which begins with these
    /// bytes. Resolves when it goes on here; `None`: another process has it.
    ///
    /// # Cancel safety
    /// May be dropped: the stream is then, too.
    pub async fn suspend<I: Wire + 'static>(&self, stream: I, unparsed: Bytes) -> Option<I> {
        self.0.suspend(stream, unparsed, None).await
    }
}

impl Standing {
    /// Whether the connection is to stop where nothing is owed to its peer.
    pub(in crate::http) fn is_suspending(&self) -> bool {
        self.places.course.get() == Course::Suspending
    }

    /// Whether another process serves by now: nothing is to begin here any more.
    pub(in crate::http) fn has_let_go(&self) -> bool {
        self.places.course.get() == Course::LetGo
    }

    /// The connection's task waits for its peer, and has to wake up if it is to stop.
    pub(in crate::http) fn waits(&self, cx: &task::Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// The connection stops with these bytes unparsed. Resolves when it goes on here; `None`:
    /// another process has it.
    ///
    /// # Cancel safety
    /// May be dropped: the stream is then, too.
    pub(in crate::http) async fn suspend<I: Wire + 'static>(
        &self,
        stream: I,
        unparsed: Bytes,
        announced: Option<Announced>,
    ) -> Option<I> {
        let stream = Rc::new(stream);
        let suspended =
            Suspended { stream: stream.clone(), unparsed, announced, is_recorded: false };
        self.suspended.replace(Some(Box::new(suspended)));
        self.places.one_has_stopped();
        poll_fn(|cx| {
            self.waits(cx);
            if self.is_suspending() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let is_recorded = self.suspended.take().is_some_and(|one| one.is_recorded);
        if is_recorded && self.has_let_go() {
            // It is the other process that counts it if it stays so.
            self.is_silent.set(false);
            return None;
        }
        Some(Rc::into_inner(stream).expect("nobody else keeps it"))
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.borrow().is_some()
    }

    fn is_under_way(&self) -> bool {
        !self.is_suspended() && !matches!(self.stage.get(), Stage::Lingering | Stage::Leaving)
    }

    fn record(&self) -> Option<(usize, ConnectionRecord, TcpStream)> {
        let mut suspended = self.suspended.borrow_mut();
        let suspended = suspended.as_mut()?;
        let awaited = match self.stage.get() {
            Stage::Fresh => Awaited::FirstRequest,
            Stage::Idle => Awaited::NextRequest,
            Stage::Head => Awaited::Head,
            Stage::Busy | Stage::Answering | Stage::Lingering | Stage::Leaving => return None,
        };
        let stream = match suspended.stream.duplicate()? {
            Ok(stream) => stream,
            Err(error) => {
                seldom!(warn, "an HTTP connection cannot be handed over", %error);
                return None;
            }
        };
        suspended.is_recorded = true;
        let now = self.now();
        let ago = |then| {
            let ago = now.saturating_duration_since(then).as_millis();
            u64::try_from(ago).unwrap_or(u64::MAX)
        };
        let record = ConnectionRecord {
            listener: String::new(),
            unparsed: suspended.unparsed.clone(),
            announced: suspended.announced.map(Into::into),
            awaited,
            since_ago_ms: ago(self.since.get()),
            accepted_ago_ms: ago(self.accepted.get()),
            has_published: self.has_published.get(),
        };
        Some((self.listener, record, stream))
    }
}

#[cfg(test)]
mod tests {
    use std::{net, sync::Arc};

    use tokio::{net::TcpStream, task::LocalSet, time::advance};

    use super::*;
    use crate::{clock::Clock, http::connection::places::Room};

    /// A connection that is handed over twice is as old as it is, and its deadlines stay.
    #[tokio::test(start_paused = true)]
    async fn a_restored_connection_keeps_its_age() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Places::new(Clock::start(), Room::of(9), 2, Arc::default());
        places.suspend();
        let test = async {
            for awaited in [Awaited::FirstRequest, Awaited::NextRequest, Awaited::Head] {
                let stream = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                stream.set_nonblocking(true).unwrap();
                let stream = TcpStream::from_std(stream).unwrap();
                let record = ConnectionRecord {
                    listener: String::new(),
                    unparsed: "some".into(),
                    announced: None,
                    awaited,
                    since_ago_ms: 3_000,
                    accepted_ago_ms: 8_000,
                    has_published: awaited == Awaited::Head,
                };
                places.restore(1, &record, |place| async move {
                    let due = place.head_due().saturating_duration_since(place.standing().now());
                    assert_eq!(due, HTTP_HEAD_DEADLINE - Duration::from_secs(3));
                    assert!(place.suspend(stream, "some".into()).await.is_none());
                });
                places.stopped().await;
                advance(Duration::from_millis(500)).await;
                let (listener, again, _) = places.suspended().last().unwrap();
                assert_eq!(
                    (listener, again.since_ago_ms, again.accepted_ago_ms),
                    (1, 3_500, 8_500)
                );
                let ages =
                    ConnectionRecord { since_ago_ms: 3_000, accepted_ago_ms: 8_000, ..again };
                assert_eq!(ages, record);
            }
            assert_eq!(places.fresh[1].get(), 1, "the others have asked for something");
            places.let_go();
            while places.taken.get() > 0 {
                places.freed.notified().await;
            }
            assert_eq!(places.fresh[1].get(), 0);
        };
        LocalSet::new().run_until(test).await;
    }
}
