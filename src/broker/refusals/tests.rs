//! The times at which refusals count, on a clock of the test's own.

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
fn refused(refusals: &Refusals, subject: Subject, reason: BrokerRefusal, ms: u64) {
    refusals.refused(subject, reason, &TEXT, (at(ms), at(ms)));
}

/// Taken as soon as it was sent.
fn accepted(refusals: &Refusals, subject: Subject, ms: u64) {
    refusals.accepted(|| (subject, Some(server())), at(ms), at(ms));
}

#[test]
fn momentary_refusals_count_for_nothing() {
    let refusals = Refusals::default();
    refused(&refusals, channel("a"), BrokerRefusal::NoReplicas, 0);
    assert_eq!(refusals.extent_at(at(LASTS - 1)), RefusalExtent::Nothing);
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    refused(&refusals, channel("a"), BrokerRefusal::NoReplicas, LASTS);
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All, "since the first");
    accepted(&refusals, channel("a"), LASTS);
    assert_eq!(refusals.extent_at(at(9 * LASTS)), RefusalExtent::Nothing);
    assert!(refusals.suspects(at(LASTS)).is_empty());
}

/// One channel that is accepted says nothing of another.
#[test]
fn one_accepted_channel_proves_no_other() {
    let refusals = Refusals::default();
    refused(&refusals, channel("a"), BrokerRefusal::Moved, 0);
    accepted(&refusals, channel("b"), 1);
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    assert_eq!(refusals.suspects(at(1)), [channel("a")]);
}

/// A right that is missing for one channel is not the server's, and is forgotten.
#[test]
fn a_missing_right_for_one_channel_is_its_own() {
    let refusals = Refusals::default();
    refused(&refusals, channel("a"), BrokerRefusal::NoPerm, 0);
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::Some);
    assert_eq!(refusals.suspects(at(1)), [channel("a"), default()]);
    refusals.trial_refused(default(), BrokerRefusal::NoPerm, &TEXT, at(0));
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    assert_eq!(refusals.suspects(at(MEMORY)), [default()], "that is everything's");
    refusals.trial_accepted(&default(), at(MEMORY));
    assert!(refusals.suspects(at(MEMORY)).is_empty());
    assert_eq!(refusals.extent_at(at(MEMORY)), RefusalExtent::Nothing);
}

#[test]
fn remembered_subjects_are_bounded() {
    let refusals = Refusals::default();
    for number in 0..REFUSALS_MAX * 2 {
        refused(&refusals, channel(&number.to_string()), BrokerRefusal::Oom, 0);
    }
    assert_eq!(refusals.suspects(at(0) + Duration::from_secs(1)).len(), REFUSALS_MAX);
    for number in 0..REFUSALS_MAX {
        refusals.trial_accepted(&channel(&number.to_string()), at(1));
    }
    refused(&refusals, channel("new"), BrokerRefusal::Oom, 2);
    assert!(refusals.is_refused(&channel("new")), "what is over makes room");
}

/// A trial that goes well clears an earlier refusal.
#[test]
fn a_good_trial_clears_an_earlier_refusal() {
    let refusals = Refusals::default();
    refused(&refusals, channel("a"), BrokerRefusal::Oom, 0);
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    refusals.trial_accepted(&channel("a"), at(LASTS));
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::Nothing);
    assert!(!refusals.is_urgent());
    // A message that was under way.
    refusals.refused(channel("a"), BrokerRefusal::Oom, &TEXT, (at(0), at(LASTS + 1)));
    assert_eq!(refusals.extent_at(at(3 * LASTS)), RefusalExtent::Nothing);
    assert!(refusals.suspects(at(2 * MEMORY)).is_empty() && !refusals.is_any());
}

