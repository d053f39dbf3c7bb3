//! When what is refused counts, on a clock of the test's own.

use std::time::Duration;

use super::*;
use crate::limits::REFUSAL_LASTS;

fn channel(name: &str) -> Subject {
    Subject::Channel(ChannelName::new(name).unwrap())
}

fn server() -> Subject {
    Subject::Server("10.0.0.1:6379".to_owned())
}

fn default() -> Subject {
    Subject::Channel(ChannelName::default_channel())
}

fn at(ms: u64) -> Millis {
    Millis(1_000_000 + ms)
}

const LASTS: u64 = REFUSAL_LASTS.as_millis() as u64;
const MEMORY: u64 = REFUSAL_MEMORY.as_millis() as u64;
const CALM: u64 = REFUSAL_UNTRIED_CALM.as_millis() as u64;
const TEXT: &str = "as the server says it";

/// Refused as soon as it was sent.
fn refused(refusing: &Refusing, subject: Subject, reason: BrokerRefusal, ms: u64) {
    refusing.refused(subject, reason, &TEXT, (at(ms), at(ms)));
}

/// Taken as soon as it was sent.
fn accepted(refusing: &Refusing, subject: Subject, ms: u64) {
    refusing.accepted(|| (subject, Some(server())), at(ms), at(ms));
}

#[test]
fn what_is_refused_for_a_moment_is_nothing() {
    let refusing = Refusing::default();
    refused(&refusing, channel("a"), BrokerRefusal::NoReplicas, 0);
    assert_eq!(refusing.extent_at(at(LASTS - 1)), Refuses::Nothing);
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    refused(&refusing, channel("a"), BrokerRefusal::NoReplicas, LASTS);
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All, "since the first");
    accepted(&refusing, channel("a"), LASTS);
    assert_eq!(refusing.extent_at(at(9 * LASTS)), Refuses::Nothing);
    assert!(refusing.suspects(at(LASTS)).is_empty());
}

#[test]
fn one_channel_that_is_accepted_says_nothing_of_another() {
    let refusing = Refusing::default();
    refused(&refusing, channel("a"), BrokerRefusal::Moved, 0);
    accepted(&refusing, channel("b"), 1);
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    assert_eq!(refusing.suspects(at(1)), [channel("a")]);
}

#[test]
fn a_right_that_lacks_for_one_channel_is_not_the_servers_and_is_forgotten() {
    let refusing = Refusing::default();
    refused(&refusing, channel("a"), BrokerRefusal::NoPerm, 0);
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::Some);
    assert_eq!(refusing.suspects(at(1)), [channel("a"), default()]);
    refusing.trial_refused(default(), BrokerRefusal::NoPerm, &TEXT, at(0));
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    assert_eq!(refusing.suspects(at(MEMORY)), [default()], "that is everything's");
    refusing.trial_accepted(&default(), at(MEMORY));
    assert!(refusing.suspects(at(MEMORY)).is_empty());
    assert_eq!(refusing.extent_at(at(MEMORY)), Refuses::Nothing);
}

#[test]
fn what_is_remembered_is_bounded() {
    let refusing = Refusing::default();
    for number in 0..REFUSALS_MAX * 2 {
        refused(&refusing, channel(&number.to_string()), BrokerRefusal::Oom, 0);
    }
    assert_eq!(refusing.suspects(at(0) + Duration::from_secs(1)).len(), REFUSALS_MAX);
    for number in 0..REFUSALS_MAX {
        refusing.trial_accepted(&channel(&number.to_string()), at(1));
    }
    refused(&refusing, channel("new"), BrokerRefusal::Oom, 2);
    assert!(refusing.is_refused(&channel("new")), "what is over makes room");
}

#[test]
fn a_trial_that_goes_well_clears_what_was_refused_before() {
    let refusing = Refusing::default();
    refused(&refusing, channel("a"), BrokerRefusal::Oom, 0);
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    refusing.trial_accepted(&channel("a"), at(LASTS));
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::Nothing);
    assert!(!refusing.is_urgent());
    // One that was on its way.
    refusing.refused(channel("a"), BrokerRefusal::Oom, &TEXT, (at(0), at(LASTS + 1)));
    assert_eq!(refusing.extent_at(at(3 * LASTS)), Refuses::Nothing);
    assert!(refusing.suspects(at(2 * MEMORY)).is_empty() && !refusing.is_any());
}

