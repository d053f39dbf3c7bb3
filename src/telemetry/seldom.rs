//! Lines that others can cause as often as they like: the first is logged, then a count.
//!
//! [`seldom!`] is used wherever a peer, a publisher or Redis decides how often a line is due. Each
//! call site logs by itself: its first line in full, again after [`LOG_LINE_REPEAT`] if it goes on,
//! and the lines within [`LOG_COUNT_INTERVAL`] as one number. A held back count is logged when that
//! time is over even if no further line comes, and at the end of the process.

use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::{
    clock::{Clock, Millis},
    limits::{LOG_COUNT_INTERVAL, LOG_LINE_REPEAT},
};

/// The call sites that have ever held a line back; at most as many as the code has.
static KNOWN: Mutex<Vec<&'static LogSite>> = Mutex::new(Vec::new());

/// A call site that logs seldom.
#[derive(Debug)]
pub struct LogSite {
    /// Milliseconds of the log's clock; 0: nothing has been logged.
    silent_until: AtomicU64,
    /// When the line was last logged in full.
    spoken: AtomicU64,
    held_back: AtomicU64,
    is_known: AtomicBool,
    tell_count: fn(u64),
}

/// Logs at a level of `tracing`, at most once in [`LOG_COUNT_INTERVAL`] from this call site:
/// `seldom!(warn, "Redis refuses a message", %channel, %error)`.
macro_rules! seldom {
    ($level:ident, $text:literal $(, $($fields:tt)+)?) => {{
        static SITE: $crate::telemetry::LogSite = $crate::telemetry::LogSite::new(|times| {
            tracing::$level!(times, "again: {}", $text);
        });
        if SITE.may_speak() {
            tracing::$level!($($($fields)+,)? $text);
        }
    }};
}

pub(crate) use seldom;

impl LogSite {
    /// A call site that logs its number of held back lines by `tell_count`.
    #[must_use]
    pub const fn new(tell_count: fn(u64)) -> Self {
        Self {
            silent_until: AtomicU64::new(0),
            spoken: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
            is_known: AtomicBool::new(false),
            tell_count,
        }
    }

    /// Whether the line is to be logged; otherwise it is counted.
    pub fn may_speak(&'static self) -> bool {
        self.may_speak_at(clock().now())
    }

    fn may_speak_at(&'static self, now: Millis) -> bool {
        if self.held_back.load(Ordering::Relaxed) == 0 && self.take_turn(now) {
            self.spoken.store(now.0, Ordering::Relaxed);
            return true;
        }
        if self.is_to_be_repeated(now) {
            return true;
        }
        self.held_back.fetch_add(1, Ordering::Relaxed);
        if !self.is_known.swap(true, Ordering::Relaxed) {
            known().push(self);
        }
        self.tell(now);
        false
    }

    /// Whether the line was last logged long ago: counts alone do not say what they count.
    fn is_to_be_repeated(&self, now: Millis) -> bool {
        let (spoken, relaxed) = (self.spoken.load(Ordering::Relaxed), Ordering::Relaxed);
        now - Millis(spoken) >= LOG_LINE_REPEAT
            && self.spoken.compare_exchange(spoken, now.0, relaxed, relaxed).is_ok()
    }

    /// Logs the count of held back lines, if it is time.
    fn tell(&self, now: Millis) {
        if self.held_back.load(Ordering::Relaxed) > 0 && self.take_turn(now) {
            self.tell_now();
        }
    }

    fn tell_now(&self) {
        let count = self.held_back.swap(0, Ordering::Relaxed);
        if count > 0 {
            (self.tell_count)(count);
        }
    }

    /// Whether this thread is the one that may log now.
    fn take_turn(&self, now: Millis) -> bool {
        let until = self.silent_until.load(Ordering::Relaxed);
        let next = (now + LOG_COUNT_INTERVAL).0;
        until <= now.0
            && self
                .silent_until
                .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// The log's own clock: it speaks before there is a server and after it, and the places that log
/// seldom are statics, as old as the process.
pub(super) fn clock() -> Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    *CLOCK.get_or_init(Clock::start)
}

/// Logs the counts that all call sites have held back for long enough.
pub(super) fn tell_due(now: Millis) {
    for site in sites() {
        site.tell(now);
    }
}

/// Logs all held back counts.
pub(super) fn tell_all() {
    for site in sites() {
        site.tell_now();
    }
}

/// A copy: logging the counts must not happen under the lock.
fn sites() -> Vec<&'static LogSite> {
    known().clone()
}

fn known() -> std::sync::MutexGuard<'static, Vec<&'static LogSite>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TOLD: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    fn told() -> Vec<u64> {
        std::mem::take(&mut TOLD.lock().unwrap())
    }

    /// The first is said then a count and what is held back is told by itself.
    #[test]
    fn the_first_line_is_logged_then_a_count() {
        static SITE: LogSite = LogSite::new(|count| TOLD.lock().unwrap().push(count));
        let at = |s: u64| Millis(1_000 + s * 1_000);
        assert!(SITE.may_speak_at(at(0)), "the first");
        let said = (0..2_000).filter(|_| SITE.may_speak_at(at(1))).count();
        assert_eq!((said, told()), (0, Vec::new()), "held back");
        tell_due(at(9));
        assert!(told().is_empty(), "not yet");
        tell_due(at(10));
        assert_eq!(told(), [2_000]);
        tell_due(at(30));
        assert!(told().is_empty(), "nothing more came");
        assert!(SITE.may_speak_at(at(30)), "after a silence it is news again");
        assert!(!SITE.may_speak_at(at(31)));
        assert!(!SITE.may_speak_at(at(41)), "the count stands for it");
        assert_eq!(told(), [2], "also where nobody ticks");
        assert!(!SITE.may_speak_at(at(42)));
        tell_all();
        assert_eq!(told(), [1], "at the end nothing is kept back");
    }

    #[test]
    fn lasting_events_are_logged_in_full_every_minute() {
        static SITE: LogSite = LogSite::new(|_| ());
        let at = |s: u64| Millis(1_000_000 + s * 1_000);
        let spoken = (0..=125).filter(|&second| {
            // The ticker does it as well, and must not take the line's turn.
            tell_due(at(second));
            (0..3).filter(|_| SITE.may_speak_at(at(second))).count() > 0
        });
        assert_eq!(spoken.collect::<Vec<_>>(), [0, 60, 120]);
    }
}
