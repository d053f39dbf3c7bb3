//! Leases that are taken, left, lost and missed, with marks and answers in any order.

use super::*;

const START: Millis = Millis(10_000);

fn mark(word: &str, holder: &str, attempt: u64) -> Vec<u8> {
    format!("{word} {holder} {attempt}").into_bytes()
}

fn send(lease: &mut Lease, texts: &[&'static str]) {
    texts.iter().for_each(|text| lease.raw(Bytes::from_static(text.as_bytes())));
}

fn ready(lease: &mut Lease, now: Millis) -> Vec<String> {
    let text = |data: Bytes| String::from_utf8(data.to_vec()).unwrap();
    let waiting = lease.ready(now).unwrap_or_default();
    waiting.messages.into_iter().map(text).collect()
}

fn take(lease: &mut Lease, now: Millis) {
    assert_eq!(lease.ask(now, true), Some(Ask::Take));
    lease.granted(lease.attempt(), now);
}

/// A process that has taken the lease at the start.
fn holder() -> Lease {
    let mut lease = Lease::new("me".to_owned());
    take(&mut lease, START);
    assert_eq!(lease.heard(&mark("taken", "me", 1)), LeaseEvent::Noted, "nobody had it before");
    lease
}

/// A process that knows of another's lease.
fn follower() -> Lease {
    let mut lease = Lease::new("me".to_owned());
    lease.ask(START, true);
    lease.denied(1);
    lease
}

/// A holder's messages begin with its mark whichever comes first mark or answer.
#[test]
fn a_holders_messages_begin_with_its_mark() {
    let mut lease = Lease::new("me".to_owned());
    lease.ask(START, true);
    send(&mut lease, &["before"]);
    lease.heard(&mark("taken", "me", 1));
    send(&mut lease, &["one", "two"]);
    assert!(lease.ready(START).is_none(), "not yet known to be ours");
    lease.granted(1, START);
    assert_eq!(ready(&mut lease, START), ["one", "two"]);

    let mut lease = Lease::new("me".to_owned());
    take(&mut lease, START);
    send(&mut lease, &["before"]);
    assert!(lease.ready(START).is_none(), "read late, and another's");
    lease.heard(&mark("taken", "me", 1));
    send(&mut lease, &["one"]);
    assert_eq!(ready(&mut lease, START), ["one"]);
}

/// A holder stops before Redis may give the lease to another.
#[test]
fn a_holder_stops_before_its_lease_ends() {
    let mut lease = holder();
    let end = START + (BRIDGE_LEASE - BRIDGE_LEASE_MARGIN);
    let just_before = Millis(end.0 - 1);
    assert!(lease.is_bridging(just_before));
    assert_eq!(lease.ask(just_before, true), Some(Ask::Extend));
    send(&mut lease, &["late"]);
    assert!(lease.ready(end).is_none() && !lease.is_bridging(end));
    lease.heard(&mark("taken", "other", 1));
    send(&mut lease, &["the other's"]);
    take(&mut lease, end);
    assert_eq!(lease.heard(&mark("taken", "me", 2)), LeaseEvent::Interrupted);
    assert!(ready(&mut lease, end).is_empty());
}

/// Messages that came while nobody else held the lease are bridged when it is held again.
#[test]
fn a_holder_again_bridges_what_came_meanwhile() {
    let mut lease = holder();
    let later = START + BRIDGE_LEASE * 2;
    send(&mut lease, &["one"]);
    take(&mut lease, later);
    send(&mut lease, &["two"]);
    assert!(lease.ready(later).is_none(), "another may have had it meanwhile");
    assert_eq!(lease.heard(&mark("taken", "me", 2)), LeaseEvent::Noted, "nothing is lost");
    send(&mut lease, &["three"]);
    assert_eq!(ready(&mut lease, later), ["one", "two", "three"]);
}

/// Marks and answers of an attempt that is over begin and end nothing.
#[test]
fn marks_of_an_old_attempt_change_nothing() {
    let mut lease = Lease::new("me".to_owned());
    lease.ask(START, true);
    take(&mut lease, START);
    lease.heard(&mark("taken", "me", 1));
    send(&mut lease, &["one"]);
    assert!(lease.ready(START).is_none());
    lease.heard(&mark("taken", "me", 2));
    lease.denied(1);
    lease.released(1);
    assert_eq!(ready(&mut lease, START), ["one"]);
}

/// Between leaving and the next holder nothing is lost and nothing comes twice.
#[test]
fn between_two_holders_nothing_is_lost() {
    let mut old = holder();
    send(&mut old, &["one"]);
    old.heard(&mark("leaving", "me", 1));
    send(&mut old, &["two"]);
    assert!(old.has_left());
    assert_eq!(ready(&mut old, START), ["one"]);
    old.released(1);
    assert_eq!(old.ask(START, true), None, "who has left does not come back");

    let mut new = follower();
    send(&mut new, &["one"]);
    new.heard(&mark("leaving", "old", 1));
    send(&mut new, &["two"]);
    assert_eq!(new.heard(&mark("released", "old", 1)), LeaseEvent::Free);
    take(&mut new, START);
    send(&mut new, &["three"]);
    assert_eq!(new.heard(&mark("taken", "me", 2)), LeaseEvent::Noted);
    assert_eq!(ready(&mut new, START), ["two", "three"]);
}

/// Only one of the waiting processes gets the messages that came in between.
#[test]
fn only_one_waiting_process_gets_the_messages() {
    let mut lease = follower();
    lease.heard(&mark("leaving", "old", 1));
    send(&mut lease, &["one"]);
    lease.heard(&mark("taken", "other", 1));
    send(&mut lease, &["two"]);
    take(&mut lease, START);
    assert_eq!(lease.heard(&mark("taken", "me", 2)), LeaseEvent::Interrupted);
    assert!(ready(&mut lease, START).is_empty());
}

#[test]
fn a_holder_that_missed_messages_gives_up_the_lease() {
    let mut lease = holder();
    send(&mut lease, &["one"]);
    lease.disconnected();
    assert!(lease.ready(START).is_none());
    assert_eq!(lease.ask(START, false), Some(Ask::Release));
    lease.granted(1, START);
    assert!(!lease.is_held(START), "an answer on its way gives nothing back");
    lease.released(1);
    assert_eq!(lease.ask(START, false), None);
    take(&mut lease, START);
    let counted = lease.heard(&mark("taken", "me", 2));
    assert_eq!(counted, LeaseEvent::Interrupted, "messages may be lost");
}

#[test]
fn waiting_messages_are_bounded_and_the_oldest_go() {
    let mut lease = follower();
    lease.heard(&mark("leaving", "old", 1));
    for _ in 0..=BRIDGE_WAITING_MAX {
        send(&mut lease, &["x"]);
    }
    lease.raw(vec![b'x'; BRIDGE_WAITING_BYTES_MAX - 1].into());
    take(&mut lease, START);
    lease.heard(&mark("taken", "me", 2));
    let waiting = lease.ready(START).unwrap();
    assert_eq!(waiting.messages.len(), 2);
    assert_eq!(waiting.dropped as usize, BRIDGE_WAITING_MAX);
}

#[test]
fn anything_but_a_mark_changes_nothing() {
    let mut lease = holder();
    for garbage in ["", "taken", "taken x", "taken x y", "taken x 1 1", "gone x 1"] {
        assert_eq!(lease.heard(garbage.as_bytes()), LeaseEvent::Noted);
        assert!(lease.is_bridging(START), "{garbage}");
    }
}
