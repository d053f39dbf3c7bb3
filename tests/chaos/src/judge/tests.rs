//! The judge must find each kind of wrong, and nothing where nothing is wrong.

use super::*;

fn place(epoch: u32, offset: u64) -> Place {
    Place { epoch, offset }
}

/// Began at 0:10; the messages are (epoch, offset), their numbers epoch × 100 + offset.
fn track(messages: &[(u32, u64)]) -> Track {
    let mut track = Track::default();
    track.start(place(0, 10));
    feed(&mut track, messages);
    track
}

fn feed(track: &mut Track, messages: &[(u32, u64)]) {
    for (epoch, offset) in messages {
        track.message(0, place(*epoch, *offset), epoch * 100 + *offset as u32);
    }
}

fn acknowledged(places: &[(u32, u64)]) -> Vec<Acknowledged> {
    let message = |(epoch, offset): &(u32, u64)| Acknowledged {
        number: epoch * 100 + *offset as u32,
        place: place(*epoch, *offset),
        phase: 0,
    };
    places.iter().map(message).collect()
}

/// (lost, repeated, reordered, gaps told, covered).
fn judged(track: Track, ledger: &[(u32, u64)]) -> (u64, u64, u64, u64, u64) {
    let mut sum = Counts::default();
    track.verdict(&acknowledged(ledger), |_| ()).iter().for_each(|counts| sum.add(counts));
    (sum.lost, sum.repeated, sum.reordered, sum.gaps_told, sum.covered)
}

fn told(epoch: Option<u32>, from: u64, to: Option<u64>) -> Told {
    Told { epoch, from, to }
}

/// An unbroken row is fine and what was before the start is nobody's.
#[test]
fn an_unbroken_sequence_is_fine() {
    let ledger = [(0, 9), (0, 10), (0, 11), (0, 12)];
    assert_eq!(judged(track(&[(0, 11), (0, 12)]), &ledger), (0, 0, 0, 0, 0));
}

#[test]
fn a_hole_is_a_loss_once_acknowledged_or_not() {
    assert_eq!(judged(track(&[(0, 11), (0, 14)]), &[]), (2, 0, 0, 0, 0));
    let ledger = [(0, 11), (0, 12), (0, 14)];
    assert_eq!(judged(track(&[(0, 11), (0, 14)]), &ledger), (2, 0, 0, 0, 0));
    let mut late = track(&[(0, 11)]);
    assert_eq!(late.message(0, place(0, 14), 14), Some(Fault::Hole(2)));
}

/// A message that was acknowledged and never came, even at the end, is a loss.
#[test]
fn an_acknowledged_message_that_never_came_is_a_loss() {
    assert_eq!(judged(track(&[(0, 11)]), &[(0, 11), (0, 12)]), (1, 0, 0, 0, 0));
}

/// The same place or the same message twice is a repeat.
#[test]
fn the_same_place_or_message_twice_is_a_repeat() {
    assert_eq!(judged(track(&[(0, 11), (0, 12), (0, 11)]), &[]), (0, 1, 0, 0, 0));
    let mut same_payload = track(&[(0, 11)]);
    same_payload.message(0, place(0, 12), 11);
    assert_eq!(judged(same_payload, &[]), (0, 1, 0, 0, 0));
}

#[test]
fn an_offset_that_falls_is_reordered() {
    assert_eq!(judged(track(&[(0, 12), (0, 11)]), &[]), (1, 0, 1, 0, 0));
    assert_eq!(judged(track(&[(0, 11), (1, 1), (0, 12)]), &[]), (0, 0, 1, 0, 0));
}

#[test]
fn a_told_gap_covers_its_range_and_nothing_more() {
    let ledger = [(0, 11), (0, 12), (0, 13), (0, 14), (0, 15)];
    let mut covered = track(&[(0, 11)]);
    covered.gap(0, told(Some(0), 12, Some(13)));
    feed(&mut covered, &[(0, 14), (0, 15)]);
    assert_eq!(judged(covered, &ledger), (0, 0, 0, 1, 2));
    let mut short = track(&[(0, 11)]);
    short.gap(0, told(Some(0), 12, Some(12)));
    feed(&mut short, &[(0, 14), (0, 15)]);
    assert_eq!(judged(short, &ledger), (1, 0, 0, 1, 1));
}

