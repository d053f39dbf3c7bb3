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

#[test]
fn who_wants_a_channel_waits_until_redis_has_confirmed_it() {
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

#[test]
fn without_a_connection_nobody_waits_and_nothing_piles_up() {
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

#[test]
fn coming_and_going_while_redis_is_slow_costs_one_command_each() {
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

#[test]
fn what_is_subscribed_anew_is_to_be_checked_once_if_anything_is_known_of_it() {
    let mut all = Subscriptions::default();
    let position = Position { epoch: "e".into(), offset: 1 };
    for name in ["a", "b", "c"] {
        let topic = Topic::Channel(ChannelName::new(name).unwrap());
        all.want(name.to_owned(), topic);
    }
    all.anchor("a", &position, 7, false);
    let connect = |all: &mut Subscriptions| {
        all.connected();
        while let Some(command) = all.next_command() {
            all.answered(&command, false);
        }
    };
    let names = |taken: Vec<(String, ChannelName)>| -> Vec<String> {
        taken.into_iter().map(|(name, _)| name).collect()
    };
    connect(&mut all);
    assert_eq!(names(all.take_unchecked(10)), ["a"]);
    assert_eq!(names(all.take_unchecked(10)), [""; 0]);
    all.anchor("b", &position, 7, true);
    assert_eq!(names(all.take_unchecked(10)), [""; 0], "nothing can be missing");
    all.anchor("c", &position, 7, false);
    assert_eq!(names(all.take_unchecked(10)), ["c"]);
    connect(&mut all);
    all.unwant("b");
    all.disconnected();
    connect(&mut all);
    let mut both = names(all.take_unchecked(10));
    both.sort_unstable();
    assert_eq!(both, ["a", "c"]);
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
