//! A drain on its way to another process, which goes on with it: plain data.
//!
//! Its moments are told from now on, since the other process has another clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Cause, DrainState, Phase};
use crate::clock::Millis;

/// The drain of a process, and the signals that have come; the default is that of one that serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRecord {
    /// The drain under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainStateRecord>,
    /// The signals to terminate that have counted.
    #[serde(default)]
    pub signals: u32,
    /// The last one, counted or not, came so long ago, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signalled_ago_ms: Option<u64>,
}

/// A drain under way. Times are in milliseconds from now on, those of the past below 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStateRecord {
    /// The phase that was reached.
    pub phase: Phase,
    /// Why it drains.
    pub cause: Cause,
    /// Its beginning.
    pub started_in_ms: i64,
    /// The end of the pre-delay.
    pub accepts_until_in_ms: i64,
    /// The beginning of the closing.
    pub closing_in_ms: i64,
    /// The time over which clients are meant to be closed.
    pub close_over_ms: u64,
    /// The hard limit.
    pub deadline_in_ms: i64,
}

/// The signals to terminate that have come to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signalled {
    /// Those that have counted.
    pub count: u32,
    /// The last one, counted or not.
    pub last: Option<Millis>,
}

impl DrainRecord {
    /// The state at `now`.
    #[must_use]
    pub fn new(drain: Option<DrainState>, signalled: Signalled, now: Millis) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            drain: drain.map(|drain| DrainStateRecord {
                phase: drain.phase,
                cause: drain.cause,
                started_in_ms: from(now, drain.started),
                accepts_until_in_ms: from(now, drain.accepts_until),
                closing_in_ms: from(now, drain.closing_from),
                close_over_ms: millis(drain.close_over),
                deadline_in_ms: from(now, drain.deadline),
            }),
            signals: signalled.count,
            signalled_ago_ms: signalled.last.map(|last| millis(now - last)),
        }
    }

    /// The drain, by a clock that shows `now`.
    #[must_use]
    pub fn drain(&self, now: Millis) -> Option<DrainState> {
        let at = |in_ms| Millis(now.0.saturating_add_signed(in_ms));
        self.drain.map(|drain| DrainState {
            phase: drain.phase,
            cause: drain.cause,
            started: at(drain.started_in_ms),
            accepts_until: at(drain.accepts_until_in_ms),
            closing_from: at(drain.closing_in_ms),
            close_over: Duration::from_millis(drain.close_over_ms),
            deadline: at(drain.deadline_in_ms),
        })
    }

    /// The signals, by a clock that shows `now`.
    #[must_use]
    pub fn signalled(&self, now: Millis) -> Signalled {
        let last = self.signalled_ago_ms.map(|ago| Millis(now.0.saturating_sub(ago)));
        Signalled { count: self.signals, last }
    }
}

/// The time from `now` to `then`.
fn from(now: Millis, then: Millis) -> i64 {
    let ahead = i64::try_from(then.0.saturating_sub(now.0)).unwrap_or(i64::MAX);
    ahead.saturating_sub_unsigned(now.0.saturating_sub(then.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        drain::{
            Machine, Steering,
            machine::tests::{SETTINGS, at},
        },
        record::recordings::{self, through_bytes},
    };

    /// Every later version reads what this one has written.
    #[test]
    fn a_recording_is_read() {
        let drain = DrainStateRecord {
            phase: Phase::Closing,
            cause: Cause::Signal,
            started_in_ms: -900_000,
            accepts_until_in_ms: -890_000,
            closing_in_ms: -10_000,
            close_over_ms: 30_000,
            deadline_in_ms: 20_000,
        };
        let record = DrainRecord { drain: Some(drain), signals: 1, signalled_ago_ms: Some(5_000) };
        recordings::check("drain", &record);
    }

    /// A drain that goes on in another process is in each phase when it would have been, whenever
    /// it is handed on, and whatever the other clock shows.
    #[test]
    fn a_drain_that_is_handed_on_keeps_its_times() {
        let window = Steering { close_over: Some(Duration::from_secs(20)), ..Steering::default() };
        for moved_at in (0..100).step_by(3) {
            for clock in [0_u64, 1_000_000] {
                let mut old = Machine::new(SETTINGS);
                old.start(at(0), Cause::Admin);
                old.steer(at(0), &window).unwrap();
                old.advance(at(moved_at), 1);
                let signalled = Signalled { count: 1, last: Some(at(moved_at)) };
                let record = DrainRecord::new(old.drain(), signalled, at(moved_at));
                let record = through_bytes(&record);
                let there = |seconds: u64| Millis(at(seconds).0 + clock);
                let mut new = Machine::continuing(SETTINGS, record.drain(there(moved_at)));
                assert_eq!(record.signalled(there(moved_at)).last, Some(there(moved_at)));
                for seconds in moved_at..110 {
                    let phase = old.advance(at(seconds), 1);
                    assert_eq!(new.advance(there(seconds), 1), phase, "{moved_at}, {seconds}");
                    let left = old.remaining(at(seconds));
                    assert_eq!(new.remaining(there(seconds)), left);
                    assert_eq!(new.elapsed(there(seconds)), old.elapsed(at(seconds)));
                }
            }
        }
    }

    /// A process that serves hands nothing on but signals.
    #[test]
    fn a_process_that_serves_goes_on_serving() {
        let record = through_bytes(&DrainRecord::new(None, Signalled::default(), at(7)));
        assert_eq!(record, DrainRecord::default());
        assert_eq!(Machine::continuing(SETTINGS, record.drain(at(0))).drain(), None);
    }
}
