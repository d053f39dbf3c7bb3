//! The subjects and tokens that are kept out for a while, in one process.
//!
//! A token that is still good may be in the wrong hands: an operator names its `sub` or its `jti`,
//! and until a time is over nobody who shows it is let in. All threads ask the same table. It is
//! bounded, and forgets nothing before its time: where it is full, the operator is told.
//!
//! Several processes agree by one rule: of two commands about the same bearer the later one counts,
//! whether it is for longer or shorter. Redis' clock orders them; a command that was given without
//! Redis is as old there as it is here. Nothing else of a clock is exchanged: a ban goes from one
//! process to another as the time that is left of it.

mod handover;

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use handover::{BanRecord, BansRecord};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    clock::{Clock, Millis},
    limits::{BAN_MAX, BANS_HEARD_MAX, BANS_MAX},
};

/// The bearers of tokens, by one of their claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bearer {
    /// The claim `sub`.
    Subject(Box<str>),
    /// The claim `jti`: bearers of this very token.
    TokenId(Box<str>),
}

/// When a bearer was commanded to be kept out, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// All processes know it: by Redis' clock, in milliseconds.
    Shared(u64),
    /// Only this one knows it: by its own clock, which was at [`BAN_MAX`] when the process began,
    /// since the command may be older than that.
    Local(Millis),
}

/// A ban that all processes know, as Redis tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBan {
    /// Of whom.
    pub bearer: Bearer,
    /// For how much longer.
    pub time: Duration,
    /// When it was given, by Redis' clock.
    pub stamp: u64,
}

/// A ban as this process knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBan {
    /// For how much longer; zero when it is over.
    pub time: Duration,
    /// The last command about that bearer.
    pub given: Given,
    /// The time since a command that only this process knows; else zero.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    until: Millis,
    given: Given,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<Bearer, Entry>,
    /// None is over before.
    earliest_end: Millis,
}

/// Those that are kept out now.
#[derive(Debug)]
pub struct Bans {
    clock: Clock,
    /// False as long as nobody ever was: then nothing is locked.
    is_used: AtomicBool,
    table: Mutex<Table>,
    /// There is a command that only this process knows.
    has_unshared: Notify,
}

/// There is no room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BansFull;

