//! How many channels are settled at a time: of handshakes, and of clients that join one more.
//!
//! Anyone may come with a thousand channels, and many may come at once. What a shard holds for
//! them while it finds out where they begin is bounded in channels and in bytes, and so is what it
//! asks the broker at a time; what several want to know of a channel is asked for once. Those with
//! few channels don't wait for those with many.

use std::{cell::Cell, cell::RefCell, collections::HashMap, rc::Rc};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};

use crate::{
    channel::ChannelName,
    conn::Wanted,
    limits::{
        SETTLING_ASKED_MAX, SETTLING_BYTES_MAX, SETTLING_CHANNEL_COST_BYTES, SETTLING_CHANNELS_MAX,
        SETTLING_FEW_CHANNELS, SETTLING_TURN_CHANNELS, SETTLING_WAIT,
    },
};

/// A shard's account of what is being settled.
#[derive(Debug)]
pub(super) struct Settling {
    /// Channels and bytes of all who are settled or wait for it.
    held: Cell<(usize, usize)>,
    /// Room for those who have many channels, and for those who have few.
    many: Semaphore,
    few: Semaphore,
    /// Room for questions to the broker.
    questions: Semaphore,
    /// Channels about which one is on its way; tells when it is answered.
    asked: RefCell<HashMap<ChannelName, watch::Receiver<()>>>,
}

/// As much is settled as may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A turn to be settled; over when dropped.
#[derive(Debug)]
pub(super) struct SettlingTurn<'a> {
    _held: Held<'a>,
    _room: SemaphorePermit<'a>,
}

#[derive(Debug)]
struct Held<'a> {
    settling: &'a Settling,
    channels: usize,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (channels, bytes) = self.settling.held.get();
        self.settling.held.set((channels - self.channels, bytes - self.bytes));
    }
}

/// Who is to find out about a channel.
pub(super) enum Lookup<'a> {
    /// You: the others wait until [`PendingLookup::answered`], or this is dropped.
    You(PendingLookup<'a>),
    /// Somebody else does: resolves with its answer, or with an error if there will be none.
    Another(watch::Receiver<()>),
}

/// A question about a channel on its way.
pub(super) struct PendingLookup<'a> {
    settling: &'a Settling,
    channel: &'a ChannelName,
    answer: watch::Sender<()>,
}

impl PendingLookup<'_> {
    /// Whatever is known of the channel now is the answer.
    pub(super) fn answered(self) {
        self.answer.send_replace(());
    }
}

impl Drop for PendingLookup<'_> {
    fn drop(&mut self) {
        self.settling.asked.borrow_mut().remove(self.channel);
    }
}

impl Settling {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            held: Cell::default(),
            many: Semaphore::new(SETTLING_TURN_CHANNELS),
            few: Semaphore::new(SETTLING_TURN_CHANNELS),
            questions: Semaphore::new(SETTLING_ASKED_MAX),
            asked: RefCell::default(),
        })
    }

    /// A turn for somebody who wants these channels. It waits for [`SETTLING_WAIT`] at most.
    ///
    /// # Errors
    /// When too many wait already, or it does not come in time.
    pub(super) async fn turn(&self, wanted: &[Wanted]) -> Result<SettlingTurn<'_>, Busy> {
        let held = self.hold(wanted)?;
        let room = if wanted.len() <= SETTLING_FEW_CHANNELS { &self.few } else { &self.many };
        let count = wanted.len().min(SETTLING_TURN_CHANNELS);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let room = timeout(SETTLING_WAIT, room.acquire_many(count)).await.map_err(|_| Busy)?;
        // It is never closed.
        Ok(SettlingTurn { _held: held, _room: room.map_err(|_| Busy)? })
    }

    fn hold(&self, wanted: &[Wanted]) -> Result<Held<'_>, Busy> {
        let cost = |one: &Wanted| SETTLING_CHANNEL_COST_BYTES + one.channel.as_str().len();
        let (more, more_bytes) = (wanted.len(), wanted.iter().map(cost).sum::<usize>());
        let (channels, bytes) = self.held.get();
        let (channels, bytes) = (channels + more, bytes + more_bytes);
        if channels > SETTLING_CHANNELS_MAX || bytes > SETTLING_BYTES_MAX {
            return Err(Busy);
        }
        self.held.set((channels, bytes));
        Ok(Held { settling: self, channels: more, bytes: more_bytes })
    }

    /// Who finds out about `channel`.
    pub(super) fn lookup<'a>(&'a self, channel: &'a ChannelName) -> Lookup<'a> {
        let mut asked = self.asked.borrow_mut();
        if let Some(answer) = asked.get(channel) {
            return Lookup::Another(answer.clone());
        }
        let (answer, waiting) = watch::channel(());
        asked.insert(channel.clone(), waiting);
        Lookup::You(PendingLookup { settling: self, channel, answer })
    }

    /// Room for one question to the broker, as long as it is kept.
    pub(super) async fn question(&self) -> Option<SemaphorePermit<'_>> {
        self.questions.acquire().await.ok()
    }

    /// Whether nothing is being settled.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.held.get() == (0, 0)
            && self.asked.borrow().is_empty()
            && self.questions.available_permits() == SETTLING_ASKED_MAX
    }
}
