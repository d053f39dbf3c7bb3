//! How many channels are settled at a time: of handshakes, and of clients that join one more.
//!
//! Anyone may come with a thousand channels, and many may come at once. What a shard holds for
//! them while it finds out where they begin is bounded in channels and in bytes. Those with few
//! channels don't wait for those with many.

use std::cell::Cell;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    conn::Wanted,
    limits::{
        SETTLING_BYTES_MAX, SETTLING_CHANNEL_COST_BYTES, SETTLING_CHANNELS_MAX,
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

impl Settling {
    pub(super) fn new() -> Self {
        Self {
            held: Cell::default(),
            many: Semaphore::new(SETTLING_TURN_CHANNELS),
            few: Semaphore::new(SETTLING_TURN_CHANNELS),
        }
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

    /// Whether nothing is being settled.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.held.get() == (0, 0)
    }
}