/// A refusal that trials do not see stands all the same.
#[test]
fn a_refusal_unseen_by_trials_stands() {
    for (pause, within) in [(50, 1_000), (4_000, 17_000)] {
        let refusals = Refusals::default();
        let mut ms = 0;
        let mut since = None;
        while ms < 60_000 {
            if ms % pause == 0 {
                refused(&refusals, channel("a"), BrokerRefusal::Other, ms);
            }
            if ms % 200 == 10 {
                refusals.trial_accepted(&channel("a"), at(ms));
            }
            match refusals.extent_at(at(ms)) {
                RefusalExtent::All => since = since.or(Some(ms)),
                RefusalExtent::Some => panic!("nothing is taken, at {ms}"),
                RefusalExtent::Nothing => assert_eq!(since, None, "it stays, at {ms}"),
            }
            ms += 10;
        }
        assert!(since.is_some_and(|since| since <= within), "{since:?} of {within}");
        let is_over =
            |refusals: &Refusals, ms| refusals.extent_at(at(ms)) == RefusalExtent::Nothing;
        refusals.trial_accepted(&channel("a"), at(60_000 + CALM));
        assert!(is_over(&refusals, 60_000 + CALM), "nobody is refused any more");
    }
}

/// The first message that is accepted clears a refusal that trials did not see.
#[test]
fn an_accepted_message_clears_an_unseen_refusal() {
    let refusals = Refusals::default();
    for ms in (0..1_000).step_by(100) {
        refused(&refusals, channel("a"), BrokerRefusal::Other, ms);
        refusals.trial_accepted(&channel("a"), at(ms + 50));
    }
    assert_eq!(refusals.extent_at(at(1_000)), RefusalExtent::All);
    accepted(&refusals, channel("b"), 1_000);
    assert_eq!(refusals.extent_at(at(1_000)), RefusalExtent::Some, "others are taken");
    accepted(&refusals, channel("a"), 1_001);
    assert_eq!(refusals.extent_at(at(1_001)), RefusalExtent::Nothing);
}

/// A trial that is refused means nothing where messages are taken.
#[test]
fn a_refused_trial_means_nothing_beside_messages() {
    let refusals = Refusals::default();
    refusals.trial_refused(server(), BrokerRefusal::UnknownCommand, &TEXT, at(0));
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    refusals.accepted(|| (channel("a"), Some(server())), at(0), at(LASTS));
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All, "it was sent before");
    accepted(&refusals, channel("a"), LASTS);
    for ms in (LASTS..60_000).step_by(1_000) {
        refusals.trial_refused(server(), BrokerRefusal::UnknownCommand, &TEXT, at(ms));
        assert_eq!(refusals.extent_at(at(ms)), RefusalExtent::Nothing);
    }
    assert!(!refusals.is_urgent());
    refusals.trial_refused(server(), BrokerRefusal::NoReplicas, &TEXT, at(60_000));
    assert_eq!(
        refusals.extent_at(at(60_000 + LASTS)),
        RefusalExtent::All,
        "that is another reason"
    );
}

/// Commands that went unanswered do not matter once Redis is lost.
#[test]
fn unanswered_commands_do_not_outlive_redis() {
    let refusals = Refusals::default();
    refused(&refusals, channel("a"), BrokerRefusal::NoAnswer, 0);
    refused(&refusals, channel("b"), BrokerRefusal::Oom, 0);
    refusals.out_of_reach(at(1));
    assert_eq!(refusals.suspects(at(1)), [channel("b")]);
}

/// Another primary has taken over, or a cluster's primary is one no more: nobody tries it again.
#[test]
fn a_server_that_is_left_refuses_nothing() {
    let refusals = Refusals::default();
    refused(&refusals, server(), BrokerRefusal::NoReplicas, 0);
    let other = Subject::Server("10.0.0.2:6379".to_owned());
    refusals.trial_refused(other.clone(), BrokerRefusal::Oom, &TEXT, at(0));
    assert_eq!(refusals.extent_at(at(LASTS)), RefusalExtent::All);
    refusals.keep_servers(|address| address == "10.0.0.2:6379", at(LASTS));
    assert!(!refusals.is_refused(&server()) && refusals.is_refused(&other));
    refusals.keep_servers(|_| false, at(LASTS));
    assert_eq!(refusals.extent_at(at(9 * LASTS)), RefusalExtent::Nothing);
    assert!(!refusals.is_urgent());
}
