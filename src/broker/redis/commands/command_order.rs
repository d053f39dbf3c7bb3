//! The order in which commands go to Redis, also when some have to go twice: pure.
//!
//! Commands normally go out at once, in the order of their permits. When Redis has forgotten a
//! script, the commands on their way all come back and are repeated; each waits until every
//! earlier one is through, and new ones queue up behind them. In a cluster a channel's commands
//! may have to take another route: not before those on the old one are through, or are back. So
//! do those that a connection ended with before anything of them was written: all that came after
//! them on it were not written either, and each goes once more in its place.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Commands that are not through yet.
#[derive(Debug, Default)]
pub(super) struct CommandOrder {
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Not sure yet to be carried out in their place.
    pending: BTreeSet<u64>,
    /// Those of them that were not handed over, or came back.
    waiting: BTreeSet<u64>,
    /// Under way when the route changed, or when one of them came back.
    astray: BTreeSet<u64>,
    /// Handed over for the second time: those after them need not wait.
    again: BTreeSet<u64>,
    /// The wakers of commands that wait for their turn.
    wakers: HashMap<u64, Waker>,
}

impl State {
    /// All that is on its way may come back.
    fn mark_astray(&mut self) {
        self.astray.extend(self.pending.difference(&self.waiting));
    }

    /// `number` waits again. Those on their way may come back, too, and what is new would overtake
    /// them.
    fn came_back(&mut self, number: u64) {
        self.pending.insert(number);
        self.waiting.insert(number);
        self.astray.remove(&number);
        self.mark_astray();
        self.wake_next();
    }

    /// Something has moved: only one of these two can be next. Thousands may wait, and must not be
    /// woken for each other.
    fn wake_next(&mut self) {
        let next = [self.waiting.first(), self.pending.first()];
        for number in next.into_iter().flatten() {
            if let Some(waker) = self.wakers.remove(number) {
                waker.wake();
            }
        }
    }
}

/// A command's place; given up when it is through, or dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    order: &'a CommandOrder,
    number: u64,
}