impl Bans {
    /// Nobody is kept out.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            is_used: AtomicBool::new(false),
            table: Mutex::new(Table::new()),
            has_unshared: Notify::new(),
        }
    }

    /// Keeps `bearer` out from now on for `time`, by a command that was given to this process
    /// alone.
    ///
    /// # Errors
    /// When as many others are kept out as may be; then it is not.
    pub fn add(&self, bearer: &Bearer, time: Duration) -> Result<(), BansFull> {
        let now = self.now();
        let entry = Entry { until: now + time, given: Given::Local(now) };
        self.put(bearer, entry, BANS_MAX, |_| true)?;
        self.has_unshared.notify_one();
        Ok(())
    }

    /// Keeps `bearer` out from now on for `time`, by a command that all processes hear: the one of
    /// `stamp`, unless a later one was heard before.
    ///
    /// # Errors
    /// When as many others are kept out as may be; then it is not.
    pub fn hear(&self, bearer: &Bearer, time: Duration, stamp: u64) -> Result<(), BansFull> {
        let entry = Entry { until: self.now() + time, given: Given::Shared(stamp) };
        self.put(bearer, entry, BANS_HEARD_MAX, |known| match known {
            Given::Shared(known) => known <= stamp,
            Given::Local(_) => true,
        })
    }

    /// Takes over all bans that Redis knew at `read_at` by its clock, but those about which a later
    /// command is known here. Returns the bearers of whom Redis knows less or something else: it
    /// is to be asked about each by [`Bans::own`].
    ///
    /// # Errors
    /// When they do not all have room; then some are let in.
    pub fn agree(&self, read: &[SharedBan], read_at: u64) -> (Vec<Bearer>, Result<(), BansFull>) {
        let (mut taken, now) = (Ok(()), self.now());
        for SharedBan { bearer, time, stamp } in read {
            let entry = Entry { until: now + *time, given: Given::Shared(*stamp) };
            let age = Duration::from_millis(read_at.saturating_sub(*stamp));
            let put = self.put(bearer, entry, BANS_HEARD_MAX, |known| match known {
                Given::Shared(known) => known <= *stamp,
                Given::Local(given) => age <= now - given,
            });
            taken = taken.and(put);
        }
        let stamps: HashMap<&Bearer, u64> =
            read.iter().map(|ban| (&ban.bearer, ban.stamp)).collect();
        let table = self.table();
        let differing = table.entries.iter().filter(|(bearer, entry)| match entry.given {
            Given::Local(_) => true,
            Given::Shared(stamp) => now < entry.until && stamps.get(bearer) != Some(&stamp),
        });
        (differing.map(|(bearer, _)| bearer.clone()).collect(), taken)
    }

    /// Resolves when a command was given that only this process knows: for one waiter.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn unshared(&self) {
        self.has_unshared.notified().await;
    }

    /// The bearers of all commands that only this process knows.
    #[must_use]
    pub fn all_unshared(&self) -> Vec<Bearer> {
        let table = self.table();
        let local =
            table.entries.iter().filter(|(_, entry)| matches!(entry.given, Given::Local(_)));
        local.map(|(bearer, _)| bearer.clone()).collect()
    }

    /// The last command about `bearer` that is known here.
    #[must_use]
    pub fn own(&self, bearer: &Bearer) -> Option<OwnBan> {
        let (table, now) = (self.table(), self.now());
        let Entry { until, given } = *table.entries.get(bearer)?;
        let age = match given {
            Given::Local(given) => now - given,
            Given::Shared(_) => Duration::ZERO,
        };
        Some(OwnBan { time: until - now, given, age })
    }

    /// Redis was asked about the command `asked`, and knows it now by `stamp`; or, with a `time`,
    /// that later one, by which `bearer` is kept out for so long.
    pub fn settle(&self, bearer: &Bearer, asked: Given, stamp: u64, time: Option<Duration>) {
        let (mut table, now) = (self.table(), self.now());
        let known = table.entries.get(bearer).filter(|entry| entry.given == asked);
        if let Some(&Entry { until, .. }) = known {
            let until = time.map_or(until, |time| now + time);
            table.insert(bearer, Entry { until, given: Given::Shared(stamp) });
        }
    }

    /// Whether there is room for `bearer`.
    ///
    /// # Errors
    /// When there is not.
    pub fn check_room(&self, bearer: &Bearer) -> Result<(), BansFull> {
        self.table().make_room(bearer, self.now(), BANS_MAX)
    }

    /// Whether the bearer of a token with these claims is kept out.
    #[must_use]
    pub fn keep_out(&self, sub: Option<&str>, jti: Option<&str>) -> bool {
        if !self.is_used.load(Ordering::Acquire) {
            return false;
        }
        sub.is_some_and(|sub| self.keeps_out(&Bearer::Subject(sub.into())))
            || jti.is_some_and(|jti| self.keeps_out(&Bearer::TokenId(jti.into())))
    }

    /// Whether `bearer` is kept out.
    #[must_use]
    pub fn keeps_out(&self, bearer: &Bearer) -> bool {
        let now = self.now();
        self.table().entries.get(bearer).is_some_and(|entry| now < entry.until)
    }

    /// Puts `entry` in, unless it is earlier than the command that is known.
    fn put(
        &self,
        bearer: &Bearer,
        entry: Entry,
        most: usize,
        is_later: impl FnOnce(Given) -> bool,
    ) -> Result<(), BansFull> {
        self.is_used.store(true, Ordering::Release);
        let mut table = self.table();
        if table.entries.get(bearer).is_none_or(|known| is_later(known.given)) {
            table.make_room(bearer, self.now(), most)?;
            table.insert(bearer, entry);
        }
        Ok(())
    }

    /// The time of the table: commands that another process was given are in its past.
    fn now(&self) -> Millis {
        self.clock.now() + BAN_MAX
    }

    /// A panic elsewhere leaves whole entries, so a poisoned lock can be used.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn new() -> Self {
        Self { entries: HashMap::new(), earliest_end: Millis(u64::MAX) }
    }

    fn insert(&mut self, bearer: &Bearer, entry: Entry) {
        self.earliest_end = self.earliest_end.min(entry.until);
        self.entries.insert(bearer.clone(), entry);
    }

    /// Those that are over go first, also if Redis has not heard that they are shorter.
    fn make_room(&mut self, bearer: &Bearer, now: Millis, most: usize) -> Result<(), BansFull> {
        if self.entries.len() >= most && !self.entries.contains_key(bearer) {
            self.drop_ended(now);
            if self.entries.len() >= most {
                return Err(BansFull);
            }
        }
        Ok(())
    }

    /// Looks at all entries if one may be over; whether it did. While everybody asks for room in a
    /// full table, nobody who comes has to wait for that.
    fn drop_ended(&mut self, now: Millis) -> bool {
        if now < self.earliest_end {
            return false;
        }
        self.entries.retain(|_, entry| now < entry.until);
        let ends = self.entries.values().map(|entry| entry.until);
        self.earliest_end = ends.min().unwrap_or(Millis(u64::MAX));
        true
    }
}

#[cfg(test)]
mod tests;
