//! The issuer's key set at a URL: fetched by a thread of its own, regularly and when a token names
//! a key that is not known.
//!
//! An issuer that is out of reach, slow or hostile changes nothing: the last good set goes on, for
//! `--jwt-jwks-max-age`. However many tokens of unknown keys are shown, there is one fetch at a
//! time, and a pause after each.

mod fetch;
mod url;

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

pub(super) use self::fetch::{FetchError, Fetched, fetch};
pub use self::url::{InvalidJwksUrl, JwksUrl};
use super::{keys::Key, store::KeyStore};
use crate::{
    clock::{Clock, Millis},
    limits::{
        TOKEN_JWKS_DEADLINE, TOKEN_JWKS_INTERVAL, TOKEN_JWKS_INTERVAL_MAX, TOKEN_JWKS_INTERVAL_MIN,
        TOKEN_JWKS_PAUSE, TOKEN_JWKS_WAIT,
    },
    telemetry::seldom,
};

/// How often and how long the issuer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long the last good set serves.
    pub(super) max_age: Duration,
    /// From one fetch's end to the next begin, at least.
    pub(super) pause: Duration,
    /// For one fetch.
    pub(super) deadline: Duration,
    /// For a token whose key is unknown.
    pub(super) wait: Duration,
    /// Fetches a set.
    pub(super) fetch: Fetch,
}

/// Fetches the set at a URL, within a time.
type Fetch = fn(&JwksUrl, Duration) -> Result<Fetched, FetchError>;

impl Pace {
    /// The usual pace.
    pub(super) fn new(max_age: Duration) -> Self {
        let (pause, deadline, wait) = (TOKEN_JWKS_PAUSE, TOKEN_JWKS_DEADLINE, TOKEN_JWKS_WAIT);
        Self { max_age, pause, deadline, wait, fetch }
    }
}

/// The issuer's thread, seen from the others. Dropped, it ends after its present fetch.
#[derive(Debug)]
pub(super) struct Issuer {
    pace: Pace,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    url: JwksUrl,
    store: Arc<KeyStore>,
    /// When the last good set is too old; `None`: there is none. Locked while a set is changed.
    good_until: Mutex<Option<Millis>>,
    demand: Mutex<Demand>,
    wake: Condvar,
    attempts: watch::Sender<Attempts>,
}

#[derive(Debug, Default)]
struct Demand {
    is_wanted: bool,
    is_over: bool,
}

/// The fetches so far.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    ended: u64,
    last_end: Option<Millis>,
    is_running: bool,
    has_failed: bool,
}

impl Issuer {
    /// Starts the thread, which fetches at once and puts the sets into `store`.
    pub(super) fn start(
        clock: Clock,
        url: JwksUrl,
        pace: Pace,
        store: Arc<KeyStore>,
    ) -> io::Result<Self> {
        let (attempts, _) = watch::channel(Attempts { is_running: true, ..Attempts::default() });
        let (demand, wake) = (Mutex::default(), Condvar::new());
        let good_until = Mutex::default();
        let shared = Arc::new(Shared { clock, url, store, good_until, demand, wake, attempts });
        let fetcher = Fetcher { pace, shared: shared.clone() };
        thread::Builder::new().name("jwks".to_owned()).spawn(move || fetcher.run())?;
        Ok(Self { pace, shared })
    }

    /// Waits until the set has been fetched again, for at most [`TOKEN_JWKS_WAIT`]; not at all if
    /// that has just been done.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn fetched_again(&self) {
        let mut attempts = self.shared.attempts.subscribe();
        let before = *attempts.borrow_and_update();
        let now = self.shared.clock.now();
        let is_recent = before.last_end.is_some_and(|end| now - end < self.pace.pause);
        if is_recent && !before.is_running {
            return;
        }
        self.want();
        let newer = attempts.wait_for(|attempts| attempts.ended > before.ended);
        // Without a newer set the present one decides.
        let _ = timeout(self.pace.wait, newer).await;
    }

    /// Asks for a fetch, as soon as one is due again.
    pub(super) fn want(&self) {
        self.shared.demand(|demand| demand.is_wanted = true);
    }

    /// Gives up a set that is too old, also if the thread has not come to it.
    pub(super) fn give_up_old_keys(&self) {
        self.shared.give_up_old_keys();
    }

    /// Whether the present set may be old: the last fetch has failed, the first has not ended, or
    /// the set was given up.
    pub(super) fn is_failing(&self) -> bool {
        let attempts = self.shared.attempts.borrow();
        attempts.has_failed || attempts.ended == 0
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.demand(|demand| demand.is_over = true);
    }
}

