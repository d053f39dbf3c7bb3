//! Many channels: what one of them costs does not grow with their number.

use std::sync::Arc;

use super::{events, name, pass, pipe::Pipe, roomy_hub, settings};
use crate::{
    hub::{Budget, Encoding, Hub, Key, SlowPolicy, Unchanged},
    limits::CHANNELS_PER_CLIENT_MAX,
    ws::Kind,
};

const CHANNELS: usize = 10_000;

/// A client of its own for each of the channels.
fn crowd(hub: &mut Hub<Pipe>, channels: usize, room: usize) -> Vec<(Key, Pipe)> {
    let client = |number: usize| {
        let pipe = Pipe::with_room(room);
        let key = hub.insert(pipe.clone());
        assert!(hub.subscribe(key, &name(&format!("c{number}")), Encoding::Plain));
        (key, pipe)
    };
    (0..channels).map(client).collect()
}

fn publish(hub: &mut Hub<Pipe>, number: usize, payload: &[u8]) {
    assert!(hub.publish(&format!("c{number}"), &mut Unchanged::new(Kind::Text, payload)));
}

#[test]
fn ten_thousand_channels_with_a_client_each_are_served_in_one_pass_and_leave() {
    let mut hub = roomy_hub();
    let clients = crowd(&mut hub, CHANNELS, usize::MAX);
    assert_eq!(hub.log_count(), CHANNELS);
    for round in 0..3 {
        for number in 0..CHANNELS {
            publish(&mut hub, number, format!("{number} {round}").as_bytes());
        }
        let done = hub.pass(&mut || true);
        assert_eq!((done.more, done.deliveries), (false, CHANNELS as u64));
    }
    for (number, (key, pipe)) in clients.into_iter().enumerate() {
        assert_eq!(pipe.texts(), [0, 1, 2].map(|round| format!("{number} {round}")));
        hub.remove(key);
        assert_eq!(hub.take_abandoned(), Some(name(&format!("c{number}"))));
    }
    assert_eq!((hub.log_count(), hub.held_bytes()), (0, 0));
}

#[test]
fn stalled_clients_of_two_thousand_channels_stay_within_the_budget() {
    const BUDGET: usize = 2 << 20;
    const STALLED: usize = 2000;
    let budget = Arc::new(Budget::new(BUDGET));
    let mut hub = Hub::new(settings(1 << 30, SlowPolicy::Skip), budget.clone());
    let clients = crowd(&mut hub, STALLED, 0);
    let payload = [b'x'; 1000];
    for _ in 0..10 {
        for number in 0..STALLED {
            // Whose client was given up for the memory has ended.
            hub.publish(&format!("c{number}"), &mut Unchanged::new(Kind::Text, &payload));
        }
        hub.pass(&mut || true);
        events(&mut hub);
        assert!(budget.used() <= BUDGET, "{}", budget.used());
    }
    drop(clients);
}

#[test]
fn one_client_of_a_thousand_channels_gets_all_of_them_and_leaves_them_in_any_order() {
    let mut hub = roomy_hub();
    let pipes = [Pipe::open(), Pipe::open()];
    let keys = pipes.each_ref().map(|pipe| hub.insert(pipe.clone()));
    for number in 0..CHANNELS_PER_CLIENT_MAX {
        for key in keys {
            hub.subscribe(key, &name(&format!("c{number}")), Encoding::Plain);
        }
    }
    assert_eq!(keys.map(|key| hub.subscription_count(key)), [CHANNELS_PER_CLIENT_MAX; 2]);
    for number in 0..CHANNELS_PER_CLIENT_MAX {
        publish(&mut hub, number, b"all");
    }
    assert_eq!(pass(&mut hub).deliveries, 2 * CHANNELS_PER_CLIENT_MAX as u64);
    let mut left: Vec<usize> = (0..CHANNELS_PER_CLIENT_MAX).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut left);
    for &number in &left {
        assert!(hub.leave(keys[0], &format!("c{number}")));
        assert!(!hub.leave(keys[0], &format!("c{number}")));
    }
    hub.check();
    publish(&mut hub, 5, b"one more");
    pass(&mut hub);
    assert_eq!(pipes[0].texts().len(), CHANNELS_PER_CLIENT_MAX);
    assert_eq!(pipes[1].texts().len(), CHANNELS_PER_CLIENT_MAX + 1);
    hub.remove(keys[1]);
    assert_eq!(hub.log_count(), 0);
}

#[test]
fn whoever_keeps_the_most_logs_alone_is_known_and_what_many_hear_is_nobodys() {
    let mut hub = roomy_hub();
    let join = |hub: &mut Hub<Pipe>, names: &[String]| {
        let key = hub.insert(Pipe::open());
        for channel in names {
            hub.subscribe(key, &name(channel), Encoding::Plain);
        }
        hub.check();
        key
    };
    let names = |who: &str, count| (0..count).map(|n| format!("{who}{n}")).collect::<Vec<_>>();
    assert_eq!(hub.hoarder(), None);
    let many: Vec<Key> = (0..20).map(|_| join(&mut hub, &names("shared", 300))).collect();
    let one = join(&mut hub, &names("one", 100));
    let twins = [(); 2].map(|()| join(&mut hub, &names("twin", 190)));
    // The first of those who share is asked for, until what it hears is put down to the others.
    let found = std::iter::repeat_with(|| hub.hoarder().unwrap()).find(|found| found.1 > 20);
    assert_eq!(found, Some((twins[0], 95)), "half of what two hear is each one's");
    hub.check();
    hub.remove(twins[0]);
    hub.check();
    assert_eq!(hub.hoarder(), Some((twins[1], 190)), "then it is the other's");
    hub.remove(twins[1]);
    assert_eq!(hub.hoarder(), Some((one, 100)));
    hub.remove(one);
    for key in many {
        hub.remove(key);
        hub.check();
    }
    assert_eq!(hub.hoarder(), None);
}
