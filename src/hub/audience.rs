//! The number of clients subscribed to a channel in the whole process, shared by all shards' hubs.
//!
//! Publishers are told this number. A log holds its channel's count and changes it when a client
//! subscribes or leaves; the map is used when a log begins or ends, and for an answer. A delivery
//! touches neither.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::channel::ChannelName;

/// A channel's clients, over all shards and encodings.
pub(super) type Seats = Arc<AtomicUsize>;

/// The counts of all channels with a subscriber.
#[derive(Debug, Default)]
pub struct Audience(Mutex<HashMap<ChannelName, Seats>>);

impl Audience {
    /// How many clients of this process are subscribed to `channel`.
    #[must_use]
    pub fn clients(&self, channel: &str) -> usize {
        self.channels().get(channel).map_or(0, |seats| seats.load(Ordering::Relaxed))
    }

    /// The count of `channel`, for a log that begins.
    pub(super) fn join(&self, channel: &ChannelName) -> Seats {
        self.channels().entry(channel.clone()).or_default().clone()
    }

    /// A log of `channel` has ended; the channel's last log removes the count.
    pub(super) fn leave(&self, channel: &ChannelName, seats: Seats) {
        let mut channels = self.channels();
        drop(seats);
        if channels.get(channel.as_str()).is_some_and(|seats| Arc::strong_count(seats) == 1) {
            channels.remove(channel.as_str());
        }
    }

    /// A panic elsewhere leaves whole entries, so a poisoned lock can be used.
    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelName, Seats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
