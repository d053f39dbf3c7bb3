//! Outcomes that are remembered, so that a storm of equal tokens costs one verification.
//!
//! Pure: time comes in. An outcome is kept under the SHA-256 of the whole token, so no token stays
//! in memory and no changed one is taken for another. Bad tokens have a small table of their own:
//! however many are shown, the good ones stay. When the keys change, everything is forgotten.
//!
//! Each table has two halves. A new outcome, and one that is asked for, goes into the young half;
//! when that is full the old half is dropped and the young one becomes the old. So those that were
//! not shown for longest go, without an order to keep.

use std::{collections::HashMap, sync::Arc};

use super::{error::TokenError, rights::Rights};
use crate::limits::{
    TOKEN_CACHE_BYTES_MAX, TOKEN_CACHE_ENTRIES_MAX, TOKEN_FAILURE_TTL, TOKEN_FAILURES_MAX,
};

/// The SHA-256 of a token.
pub(super) type TokenHash = [u8; 32];

/// A token's outcome.
pub(super) type Outcome = Result<Arc<Rights>, TokenError>;

/// The outcomes under one set of keys.
#[derive(Debug)]
pub(super) struct Cache {
    good: Halves<Arc<Rights>>,
    /// Each with the time until which it counts, seconds since the Unix epoch.
    bad: Halves<(TokenError, u64)>,
    /// How often the keys have changed.
    generation: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            good: Halves::new(TOKEN_CACHE_ENTRIES_MAX / 2, TOKEN_CACHE_BYTES_MAX / 2),
            bad: Halves::new(TOKEN_FAILURES_MAX / 2, usize::MAX),
            generation: 0,
        }
    }
}

impl Cache {
    /// How often the keys have changed: an outcome counts for those with which it was found.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The keys have changed: forgets everything.
    pub(super) fn next_generation(&mut self) {
        *self = Self { generation: self.generation + 1, ..Self::default() };
    }

    /// The outcome at `unix_secs`, if it is known.
    pub(super) fn get(&mut self, hash: &TokenHash, unix_secs: u64) -> Option<Outcome> {
        match self.good.get(hash) {
            Some(rights) if !rights.is_expired_at(unix_secs) => return Some(Ok(rights)),
            // It is among the bad ones from now on.
            Some(_) => self.good.remove(hash),
            None => {}
        }
        let (error, until) = self.bad.get(hash)?;
        (unix_secs < until).then_some(Err(error))
    }

    /// Remembers what was found at `unix_secs` with the keys of `generation`.
    pub(super) fn put(
        &mut self,
        hash: TokenHash,
        outcome: &Outcome,
        unix_secs: u64,
        generation: u64,
    ) {
        if generation != self.generation {
            return;
        }
        match outcome {
            Ok(rights) => {
                let bytes = rights.memory_bytes() + ENTRY_COST_BYTES;
                self.good.put(hash, rights.clone(), bytes);
            }
            // These are about the moment, not about the token.
            Err(
                TokenError::NotYet(_)
                | TokenError::UnknownKey(_)
                | TokenError::KeysUnavailable
                | TokenError::KeyUnavailable,
            ) => {}
            Err(error) => {
                let until = unix_secs + TOKEN_FAILURE_TTL.as_secs();
                self.bad.put(hash, (error.clone(), until), 0);
            }
        }
    }
}

/// An entry of the table and the allocation behind it, without what the rights themselves take.
const ENTRY_COST_BYTES: usize = 96;

#[derive(Debug)]
struct Halves<T> {
    young: HashMap<TokenHash, (T, usize)>,
    young_bytes: usize,
    old: HashMap<TokenHash, (T, usize)>,
    entries_max: usize,
    bytes_max: usize,
}

