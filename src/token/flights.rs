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
        let cell = seat.cell.as_ref().expect("it is there until the seat is left");
        cell.get_or_init(|| verify).await.clone()
    }

    fn sit(&self, hash: TokenHash) -> Seat<'_> {
        let mut entries = self.entries();
        let entry = entries.entry(hash).or_default();
        let cell = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&cell);
        Seat { flights: self, hash, cell: Some(cell) }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait for one token; the last to leave removes the entry.
struct Seat<'a> {
    flights: &'a Flights,
    hash: TokenHash,
    /// There until the seat is left.
    cell: Option<Arc<OnceCell<Outcome>>>,
}

impl Seat<'_> {
    fn leave(&mut self) {
        let mut entries = self.flights.entries();
        // Under the lock: of two that leave together, the second sees that the first has left.
        self.cell = None;
        if entries.get(&self.hash).is_some_and(|cell| cell.strong_count() == 0) {
            entries.remove(&self.hash);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::error::TokenError;

    /// Of two that leave together, on two threads, both may have left before either is gone: the
    /// second one sees that the first has left.
    #[test]
    fn nothing_stays_of_those_that_leave_together() {
        let flights = Flights::default();
        let mut seats = [(); 2].map(|()| flights.sit([7; 32]));
        assert_eq!(flights.entries().len(), 1);
        seats[0].leave();
        assert_eq!(flights.entries().len(), 1, "somebody waits");
        seats[1].leave();
        assert_eq!(flights.entries().len(), 0);
        // Of a later one nothing is taken away by what is left of them.
        let _later = flights.sit([7; 32]);
        drop(seats);
        assert_eq!(flights.entries().len(), 1);
    }

    /// A verification that is abandoned leaves no entry, and the next one begins anew.
    #[tokio::test]
    async fn an_abandoned_verification_leaves_no_entry() {
        let flights = Flights::default();
        let hash = [7; 32];
        let mut abandoned = Box::pin(flights.join(hash, std::future::pending()));
        assert!(futures_util::poll!(&mut abandoned).is_pending());
        assert_eq!(flights.entries().len(), 1);
        drop(abandoned);
        assert_eq!(flights.entries().len(), 0);
        let refused = std::future::ready(Err(TokenError::Signature));
        assert!(flights.join(hash, refused).await.is_err());
        assert_eq!(flights.entries().len(), 0);
    }
}
