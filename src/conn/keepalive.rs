//! Whether a client is still there: a pure machine of pings and deadlines.
//!
//! Any byte from the client is a sign of life. A client that was silent for the interval is
//! pinged; one that stays silent for the timeout after a ping is given up. It must not know a
//! clock, a socket or a frame.

use std::time::Duration;

use crate::clock::Millis;

/// The times of pings, and of giving a client up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveSettings {
    /// Silence after which a ping is sent; `None`: never.
    pub interval: Option<Duration>,
    /// Silence after a ping until the client is given up.
    pub timeout: Duration,
}

impl KeepaliveSettings {
    /// The longest time that a client can be silent and still be there, if pings are on.
    #[must_use]
    pub fn silence_max(&self) -> Option<Duration> {
        self.interval.map(|interval| interval + self.timeout)
    }
}

/// One client's machine.
///
/// One word, since every idle client has one: the time in the upper 63 bits, whether it was
/// pinged since in the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive(u64);

/// The action due at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until then.
    Wait(Millis),
    /// Send a ping; look again then.
    Ping(Millis),
    /// The client is gone.
    GiveUp,
}

impl Keepalive {
    /// A client that has just connected.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self::with(now, false)
    }

    fn with(heard: Millis, pinged: bool) -> Self {
        Self(heard.0 << 1 | u64::from(pinged))
    }

    fn heard_at(self) -> Millis {
        Millis(self.0 >> 1)
    }

    fn is_pinged(self) -> bool {
        self.0 & 1 == 1
    }

    /// When a byte arrived last, and whether the client was pinged since.
    #[must_use]
    pub fn record(self) -> (Millis, bool) {
        (self.heard_at(), self.is_pinged())
    }

    /// A machine that goes on.
    #[must_use]
    pub fn restore(heard: Millis, is_pinged: bool) -> Self {
        Self::with(heard, is_pinged)
    }

    /// A byte arrived.
    pub fn heard(&mut self, now: Millis) {
        *self = Self::with(now, false);
    }

    /// When to look for the first time; `None` if pings are off.
    #[must_use]
    pub fn first_deadline(&self, settings: &KeepaliveSettings) -> Option<Millis> {
        settings.interval.map(|interval| self.heard_at() + interval)
    }

    /// The deadline that an earlier answer named is here (or it is later than that).
    pub fn on_deadline(&mut self, now: Millis, settings: &KeepaliveSettings) -> Option<Action> {
        let interval = settings.interval?;
        let ping_at = self.heard_at() + interval;
        let give_up_at = ping_at + settings.timeout;
        Some(if now < ping_at {
            Action::Wait(ping_at)
        } else if !self.is_pinged() {
            // Counted from now: a stalled shard must not cost its clients their time to answer.
            *self = Self::with(Millis(now.0.saturating_sub(millis(interval))), true);
            Action::Ping(now + settings.timeout)
        } else if now < give_up_at {
            Action::Wait(give_up_at)
        } else {
            Action::GiveUp
        })
    }

    /// The same for a client that cannot answer: it is pinged every interval, and never given up.
    pub fn on_deadline_unanswered(
        &mut self,
        now: Millis,
        settings: &KeepaliveSettings,
    ) -> Option<Action> {
        let interval = settings.interval?;
        let ping_at = self.heard_at() + interval;
        if now < ping_at {
            return Some(Action::Wait(ping_at));
        }
        self.heard(now);
        Some(Action::Ping(now + interval))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: KeepaliveSettings = KeepaliveSettings {
        interval: Some(Duration::from_secs(25)),
        timeout: Duration::from_secs(20),
    };

    #[test]
    fn a_silent_client_is_pinged_once_and_then_given_up() {
        let mut machine = Keepalive::new(Millis(0));
        assert_eq!(machine.first_deadline(&SETTINGS), Some(Millis(25_000)));
        let act = |machine: &mut Keepalive, now| machine.on_deadline(Millis(now), &SETTINGS);
        assert_eq!(act(&mut machine, 25_000), Some(Action::Ping(Millis(45_000))));
        assert_eq!(act(&mut machine, 44_999), Some(Action::Wait(Millis(45_000))));
        assert_eq!(act(&mut machine, 45_000), Some(Action::GiveUp));
    }

    #[test]
    fn any_byte_postpones_the_ping_and_answers_it() {
        let mut machine = Keepalive::new(Millis(0));
        machine.heard(Millis(20_000));
        let act = |machine: &mut Keepalive, now| machine.on_deadline(Millis(now), &SETTINGS);
        assert_eq!(act(&mut machine, 25_000), Some(Action::Wait(Millis(45_000))));
        assert_eq!(act(&mut machine, 45_000), Some(Action::Ping(Millis(65_000))));
        machine.heard(Millis(46_000));
        assert_eq!(act(&mut machine, 65_000), Some(Action::Wait(Millis(71_000))));
    }

    /// A late ping leaves the client its whole time to answer.
    #[test]
    fn a_late_ping_leaves_the_whole_time_to_answer() {
        let mut machine = Keepalive::new(Millis(0));
        let act = |machine: &mut Keepalive, now| machine.on_deadline(Millis(now), &SETTINGS);
        assert_eq!(act(&mut machine, 300_000), Some(Action::Ping(Millis(320_000))));
        assert_eq!(act(&mut machine, 319_000), Some(Action::Wait(Millis(320_000))));
        assert_eq!(act(&mut machine, 320_000), Some(Action::GiveUp));
    }

    /// A client that cannot answer is pinged every interval and never given up.
    #[test]
    fn a_client_that_cannot_answer_is_never_given_up() {
        let mut machine = Keepalive::new(Millis(0));
        let mut act = |now| machine.on_deadline_unanswered(Millis(now), &SETTINGS);
        assert_eq!(act(24_999), Some(Action::Wait(Millis(25_000))));
        assert_eq!(act(25_000), Some(Action::Ping(Millis(50_000))));
        assert_eq!(act(25_001), Some(Action::Wait(Millis(50_000))));
        assert_eq!(act(90_000), Some(Action::Ping(Millis(115_000))));
    }

    #[test]
    fn without_an_interval_nothing_is_due() {
        let off = KeepaliveSettings { interval: None, ..SETTINGS };
        assert_eq!(off.silence_max(), None);
        assert_eq!(Keepalive::new(Millis(0)).on_deadline_unanswered(Millis(99), &off), None);
        let mut machine = Keepalive::new(Millis(0));
        assert_eq!(machine.first_deadline(&off), None);
        assert_eq!(machine.on_deadline(Millis(1_000_000), &off), None);
    }
}
