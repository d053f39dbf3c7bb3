//! Verifications under way: equal tokens that come at the same time wait for one of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::OnceCell;

use super::cache::{Outcome, TokenHash};

/// One entry per token that somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<Entries>);

type Entries = HashMap<TokenHash, Weak<OnceCell<Outcome>>>;

impl Flights {
    /// The outcome of `verify`, or of the same for an equal token that has begun before.
    ///
    /// # Cancel safety
    /// May be dropped at any time: another one who waits then begins anew.
    pub(super) async fn join(
        &self,
        hash: TokenHash,
        verify: impl Future<Output = Outcome>,
    ) -> Outcome {
        let seat = self.sit(hash);
        seat.cell.get_or_init(|| verify).await.clone()
    }

    fn sit(&self, hash: TokenHash) -> Seat<'_> {
        let mut entries = self.entries();
        let entry = entries.entry(hash).or_default();
        let cell = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&cell);
        Seat { flights: self, hash, cell }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait for one token; the last to leave removes the entry.
struct Seat<'a> {
    flights: &'a Flights,
    hash: TokenHash,
    cell: Arc<OnceCell<Outcome>>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut entries = self.flights.entries();
        if Arc::strong_count(&self.cell) == 1 {
            entries.remove(&self.hash);
        }
    }
}
