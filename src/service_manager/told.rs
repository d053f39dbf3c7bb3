//! The notices that are due to the service manager, given what it knows; pure.
//!
//! A look compares the server's state with what was told before. The result counts as told once it
//! is sent, so a notice that did not get through is due again at the next look.

use std::time::Duration;

use super::Notice;
use crate::{
    clock::Millis,
    limits::{NOTIFY_EXTENSION, NOTIFY_EXTENSION_INTERVAL, NOTIFY_STATUS_INTERVAL},
};

/// The server's life as its manager sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is not ready yet.
    #[default]
    Starting,
    /// It serves, or drains because of a request: the manager has no part in that.
    Ready,
    /// A signal asks for its end.
    Stopping,
}

/// The server at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Where it is.
    pub stage: Stage,
    /// It has taken over from another process.
    pub is_successor: bool,
    /// The same and more in words.
    pub status: String,
    /// Reloads that have been begun so far.
    pub reloads: u64,
    /// One of them goes on.
    pub is_reloading: bool,
    /// Every shard has given a sign of life just now.
    pub is_live: bool,
}

/// The server as its manager knows it.
///
/// # Invariants
/// - The stage only moves forward.
/// - A manager that waits, for the start or the end, is asked for more time again and again, each
///   time long before the last such time is over.
/// - A process that has taken over says twice that it is ready, some time apart: a manager hears
///   only the process that it takes for the main one, which the old one may yet have to tell it.
/// - The watchdog is fed after half of its limit, and only while all shards live.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The time without a feed after which the manager restarts the server, if it watches.
    watchdog: Option<Duration>,
    stage: Stage,
    status: String,
    reloads: u64,
    is_reloading: bool,
    /// That it is ready was said again.
    is_repeated: bool,
    next_status: Millis,
    next_extension: Millis,
    next_feed: Millis,
}

impl Told {
    /// A manager that knows nothing yet.
    #[must_use]
    pub fn nothing(watchdog: Option<Duration>) -> Self {
        Self { watchdog, ..Self::default() }
    }

    /// The notices that are due at `now`, and what the manager knows once they are sent.
    #[must_use]
    pub fn next(&self, state: &State, now: Millis) -> (Vec<Notice>, Self) {
        let (mut notices, mut next) = (Vec::new(), self.clone());
        next.stage = self.stage.max(state.stage);
        if next.stage != self.stage {
            let is_ready = next.stage == Stage::Ready;
            notices.push(if is_ready { Notice::Ready } else { Notice::Stopping });
            (next.next_extension, next.next_status) = (now, now);
        }
        if self.stage == Stage::Ready && next.stage == Stage::Ready {
            if state.reloads != self.reloads {
                notices.push(Notice::Reloading);
                next.is_reloading = true;
            } else if self.is_reloading && !state.is_reloading {
                notices.push(Notice::Ready);
                next.is_reloading = false;
            }
        }
        next.reloads = state.reloads;
        let is_ready = self.stage == Stage::Ready && next.stage == Stage::Ready;
        if is_ready && state.is_successor && !self.is_repeated && next.next_status <= now {
            notices.push(Notice::Ready);
            next.is_repeated = true;
            next.status.clear();
        }
        if state.status != next.status && next.next_status <= now {
            notices.push(Notice::Status(state.status.clone()));
            next.status.clone_from(&state.status);
            next.next_status = now + NOTIFY_STATUS_INTERVAL;
        }
        if next.stage != Stage::Ready && next.next_extension <= now {
            notices.push(Notice::ExtendTimeout(NOTIFY_EXTENSION));
            next.next_extension = now + NOTIFY_EXTENSION_INTERVAL;
        }
        if let Some(limit) = self.watchdog.filter(|_| state.is_live && self.next_feed <= now) {
            notices.push(Notice::Watchdog);
            next.next_feed = now + limit / 2;
        }
        (notices, next)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Notice::{ExtendTimeout, Ready, Reloading, Status, Stopping, Watchdog},
        *,
    };

    /// A manager, and the state of its server.
    #[derive(Default)]
    struct World {
        told: Told,
        state: State,
    }

    impl World {
        /// All that is due at that time; it gets through.
        fn at(&mut self, ms: u64) -> Vec<Notice> {
            let (notices, told) = self.told.next(&self.state, Millis(ms));
            self.told = told;
            notices
        }
    }

    const MORE: Notice = ExtendTimeout(NOTIFY_EXTENSION);

    /// A process that has taken over may have spoken before the manager knew it.
    #[test]
    fn a_successor_says_twice_that_it_is_ready() {
        let step = u64::try_from(NOTIFY_STATUS_INTERVAL.as_millis()).unwrap();
        let mut world = World::default();
        let status = "a".to_owned();
        world.state = State { stage: Stage::Ready, is_successor: true, status, ..State::default() };
        let both = [Ready, Status("a".to_owned())];
        assert_eq!(world.at(10), both);
        assert_eq!(world.at(10 + step - 1), []);
        assert_eq!(world.at(10 + step), both);
        assert_eq!(world.at(10 + 9 * step), []);
    }

