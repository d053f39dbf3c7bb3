//! A process's own knowledge, handed over while it is used, against the one that stays.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::{
    broker::{
        HistorySettings, IdempotencyKey, Message, PeriodicSlot, Principal, redis::LocalOutcome,
    },
    channel::ChannelName,
    position::Position,
    record,
    seeds::run_all,
    ws::Kind,
};
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn local_state() -> LocalState {
    let ttl = Duration::from_secs(600);
    let bytes = 4_000;
    let history =
        HistorySettings { messages_max: 10, bytes_max: bytes, total_bytes_max: bytes, ttl };
    LocalState::new(history, 1_500)
}

fn any_message(random: &mut Rng) -> Message {
    let subject = Principal::of_subject(Some("s"));
    let publisher = [Principal::Api, subject, Principal::Anonymous][random.usize(..3)];
    let key = IdempotencyKey::new(&random.u8(..2).to_string()).unwrap();
    Message {
        publisher,
        channel: ChannelName::new(NAMES[random.usize(..NAMES.len())]).unwrap(),
        kind: Kind::Text,
        data: Bytes::from(vec![b'x'; random.usize(..500)]),
        key: random.bool().then_some(key),
    }
}

/// A message or a slot, in both processes if there are two, which answer the same: whether its key
/// is known, and whether there was no room for another one, or in the histories.
fn act(states: &mut [(&mut LocalState, Millis)], random: &mut Rng) -> [u64; 3] {
    let message = any_message(random);
    let (way, offset, number) = (random.u8(..5), random.u64(1..3), random.u64(..5));
    let stream = random.usize(..3_000);
    let answers = states.iter_mut().map(|(state, now)| {
        let id = message.id();
        let known = id.as_ref().and_then(|id| state.local_outcome(id, *now));
        let slot = PeriodicSlot {
            channel: message.channel.clone(),
            interval_ms: 1_000,
            text_at: Rc::new(|_| Bytes::new()),
        };
        let is_done = state.slots.is_done(&slot, number);
        if way == 0 {
            state.slots.set_done(&slot, number);
        }
        let charged = state.charge(&message, id.as_ref(), *now).unwrap();
        match way {
            1 => state.give_back(&message, id.as_ref(), charged),
            2 => state.in_doubt(&message, id.as_ref(), charged, *now),
            3 => {
                state.give_back(&message, id.as_ref(), charged);
                if let Some(id) = id {
                    state.remember(id, LocalOutcome::Local, *now);
                }
            }
            _ => {
                let position = Position { epoch: "e".into(), offset };
                // A stream that Redis dropped is no use to tell of: see the module.
                state.published(&message, &position, stream + 1, charged, *now);
            }
        }
        (known, is_done, charged.full)
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{message:?} {way} {answers:?}");
    let (known, _, full) = answers[0];
    [known.is_some(), full.keys, full.histories].map(u64::from)
}

fn pass(random: &mut Rng, now: &mut Millis) {
    *now = *now + Duration::from_millis(random.u64(..60_000));
}

#[test]
fn another_process_knows_what_the_first_one_did() {
    let counts = run_all(2_000, |seed| {
        let mut random = Rng::with_seed(seed);
        let (mut old, mut now) = (local_state(), Millis(random.u64(..1_000_000)));
        for _ in 0..random.usize(..30) {
            pass(&mut random, &mut now);
            act(&mut [(&mut old, now)], &mut random);
        }
        let (first, start) = (now, Millis(random.u64(..1_000)));
        let bounds = PartBounds { items_max: random.usize(1..4), bytes_max: 1 };
        let mut giving = LocalGiving::new(bounds, now);
        let mut taking = LocalTaking::new(old.empty_like());
        let mut parts = 0;
        let mut put = |part: BrokerPart, now: Millis| {
            parts += 1;
            let part = record::from_bytes(&record::to_bytes(&part)).unwrap();
            taking.put(part, start + (now - first)).unwrap();
        };
        for _ in 0..random.usize(..3) {
            while let Some(part) = giving.next(&old, now) {
                put(part, now);
                for _ in 0..random.usize(..2) {
                    pass(&mut random, &mut now);
                    act(&mut [(&mut old, now)], &mut random);
                }
            }
        }
        giving.finish(&old, -5, now).into_iter().for_each(|part| put(part, now));
        let (mut new, ahead_ms) = taking.finish().unwrap();
        assert_eq!(ahead_ms, -5);
        let [mut known, mut keys, mut histories] = [0; 3];
        for _ in 0..20 {
            pass(&mut random, &mut now);
            let there = start + (now - first);
            let counts = act(&mut [(&mut old, now), (&mut new, there)], &mut random);
            known += counts[0];
            keys += counts[1];
            histories += counts[2];
        }
        [parts, known, keys, histories]
    });
    let is_much = |counts: [u64; 4]| counts.iter().all(|count| *count > 1_000);
    assert!(counts.is_none_or(is_much), "{counts:?}");
}
