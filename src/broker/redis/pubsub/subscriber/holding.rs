//! A subscriber while its process is handed over: what arrives waits, and is let through in order.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Subscriber,
    session::{Session, Unanswered},
};
use crate::{
    broker::redis::{
        net::connection::ConnectionError,
        protocol::envelope,
        pubsub::held::{HeldMessage, HeldPiece},
        recovery::sequence::SequenceTracker,
    },
    channel::ChannelName,
    position::Position,
};

impl Subscriber {
    /// From here on nothing is let through.
    pub(crate) fn close(&self) {
        self.held.borrow_mut().close();
    }

    /// This process begins with the places of another one: nothing is let through until they are
    /// known.
    pub(crate) fn await_places(&self) {
        self.close();
        self.subscriptions.borrow_mut().hold();
    }

    /// All is let through, first what waits.
    pub(crate) fn open(&self) {
        self.held.borrow_mut().open();
        self.subscriptions.borrow_mut().go_on();
        self.changed.notify_one();
    }

    /// Whether nothing is let through.
    pub(crate) fn is_closed(&self) -> bool {
        self.held.borrow().is_closed()
    }

    /// Closes once all has been let through that was published by now. The answer resolves then;
    /// with an error if the connection ends before. None without a connection.
    pub(crate) fn halt(&self) -> Option<oneshot::Receiver<()>> {
        if !self.subscriptions.borrow().is_connected() {
            return None;
        }
        let (caller, halted) = oneshot::channel();
        self.halts.borrow_mut().push(caller);
        self.changed.notify_one();
        Some(halted)
    }

    /// Lets messages of these channels through up to there, though it is closed.
    pub(crate) fn set_goals(&self, goals: HashMap<String, Position>) {
        self.held.borrow_mut().set_goals(goals);
        self.changed.notify_one();
    }

    /// Resolves when all goals are reached.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(crate) async fn level(&self) {
        while self.held.borrow().goals().any(|(name, goal)| self.is_behind(name, goal)) {
            self.progressed.notified().await;
        }
    }

    /// Resolves when Redis has confirmed all that is wanted, or refused it.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub(crate) async fn settled(&self) {
        while !self.subscriptions.borrow().is_settled() {
            self.progressed.notified().await;
        }
    }

    /// Callers that wait look whether they have got what they wait for.
    pub(crate) fn note_progress(&self) {
        self.progressed.notify_waiters();
    }

    /// Messages that were published before now are another process' matter.
    pub(crate) fn hear_from_now_on(&self) {
        self.subscriptions.borrow_mut().hear_from_now_on();
        self.held.borrow_mut().forget_announcements();
    }

    /// Redis is asked for a sign after all that it has published, if someone wants that.
    pub(super) fn ask_for_halt(&self, session: &mut Session) {
        let callers = self.take_halts();
        if !callers.is_empty() {
            session.connection.command(&["PING"]);
            session.unanswered.push_back(Unanswered::Halt(callers));
        }
    }

    /// The callers that wait for such a sign.
    pub(crate) fn take_halts(&self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut *self.halts.borrow_mut())
    }

    /// All has been let through that was published before the callers asked.
    pub(crate) fn halted(&self, callers: Vec<oneshot::Sender<()>>) {
        let mut is_wanted = false;
        for caller in callers {
            is_wanted |= caller.send(()).is_ok();
        }
        if is_wanted {
            self.close();
        }
    }

    /// A message arrived on one of our channels.
    pub(crate) async fn arrived(
        &self,
        channel: ChannelName,
        name: &str,
        payload: &Bytes,
    ) -> Result<(), ConnectionError> {
        if !self.held.borrow().holds() {
            return self.delivery.publication(channel, name, payload).await;
        }
        let goal = self.held.borrow().goal(name).cloned();
        if goal.is_some_and(|goal| self.is_towards(name, payload, &goal)) {
            self.delivery.publication(channel, name, payload).await?;
            self.note_progress();
            return Ok(());
        }
        // A view would keep the whole buffer that it was read into.
        let payload = Bytes::copy_from_slice(payload);
        let message = HeldMessage { channel, name: name.to_owned(), payload };
        self.hold(HeldPiece::Message(message));
        Ok(())
    }

    pub(super) fn hold(&self, piece: HeldPiece) {
        let dropped = self.held.borrow_mut().push(piece);
        let mut subscriptions = self.subscriptions.borrow_mut();
        dropped.iter().for_each(|name| subscriptions.missed(name));
    }

    /// Lets through what waits, as far as it may be.
    pub(crate) async fn let_through(&self) -> Result<(), ConnectionError> {
        let mut from = 0;
        loop {
            let next = self
                .held
                .borrow_mut()
                .next(from, |message, goal| self.is_towards(&message.name, &message.payload, goal));
            let Some((place, piece)) = next else { break };
            from = place;
            match piece {
                HeldPiece::Message(HeldMessage { channel, name, payload }) => {
                    self.delivery.publication_held(channel, &name, &payload).await?;
                }
                HeldPiece::Announcement(announcement) => self.carry_on(announcement).await,
            }
            self.note_progress();
        }
        Ok(())
    }

    /// Whether a channel has not got to `goal`, and this message does not lead beyond it.
    fn is_towards(&self, name: &str, payload: &Bytes, goal: &Position) -> bool {
        let is_there = |tracker: &mut SequenceTracker| {
            tracker.last().is_some_and(|(last, _)| last.is_comparable(goal))
        };
        let leads_beyond =
            envelope::decode(payload).is_none_or(|message| match *message.epoch == *goal.epoch {
                true => message.offset > goal.offset,
                false => self.delivery.with_tracker(name, is_there) == Some(true),
            });
        !leads_beyond && self.is_behind(name, goal)
    }

    /// Whether a channel has not got to `goal`.
    fn is_behind(&self, name: &str, goal: &Position) -> bool {
        self.delivery.with_tracker(name, |tracker| !tracker.has_reached(goal)) == Some(true)
    }
}
