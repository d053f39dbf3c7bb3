//! The new process' side: it takes, and starts if and only if COMMIT has come.

use std::{future::Future, os::fd::OwnedFd};

use tokio::time::timeout;

use super::{
    Failure, Identity, Link, LinkError, Parcel, Step,
    failure::ProtocolMismatch,
    line::Line,
    messages::{Hello, Manifest, Message, Purpose},
};
use crate::limits::{
    HANDOVER_AHEAD_DEADLINE, HANDOVER_BUILD_DEADLINE, HANDOVER_COMMIT_WAIT, HANDOVER_MANIFEST_WAIT,
    HANDOVER_PAUSING_WAIT, HANDOVER_PIECE_WAIT, HANDOVER_READY_DEADLINE, HANDOVER_SEND_DEADLINE,
    HANDOVER_STATE_WAIT,
};

/// A process that takes another one's sockets and state over. Until [`Taker::start`] it reads from
/// no socket, writes to none, accepts nobody and shuts nothing down. If the hand-over fails it is
/// dropped, and closes its copies. Errors are a sentence's end for people, in lower case.
pub trait Taker: Sized {
    /// The server, which serves.
    type Started;

    /// Builds all that serves later, without the state: threads, broker, listeners.
    fn build(
        &mut self,
        old: &Identity,
        manifest: Parcel<OwnedFd>,
    ) -> impl Future<Output = Result<(), String>>;

    /// Takes a piece of what is large.
    fn take_ahead(&mut self, piece: Parcel<OwnedFd>) -> impl Future<Output = Result<(), String>>;

    /// Whether it could serve: what it needs is reached, as far as the old process reaches it.
    fn ready(&mut self) -> impl Future<Output = Result<(), String>>;

    /// Takes a part of the state.
    fn restore(&mut self, part: Parcel<OwnedFd>) -> impl Future<Output = Result<(), String>>;

    /// Whether all is there. After this nothing may fail.
    fn prepare(&mut self) -> impl Future<Output = Result<(), String>>;

    /// COMMIT has come: serves from here on. `link` leads to the old process, if it still lives.
    fn start(self, link: Link) -> Self::Started;
}

/// Takes over from the process at the other end of `link`.
///
/// # Errors
/// The taker was dropped then without having started, and the old process goes on, or has died.
///
/// # Cancel safety
/// None: COMMIT may have been written when it is dropped. That is as if this process had died.
pub async fn take_over<T: Taker>(
    link: Link,
    ours: Identity,
    mut taker: T,
) -> Result<T::Started, Failure> {
    let mut line = Line::new(link);
    match steps(&mut line, ours, &mut taker).await {
        Ok(()) => Ok(taker.start(line.link)),
        Err(failure) => {
            line.part(&failure).await;
            Err(failure)
        }
    }
}

/// All steps up to COMMIT, which has come if there is no error.
async fn steps<T: Taker>(line: &mut Line, ours: Identity, taker: &mut T) -> Result<(), Failure> {
    let hello = Hello { identity: ours.clone(), purpose: Purpose::TakeOver };
    line.say(&Message::Hello(hello), HANDOVER_SEND_DEADLINE).await?;
    let (old, manifest) = match line.hear(HANDOVER_MANIFEST_WAIT).await? {
        (Message::Manifest(Manifest { identity, enclosed }), came) => {
            (identity, line.unpacked(enclosed, came)?)
        }
        (message, _) => return Err(line.unexpected(&message)),
    };
    if old.major != ours.major {
        return Err(Failure::Protocol(Box::new(ProtocolMismatch { old, new: ours })));
    }

    line.step = Step::Building;
    line.do_own(HANDOVER_BUILD_DEADLINE, taker.build(&old, manifest)).await?;
    line.say(&Message::Built, HANDOVER_SEND_DEADLINE).await?;

    line.step = Step::Ahead;
    loop {
        match line.hear(HANDOVER_PIECE_WAIT).await? {
            (Message::Ahead(said), came) => {
                let piece = line.unpacked(said, came)?;
                line.do_own(HANDOVER_AHEAD_DEADLINE, taker.take_ahead(piece)).await?;
                line.acknowledge().await?;
            }
            (Message::AheadEnd, _) => break,
            (message, _) => return Err(line.unexpected(&message)),
        }
    }

    line.step = Step::Ready;
    line.do_own(HANDOVER_READY_DEADLINE, taker.ready()).await?;
    line.say(&Message::Ready, HANDOVER_SEND_DEADLINE).await?;

    line.step = Step::Pausing;
    line.hear_word(&Message::Pausing, HANDOVER_PAUSING_WAIT).await?;

    line.step = Step::State;
    let restored = timeout(HANDOVER_STATE_WAIT, restore(line, taker)).await;
    restored.map_err(|_| Failure::TooSlow(Step::State))??;
    line.say(&Message::Prepared, HANDOVER_SEND_DEADLINE).await?;

    line.step = Step::Commit;
    commit(line).await
}

/// Takes all parts.
async fn restore<T: Taker>(line: &mut Line, taker: &mut T) -> Result<(), Failure> {
    loop {
        match line.hear(HANDOVER_STATE_WAIT).await? {
            (Message::Part(said), came) => {
                let part = line.unpacked(said, came)?;
                line.do_own(HANDOVER_STATE_WAIT, taker.restore(part)).await?;
                line.acknowledge().await?;
            }
            (Message::PartsEnd, _) => break,
            (message, _) => return Err(line.unexpected(&message)),
        }
    }
    line.step = Step::Prepared;
    line.do_own(HANDOVER_STATE_WAIT, taker.prepare()).await
}

/// Waits for COMMIT.
async fn commit(line: &mut Line) -> Result<(), Failure> {
    match line.hear_word(&Message::Commit, HANDOVER_COMMIT_WAIT).await {
        Err(Failure::Link { error: LinkError::TimedOut, .. }) => give_up(line),
        waited => waited,
    }
}

/// Gives up to wait for COMMIT, unless it has come after all. Makes sure first that it can't be
/// written any more, and only then looks whether it had been: otherwise neither process would
/// serve.
pub(super) fn give_up(line: &mut Line) -> Result<(), Failure> {
    let failed = |error| Failure::Link { step: Step::Commit, error };
    line.link.close_for_peer().map_err(failed)?;
    match line.hear_now() {
        Ok((Message::Commit, _)) => Ok(()),
        _ => Err(failed(LinkError::TimedOut)),
    }
}