impl Shared {
    fn demand(&self, change: impl FnOnce(&mut Demand)) {
        change(&mut self.demand.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }

    fn good_until(&self) -> MutexGuard<'_, Option<Millis>> {
        self.good_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up_old_keys(&self) {
        let mut good_until = self.good_until();
        if good_until.is_none_or(|good_until| self.clock.now() < good_until) {
            return;
        }
        *good_until = None;
        self.store.set_fetched(Vec::<Key>::new());
        // Also where no fetch has failed, since the process was stopped meanwhile.
        self.attempts.send_modify(|attempts| attempts.has_failed = true);
        seldom!(error, "the last good key set is too old: it is given up", url = %self.url);
    }

    /// Waits until `next`, or, if a fetch is wanted, until `earliest`. False: there will be none.
    fn rest(&self, earliest: Millis, next: Millis) -> bool {
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = self.clock.now();
            let due = if demand.is_wanted { earliest.min(next) } else { next };
            if demand.is_over || now >= due {
                return !demand.is_over;
            }
            let waited = self.wake.wait_timeout(demand, due - now);
            demand = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The thread's own part.
struct Fetcher {
    pace: Pace,
    shared: Arc<Shared>,
}

impl Fetcher {
    fn run(&self) {
        loop {
            self.shared.attempts.send_modify(|attempts| attempts.is_running = true);
            // A fault in the reading of a stranger's answer must not end the fetches.
            let attempt = panic::catch_unwind(AssertUnwindSafe(|| self.attempt()));
            let attempt = attempt.unwrap_or_else(|_| {
                seldom!(error, "a fetch of the key set panicked", url = %self.shared.url);
                None
            });
            let end = self.shared.clock.now();
            // Before the number of attempts, or a demand that follows that would be forgotten.
            self.shared.demand(|demand| demand.is_wanted = false);
            self.shared.attempts.send_modify(|attempts| {
                *attempts = Attempts {
                    ended: attempts.ended + 1,
                    last_end: Some(end),
                    is_running: false,
                    has_failed: attempt.is_none(),
                };
            });
            if !self.rest(end, end + attempt.unwrap_or(self.pace.pause)) {
                return;
            }
        }
    }

    /// Fetches the set and puts it to use. Returns the time until the next regular fetch; `None`:
    /// there is no newer set.
    fn attempt(&self) -> Option<Duration> {
        match (self.pace.fetch)(&self.shared.url, self.pace.deadline) {
            Ok(fetched) => Some(self.take(fetched)),
            Err(error) => {
                let (url, is_serving) = (&self.shared.url, self.shared.good_until().is_some());
                seldom!(warn, "the key set can't be fetched", %url, %error, is_serving);
                None
            }
        }
    }

    fn take(&self, Fetched { keys, fresh_for }: Fetched) -> Duration {
        let count = keys.len();
        let good_until = self.shared.clock.now() + self.pace.max_age;
        let mut serves_until = self.shared.good_until();
        *serves_until = Some(good_until);
        if self.shared.store.set_fetched(keys) {
            let url = &self.shared.url;
            seldom!(info, "tokens are verified with a new key set", %url, keys = count);
        }
        let interval = fresh_for
            .unwrap_or(TOKEN_JWKS_INTERVAL)
            .clamp(TOKEN_JWKS_INTERVAL_MIN, TOKEN_JWKS_INTERVAL_MAX)
            // An issuer that answers is asked again before its set is too old.
            .min(self.pace.max_age / 2);
        // Processes that were started together ask apart.
        interval.mul_f64(1.0 - fastrand::f64() * 0.1)
    }

    /// Waits for the next fetch, and gives up a set that gets too old meanwhile.
    fn rest(&self, end: Millis, next: Millis) -> bool {
        let earliest = end + self.pace.pause;
        let good_until = *self.shared.good_until();
        if let Some(good_until) = good_until.filter(|until| *until < next) {
            if !self.shared.rest(earliest, good_until) {
                return false;
            }
            self.shared.give_up_old_keys();
        }
        self.shared.rest(earliest, next)
    }
}
