//! The keys of the moment, and what was found with them: changed together.
//!
//! One lock for both, held for a look-up: so no outcome of old keys is taken for one of new ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    cache::{Cache, Outcome, TokenHash},
    keys::{Key, KeySet},
};

/// Keys and outcomes, shared by all threads.
#[derive(Debug, Default)]
pub(super) struct KeyStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: Arc<KeySet>,
    cache: Cache,
}

impl KeyStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys, and their generation.
    pub(super) fn keys(&self) -> (Arc<KeySet>, u64) {
        let state = self.state();
        (state.keys.clone(), state.cache.generation())
    }

    /// The outcome for this token, if one is known that still counts.
    pub(super) fn known(&self, hash: &TokenHash, unix_secs: u64) -> Option<Outcome> {
        self.state().cache.get(hash, unix_secs)
    }

    /// Remembers an outcome that was found with the keys of `generation`.
    pub(super) fn remember(
        &self,
        hash: TokenHash,
        outcome: &Outcome,
        unix_secs: u64,
        generation: u64,
    ) {
        self.state().cache.put(hash, outcome, unix_secs, generation);
    }

    /// Replaces the keys of the options. True: they are others.
    pub(super) fn set_given(&self, given: Vec<Key>) -> bool {
        self.change(|keys| KeySet { given, fetched: keys.fetched.clone() })
    }

    /// Replaces the keys of the issuer's set. True: they are others.
    pub(super) fn set_fetched(&self, fetched: Vec<Key>) -> bool {
        self.change(|keys| KeySet { given: keys.given.clone(), fetched })
    }

    fn change(&self, change: impl FnOnce(&KeySet) -> KeySet) -> bool {
        let mut state = self.state();
        let keys = change(&state.keys);
        let is_changed = keys != *state.keys;
        if is_changed {
            state.keys = Arc::new(keys);
            state.cache.next_generation();
        }
        is_changed
    }
}
