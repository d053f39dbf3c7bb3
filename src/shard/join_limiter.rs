//! How many channels are joined at a time: by handshakes, and by clients that want one more.
//!
//! A client may come with a thousand channels, and many clients may come at once. The memory that a
//! shard holds for them while it finds out where they begin is bounded in channels and in bytes.
//! Clients with few channels don't wait for clients with many.

use std::cell::Cell;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::{
    conn::SubscribeRequest,
    limits::{
        JOIN_BYTES_PENDING_MAX, JOIN_CHANNEL_COST_BYTES, JOIN_CHANNELS_AT_ONCE,
        JOIN_CHANNELS_PENDING_MAX, JOIN_FEW_CHANNELS, JOIN_WAIT,
    },
};

/// A shard's account of the channels that are being joined.
#[derive(Debug)]
pub(super) struct JoinLimiter {
    /// Channels and bytes of all clients that join or wait for it.
    held: Cell<(usize, usize)>,
    /// Room for clients with many channels, and for clients with few.
    many: Semaphore,
    few: Semaphore,
}

/// As many channels are being joined as may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// The permission to join; returned when dropped.
#[derive(Debug)]
pub(super) struct JoinPermit<'a> {
    _held: Held<'a>,
    _room: SemaphorePermit<'a>,
}

#[derive(Debug)]
struct Held<'a> {
    limiter: &'a JoinLimiter,
    channels: usize,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let (channels, bytes) = self.limiter.held.get();
        self.limiter.held.set((channels - self.channels, bytes - self.bytes));
    }
}

impl JoinLimiter {
    pub(super) fn new() -> Self {
        Self {
            held: Cell::default(),
            many: Semaphore::new(JOIN_CHANNELS_AT_ONCE),
            few: Semaphore::new(JOIN_CHANNELS_AT_ONCE),
        }
    }

    /// A permit for a client that wants these channels. Waits for [`JOIN_WAIT`] at most.
    ///
    /// # Errors
    /// When too many wait already, or it does not come in time.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    pub(super) async fn acquire(
        &self,
        wanted: &[SubscribeRequest],
    ) -> Result<JoinPermit<'_>, Busy> {
        let held = self.hold(wanted)?;
        let room = if wanted.len() <= JOIN_FEW_CHANNELS { &self.few } else { &self.many };
        let count = wanted.len().min(JOIN_CHANNELS_AT_ONCE);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let room = timeout(JOIN_WAIT, room.acquire_many(count)).await.map_err(|_| Busy)?;
        // It is never closed.
        Ok(JoinPermit { _held: held, _room: room.map_err(|_| Busy)? })
    }

    fn hold(&self, wanted: &[SubscribeRequest]) -> Result<Held<'_>, Busy> {
        let cost = |one: &SubscribeRequest| JOIN_CHANNEL_COST_BYTES + one.channel.as_str().len();
        let (more, more_bytes) = (wanted.len(), wanted.iter().map(cost).sum::<usize>());
        let (channels, bytes) = self.held.get();
        let (channels, bytes) = (channels + more, bytes + more_bytes);
        if channels > JOIN_CHANNELS_PENDING_MAX || bytes > JOIN_BYTES_PENDING_MAX {
            return Err(Busy);
        }
        self.held.set((channels, bytes));
        Ok(Held { limiter: self, channels: more, bytes: more_bytes })
    }

    /// Whether no channel is being joined.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.held.get() == (0, 0)
    }
}
