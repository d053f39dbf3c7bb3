//! Arrivals, comparisons and ends, one after another.

use super::*;

/// A message of a history in which each nonce is ten times the offset.
fn stamp(epoch: &str, offset: u64) -> Stamp<'_> {
    Stamp { epoch, offset, nonce: 10 * offset, previous: 10 * (offset - 1) }
}

fn judge(tracker: &SequenceTracker, stamp: &Stamp<'_>) -> Arrival {
    tracker.judge(stamp, Millis(0), |offset| Some(10 * offset))
}

/// Judges and takes messages.
fn take(tracker: &mut SequenceTracker, stamp: &Stamp<'_>) -> Arrival {
    let arrival = judge(tracker, stamp);
    if matches!(arrival, Arrival::Next | Arrival::Jump(_) | Arrival::NewEpoch) {
        tracker.advance(stamp.epoch, stamp.offset, stamp.nonce, Millis(0));
    }
    arrival
}

#[test]
fn holes_and_repetitions_are_noticed() {
    use Arrival::{Duplicate, Jump, Next};
    let mut tracker = SequenceTracker::default();
    let seen = [5, 6, 6, 5, 8, 9].map(|offset| take(&mut tracker, &stamp("a", offset)));
    assert_eq!(seen, [Next, Next, Duplicate, Duplicate, Jump(7), Next]);
}

#[test]
fn an_epochs_end_is_unknown_when_another_begins() {
    let mut tracker = SequenceTracker::default();
    assert_eq!(take(&mut tracker, &stamp("a", 7)), Arrival::Next);
    assert_eq!(take(&mut tracker, &stamp("b", 1)), Arrival::NewEpoch);
    assert_eq!(take(&mut tracker, &stamp("b", 2)), Arrival::Next);
    assert_eq!(take(&mut tracker, &stamp("a", 8)), Arrival::Late { is_new: true });
    assert_eq!(take(&mut tracker, &stamp("a", 7)), Arrival::Late { is_new: false });
    assert_eq!(take(&mut tracker, &stamp("c", 3)), Arrival::NewEpoch);
    assert_eq!(take(&mut tracker, &stamp("a", 8)), Arrival::Late { is_new: true }, "still");
}

/// The first message of a channel follows its empty position unless some may be gone.
#[test]
fn a_first_message_follows_its_empty_position() {
    use Arrival::{FirstEpoch, Next};
    let mut tracker = SequenceTracker::default();
    tracker.advance("empty-a", 0, 0, Millis(0));
    assert_eq!(judge(&tracker, &stamp("b", 1)), Next);
    assert_eq!(judge(&tracker, &stamp("b", 2)), FirstEpoch);
    let later = Stamp { previous: 7, ..stamp("b", 1) };
    assert_eq!(judge(&tracker, &later), FirstEpoch, "there was a history before");
    tracker.interrupt();
    assert_eq!(judge(&tracker, &stamp("b", 1)), FirstEpoch);
    let held = Position { epoch: "b".into(), offset: 1 };
    assert_eq!(tracker.compare(&held, 10), Lag::FirstEpoch);
    assert_eq!(take(&mut tracker, &stamp("b", 1)), FirstEpoch);
    tracker.advance("b", 1, 10, Millis(0));
    assert_eq!(take(&mut tracker, &stamp("b", 2)), Next);
}

/// A channel that Redis has forgotten in time begins anew without a loss.
#[test]
fn an_expired_channel_begins_anew_without_a_loss() {
    let mut tracker = SequenceTracker::default();
    let judge_after = |tracker: &SequenceTracker, life, offset| {
        tracker.judge(&stamp("b", offset), Millis(0) + life, |_| None)
    };
    tracker.advance("a", 0, 0, Millis(0));
    assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 1), Arrival::Next);
    assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 2), Arrival::NewEpoch);
    tracker.advance("a", 1, 10, Millis(0));
    assert_eq!(judge_after(&tracker, REDIS_POSITION_TTL, 1), Arrival::NewEpoch);
    assert_eq!(judge_after(&tracker, REDIS_META_TTL, 1), Arrival::Next);
}

