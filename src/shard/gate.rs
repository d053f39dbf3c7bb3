//! A gate that a thread's loops go through: closed while the process hands itself over.
//!
//! A loop looks at it before it begins something, so a closed gate stops the loop where nothing is
//! under way. Its closer opens it again, or the thread's work is another process's by then.

use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

use tokio::sync::Notify;

/// One thread's gate. It is open at first.
#[derive(Debug, Default)]
pub struct Gate {
    is_closed: Cell<bool>,
    changed: Notify,
}

impl Gate {
    /// A closed one: what is built behind it does nothing yet.
    #[must_use]
    pub fn closed() -> Self {
        Self { is_closed: Cell::new(true), changed: Notify::new() }
    }

    /// From here on nobody gets through.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.changed.notify_waiters();
    }

    /// Everybody gets through again.
    pub fn open(&self) {
        self.is_closed.set(false);
        self.changed.notify_waiters();
    }

    /// Whether nobody gets through now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Resolves when it is open; at once if it is.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn opened(&self) {
        if self.is_closed.get() {
            self.is(false).await;
        }
    }

    /// Resolves when it is closed; at once if it is.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn shut(&self) {
        self.is(true).await;
    }

    /// Runs `work` while the gate is open; it rests while the gate is closed.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn through<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        loop {
            self.opened().await;
            tokio::select! {
                biased;
                () = self.shut() => {}
                done = &mut work => return done,
            }
        }
    }

    /// Waits for `act` as long as it is open; `None`: it is closed, and `act` was dropped.
    ///
    /// # Cancel safety
    /// As `act`'s.
    pub async fn while_open<T>(&self, act: impl Future<Output = T>) -> Option<T> {
        let (mut act, mut shut) = (pin!(act), pin!(self.shut()));
        poll_fn(|cx| {
            if self.is_closed() {
                return Poll::Ready(None);
            }
            match act.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => shut.as_mut().poll(cx).map(|()| None),
            }
        })
        .await
    }

    async fn is(&self, closed: bool) {
        loop {
            // One thread: nothing comes between the look and the wait.
            let changed = self.changed.notified();
            if self.is_closed.get() == closed {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_loop_waits_while_the_gate_is_closed() {
        let gate = Gate::default();
        assert!(gate.opened().now_or_never().is_some() && !gate.is_closed());
        let mut shut = pin!(gate.shut());
        assert!(shut.as_mut().now_or_never().is_none());
        gate.close();
        assert!(shut.now_or_never().is_some() && gate.is_closed());
        let mut opened = pin!(gate.opened());
        assert!(opened.as_mut().now_or_never().is_none());
        gate.open();
        assert!(opened.now_or_never().is_some());
        assert!(Gate::closed().opened().now_or_never().is_none());
    }

    #[test]
    fn work_rests_while_the_gate_is_closed() {
        let (gate, turns) = (Gate::default(), Cell::new(0));
        let mut work = pin!(gate.through(poll_fn(|_| {
            turns.set(turns.get() + 1);
            if turns.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
        })));
        assert!(work.as_mut().now_or_never().is_none() && turns.get() == 1);
        gate.close();
        assert!(work.as_mut().now_or_never().is_none() && turns.get() == 1);
        gate.open();
        assert!(work.now_or_never().is_some() && turns.get() == 2);
    }

    #[test]
    fn an_act_ends_when_the_gate_closes() {
        let gate = Gate::default();
        assert_eq!(gate.while_open(ready(1)).now_or_never(), Some(Some(1)));
        let mut waiting = pin!(gate.while_open(pending::<()>()));
        assert!(waiting.as_mut().now_or_never().is_none());
        gate.close();
        assert_eq!(waiting.now_or_never(), Some(None));
        let begun = Cell::new(false);
        let act = async { begun.set(true) };
        assert_eq!(gate.while_open(act).now_or_never(), Some(None));
        assert!(!begun.get(), "it does not begin behind a closed gate");
    }
}