#[test]
fn a_gap_without_an_end_lasts_until_the_next_message() {
    let ledger = [(0, 11), (0, 12), (0, 13), (0, 15), (0, 16)];
    let mut open = track(&[(0, 11)]);
    open.gap(0, told(None, 12, None));
    feed(&mut open, &[(0, 14), (0, 16)]);
    assert_eq!(judged(open, &ledger), (1, 0, 0, 1, 2));
    let mut other_epoch = track(&[(0, 11)]);
    other_epoch.gap(0, told(None, 12, None));
    feed(&mut other_epoch, &[(1, 3)]);
    assert_eq!(judged(other_epoch, &[(0, 12), (1, 1), (1, 3)]), (0, 0, 0, 1, 2));
}

/// A new epoch without a word loses what the old one still had.
#[test]
fn an_unannounced_epoch_loses_the_old_ones_rest() {
    assert_eq!(judged(track(&[(0, 11), (1, 1)]), &[(0, 11), (1, 1)]), (0, 0, 0, 0, 0));
    assert_eq!(judged(track(&[(0, 11), (1, 1)]), &[(0, 12), (1, 1)]), (1, 0, 0, 0, 0));
    assert_eq!(judged(track(&[(0, 11), (1, 3)]), &[]), (2, 0, 0, 0, 0));
}

/// A change of epoch that was told covers the end of the old one.
#[test]
fn a_told_epoch_covers_the_end_of_the_old_one() {
    let mut told_end = track(&[(0, 11)]);
    told_end.gap(0, told(Some(1), 1, Some(0)));
    feed(&mut told_end, &[(1, 1)]);
    assert_eq!(judged(told_end, &[(0, 12), (0, 13), (1, 1)]), (0, 0, 0, 1, 2));
    let mut two_changes = track(&[(0, 11)]);
    two_changes.gap(0, told(Some(2), 1, Some(2)));
    feed(&mut two_changes, &[(2, 3)]);
    assert_eq!(judged(two_changes, &[(0, 12), (1, 1), (2, 2), (2, 3)]), (0, 0, 0, 1, 3));
}

/// A place that was given twice loses the message that did not come.
#[test]
fn a_position_given_twice_loses_the_missing_message() {
    let mut ledger = acknowledged(&[(0, 11), (0, 12)]);
    ledger.push(Acknowledged { number: 99, place: place(0, 12), phase: 3 });
    let verdict = track(&[(0, 11), (0, 12)]).verdict(&ledger, |_| ());
    assert_eq!((verdict[0].lost, verdict[3].lost), (0, 1));
}

/// A message that comes once more in a new epoch is counted apart.
#[test]
fn a_message_repeated_in_a_new_epoch_is_counted_apart() {
    let mut track = track(&[(0, 11)]);
    assert_eq!(track.message(0, place(1, 1), 11), None);
    let verdict = track.verdict(&[], |_| ());
    assert_eq!((verdict[0].repeated, verdict[0].anew), (0, 1));
}

/// An epoch that others saw first is not an old one but one that was left is.
#[test]
fn an_epoch_that_was_left_is_an_old_one() {
    // The client that sees an epoch first numbers it, perhaps at another server.
    let mut other_order = track(&[(0, 11)]);
    other_order.gap(0, told(Some(2), 1, Some(0)));
    feed(&mut other_order, &[(2, 1)]);
    other_order.gap(0, told(Some(1), 1, Some(0)));
    feed(&mut other_order, &[(1, 1), (1, 2)]);
    assert_eq!(judged(other_order, &[(1, 1), (2, 1), (2, 2)]), (0, 0, 0, 2, 1));
    let mut back = track(&[(0, 11)]);
    back.gap(0, told(Some(2), 1, Some(0)));
    feed(&mut back, &[(2, 1), (0, 12)]);
    assert_eq!(judged(back, &[]), (0, 0, 1, 1, 0));
}

/// An epoch that passed by is covered only by a turn that was told then.
#[test]
fn an_epoch_that_passed_by_needs_a_told_turn() {
    let unseen = |phase| {
        let mut ledger = acknowledged(&[(5, 1)]);
        ledger[0].phase = phase;
        let mut track = track(&[(0, 11)]);
        track.gap(3, told(Some(1), 1, Some(0)));
        track.message(3, place(1, 1), 101);
        let verdict = track.verdict(&ledger, |_| ());
        verdict.iter().map(|counts| counts.lost).sum::<u64>()
    };
    assert_eq!((unseen(1), unseen(2), unseen(3), unseen(4)), (1, 0, 0, 1));
}
