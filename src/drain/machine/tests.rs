//! The phases by tables, and by any sequence of events and wishes.

use super::*;

pub(in crate::drain) const SETTINGS: DrainSettings = DrainSettings {
    pre_delay: Duration::from_secs(5),
    timeout: Duration::from_secs(100),
    close_over: Duration::from_secs(20),
};

pub(in crate::drain) fn at(seconds: u64) -> Millis {
    Millis(seconds * 1000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A machine whose drain has begun at 0, as it is at `second` with a client left.
fn draining_since_0(second: u64) -> Machine {
    let mut machine = Machine::new(SETTINGS);
    machine.start(at(0), Cause::Admin);
    machine.advance(at(second), 1);
    machine
}

/// A wish in seconds.
fn wish(timeout: Option<u64>, close_over: Option<u64>, closes_now: bool) -> Steering {
    let (timeout, close_over) = (timeout.map(secs), close_over.map(secs));
    Steering { timeout, close_over, closes_now }
}

#[test]
fn phases_follow_the_clock_while_clients_stay() {
    let mut machine = Machine::new(SETTINGS);
    assert_eq!(machine.advance(at(1000), 0), Phase::Serving);
    machine.start(at(1000), Cause::Signal);
    for (second, phase) in [
        (1000, Phase::PreDelay),
        (1004, Phase::PreDelay),
        (1005, Phase::Waiting),
        (1079, Phase::Waiting),
        (1080, Phase::Closing),
        (1099, Phase::Closing),
        (1100, Phase::Stopped),
    ] {
        assert_eq!(machine.advance(at(second), 3), phase, "second {second}");
    }
}

/// A drain with no client left stops in any phase after the pre-delay.
#[test]
fn with_nobody_left_it_stops_after_the_pre_delay() {
    for second in [5, 50, 85] {
        let mut machine = draining_since_0(0);
        assert_eq!(machine.advance(at(2), 0), Phase::PreDelay);
        machine.advance(at(second), 1);
        assert_eq!(machine.advance(at(second), 0), Phase::Stopped);
    }
}

/// No client counts as left before new clients are refused.
#[test]
fn nobody_counts_as_left_while_clients_may_come() {
    for second in [5, 50, 85] {
        let mut machine = Machine::new(SETTINGS);
        machine.start(at(0), Cause::Signal);
        assert_eq!(machine.advance(at(second), 0), Phase::Waiting);
        assert_eq!(machine.advance(at(second), 0), Phase::Stopped);
    }
}

#[test]
fn every_change_by_time_is_announced() {
    let mut machine = Machine::new(SETTINGS);
    machine.start(at(0), Cause::Signal);
    let mut phases = Vec::new();
    while let Some(change) = machine.next_change() {
        phases.push(machine.advance(change, 1));
    }
    assert_eq!(phases, [Phase::PreDelay, Phase::Waiting, Phase::Closing, Phase::Stopped]);
}

#[test]
fn the_second_signal_stops_and_nothing_moves_back() {
    let mut machine = Machine::new(SETTINGS);
    machine.stop(at(0));
    assert_eq!(machine.advance(at(1), 7), Phase::Stopped);
    assert_eq!(machine.steer(at(1), &wish(Some(50), None, false)), Err(Refused::Ending));
}

/// A drain that an operator began becomes a supervisor's with the first signal, and a failure's
/// with a failure.
#[test]
fn the_graver_cause_counts() {
    use Cause::{Admin, Failure, Signal};
    let orders = [[Admin, Signal, Failure], [Failure, Admin, Signal], [Signal, Failure, Admin]];
    for (order, causes) in orders.into_iter().zip([
        [Admin, Signal, Failure],
        [Failure, Failure, Failure],
        [Signal, Failure, Failure],
    ]) {
        let mut machine = Machine::new(SETTINGS);
        for (next, expected) in order.into_iter().zip(causes) {
            machine.start(at(0), next);
            assert_eq!(machine.drain().map(|drain| drain.cause), Some(expected), "{order:?}");
        }
    }
}

/// A wish makes this of a drain that is so many seconds old: phase, begin and end of the closing
/// window, the limit. The drain has a pre-delay until 5, would close from 80 on and end at 100.
#[test]
fn a_wish_hastens_and_prolongs() {
    use Phase::{Closing, PreDelay, Waiting};
    for (second, wished, expected) in [
        // Nothing is asked for.
        (50, wish(None, None, false), (Waiting, 80, 100, 100)),
        // The limit counts from now, and the window stays at its end.
        (50, wish(Some(30), None, false), (Waiting, 60, 80, 80)),
        (50, wish(Some(300), None, false), (Waiting, 330, 350, 350)),
        (50, wish(Some(20), None, false), (Closing, 50, 70, 70)),
        (50, wish(Some(7), None, false), (Closing, 50, 57, 57)),
        (50, wish(None, Some(5), false), (Waiting, 95, 100, 100)),
        (50, wish(None, Some(50), false), (Closing, 50, 100, 100)),
        (50, wish(Some(300), Some(100), false), (Waiting, 250, 350, 350)),
        // Closing begins now, and the limit is its end.
        (50, wish(None, None, true), (Closing, 50, 70, 70)),
        (50, wish(None, Some(5), true), (Closing, 50, 55, 55)),
        (50, wish(Some(60), None, true), (Closing, 50, 70, 110)),
        (50, wish(Some(60), Some(60), true), (Closing, 50, 110, 110)),
        (50, wish(Some(10), None, true), (Closing, 50, 60, 60)),
        // In the pre-delay, which `now` ends.
        (2, wish(Some(40), None, false), (PreDelay, 22, 42, 42)),
        (2, wish(Some(8), None, false), (PreDelay, 5, 10, 10)),
        (2, wish(None, None, true), (Closing, 2, 22, 22)),
        // While it closes: at another pace, over what is left; or it waits again.
        (85, wish(None, None, true), (Closing, 80, 100, 100)),
        (85, wish(None, Some(15), false), (Closing, 85, 100, 100)),
        (85, wish(None, Some(3), false), (Closing, 85, 88, 88)),
        (85, wish(Some(15), None, false), (Closing, 85, 100, 100)),
        (85, wish(Some(60), None, false), (Waiting, 125, 145, 145)),
        (85, wish(Some(60), Some(60), false), (Closing, 85, 145, 145)),
        (85, wish(Some(60), None, true), (Closing, 85, 105, 145)),
    ] {
        let mut machine = draining_since_0(second);
        machine.steer(at(second), &wished).unwrap();
        let phase = machine.advance(at(second), 1);
        let drain = machine.drain().unwrap();
        let (phase_expected, from, until, deadline) = expected;
        let moments = (drain.closing_from, drain.closing_until(), drain.deadline);
        assert_eq!(moments, (at(from), at(until), at(deadline)), "{wished:?} at {second}");
        assert_eq!(phase, phase_expected, "{wished:?} at {second}");
        assert_eq!(drain.started, at(0));
    }
}

#[test]
fn a_wish_begins_a_drain_as_it_says() {
    for (wished, accepts_until, from, deadline) in [
        (wish(None, None, false), 15, 90, 110),
        (wish(Some(50), None, false), 15, 40, 60),
        (wish(Some(6), None, false), 15, 15, 16),
        (wish(Some(5), Some(0), false), 15, 15, 15),
        (wish(None, Some(95), false), 15, 15, 110),
        (wish(None, None, true), 10, 10, 30),
        (wish(Some(0), None, true), 10, 10, 10),
    ] {
        let mut machine = Machine::new(SETTINGS);
        let planned = machine.plan(at(10), &wished).unwrap();
        assert_eq!(machine.drain(), None, "a plan changes nothing");
        let drain = machine.steer(at(10), &wished).unwrap();
        assert_eq!(drain, planned);
        let moments = (drain.accepts_until, drain.closing_from, drain.deadline);
        assert_eq!(moments, (at(accepts_until), at(from), at(deadline)), "{wished:?}");
        assert_eq!((drain.started, drain.cause), (at(10), Cause::Admin));
    }
}

#[test]
fn times_that_do_not_fit_together_are_refused() {
    let no_room = |close_over: u64, room: u64| Refused::NoRoom {
        close_over: secs(close_over),
        room: secs(room),
    };
    let short = |timeout: u64, pre_delay: u64| Refused::WithinPreDelay {
        timeout: secs(timeout),
        pre_delay: secs(pre_delay),
    };
    for (second, wished, refused) in [
        (50, wish(Some(10), Some(11), false), no_room(11, 10)),
        (50, wish(Some(10), Some(11), true), no_room(11, 10)),
        (50, wish(None, Some(51), false), no_room(51, 50)),
        (50, wish(None, Some(51), true), no_room(51, 50)),
        (85, wish(None, Some(16), false), no_room(16, 15)),
        (2, wish(Some(30), Some(28), false), no_room(28, 27)),
        (2, wish(Some(2), None, false), short(2, 3)),
        (50, wish(Some(0), Some(1), false), no_room(1, 0)),
    ] {
        let mut machine = draining_since_0(second);
        let before = (machine.drain(), machine.revision());
        assert_eq!(machine.steer(at(second), &wished), Err(refused), "{wished:?} at {second}");
        assert_eq!((machine.drain(), machine.revision()), before);
    }
}

/// A limit that has passed can't be prolonged though nobody has looked since.
#[test]
fn a_limit_that_has_passed_stays_passed() {
    let mut machine = draining_since_0(50);
    let later = wish(Some(500), None, false);
    assert_eq!(machine.steer(at(100), &later), Err(Refused::Ending));
    assert_eq!(machine.advance(at(100), 1), Phase::Stopped);
    assert_eq!(machine.steer(at(100), &later), Err(Refused::Ending));
}

/// The window that an option or an operator has set comes back with a longer limit.
#[test]
fn a_short_limit_does_not_shorten_the_window_for_good() {
    let mut machine = draining_since_0(50);
    machine.steer(at(50), &wish(Some(8), None, false)).unwrap();
    let drain = machine.steer(at(51), &wish(Some(400), None, false)).unwrap();
    assert_eq!((drain.closing_from, drain.deadline), (at(431), at(451)));
}

/// An event that leaves no time closes at once, and never prolongs.
#[test]
fn closing_because_of_an_event_never_prolongs() {
    for (second, from, deadline) in [(2, 2, 6), (50, 50, 54), (85, 85, 89), (98, 98, 100)] {
        let mut machine = draining_since_0(second);
        machine.start_closing(at(second), secs(4), Cause::Failure);
        let drain = machine.drain().unwrap();
        assert_eq!((drain.closing_from, drain.deadline), (at(from), at(deadline)));
        assert_eq!(machine.advance(at(second), 1), Phase::Closing);
    }
    let mut machine = Machine::new(SETTINGS);
    machine.start_closing(at(0), secs(4), Cause::Signal);
    assert_eq!(machine.advance(at(0), 1), Phase::Closing);
    assert_eq!(machine.remaining(at(0)), secs(4));
}

/// A drain is taken back from any phase but the last, and what comes after it begins anew.
#[test]
fn a_drain_is_taken_back_as_a_whole() {
    for second in [0, 2, 50, 85, 99] {
        let mut machine = draining_since_0(second);
        assert_eq!(machine.take_back(at(second), false), Ok(()));
        assert_eq!(machine.drain(), None);
        assert_eq!(machine.advance(at(1000), 0), Phase::Serving);
        assert_eq!((machine.next_change(), machine.remaining(at(0))), (None, secs(100)));
        machine.start(at(1000), Cause::Admin);
        assert_eq!(machine.advance(at(1004), 0), Phase::PreDelay);
        assert_eq!(machine.advance(at(1005), 0), Phase::Waiting);
    }
}

#[test]
fn a_drain_is_not_taken_back_where_it_must_end() {
    let mut machine = Machine::new(SETTINGS);
    assert_eq!(machine.take_back(at(0), true), Err(Refused::Serving));
    let mut machine = draining_since_0(50);
    assert_eq!(machine.take_back(at(100), true), Err(Refused::Ending), "the limit has passed");
    machine.start(at(50), Cause::Signal);
    assert_eq!(machine.take_back(at(50), false), Err(Refused::Signalled));
    machine.start(at(50), Cause::Failure);
    assert_eq!(machine.take_back(at(50), true), Err(Refused::Failed));
    machine.stop(at(50));
    assert_eq!(machine.take_back(at(50), true), Err(Refused::Ending));
    let mut machine = draining_since_0(50);
    machine.start(at(50), Cause::Signal);
    assert_eq!(machine.take_back(at(50), true), Ok(()));
}

/// One event of the property below.
fn any_event(machine: &mut Machine, random: &mut fastrand::Rng, now: Millis) -> String {
    let some = |random: &mut fastrand::Rng| {
        random.bool().then(|| Duration::from_millis(random.u64(0..150_000)))
    };
    match random.u8(0..12) {
        0 => machine.start(now, Cause::Signal),
        1 => machine.start_closing(now, secs(random.u64(0..10)), Cause::Signal),
        2 if random.u8(0..10) == 0 => machine.stop(now),
        3 => {
            let (before, is_forced) = (machine.drain(), random.bool());
            let done = machine.take_back(now, is_forced);
            assert_eq!(machine.drain(), before.filter(|_| done.is_err()));
            if let Some(drain) = before.filter(|_| done.is_ok()) {
                assert!(drain.phase < Phase::Stopped && now < drain.deadline);
                assert!(is_forced || drain.cause == Cause::Admin);
            }
            return format!("taken back: {done:?}");
        }
        _ => {
            let (timeout, close_over) = (some(random), some(random));
            let wish = Steering { timeout, close_over, closes_now: random.u8(0..4) == 0 };
            let before = machine.drain();
            let planned = machine.plan(now, &wish);
            assert_eq!(machine.drain(), before, "a plan changes nothing");
            assert_eq!(machine.steer(now, &wish), planned);
            if planned.is_err() {
                assert_eq!(machine.drain(), before, "a refused wish changes nothing");
            }
            return format!("{wish:?}: {planned:?}");
        }
    }
    "an event".to_owned()
}

/// After any wishes in any order moments are in order, the limit is kept, the end is
/// final, and time alone never moves a phase back.
#[test]
fn any_sequence_of_wishes_keeps_its_promises() {
    let run = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let pre_delay = Duration::from_secs(random.u64(0..10));
        let close_over = Duration::from_secs(random.u64(0..60));
        let timeout = pre_delay + close_over + Duration::from_secs(random.u64(0..60));
        let mut machine = Machine::new(DrainSettings { pre_delay, timeout, close_over });
        let mut now = Millis(random.u64(0..10_000));
        let (mut steered, mut ended) = (0, 0);
        for _ in 0..40 {
            let before = machine.drain();
            let what = any_event(&mut machine, &mut random, now);
            steered += u64::from(machine.drain() != before);
            let clients = random.usize(0..3);
            let phase = machine.advance(now, clients);
            if let Some(drain) = machine.drain() {
                let DrainState { accepts_until, closing_from, deadline, .. } = drain;
                assert!(drain.started <= accepts_until && closing_from <= deadline, "{what}");
                assert!(accepts_until <= closing_from, "{what}: {drain:?}");
                assert!(drain.closing_until() <= deadline);
                assert!(now < deadline || phase == Phase::Stopped, "{what}: {drain:?}");
                assert!(now >= accepts_until || phase != Phase::Waiting, "{what}: {drain:?}");
                let was_stopped = before.is_some_and(|drain| drain.phase == Phase::Stopped);
                assert!(!was_stopped || phase == Phase::Stopped, "the end is final: {what}");
                // Waking at the announced changes, it ends by the limit with anybody there.
                let mut wake = machine.next_change();
                while let Some(change) = wake.filter(|_| random.bool()) {
                    now = now.max(change);
                    let was = machine.drain().map(|drain| drain.phase);
                    let is = machine.advance(now, 1);
                    assert!(Some(is) >= was && now <= deadline);
                    wake = machine.next_change();
                }
            }
            ended += u64::from(machine.drain().is_some_and(|d| d.phase == Phase::Stopped));
            now = now + Duration::from_millis(random.u64(0..20_000));
        }
        [steered, ended]
    };
    if let Some([steered, ended]) = crate::seeds::run_all(2_000, run) {
        assert!(steered > 5_000 && ended > 5_000, "{steered} {ended}");
    }
}