impl CommandOrder {
    /// The next place.
    pub(crate) fn enter(&self) -> Permit<'_> {
        let mut state = self.state.borrow_mut();
        let number = state.next;
        state.next += 1;
        state.pending.insert(number);
        state.waiting.insert(number);
        Permit { order: self, number }
    }

    /// New commands take another route than those under way.
    pub(crate) fn route_changed(&self) {
        self.state.borrow_mut().mark_astray();
    }

    async fn until(&self, number: u64, ready: impl Fn(&State) -> bool) {
        poll_fn(|context| {
            let state = &mut *self.state.borrow_mut();
            if ready(state) {
                state.wakers.remove(&number);
                return Poll::Ready(());
            }
            state.wakers.insert(number, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Permit<'_> {
    /// Waits until no earlier command waits. The caller then hands its command over at once.
    ///
    /// # Cancel safety
    /// May be dropped: the command keeps its place.
    pub(crate) async fn first_turn(&self) {
        let is_first = |state: &State| state.waiting.first() == Some(&self.number);
        let is_free = |state: &State| is_first(state) && state.astray.is_empty();
        self.order.until(self.number, is_free).await;
    }

    /// The command was handed over, and may still come back.
    pub(super) fn handed_over(&self) {
        let state = &mut *self.order.state.borrow_mut();
        state.waiting.remove(&self.number);
        state.wake_next();
    }

    /// The command came back: waits until every earlier one is through.
    pub(super) async fn second_turn(&self) {
        self.order.state.borrow_mut().came_back(self.number);
        let is_first = |state: &State| state.pending.first() == Some(&self.number);
        self.order.until(self.number, is_first).await;
    }

    /// The command was handed over for the second time: it comes back only if nothing of it is
    /// written.
    pub(super) fn handed_over_again(&self) {
        let state = &mut *self.order.state.borrow_mut();
        state.pending.remove(&self.number);
        state.waiting.remove(&self.number);
        state.again.insert(self.number);
        state.wake_next();
    }

    /// Nothing of the command was written: it has a [`Self::first_turn`] once more. To be called
    /// before anything is awaited, else a new command overtakes it.
    pub(crate) fn not_sent(&self) {
        let state = &mut *self.order.state.borrow_mut();
        // They were on the same connection.
        let again = std::mem::take(&mut state.again);
        state.pending.extend(again);
        state.came_back(self.number);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let state = &mut *self.order.state.borrow_mut();
        state.pending.remove(&self.number);
        state.waiting.remove(&self.number);
        state.astray.remove(&self.number);
        state.again.remove(&self.number);
        state.wakers.remove(&self.number);
        state.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn commands_pass_at_once_in_their_order() {
        let order = CommandOrder::default();
        let (first, second) = (order.enter(), order.enter());
        assert!(second.first_turn().now_or_never().is_none());
        assert!(first.first_turn().now_or_never().is_some());
        first.handed_over();
        assert!(second.first_turn().now_or_never().is_some());
    }

    /// Commands that came back go again in order, and before anything new.
    #[test]
    fn commands_that_came_back_go_first_in_order() {
        let order = CommandOrder::default();
        let permits: Vec<_> = (0..3).map(|_| order.enter()).collect();
        permits.iter().for_each(Permit::handed_over);
        assert!(permits[2].second_turn().now_or_never().is_none());
        assert!(permits[1].second_turn().now_or_never().is_none());
        let new = order.enter();
        assert!(new.first_turn().now_or_never().is_none());
        assert!(permits[0].second_turn().now_or_never().is_some());
        for permit in permits {
            assert!(permit.second_turn().now_or_never().is_some());
        }
        assert!(new.first_turn().now_or_never().is_some());
    }

    /// A command that takes another route waits for those on the old one.
    #[test]
    fn a_command_on_a_new_route_waits_for_the_old() {
        let order = CommandOrder::default();
        let (back, through) = (order.enter(), order.enter());
        back.handed_over();
        through.handed_over();
        let new = order.enter();
        order.route_changed();
        assert!(new.first_turn().now_or_never().is_none());
        drop(through);
        assert!(new.first_turn().now_or_never().is_none());
        assert!(back.second_turn().now_or_never().is_some());
        assert!(new.first_turn().now_or_never().is_none(), "the earlier one goes first");
        drop(back);
        assert!(new.first_turn().now_or_never().is_some());
    }

    /// Regression: each that passed woke all that waited.
    #[test]
    fn many_that_wait_wake_only_the_next() {
        use std::{
            sync::atomic::{AtomicUsize, Ordering},
            task::{Context, Wake},
        };
        #[derive(Default)]
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        const MANY: usize = 1000;
        let order = CommandOrder::default();
        let permits: Vec<_> = (0..MANY).map(|_| order.enter()).collect();
        let count = std::sync::Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut turns: Vec<_> = permits.iter().map(|one| Box::pin(one.first_turn())).collect();
        let mut poll = |place: usize| {
            let turn: &mut std::pin::Pin<Box<_>> = &mut turns[place];
            turn.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        };
        for place in (1..MANY).rev() {
            assert!(!poll(place));
        }
        for (place, permit) in permits.iter().enumerate() {
            assert!(poll(place));
            permit.handed_over();
        }
        assert_eq!(count.0.load(Ordering::Relaxed), MANY - 1);
    }

    /// Regression: a new command overtook one that was about to come back like the one before it.
    #[test]
    fn new_commands_wait_for_those_that_may_come_back() {
        let order = CommandOrder::default();
        let (first, second) = (order.enter(), order.enter());
        first.handed_over();
        second.handed_over();
        assert!(first.second_turn().now_or_never().is_some());
        drop(first);
        let new = order.enter();
        assert!(new.first_turn().now_or_never().is_none());
        assert!(second.second_turn().now_or_never().is_some());
        drop(second);
        assert!(new.first_turn().now_or_never().is_some());
    }

    /// Commands whose connection has ended before they were written go again in their order, and
    /// before anything new; whichever of them learns of it first.
    #[test]
    fn unsent_commands_go_again_in_order() {
        let order = CommandOrder::default();
        let permits: Vec<_> = (0..4).map(|_| order.enter()).collect();
        permits.iter().for_each(Permit::handed_over);
        let [in_doubt, first, second, last] = permits.try_into().unwrap();
        second.not_sent();
        let new = order.enter();
        assert!(new.first_turn().now_or_never().is_none());
        assert!(second.first_turn().now_or_never().is_none(), "others may come back, too");
        drop(in_doubt);
        first.not_sent();
        last.not_sent();
        for permit in [first, second, last] {
            assert!(new.first_turn().now_or_never().is_none());
            assert!(permit.first_turn().now_or_never().is_some());
            permit.handed_over();
        }
        assert!(new.first_turn().now_or_never().is_some());
    }

    /// The same for those that had come back before, since Redis did not know the script.
    #[test]
    fn unsent_repetitions_go_again_in_order() {
        let order = CommandOrder::default();
        let (first, second) = (order.enter(), order.enter());
        for permit in [&first, &second] {
            permit.handed_over();
        }
        for permit in [&first, &second] {
            assert!(permit.second_turn().now_or_never().is_some());
            permit.handed_over_again();
        }
        second.not_sent();
        assert!(second.first_turn().now_or_never().is_none(), "the first may come back, too");
        first.not_sent();
        assert!(second.first_turn().now_or_never().is_none());
        assert!(first.first_turn().now_or_never().is_some());
        first.handed_over();
        assert!(second.first_turn().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_command_holds_nobody_up() {
        let order = CommandOrder::default();
        let (first, second) = (order.enter(), order.enter());
        drop(first);
        assert!(second.first_turn().now_or_never().is_some());
    }
}