    /// A slow start asks for time until it is over, a drain after a signal until its end; in
    /// between nothing is asked for.
    #[test]
    fn a_manager_that_waits_is_asked_for_time() {
        let mut world = World::default();
        let step = u64::try_from(NOTIFY_EXTENSION_INTERVAL.as_millis()).unwrap();
        assert_eq!(world.at(0), [MORE]);
        assert_eq!(world.at(step - 1), []);
        assert_eq!(world.at(step), [MORE]);
        world.state.stage = Stage::Ready;
        assert_eq!(world.at(step + 1), [Ready]);
        assert_eq!(world.at(100 * step), []);
        world.state.stage = Stage::Stopping;
        assert_eq!(world.at(100 * step + 1), [Stopping, MORE]);
        assert_eq!(world.at(100 * step + 2), []);
        assert_eq!(world.at(101 * step + 1), [MORE]);
    }

    /// A server that is stopped before it was ready has never been ready.
    #[test]
    fn a_start_may_end_in_a_stop() {
        let mut world = World::default();
        world.at(0);
        world.state.stage = Stage::Stopping;
        assert_eq!(world.at(1), [Stopping, MORE]);
        world.state.stage = Stage::Ready;
        assert_eq!(world.at(2), [], "there is no way back");
    }

    /// The state in words is told when it changes, at most once in a while, and at once with a new
    /// stage.
    #[test]
    fn a_status_is_told_when_it_changes_at_a_bounded_rate() {
        let mut world = World::default();
        let step = u64::try_from(NOTIFY_STATUS_INTERVAL.as_millis()).unwrap();
        let words = |words: &str| Status(words.to_owned());
        world.state = State { stage: Stage::Ready, status: "a".into(), ..State::default() };
        assert_eq!(world.at(10), [Ready, words("a")]);
        world.state.status = "b".into();
        assert_eq!(world.at(10 + step - 1), []);
        assert_eq!(world.at(10 + step), [words("b")]);
        assert_eq!(world.at(10 + 9 * step), [], "nothing is new");
        world.state = State { stage: Stage::Stopping, status: "c".into(), ..State::default() };
        assert_eq!(world.at(11 + 9 * step), [Stopping, words("c"), MORE]);
    }

    /// A reload has a beginning and an end for the manager, however short it was; before the
    /// server is ready it has none.
    #[test]
    fn a_reload_is_told_with_its_end() {
        let mut world = World::default();
        world.state.reloads = 1;
        assert_eq!(world.at(0), [MORE], "ready would be told too early");
        world.state.stage = Stage::Ready;
        assert_eq!(world.at(1), [Ready]);
        world.state.reloads = 2;
        assert_eq!(world.at(2), [Reloading]);
        assert_eq!(world.at(3), [Ready]);
        (world.state.reloads, world.state.is_reloading) = (3, true);
        assert_eq!(world.at(4), [Reloading]);
        assert_eq!(world.at(5), []);
        world.state.is_reloading = false;
        assert_eq!(world.at(6), [Ready]);
        assert_eq!(world.at(7), []);
    }

    /// The watchdog is fed at half of its limit; a shard that is silent keeps it hungry, and it is
    /// fed at once when the shard is back.
    #[test]
    fn a_watchdog_is_fed_while_all_shards_live() {
        let mut world =
            World { told: Told::nothing(Some(Duration::from_secs(2))), ..World::default() };
        world.state = State { stage: Stage::Ready, is_live: true, ..State::default() };
        assert_eq!(world.at(0), [Ready, Watchdog]);
        assert_eq!(world.at(999), []);
        assert_eq!(world.at(1_000), [Watchdog]);
        world.state.is_live = false;
        assert_eq!(world.at(2_000), []);
        assert_eq!(world.at(9_000), []);
        world.state.is_live = true;
        assert_eq!(world.at(9_001), [Watchdog]);
        assert_eq!(world.at(10_000), []);
    }

    /// A notice that did not get through is due again.
    #[test]
    fn notices_that_were_not_sent_are_due_again() {
        let told = Told::nothing(Some(Duration::from_secs(2)));
        let state = State {
            stage: Stage::Ready,
            status: "serving".into(),
            is_live: true,
            ..State::default()
        };
        let (first, _) = told.next(&state, Millis(0));
        let (again, _) = told.next(&state, Millis(200));
        assert_eq!(first, again);
        assert_eq!(first, [Ready, Status("serving".into()), Watchdog]);
    }
}
