//! Wants, commands and answers in every order that a slow Redis makes of them.

use super::*;

fn want(all: &mut Subscriptions, name: &str) -> Option<oneshot::Receiver<()>> {
    all.want(name.to_owned(), Topic::Raw)
}

fn subscribe(name: &str) -> Command {
    Command::Subscribe(name.to_owned())
}

fn unsubscribe(name: &str) -> Command {
    Command::Unsubscribe(name.to_owned())
}

/// A subscriber of a new channel waits until Redis has confirmed it.
#[test]
fn a_new_channel_waits_for_redis_confirmation() {
    let mut all = Subscriptions::default();
    all.connected();
    let mut first = want(&mut all, "a").unwrap();
    let mut second = want(&mut all, "a").unwrap();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    assert_eq!(all.next_command(), None);
    assert!(first.try_recv().is_err());
    all.answered(&subscribe("a"), false);
    assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
    assert!(want(&mut all, "a").is_none());
}

/// Without a connection no subscriber waits, and nothing piles up.
#[test]
fn without_a_connection_nothing_piles_up() {
    let mut all = Subscriptions::default();
    assert!(want(&mut all, "a").is_none());
    for _ in 0..100 {
        want(&mut all, "b");
        all.unwant("b");
    }
    assert!(all.changed.is_empty());
    assert_eq!(all.by_name.len(), 1);
    all.connected();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    assert_eq!(all.next_command(), None);
}

