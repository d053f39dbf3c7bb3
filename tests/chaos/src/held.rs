//! One channel of one client: its judge, its position, and the event it is waiting for.

use std::fmt::Write as _;

use super::{
    judge::{Place, Track},
    shared::{Shared, channel_of},
};

/// One channel of one client.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) channel: usize,
    pub(super) track: Track,
    /// The name and the number of the last epoch that was heard of.
    epoch: (String, u32),
    /// The track's position as servers write it.
    pub(super) since: Option<String>,
    pub(super) is_finished: bool,
    /// The server that it is subscribed at.
    pub(super) watching: Option<usize>,
}

/// The client's channel of this name.
pub(super) fn held<'a>(all: &'a mut [Held], name: Option<&str>) -> Option<&'a mut Held> {
    let channel = channel_of(name?)?;
    all.iter_mut().find(|held| held.channel == channel)
}

impl Held {
    pub(super) fn new(channel: usize) -> Self {
        Self {
            channel,
            track: Track::default(),
            epoch: (String::new(), 0),
            since: None,
            is_finished: false,
            watching: None,
        }
    }

    /// The number of an epoch that is usually the last one.
    pub(super) fn epoch(&mut self, shared: &Shared, name: &str) -> u32 {
        if self.epoch.0 != name {
            self.epoch = (name.to_owned(), shared.epoch(name));
        }
        self.epoch.1
    }

    /// Notes `place`, whose epoch's name was heard last, if it is the track's position.
    pub(super) fn note(&mut self, place: Place) {
        if self.track.position() == Some(place) {
            let since = self.since.get_or_insert_default();
            since.clear();
            // Writing to a string does not fail.
            let _ = write!(since, "{}:{}", self.epoch.0, place.offset);
        }
    }

    pub(super) fn leave(&mut self, shared: &Shared) {
        if let Some(server) = self.watching.take() {
            shared.watch(server, self.channel, false);
        }
    }
}
