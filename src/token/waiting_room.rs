//! Room for requests whose tokens wait for the issuer.
//!
//! Such a request holds the place of an HTTP connection and does nothing with it, and anybody can
//! name a key that nobody knows. So only few wait at the same time; the places of the others stay
//! free for those that need no issuer.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::TOKEN_JWKS_WAITING_MAX;

/// The room of one shard's connections, or of the admin listener's.
#[derive(Debug)]
pub struct WaitingRoom(Semaphore);

impl WaitingRoom {
    /// Room for a quarter of so many places, and for [`TOKEN_JWKS_WAITING_MAX`] at most.
    #[must_use]
    pub fn among(places: usize) -> Self {
        Self(Semaphore::new((places / 4).clamp(1, TOKEN_JWKS_WAITING_MAX)))
    }

    /// Room for one, until it is dropped; `None`: there is none.
    pub(super) fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire().ok()
    }
}
