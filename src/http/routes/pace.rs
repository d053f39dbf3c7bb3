//! How many messages of a batch are at the broker at a time.
//!
//! Redis may be far away: then many have to be under way, or a batch takes a round trip for each
//! handful. The line may also be thin: then many that are under way wait for each other, and those
//! behind get no answer in time. Both show in how long answers take, compared with the fastest: so
//! the window begins small, doubles with each round while answers are that fast, and shrinks when
//! they are not. All batches of a shard share a bound in bytes, each in its turn.

use std::{cell::RefCell, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    clock::{Clock, Millis},
    limits::{
        BATCH_MESSAGE_COST_BYTES, BATCH_QUEUE_MAX, BATCH_WINDOW_MAX, BATCH_WINDOW_MIN,
        BATCHES_IN_FLIGHT_BYTES_MAX,
    },
};

/// All batches of a shard together.
#[derive(Debug)]
pub struct BatchRoom(Arc<Semaphore>);

impl Default for BatchRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_BYTES_MAX)))
    }
}

impl BatchRoom {
    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        // A larger one has all of it to itself.
        let bytes = (bytes + BATCH_MESSAGE_COST_BYTES).min(BATCHES_IN_FLIGHT_BYTES_MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = self.0.clone().acquire_many_owned(permits).await;
        room.expect("the semaphore is never closed")
    }
}

/// One batch.
pub(in crate::http) struct Pace {
    clock: Clock,
    deadline: Millis,
    state: RefCell<PaceState>,
    freed: Notify,
}

struct PaceState {
    in_flight: usize,
    window: Window,
}

/// A message at the broker; its place is free when it is dropped.
pub(in crate::http) struct PaceTurn<'a> {
    pace: &'a Pace,
    begun: Millis,
    _room: OwnedSemaphorePermit,
}

impl Pace {
    /// For a batch that comes now; none of its messages begins later than `within`.
    pub(in crate::http) fn new(clock: Clock, within: Duration) -> Self {
        let state = PaceState { in_flight: 0, window: Window::default() };
        Self {
            clock,
            deadline: clock.now() + within,
            state: RefCell::new(state),
            freed: Notify::new(),
        }
    }

    /// The turn of a message of so many bytes; None: it is too late.
    pub(in crate::http) async fn turn(
        &self,
        room: &BatchRoom,
        bytes: usize,
    ) -> Option<PaceTurn<'_>> {
        let turn = async {
            while !self.state.borrow().has_place() {
                self.freed.notified().await;
            }
            room.take(bytes).await
        };
        let mut begun = self.clock.now();
        let left = self.deadline - begun;
        if left.is_zero() {
            return None;
        }
        let mut turn = pin!(turn);
        let room = match poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await {
            Poll::Ready(room) => room,
            Poll::Pending => {
                let room = timeout(left, turn).await.ok()?;
                begun = self.clock.now();
                room
            }
        };
        self.state.borrow_mut().in_flight += 1;
        Some(PaceTurn { pace: self, begun, _room: room })
    }
}

impl PaceState {
    fn has_place(&self) -> bool {
        self.in_flight < self.window.size
    }
}

impl PaceTurn<'_> {
    /// The broker has answered.
    pub(in crate::http) fn over(self) {
        let took = self.pace.clock.now() - self.begun;
        self.pace.state.borrow_mut().window.answered(took);
    }
}

impl Drop for PaceTurn<'_> {
    fn drop(&mut self) {
        self.pace.state.borrow_mut().in_flight -= 1;
        self.pace.freed.notify_one();
    }
}

/// How many at a time: pure.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    size: usize,
    fastest: Option<Duration>,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: BATCH_WINDOW_MIN, fastest: None }
    }
}

impl Window {
    fn answered(&mut self, took: Duration) {
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        // One more for each answer doubles it in a round.
        self.size = match took - fastest <= BATCH_QUEUE_MAX {
            true => (self.size + 1).min(BATCH_WINDOW_MAX),
            false => (self.size - self.size / 8).max(BATCH_WINDOW_MIN),
        };
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn after(rounds: usize, took_ms: impl Fn(usize) -> u64) -> Window {
        let mut window = Window::default();
        for _ in 0..rounds {
            for _ in 0..window.size {
                window.answered(Duration::from_millis(took_ms(window.size)));
            }
        }
        window
    }

    /// The window doubles with each round that only takes its way.
    #[test]
    fn the_window_doubles_with_each_full_round() {
        for far_ms in [0, 100, 800] {
            assert_eq!(after(1, |_| far_ms).size, 2 * BATCH_WINDOW_MIN);
            assert_eq!(after(3, |_| far_ms).size, 8 * BATCH_WINDOW_MIN);
            assert_eq!(after(20, |_| far_ms).size, BATCH_WINDOW_MAX);
        }
    }

    /// On a thin line no more are under way than get an answer in time.
    #[test]
    fn a_thin_line_limits_requests_under_way() {
        // A millisecond for each that is before it.
        let window = after(200, |size| 100 + size as u64);
        assert!((BATCH_WINDOW_MIN..500).contains(&window.size), "{window:?}");
        let slow = after(20, |size| 100 + 10 * size as u64);
        assert!(slow.size < 2 * BATCH_WINDOW_MIN, "{slow:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_deadline_there_is_no_turn() {
        let room = BatchRoom::default();
        let pace = Pace::new(Clock::start(), Duration::from_millis(1));
        let mut turns = Vec::new();
        while let Some(turn) = pace.turn(&room, 1).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), BATCH_WINDOW_MIN, "the last one waited in vain");
        turns.clear();
        assert!(pace.turn(&room, 1).await.is_none());
    }

    #[tokio::test]
    async fn batches_share_a_bound_and_none_is_too_large_for_it() {
        let room = BatchRoom::default();
        let pace = || Pace::new(Clock::start(), Duration::from_secs(60));
        let (one, two) = (pace(), pace());
        let all = one.turn(&room, 2 * BATCHES_IN_FLIGHT_BYTES_MAX).await.unwrap();
        let waiting = two.turn(&room, 1);
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(all);
        assert!(waiting.await.is_some());
    }
}