#[test]
fn a_rollback_shows_wherever_the_history_is_met_again() {
    let mut tracker = SequenceTracker::default();
    tracker.advance("a", 5, 50, Millis(0));
    let other = |offset, previous, nonce| Stamp { epoch: "a", offset, previous, nonce };
    assert_eq!(judge(&tracker, &other(4, 30, 41)), Arrival::Diverged, "an earlier one's place");
    assert_eq!(judge(&tracker, &other(5, 41, 51)), Arrival::Diverged, "our newest one's place");
    assert_eq!(judge(&tracker, &other(6, 51, 60)), Arrival::Diverged, "after another one");
    assert_eq!(judge(&tracker, &other(6, 50, 61)), Arrival::Next);
    let unknown = tracker.judge(&other(4, 30, 41), Millis(0), |_| None);
    assert_eq!(unknown, Arrival::Duplicate, "nobody can tell");
}

#[test]
fn the_content_of_redis_tells_what_is_missing() {
    let mut tracker = SequenceTracker::default();
    let held = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
    assert_eq!(tracker.compare(&held("a", 3), 30), Lag::None, "nothing is known before");
    tracker.advance("a", 3, 30, Millis(0));
    assert_eq!(tracker.compare(&held("a", 3), 30), Lag::None);
    assert_eq!(tracker.compare(&held("a", 5), 50), Lag::Behind(4));
    assert_eq!(tracker.compare(&held("a", 2), 20), Lag::Diverged { is_new: true });
    assert_eq!(tracker.compare(&held("a", 3), 31), Lag::Diverged { is_new: true });
    assert_eq!(tracker.compare(&held("b", 0), 0), Lag::NewEpoch);
    tracker.advance("b", 0, 0, Millis(0));
    assert_eq!(
        tracker.compare(&held("a", 4), 40),
        Lag::Diverged { is_new: true },
        "that one was over"
    );
    assert_eq!(tracker.compare(&held("a", 3), 30), Lag::Diverged { is_new: false });
}

fn end(epoch: &str, offset: u64, nonce: u64) -> Ended {
    Ended { position: Position { epoch: epoch.into(), offset }, nonce }
}

/// A process that lacks the end of an ended history knows so.
#[test]
fn a_lost_end_of_an_ended_history_is_known() {
    let mut tracker = SequenceTracker::default();
    tracker.advance("a", 5, 50, Millis(0));
    let lacks = |tracker: &SequenceTracker, ended: &[Vec<Ended>]| tracker.lacks(ended, |_| false);
    assert!(!lacks(&tracker, &[]));
    assert!(!lacks(&tracker, &[vec![end("a", 5, 50)]]));
    assert!(lacks(&tracker, &[vec![end("a", 6, 60)]]));
    assert!(lacks(&tracker, &[vec![end("a", 5, 51)]]), "another branch of it");
    assert!(lacks(&tracker, &[vec![end("a", 4, 41)]]));
    assert!(!tracker.lacks(&[vec![end("a", 4, 40)]], |_| true), "that was rolled back to");
    assert!(lacks(&tracker, &[vec![end("a", 5, 50), end("b", 1, 10)]]), "b was beside it");
    assert!(lacks(&tracker, &[vec![end("b", 1, 10)], vec![end("a", 5, 50)]]), "b came after");
    assert!(!lacks(&tracker, &[vec![end("b", 0, 7)], vec![end("a", 5, 50)]]));
    assert!(!lacks(&tracker, &[vec![end("a", 5, 50)], vec![end("b", 9, 90)]]), "b was before");
    tracker.advance("empty-c", 0, 0, Millis(0));
    assert!(lacks(&tracker, &[vec![end("a", 6, 60)]]), "it was at a before");
}

#[test]
fn an_empty_position_keeps_the_place_before_it() {
    let mut tracker = SequenceTracker::default();
    let held = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
    tracker.advance("a", 5, 50, Millis(0));
    tracker.advance("empty-b", 0, 0, Millis(0));
    let returned = Lag::Returned { from: 6, after: 50 };
    assert_eq!(tracker.compare(&held("a", 7), 70), returned);
    assert_eq!(tracker.compare(&held("a", 5), 50), returned);
    assert_eq!(tracker.compare(&held("a", 5), 51), Lag::Diverged { is_new: true });
    assert_eq!(tracker.compare(&held("a", 4), 40), Lag::Diverged { is_new: true });
    tracker.advance("a", 7, 70, Millis(0));
    assert_eq!(judge(&tracker, &stamp("a", 8)), Arrival::Next, "it is not over any more");
    tracker.advance("c", 1, 10, Millis(0));
    tracker.advance("empty-d", 0, 0, Millis(0));
    assert_eq!(tracker.compare(&held("a", 9), 90), Lag::Diverged { is_new: true }, "c was since");
}
