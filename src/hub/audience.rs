//! How many clients hear a channel, in the whole process: one count, shared by all shards' hubs.
//!
//! Publishers are told. A log holds its channel's count and moves it when a client comes or goes;
//! the map is looked at when a log begins or ends, and for an answer. A delivery touches neither.

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

/// The counts of all channels that somebody hears.
#[derive(Debug, Default)]
pub struct Audience(Mutex<HashMap<ChannelName, Seats>>);

impl Audience {
    /// How many clients of this process hear `channel`.
    #[must_use]
    pub fn clients(&self, channel: &str) -> usize {
        self.channels().get(channel).map_or(0, |seats| seats.load(Ordering::Relaxed))
    }

    /// The count of `channel`, for a log that begins.
    pub(super) fn join(&self, channel: &ChannelName) -> Seats {
        self.channels().entry(channel.clone()).or_default().clone()
    }

    /// A log of `channel` has ended; the last one takes the count along.
    pub(super) fn leave(&self, channel: &ChannelName, seats: Seats) {
        let mut channels = self.channels();
        drop(seats);
        if channels.get(channel.as_str()).is_some_and(|seats| Arc::strong_count(seats) == 1) {
            channels.remove(channel.as_str());
        }
    }

    /// A panic elsewhere leaves whole entries: go on.
    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelName, Seats>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