impl<T: Clone> Halves<T> {
    /// Bounds of one half.
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, young_bytes: 0, old, entries_max, bytes_max }
    }

    fn get(&mut self, hash: &TokenHash) -> Option<T> {
        if let Some((value, _)) = self.young.get(hash) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(hash)?;
        self.put(*hash, value.clone(), bytes);
        Some(value)
    }

    fn remove(&mut self, hash: &TokenHash) {
        if let Some((_, bytes)) = self.young.remove(hash) {
            self.young_bytes -= bytes;
        }
        self.old.remove(hash);
    }

    fn put(&mut self, hash: TokenHash, value: T, bytes: usize) {
        let is_full = self.young.len() >= self.entries_max
            || self.young_bytes.saturating_add(bytes) > self.bytes_max;
        if is_full && !self.young.contains_key(&hash) {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(hash, (value, bytes)).is_none() {
            self.young_bytes += bytes;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelPattern, ChannelPatterns};

    fn hash(number: u32) -> TokenHash {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        hash
    }

    fn rights(patterns: usize) -> Outcome {
        let pattern = |i| ChannelPattern::new(&format!("{i}{}", "x".repeat(100))).unwrap();
        Ok(Arc::new(Rights {
            subscribe: (0..patterns).map(pattern).collect(),
            publish: ChannelPatterns::default(),
            sub: None,
            jti: None,
            expires_at: Some(100),
            verified_at: 0,
        }))
    }

    #[test]
    fn an_outcome_counts_until_it_expires() {
        let mut cache = Cache::default();
        cache.put(hash(1), &rights(0), 0, 0);
        cache.put(hash(2), &Err(TokenError::Signature), 0, 0);
        assert!(matches!(cache.get(&hash(1), 99), Some(Ok(_))));
        assert_eq!(cache.get(&hash(1), 100), None);
        // That it has expired is remembered like any other fault: a storm of it costs nothing.
        cache.put(hash(1), &Err(TokenError::Signature), 100, 0);
        assert_eq!(cache.get(&hash(1), 101), Some(Err(TokenError::Signature)));
        assert_eq!(cache.get(&hash(2), 9), Some(Err(TokenError::Signature)));
        assert_eq!(cache.get(&hash(2), 10), None);
        assert_eq!(cache.get(&hash(3), 0), None);
    }

    #[test]
    fn a_change_of_keys_forgets_everything() {
        let mut cache = Cache::default();
        cache.put(hash(1), &rights(0), 0, 0);
        cache.put(hash(2), &Err(TokenError::Signature), 0, 0);
        cache.next_generation();
        assert_eq!(cache.get(&hash(1), 0), None);
        assert_eq!(cache.get(&hash(2), 0), None);
        // Found with the keys of before.
        cache.put(hash(1), &rights(0), 0, 0);
        assert_eq!(cache.get(&hash(1), 0), None);
        cache.put(hash(1), &rights(0), 0, 1);
        assert!(cache.get(&hash(1), 0).is_some());
    }

    #[test]
    fn outcomes_of_the_moment_are_not_kept() {
        let mut cache = Cache::default();
        let unknown = TokenError::UnknownKey(super::super::Quoted::new("a"));
        let (none, not_this) = (TokenError::KeysUnavailable, TokenError::KeyUnavailable);
        for error in [none, not_this, TokenError::NotYet(TOKEN_FAILURE_TTL), unknown] {
            cache.put(hash(1), &Err(error), 0, 0);
            assert_eq!(cache.get(&hash(1), 0), None);
        }
    }

    /// However many bad tokens come, a good one that was shown before stays.
    #[test]
    fn bad_tokens_displace_no_good_ones() {
        let mut cache = Cache::default();
        cache.put(hash(0), &rights(0), 0, 0);
        for number in 1..10_000 {
            cache.put(hash(number), &Err(TokenError::Signature), 0, 0);
        }
        assert!(cache.get(&hash(0), 0).is_some());
        assert!(cache.bad.len() <= TOKEN_FAILURES_MAX);
    }

    #[test]
    fn the_table_is_bounded_in_entries_and_bytes() {
        let mut cache = Cache::default();
        for number in 0..100_000 {
            cache.put(hash(number), &rights(0), 0, 0);
            // It is shown again and again, so it stays.
            assert!(cache.get(&hash(0), 0).is_some(), "{number}");
        }
        assert!(cache.good.len() <= TOKEN_CACHE_ENTRIES_MAX);
        let large = rights(1000);
        for number in 0..1000 {
            cache.put(hash(number), &large, 0, 0);
        }
        let bytes = large.unwrap().memory_bytes();
        assert!(bytes > 100_000);
        let large = cache.good.young.values().chain(cache.good.old.values());
        let total: usize = large.map(|(_, bytes)| bytes).sum();
        assert!(total <= TOKEN_CACHE_BYTES_MAX && total > TOKEN_CACHE_BYTES_MAX / 4, "{total}");
    }
}
