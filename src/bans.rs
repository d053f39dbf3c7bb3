//! The subjects and tokens that are kept out for a while, in one process.
//!
//! A token that is still good may be in the wrong hands: an operator names its `sub` or its `jti`,
//! and until a time is over nobody who shows it is let in. All threads ask the same table. It is
//! bounded, and forgets nothing before its time: where it is full, the operator is told.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, Millis},
    limits::BANS_MAX,
};

/// The bearers of tokens, by one of their claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bearer {
    /// The claim `sub`.
    Subject(Box<str>),
    /// The claim `jti`: bearers of this very token.
    TokenId(Box<str>),
}

/// Those that are kept out now.
#[derive(Debug)]
pub struct Bans {
    clock: Clock,
    /// False as long as nobody ever was: then nothing is locked.
    is_used: AtomicBool,
    /// Until when.
    entries: Mutex<HashMap<Bearer, Millis>>,
}

/// There is no room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BansFull;

impl Bans {
    /// Nobody is kept out.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, is_used: AtomicBool::new(false), entries: Mutex::default() }
    }

    /// Keeps `bearer` out from now on for `time`, in place of an earlier time.
    ///
    /// # Errors
    /// When as many others are kept out as may be; then it is not.
    pub fn add(&self, bearer: &Bearer, time: Duration) -> Result<(), BansFull> {
        self.is_used.store(true, Ordering::Release);
        let now = self.clock.now();
        let mut entries = self.entries();
        make_room(&mut entries, bearer, now)?;
        entries.insert(bearer.clone(), now + time);
        Ok(())
    }

    /// Whether there is room for `bearer`.
    ///
    /// # Errors
    /// When there is not.
    pub fn check_room(&self, bearer: &Bearer) -> Result<(), BansFull> {
        make_room(&mut self.entries(), bearer, self.clock.now())
    }

    /// Whether the bearer of a token with these claims is kept out.
    #[must_use]
    pub fn keep_out(&self, sub: Option<&str>, jti: Option<&str>) -> bool {
        if !self.is_used.load(Ordering::Acquire) {
            return false;
        }
        let (entries, now) = (self.entries(), self.clock.now());
        let is_banned = |bearer| entries.get(&bearer).is_some_and(|&until| now < until);
        sub.is_some_and(|sub| is_banned(Bearer::Subject(sub.into())))
            || jti.is_some_and(|jti| is_banned(Bearer::TokenId(jti.into())))
    }

    /// A panic elsewhere leaves whole entries, so a poisoned lock can be used.
    fn entries(&self) -> MutexGuard<'_, HashMap<Bearer, Millis>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(
    entries: &mut HashMap<Bearer, Millis>,
    bearer: &Bearer,
    now: Millis,
) -> Result<(), BansFull> {
    if entries.len() >= BANS_MAX && !entries.contains_key(bearer) {
        entries.retain(|_, until| now < *until);
        if entries.len() >= BANS_MAX {
            return Err(BansFull);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    fn subject(text: &str) -> Bearer {
        Bearer::Subject(text.into())
    }

    #[test]
    fn subjects_and_token_ids_are_apart() {
        let bans = Bans::new(Clock::start());
        assert!(!bans.keep_out(Some("a"), Some("a")));
        bans.add(&subject("a"), LONG).unwrap();
        bans.add(&Bearer::TokenId("7".into()), LONG).unwrap();
        assert!(bans.keep_out(Some("a"), None) && bans.keep_out(Some("a"), Some("x")));
        assert!(bans.keep_out(None, Some("7")) && bans.keep_out(Some("x"), Some("7")));
        assert!(!bans.keep_out(Some("7"), Some("a")) && !bans.keep_out(None, None));
        assert!(!bans.keep_out(Some("A"), None));
    }

    /// A ban ends by itself, and a later one takes the place of the first.
    #[tokio::test(start_paused = true)]
    async fn bans_end_in_time() {
        let bans = Bans::new(Clock::start());
        let ms = Duration::from_millis;
        bans.add(&subject("a"), ms(1000)).unwrap();
        bans.add(&subject("b"), ms(1000)).unwrap();
        tokio::time::advance(ms(999)).await;
        assert!(bans.keep_out(Some("a"), None));
        bans.add(&subject("b"), ms(1000)).unwrap();
        tokio::time::advance(ms(1)).await;
        assert!(!bans.keep_out(Some("a"), None) && bans.keep_out(Some("b"), None));
        bans.add(&subject("b"), ms(1)).unwrap();
        tokio::time::advance(ms(1)).await;
        assert!(!bans.keep_out(Some("b"), None), "it was shortened");
    }

    /// A full table refuses further ones, forgets nobody, and has room when some are over.
    #[tokio::test(start_paused = true)]
    async fn a_full_table_forgets_nobody() {
        let bans = Bans::new(Clock::start());
        bans.add(&subject("short"), Duration::from_secs(1)).unwrap();
        for number in 1..BANS_MAX {
            bans.add(&subject(&number.to_string()), LONG).unwrap();
        }
        assert_eq!(bans.add(&subject("more"), LONG), Err(BansFull));
        assert_eq!(bans.check_room(&subject("more")), Err(BansFull));
        assert!(bans.keep_out(Some("short"), None) && !bans.keep_out(Some("more"), None));
        bans.add(&subject("1"), LONG).expect("it is in there");
        tokio::time::advance(Duration::from_secs(1)).await;
        bans.add(&subject("more"), LONG).unwrap();
        assert!(bans.keep_out(Some("more"), None) && bans.keep_out(Some("2"), None));
    }
}