#[test]
fn a_new_connection_is_told_everything_wanted_again() {
    let mut all = Subscriptions::default();
    all.connected();
    let mut waiter = want(&mut all, "a").unwrap();
    all.next_command();
    all.disconnected();
    assert!(matches!(waiter.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    all.connected();
    assert_eq!(all.next_command(), Some(subscribe("a")));
}

/// Coming and going while Redis is slow costs one command each.
#[test]
fn changes_while_redis_is_slow_cost_one_command_each() {
    let mut all = Subscriptions::default();
    all.connected();
    for _ in 0..100 {
        want(&mut all, "a");
        all.unwant("a");
    }
    assert_eq!(all.changed.len(), 1);
    assert_eq!(all.next_command(), None);
    assert!(all.by_name.is_empty());
}

#[test]
fn only_the_last_answer_confirms() {
    let mut all = Subscriptions::default();
    all.connected();
    want(&mut all, "a");
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.unwant("a");
    assert_eq!(all.next_command(), Some(unsubscribe("a")));
    let mut waiter = want(&mut all, "a").unwrap();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.answered(&subscribe("a"), false);
    all.answered(&unsubscribe("a"), false);
    assert!(waiter.try_recv().is_err());
    all.answered(&subscribe("a"), false);
    assert!(waiter.try_recv().is_ok());
    all.unwant("a");
    assert_eq!(all.next_command(), Some(unsubscribe("a")));
    all.answered(&unsubscribe("a"), false);
    assert!(all.by_name.is_empty());
}

fn want_channel(all: &mut Subscriptions, name: &str) -> Option<oneshot::Receiver<()>> {
    all.want(name.to_owned(), Topic::Channel(ChannelName::new(name).unwrap()))
}

/// Redis confirms all that is wanted.
fn confirm(all: &mut Subscriptions) {
    while let Some(command) = all.next_command() {
        all.answered(&command, false);
    }
}

fn names(taken: Vec<(String, ChannelName)>) -> Vec<String> {
    taken.into_iter().map(|(name, _)| name).collect()
}

/// A channel for whose position nobody asks is asked about.
#[test]
fn a_channel_that_nobody_asks_about_is_checked() {
    let mut all = Subscriptions::default();
    all.connected();
    drop(want_channel(&mut all, "a"));
    confirm(&mut all);
    assert_eq!(names(all.take_unchecked(10)), ["a"], "its caller has not waited");
    let waiter = want_channel(&mut all, "b");
    confirm(&mut all);
    assert!(waiter.is_some());
    assert_eq!(names(all.take_unchecked(10)), [""; 0], "its caller asks");
    all.check_unplaced();
    all.check_unplaced();
    let mut both = names(all.take_unchecked(10));
    both.sort_unstable();
    assert_eq!(both, ["a", "b"], "nobody has been told yet");
    let position = Position { epoch: "e".into(), offset: 1 };
    for name in ["a", "b"] {
        all.begin(name, &position, 7, Millis(0));
    }
    all.check_unplaced();
    assert_eq!(names(all.take_unchecked(10)), [""; 0]);
    all.disconnected();
    all.connected();
    confirm(&mut all);
    assert_eq!(names(all.take_unchecked(10)).len(), 2, "what was lost with the connection shows");
}

/// A new subscription is checked once if anything is known of its channel.
#[test]
fn a_new_subscription_is_checked_once() {
    let mut all = Subscriptions::default();
    let position = Position { epoch: "e".into(), offset: 1 };
    all.connected();
    let wanted = ["a", "b", "c"].map(|name| want_channel(&mut all, name));
    assert!(all.set_baseline("a", &position, 7, None, Millis(0)));
    let connect = |all: &mut Subscriptions| {
        all.connected();
        confirm(all);
    };
    confirm(&mut all);
    assert!(wanted.iter().all(Option::is_some));
    assert_eq!(names(all.take_unchecked(10)), ["a"]);
    assert_eq!(names(all.take_unchecked(10)), [""; 0], "callers ask for the others");
    let confirmed = all.confirmed_by("b");
    assert!(confirmed.is_some() && all.set_baseline("b", &position, 7, confirmed, Millis(0)));
    assert_eq!(names(all.take_unchecked(10)), [""; 0], "nothing can be missing");
    assert!(all.set_baseline("c", &position, 7, None, Millis(0)));
    assert_eq!(names(all.take_unchecked(10)), ["c"]);
    connect(&mut all);
    all.unwant("b");
    all.disconnected();
    connect(&mut all);
    let mut both = names(all.take_unchecked(10));
    both.sort_unstable();
    assert_eq!(both, ["a", "c"]);
}

/// A position that was overtaken before the subscription was confirmed is asked for again.
#[test]
fn an_overtaken_position_is_asked_for_again() {
    // Redis reported the position, published two messages, and only then subscribed us; the third
    // arrived before the position did, and the two were lost without a word.
    let mut all = Subscriptions::default();
    all.want("a".to_owned(), Topic::Channel(ChannelName::new("a").unwrap()));
    all.connected();
    let before = all.confirmed_by("a");
    while let Some(command) = all.next_command() {
        all.answered(&command, false);
    }
    let at = |offset| Position { epoch: "e".into(), offset };
    all.get_mut("a").unwrap().tracker.advance("e", 4, 7, Millis(0));
    assert!(!all.set_baseline("a", &at(1), 5, before, Millis(0)));
    let confirmed = all.confirmed_by("a");
    assert!(
        all.set_baseline("a", &at(1), 5, confirmed, Millis(0)),
        "what was not in time is there now"
    );
    assert!(all.set_baseline("a", &at(4), 7, before, Millis(0)), "nothing came before the first");
    all.connected();
    assert!(!all.set_baseline("a", &at(1), 5, confirmed, Millis(0)), "that was another connection");
}

#[test]
fn a_refused_channel_is_let_go_and_tried_again_later() {
    let mut all = Subscriptions::default();
    all.connected();
    let mut waiter = want(&mut all, "a").unwrap();
    all.next_command();
    all.answered(&subscribe("a"), true);
    assert!(waiter.try_recv().is_ok());
    assert_eq!(all.next_command(), None);
    all.retry_refused();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.answered(&subscribe("a"), false);
    assert!(want(&mut all, "a").is_none());
}

/// A subscription at which messages have arrived.
fn heard(all: &mut Subscriptions, name: &str) {
    let topic = Topic::Channel(ChannelName::new(name).unwrap());
    all.want(name.to_owned(), topic);
    all.set_baseline(name, &Position { epoch: "e".into(), offset: 1 }, 7, None, Millis(0));
    while let Some(command) = all.next_command() {
        all.answered(&command, false);
    }
    all.take_unchecked(10);
}

/// A channel that is wanted again before Redis was told is still subscribed.
#[test]
fn a_channel_wanted_again_in_time_stays_subscribed() {
    let mut all = Subscriptions::default();
    all.connected();
    heard(&mut all, "a");
    all.unwant("a");
    assert!(want(&mut all, "a").is_none());
    assert_eq!(all.next_command(), None);
    assert!(all.confirmed_by("a").is_some());
}

/// One may wait for a first connection but not for a lost one.
#[test]
fn only_a_first_connection_is_waited_for() {
    let mut all = Subscriptions::awaited();
    let mut first = want(&mut all, "a").unwrap();
    all.connected();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.answered(&subscribe("a"), false);
    assert!(first.try_recv().is_ok());
    let mut second = want(&mut all, "b").unwrap();
    all.disconnected();
    assert!(second.try_recv().is_err());
    assert!(want(&mut all, "c").is_none());
}

/// A channel goes to another connection with all that is known of it and with its waiters.
#[test]
fn a_channel_moves_to_another_connection_whole() {
    let mut old = Subscriptions::default();
    let mut new = Subscriptions::awaited();
    old.connected();
    heard(&mut old, "a");
    let mut waiter = want(&mut old, "b").unwrap();
    for name in ["a", "b"] {
        new.adopt(name.to_owned(), old.take(name).unwrap());
    }
    assert!(old.take("a").is_none() && old.wanted().next().is_none());
    assert_eq!(old.next_command(), Some(unsubscribe("a")), "only that was told");
    assert_eq!(old.next_command(), None);
    new.connected();
    while let Some(command) = new.next_command() {
        new.answered(&command, false);
    }
    assert!(waiter.try_recv().is_ok());
    let names: Vec<_> = new.take_unchecked(10).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a"], "something may be missing");
    old.adopt("a".to_owned(), new.take("a").unwrap());
    assert_eq!(old.next_command(), Some(subscribe("a")));
}

/// A channel that comes back before its end was told is to be checked.
#[test]
fn a_channel_wanted_again_before_its_end_is_checked() {
    let mut all = Subscriptions::default();
    all.connected();
    heard(&mut all, "a");
    let moving = all.take("a").unwrap();
    all.adopt("a".to_owned(), moving);
    assert_eq!(all.next_command(), None);
    assert!(all.confirmed_by("a").is_some());
    assert_eq!(all.take_unchecked(10).len(), 1);
}

/// A subscription that has to go to another node waits until that node is known.
#[test]
fn a_moved_channel_waits_for_its_new_node() {
    let mut all = Subscriptions::default();
    all.connected();
    let mut waiter = want(&mut all, "a").unwrap();
    all.next_command();
    all.postpone("a");
    assert_eq!(all.next_command(), None);
    assert!(matches!(waiter.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
    all.retry_refused();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.answered(&subscribe("a"), false);
    assert!(waiter.try_recv().is_ok());
    all.ended("a");
    assert!(all.confirmed_by("a").is_none());
    assert_eq!(all.next_command(), None);
    all.retry_refused();
    assert_eq!(all.next_command(), Some(subscribe("a")));
    all.unwant("a");
    all.ended("a");
    all.answered(&subscribe("a"), true);
    assert_eq!(all.next_command(), None);
    assert!(all.by_name.is_empty());
}
