//! The old process' side: it gives, and goes on if anything is wrong.

use std::{future::Future, os::fd::AsFd, time::Duration};

use super::{
    Failure, Identity, Link, NewProcess, Parcel, Step, Turn,
    line::Line,
    messages::{Manifest, Message},
};
use crate::{
    clock::{Clock, Millis},
    limits::{
        HANDOVER_AHEAD_DEADLINE, HANDOVER_BUILD_DEADLINE, HANDOVER_MANIFEST_DEADLINE,
        HANDOVER_PART_DEADLINE, HANDOVER_PAUSE_MAX, HANDOVER_PREPARED_DEADLINE,
        HANDOVER_READY_DEADLINE, HANDOVER_SEND_DEADLINE, HANDOVER_STOP_DEADLINE,
    },
};

/// A process that hands its sockets and its state over. Each step may be dropped unfinished, if it
/// takes too long or the new process ends; then follows [`Giver::resume`]. Errors are a sentence's
/// end for people, in lower case.
pub trait Giver {
    /// Its descriptors, which it lends. A duplicate will do: a parcel is dropped as soon as the new
    /// process has it.
    type Descriptor: AsFd;

    /// All that a new process needs to build itself.
    fn manifest(&mut self) -> impl Future<Output = Result<Parcel<Self::Descriptor>, String>>;

    /// The next piece of large state, until there is none; it still serves. All that changes
    /// from here on is part of the state.
    fn ahead(&mut self) -> impl Future<Output = Result<Option<Parcel<Self::Descriptor>>, String>>;

    /// Stops to read, write and accept, at the border of a byte.
    fn pause(&mut self) -> impl Future<Output = Result<(), String>>;

    /// The next part of the state, until there is none.
    fn state(&mut self) -> impl Future<Output = Result<Option<Parcel<Self::Descriptor>>, String>>;

    /// The hand-over has failed, wherever it was: goes on as if there had been none.
    fn resume(&mut self, failure: &Failure);

    /// COMMIT was written: from here on only the new process reads and writes. Nothing is shut
    /// down, copies are closed.
    fn commit(&mut self);

    /// Another step has begun.
    fn progress(&mut self, _step: Step) {}
}

/// The rest of a hand-over that is done.
#[derive(Debug)]
pub struct Given {
    /// To the new process, for whatever there is to say to it.
    pub link: Link,
    /// The new process.
    pub new: Identity,
    /// From [`Giver::pause`] to COMMIT.
    pub pause: Duration,
}

/// Hands over to `new`. The turn is to be kept until nothing of the old process is left.
///
/// # Errors
/// [`Giver::resume`] was called then, and the new process ends, or has ended.
///
/// # Cancel safety
/// If it is dropped, it calls [`Giver::resume`].
pub async fn give<G: Giver>(
    new: NewProcess,
    giver: &mut G,
    _turn: &mut Turn,
    clock: Clock,
) -> Result<Given, Failure> {
    let NewProcess { mut line, ours, theirs } = new;
    let mut giver = Undecided { giver, is_open: true };
    match steps(&mut line, &mut giver, ours, clock).await {
        Ok(pause) => Ok(Given { link: line.link, new: theirs, pause }),
        Err(failure) => {
            giver.resume(&failure);
            line.part(&failure).await;
            Err(failure)
        }
    }
}

/// All steps up to COMMIT; the length of the pause.
async fn steps<G: Giver>(
    line: &mut Line,
    giver: &mut Undecided<'_, G>,
    identity: Identity,
    clock: Clock,
) -> Result<Duration, Failure> {
    giver.enter(line, Step::Building);
    let manifest = line.do_own(HANDOVER_MANIFEST_DEADLINE, giver.giver.manifest()).await?;
    let wrap = |enclosed| Message::Manifest(Manifest { identity, enclosed });
    line.send_parcel(&manifest, wrap, HANDOVER_SEND_DEADLINE).await?;
    line.hear_word(&Message::Built, HANDOVER_BUILD_DEADLINE).await?;
    drop(manifest);

    giver.enter(line, Step::Ahead);
    while let Some(piece) = line.do_own(HANDOVER_AHEAD_DEADLINE, giver.giver.ahead()).await? {
        line.send_parcel(&piece, Message::Ahead, HANDOVER_SEND_DEADLINE).await?;
        line.hear_ack(HANDOVER_AHEAD_DEADLINE).await?;
        // There may be many: an asker is to see that it goes on.
        giver.enter(line, Step::Ahead);
    }

    giver.enter(line, Step::Ready);
    line.say(&Message::AheadEnd, HANDOVER_SEND_DEADLINE).await?;
    line.hear_word(&Message::Ready, HANDOVER_READY_DEADLINE).await?;

    giver.enter(line, Step::Pausing);
    let pause = Pause { clock, began: clock.now() };
    line.do_own(pause.at_most(HANDOVER_STOP_DEADLINE), giver.giver.pause()).await?;
    line.say(&Message::Pausing, pause.at_most(HANDOVER_PART_DEADLINE)).await?;

    giver.enter(line, Step::State);
    let within = || pause.at_most(HANDOVER_PART_DEADLINE);
    while let Some(part) = line.do_own(within(), giver.giver.state()).await? {
        line.send_parcel(&part, Message::Part, within()).await?;
        line.hear_ack(within()).await?;
    }

    giver.enter(line, Step::Prepared);
    line.say(&Message::PartsEnd, within()).await?;
    line.hear_word(&Message::Prepared, pause.at_most(HANDOVER_PREPARED_DEADLINE)).await?;

    giver.enter(line, Step::Commit);
    if pause.at_most(HANDOVER_PAUSE_MAX).is_zero() {
        return Err(Failure::TooSlow(Step::Commit));
    }
    // No wait is between this and the call: nothing can come between them.
    line.say(&Message::Commit, within()).await?;
    giver.commit();
    Ok(pause.length())
}

/// The pause, which is bounded in all.
struct Pause {
    clock: Clock,
    began: Millis,
}

impl Pause {
    fn length(&self) -> Duration {
        self.clock.now() - self.began
    }

    /// The rest of it, at most `step`.
    fn at_most(&self, step: Duration) -> Duration {
        HANDOVER_PAUSE_MAX.saturating_sub(self.length()).min(step)
    }
}

/// A giver that gets exactly one of both calls, whatever happens.
struct Undecided<'a, G: Giver> {
    giver: &'a mut G,
    is_open: bool,
}

impl<G: Giver> Undecided<'_, G> {
    fn enter(&mut self, line: &mut Line, step: Step) {
        line.step = step;
        self.giver.progress(step);
    }

    fn commit(&mut self) {
        self.is_open = false;
        self.giver.commit();
    }

    fn resume(&mut self, failure: &Failure) {
        if std::mem::take(&mut self.is_open) {
            self.giver.resume(failure);
        }
    }
}

impl<G: Giver> Drop for Undecided<'_, G> {
    fn drop(&mut self) {
        self.resume(&Failure::GivenUp);
    }
}
