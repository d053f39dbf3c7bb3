//! Paces newcomers: how many a shard works on before its other tasks have had their turn.
//!
//! The runtime runs its tasks in the order in which they became ready. When thousands reconnect at
//! once, thousands of handshakes would stand before the next pass over the clients, and connected
//! clients would wait for tens of milliseconds. So a connection that has sent something
//! waits for a turn, and only so many turns are given out per round of the run queue. One that
//! just sits there waits for nothing and holds nobody up. A connection needs one turn in its life.
//! By TLS, whose handshakes cost the most and may come byte by byte, it needs one for each time
//! that something comes until its first request is there.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use tokio::{sync::Notify, task::yield_now};

/// The turns of one shard.
#[derive(Debug)]
pub(super) struct HandshakePacer {
    per_round: usize,
    /// Of this round, for connections that need not wait.
    left: Cell<usize>,
    /// In the order of their tickets; as many as there are connections, at most.
    waiting: RefCell<VecDeque<Waker>>,
    /// The next ticket.
    next: Cell<u64>,
    taken: Notify,
}

/// How far one connection has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HandshakeTurn {
    /// Has not begun to listen: that is how it learns that there is something to do.
    #[default]
    New,
    /// Nothing to do so far.
    Listening,
    /// In the queue, with a ticket.
    Waiting(u64),
    /// Has had its turn.
    Had,
}

impl HandshakeTurn {
    /// It was for this once; the connection listens again.
    pub(super) fn spend(&mut self) {
        if *self == Self::Had {
            *self = Self::Listening;
        }
    }
}

impl HandshakePacer {
    /// A pacer that gives out so many turns per round.
    pub(super) fn new(per_round: usize) -> Self {
        Self {
            per_round,
            left: Cell::new(per_round),
            waiting: RefCell::default(),
            next: Cell::new(0),
            taken: Notify::new(),
        }
    }

    /// Ready when the connection may be worked on: at first to listen, then in its turn. To be
    /// called on the connection's own task, whose waker never changes.
    pub(super) fn poll(&self, turn: &mut HandshakeTurn, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.borrow_mut();
        match *turn {
            HandshakeTurn::New => *turn = HandshakeTurn::Listening,
            // No connection gets in before those that wait.
            HandshakeTurn::Listening if self.left.get() == 0 || !waiting.is_empty() => {
                *turn = HandshakeTurn::Waiting(self.next.get());
                self.next.set(self.next.get() + 1);
                waiting.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            HandshakeTurn::Listening => {
                *turn = HandshakeTurn::Had;
                self.left.set(self.left.get() - 1);
                self.taken.notify_one();
            }
            // Woken by something else, before its turn.
            HandshakeTurn::Waiting(ticket) if ticket + waiting.len() as u64 >= self.next.get() => {
                return Poll::Pending;
            }
            HandshakeTurn::Waiting(_) => *turn = HandshakeTurn::Had,
            HandshakeTurn::Had => {}
        }
        Poll::Ready(())
    }

    /// Gives out new turns whenever the run queue has gone round, forever.
    pub(super) async fn give(&self) {
        loop {
            self.taken.notified().await;
            yield_now().await;
            self.renew();
        }
    }

    fn renew(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.len().min(self.per_round);
        self.left.set(self.per_round - count);
        if count > 0 {
            // Also if the woken ones are gone: others wait behind them.
            self.taken.notify_one();
        }
        waiting.drain(..count).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NEWCOMERS_PER_TURN;

    fn poll(turns: &HandshakePacer, turn: &mut HandshakeTurn) -> bool {
        turns.poll(turn, &Context::from_waker(Waker::noop())).is_ready()
    }

    /// Connections that have begun to listen.
    fn listening(turns: &HandshakePacer, count: usize) -> Vec<HandshakeTurn> {
        let mut all = vec![HandshakeTurn::New; count];
        assert!(all.iter_mut().all(|turn| poll(turns, turn)), "listening is free");
        all
    }

    /// Only so many are worked on per round in the order in which they asked.
    #[test]
    fn requests_are_worked_on_in_turns() {
        let turns = HandshakePacer::new(NEWCOMERS_PER_TURN);
        let mut all = listening(&turns, 5 * NEWCOMERS_PER_TURN / 2);
        let mut worked_on = Vec::new();
        for _ in 0..3 {
            let before = worked_on.len();
            for (index, turn) in all.iter_mut().enumerate() {
                if *turn != HandshakeTurn::Had && poll(&turns, turn) {
                    worked_on.push(index);
                }
            }
            assert!(worked_on.len() - before <= NEWCOMERS_PER_TURN);
            turns.renew();
        }
        assert_eq!(worked_on, (0..all.len()).collect::<Vec<_>>());
    }

    /// A later connection does not overtake, and a connection that is gone holds none up.
    #[test]
    fn a_later_connection_does_not_overtake() {
        let turns = HandshakePacer::new(NEWCOMERS_PER_TURN);
        let mut first = listening(&turns, NEWCOMERS_PER_TURN);
        assert!(first.iter_mut().all(|turn| poll(&turns, turn)));
        let mut gone = listening(&turns, NEWCOMERS_PER_TURN);
        let mut next = listening(&turns, 1);
        assert!(!gone.iter_mut().chain(&mut next).any(|turn| poll(&turns, turn)));
        drop(gone);
        turns.renew();
        let mut late = listening(&turns, 1);
        assert!(!poll(&turns, &mut late[0]) && !poll(&turns, &mut next[0]));
        turns.renew();
        assert!(poll(&turns, &mut next[0]) && poll(&turns, &mut late[0]));
    }

    /// Clients that had their turn, and clients that listen, need none.
    #[test]
    fn served_and_listening_clients_need_no_turn() {
        let turns = HandshakePacer::new(NEWCOMERS_PER_TURN);
        let mut all = listening(&turns, NEWCOMERS_PER_TURN);
        assert!(all.iter_mut().all(|turn| poll(&turns, turn)));
        assert!(all.iter_mut().all(|turn| poll(&turns, turn)), "they go on without one");
        listening(&turns, 1000);
    }

    /// A connection whose turns are for one time each has no advantage of an early byte.
    #[test]
    fn a_spent_turn_is_needed_again() {
        let turns = HandshakePacer::new(NEWCOMERS_PER_TURN);
        let mut all = listening(&turns, 3 * NEWCOMERS_PER_TURN);
        for _ in 0..3 {
            let mut worked_on = 0;
            for turn in &mut all {
                if poll(&turns, turn) {
                    worked_on += 1;
                    turn.spend();
                }
            }
            assert_eq!(worked_on, NEWCOMERS_PER_TURN);
            turns.renew();
        }
    }

    #[tokio::test]
    async fn turns_come_round_by_themselves() {
        let turns = HandshakePacer::new(NEWCOMERS_PER_TURN);
        let all = (0..10 * NEWCOMERS_PER_TURN).map(|_| async {
            let mut turn = HandshakeTurn::New;
            std::future::poll_fn(|cx| turns.poll(&mut turn, cx)).await;
            std::future::poll_fn(|cx| turns.poll(&mut turn, cx)).await;
            assert_eq!(turn, HandshakeTurn::Had);
        });
        tokio::select! {
            () = turns.give() => {}
            _ = futures_util::future::join_all(all) => {}
        }
    }
}
