//! Channels that very many clients make a shard keep: a newcomer with few gets its own, always.

use super::*;
use crate::limits::{
    CHANNELS_FREE, CHANNELS_PER_CLIENT_MAX, CHANNELS_PER_SHARD_MAX, SUBSCRIPTION_COST_BYTES,
};

fn names(of: usize, count: usize) -> Vec<ChannelName> {
    (0..count).map(|number| ChannelName::new(&format!("c{of}-{number}")).unwrap()).collect()
}

fn hold(table: &mut Table, names: &[ChannelName]) -> Key {
    table.clients.admit(Endpoint::Ws, Encoding::Plain, names)
}

fn closed(table: &Table, keys: &[Key]) -> usize {
    keys.iter().filter(|&&key| table.clients.hub.subscription_count(key) == 0).count()
}

/// A newcomer with few channels gets them whatever the number of small hoarders.
/// 6,250 connections of 16 channels each made a full shard refuse everybody who wanted two.
#[test]
fn a_newcomer_gets_its_few_channels_among_hoarders() {
    for each in [CHANNELS_FREE, 40] {
        let mut table = table(settings());
        let full = CHANNELS_PER_SHARD_MAX.div_ceil(each);
        let keys: Vec<Key> = (0..full).map(|of| hold(&mut table, &names(of, each))).collect();
        for (number, count) in (1..=CHANNELS_FREE).enumerate() {
            let wanted = names(full + number, count);
            assert!(table.clients.make_room(&wanted, Encoding::Plain, count), "{count}");
            hold(&mut table, &wanted);
            let more = names(2 * full + number, 1);
            assert!(table.clients.make_room(&more, Encoding::Plain, CHANNELS_FREE));
        }
        let wanted = names(0, 200).split_off(each);
        assert!(!table.clients.make_room(&wanted, Encoding::Plain, wanted.len()));
        // A newcomer with less than half of the others' channels takes the place of one of them.
        assert!(closed(&table, &keys) <= usize::from(each > 2) * CHANNELS_FREE);
        let wanted = names(0, each + 17).split_off(each);
        assert_eq!(table.clients.make_room(&wanted, Encoding::Plain, 17), each > 2 * 17);
    }
}

/// Subscriptions are charged, and the client with the most makes room for those that want few.
/// Places in logs that others hear, too, were in no budget.
#[test]
fn the_largest_hoarder_makes_room() {
    const BUDGET: usize = 1 << 20;
    let mut table = table_within(settings(), BUDGET);
    let all = names(0, CHANNELS_PER_CLIENT_MAX);
    let mut keys = Vec::new();
    while table.clients.make_room(&all, Encoding::Plain, all.len()) {
        keys.push(hold(&mut table, &all));
        assert!(keys.len() < 100, "they have no end");
    }
    let cost = keys.len() * (all.len() - CHANNELS_FREE) * SUBSCRIPTION_COST_BYTES;
    assert!(table.budget.used() >= cost && cost > BUDGET / 8, "{cost}");
    assert!(table.budget.used() < BUDGET / 4, "{}", table.budget.used());
    assert_eq!(closed(&table, &keys), 0, "who wants as many is refused");
    for _ in 0..1_000 {
        assert!(table.clients.make_room(&all[..CHANNELS_FREE], Encoding::Plain, CHANNELS_FREE));
        hold(&mut table, &all[..CHANNELS_FREE]);
    }
    assert_eq!(closed(&table, &keys), 0, "few cost nothing");
    assert!(table.clients.make_room(&all[..400], Encoding::Plain, 400));
    hold(&mut table, &all[..400]);
    assert_eq!(closed(&table, &keys), 1, "one who had more than twice as many");
    table.clients.hub.check();
    for key in table.clients.keys() {
        table.clients.withdraw(key);
    }
    assert_eq!(table.budget.used(), 0);
}
