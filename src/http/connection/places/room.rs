//! How many HTTP connections there may be.

use crate::limits::HTTP_SPARE_PLACES_MAX;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// At work, or waiting for their peers.
    pub places: usize,
    /// Besides, for health probes when all of those are at work.
    pub spare: usize,
}

impl Room {
    /// The places for both kinds, given the number of connections in all.
    #[must_use]
    pub fn of(connections_max: usize) -> Self {
        let spare = (connections_max / 3).min(HTTP_SPARE_PLACES_MAX);
        Self { places: connections_max - spare, spare }
    }

    /// All connections.
    #[must_use]
    pub fn connections_max(self) -> usize {
        self.places + self.spare
    }
}