#[test]
fn a_refusal_that_trials_do_not_see_stands_all_the_same() {
    for (pause, within) in [(50, 1_000), (4_000, 17_000)] {
        let refusing = Refusing::default();
        let mut ms = 0;
        let mut since = None;
        while ms < 60_000 {
            if ms % pause == 0 {
                refused(&refusing, channel("a"), BrokerRefusal::Other, ms);
            }
            if ms % 200 == 10 {
                refusing.trial_accepted(&channel("a"), at(ms));
            }
            match refusing.extent_at(at(ms)) {
                Refuses::All => since = since.or(Some(ms)),
                Refuses::Some => panic!("nothing is taken, at {ms}"),
                Refuses::Nothing => assert_eq!(since, None, "it stays, at {ms}"),
            }
            ms += 10;
        }
        assert!(since.is_some_and(|since| since <= within), "{since:?} of {within}");
        let is_over = |refusing: &Refusing, ms| refusing.extent_at(at(ms)) == Refuses::Nothing;
        refusing.trial_accepted(&channel("a"), at(60_000 + CALM));
        assert!(is_over(&refusing, 60_000 + CALM), "nobody is refused any more");
    }
}

#[test]
fn the_first_message_that_is_taken_clears_what_trials_did_not_see() {
    let refusing = Refusing::default();
    for ms in (0..1_000).step_by(100) {
        refused(&refusing, channel("a"), BrokerRefusal::Other, ms);
        refusing.trial_accepted(&channel("a"), at(ms + 50));
    }
    assert_eq!(refusing.extent_at(at(1_000)), Refuses::All);
    accepted(&refusing, channel("b"), 1_000);
    assert_eq!(refusing.extent_at(at(1_000)), Refuses::Some, "others are taken");
    accepted(&refusing, channel("a"), 1_001);
    assert_eq!(refusing.extent_at(at(1_001)), Refuses::Nothing);
}

#[test]
fn a_trial_that_is_refused_means_nothing_where_messages_are_taken() {
    let refusing = Refusing::default();
    refusing.trial_refused(server(), BrokerRefusal::UnknownCommand, &TEXT, at(0));
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    refusing.accepted(|| (channel("a"), Some(server())), at(0), at(LASTS));
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All, "it was sent before");
    accepted(&refusing, channel("a"), LASTS);
    for ms in (LASTS..60_000).step_by(1_000) {
        refusing.trial_refused(server(), BrokerRefusal::UnknownCommand, &TEXT, at(ms));
        assert_eq!(refusing.extent_at(at(ms)), Refuses::Nothing);
    }
    assert!(!refusing.is_urgent());
    refusing.trial_refused(server(), BrokerRefusal::NoReplicas, &TEXT, at(60_000));
    assert_eq!(refusing.extent_at(at(60_000 + LASTS)), Refuses::All, "that is another reason");
}

#[test]
fn what_went_unanswered_is_no_matter_once_redis_is_lost() {
    let refusing = Refusing::default();
    refused(&refusing, channel("a"), BrokerRefusal::NoAnswer, 0);
    refused(&refusing, channel("b"), BrokerRefusal::Oom, 0);
    refusing.out_of_reach(at(1));
    assert_eq!(refusing.suspects(at(1)), [channel("b")]);
}

/// Another master has taken over, or a cluster's master is one no more: nobody tries it again.
#[test]
fn a_server_that_is_left_refuses_nothing() {
    let refusing = Refusing::default();
    refused(&refusing, server(), BrokerRefusal::NoReplicas, 0);
    let other = Subject::Server("10.0.0.2:6379".to_owned());
    refusing.trial_refused(other.clone(), BrokerRefusal::Oom, &TEXT, at(0));
    assert_eq!(refusing.extent_at(at(LASTS)), Refuses::All);
    refusing.keep_servers(|address| address == "10.0.0.2:6379", at(LASTS));
    assert!(!refusing.is_refused(&server()) && refusing.is_refused(&other));
    refusing.keep_servers(|_| false, at(LASTS));
    assert_eq!(refusing.extent_at(at(9 * LASTS)), Refuses::Nothing);
    assert!(!refusing.is_urgent());
}
