//! Messages of the protocol over a link, with the step for errors.

use std::{
    future::Future,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    Failure, Identity, Link, LinkError, Packet, Parcel, Refused, RefusedFor, Step,
    failure::BadMessage,
    messages::{Ack, Enclosed, Message, Reason},
};
use crate::{
    limits::{HANDOVER_FAREWELL_DEADLINE, HANDOVER_SEND_DEADLINE},
    record,
};

/// A link, and where the talk is.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) link: Link,
    pub(super) step: Step,
    /// Of the last parcel that was sent.
    number: u32,
    /// Of the last parcel that has come.
    came: u32,
}

impl Line {
    pub(super) fn new(link: Link) -> Self {
        Self { link, step: Step::Greeting, number: 0, came: 0 }
    }

    /// Sends a message without descriptors.
    pub(super) async fn say(&mut self, message: &Message, within: Duration) -> Result<(), Failure> {
        self.send(message, &[], within).await
    }

    async fn send(
        &mut self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(), Failure> {
        let bytes = record::to_bytes(message);
        let Err(error) = self.link.send(&bytes, descriptors, within).await else { return Ok(()) };
        // A process that has closed its end may have said why.
        if matches!(error, LinkError::Closed)
            && let Err(aborted @ Failure::Aborted { .. }) = self.hear_now()
        {
            return Err(aborted);
        }
        Err(self.broken(error))
    }

    /// Receives a message with the descriptors that belong to it. An abort is an error.
    pub(super) async fn hear(
        &mut self,
        within: Duration,
    ) -> Result<(Message, Vec<OwnedFd>), Failure> {
        let received = self.link.receive(within).await;
        self.read(received)
    }

    /// The same for what has come already.
    pub(super) fn hear_now(&mut self) -> Result<(Message, Vec<OwnedFd>), Failure> {
        let received = self.link.receive_now();
        self.read(received)
    }

    fn read(
        &self,
        received: Result<Packet, LinkError>,
    ) -> Result<(Message, Vec<OwnedFd>), Failure> {
        let packet = received.map_err(|error| self.broken(error))?;
        let message: Message =
            record::from_bytes(&packet.bytes).map_err(|error| self.bad(error))?;
        let (said, came) = (message.descriptors(), packet.descriptors.len());
        if said as usize != came {
            return Err(self.bad(BadMessage::Descriptors { said, came }));
        }
        match message {
            Message::Abort(Reason { reason }) => {
                let Reason { reason } = Reason::new(reason);
                Err(Failure::Aborted { step: self.step, reason })
            }
            Message::Refused(refused) => Err(Failure::Refused(Box::new(refused))),
            message => Ok((message, packet.descriptors)),
        }
    }

    /// Receives one of the messages that are nothing but their kind.
    pub(super) async fn hear_word(
        &mut self,
        expected: &Message,
        within: Duration,
    ) -> Result<(), Failure> {
        let (message, _) = self.hear(within).await?;
        if message == *expected { Ok(()) } else { Err(self.unexpected(&message)) }
    }

    /// Sends a parcel in the message that `wrap` makes. The other process answers with
    /// [`Line::acknowledge`], or in another way.
    pub(super) async fn send_parcel<D: AsFd>(
        &mut self,
        parcel: &Parcel<D>,
        wrap: impl FnOnce(Enclosed) -> Message,
        within: Duration,
    ) -> Result<(), Failure> {
        if !parcel.is_sendable() {
            return Err(self.own("too many descriptors for one message"));
        }
        self.number += 1;
        let mut overflow = None;
        let (said, lent) =
            parcel.enclosed(self.number, &mut overflow).map_err(|error| self.own(error))?;
        self.send(&wrap(said), &lent, within).await
    }

    /// Says that the last parcel was taken.
    pub(super) async fn acknowledge(&mut self) -> Result<(), Failure> {
        let number = self.came;
        self.say(&Message::Ack(Ack { number }), HANDOVER_SEND_DEADLINE).await
    }

    /// Waits until the last parcel was taken.
    pub(super) async fn hear_ack(&mut self, within: Duration) -> Result<(), Failure> {
        match self.hear(within).await? {
            (Message::Ack(Ack { number }), _) if number == self.number => Ok(()),
            (Message::Ack(_), _) => Err(self.bad(BadMessage::WrongNumber)),
            (message, _) => Err(self.unexpected(&message)),
        }
    }

    /// Takes a parcel out of a message: the next one.
    pub(super) fn unpacked(
        &mut self,
        said: Enclosed,
        came: Vec<OwnedFd>,
    ) -> Result<Parcel<OwnedFd>, Failure> {
        self.came += 1;
        if said.number != self.came {
            return Err(self.bad(BadMessage::WrongNumber));
        }
        Parcel::received(said, came).map_err(|error| self.bad(error))
    }

    /// Tells the peer why it ends, if it still listens.
    pub(super) async fn part(&mut self, failure: &Failure) {
        // The other side is not told its own words.
        if matches!(failure, Failure::Aborted { .. } | Failure::Refused(_)) {
            return;
        }
        let message = Message::Abort(Reason::new(failure.to_string()));
        let _ = self.link.send(&record::to_bytes(&message), &[], HANDOVER_FAREWELL_DEADLINE).await;
    }

    /// Tells the peer that it is refused, if it still listens.
    pub(super) async fn refuse(&self, identity: Identity, reason: RefusedFor, text: &str) {
        let text = Reason::new(text).reason;
        let message = Message::Refused(Refused { identity, reason, text });
        let _ = self.link.send(&record::to_bytes(&message), &[], HANDOVER_FAREWELL_DEADLINE).await;
    }

    /// A step of this process, with its bound. Meanwhile it is this process' turn to speak, so
    /// a word of the other one, or its end, ends the step.
    pub(super) async fn do_own<T>(
        &mut self,
        within: Duration,
        work: impl Future<Output = Result<T, String>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            done = timeout(within, work) => {
                let done = done.map_err(|_| Failure::TooSlow(self.step))?;
                return done.map_err(|reason| self.own(reason));
            }
            () = self.link.disturbed() => {}
        }
        let (message, _) = self.hear_now()?;
        Err(self.unexpected(&message))
    }

    pub(super) fn own(&self, reason: impl ToString) -> Failure {
        Failure::Own { step: self.step, reason: Reason::new(reason.to_string()).reason }
    }

    pub(super) fn unexpected(&self, message: &Message) -> Failure {
        Failure::Unexpected { step: self.step, kind: message.kind() }
    }

    pub(super) fn bad(&self, error: impl Into<BadMessage>) -> Failure {
        Failure::BadMessage { step: self.step, error: error.into() }
    }

    fn broken(&self, error: LinkError) -> Failure {
        Failure::Link { step: self.step, error }
    }
}
