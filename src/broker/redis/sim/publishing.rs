//! Messages that the processes publish themselves, and the answers that their publishers get.
//!
//! The publisher, the order of its commands, its connection's state and the process' own records
//! are the real ones; `wire` moves the bytes. Every answer must be true: a message is in Redis,
//! once, or with this process' clients, once, or its publisher knows that this is in doubt.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::{JoinHandle, spawn_local, yield_now},
    time::sleep,
};

use super::{
    SHARDS, SHARDS_EACH, Shard, World,
    wire::{self, Wire},
};
use crate::{
    broker::{
        IdempotencyKey, Message, Principal, PublishError, Reach, Receipt,
        redis::{commands::router::CommandRouter, process::Process, publish::Publisher},
    },
    channel::ChannelName,
    limits::PUBLISH_CONFIRM_DEADLINE,
    ws::Kind,
};

/// A shard's way to publish.
#[derive(Debug)]
pub(super) struct Publishing {
    publisher: Rc<Publisher>,
    router: Rc<CommandRouter>,
    wire: Option<Wire>,
}

/// A message, and what its publisher was told each time that it said it.
#[derive(Debug)]
pub(super) struct Said {
    text: String,
    key: Option<IdempotencyKey>,
    shard: usize,
    /// None: nothing yet.
    answers: Vec<Option<Result<Receipt, PublishError>>>,
    /// Nobody waits for the last answer any more.
    is_left: bool,
    /// It was kept to the process while Redis was there, and did not refuse it.
    is_kept_back: bool,
}

/// All messages, and those that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    said: Rc<RefCell<Vec<Said>>>,
    waiting: Vec<(usize, JoinHandle<()>)>,
    /// Commands of connections that have ended, which Redis may still carry out.
    astray: Vec<(usize, Vec<Bytes>)>,
}

impl Publishing {
    pub(super) fn new(process: &std::sync::Arc<Process>, router: &Rc<CommandRouter>) -> Self {
        let publisher = Rc::new(Publisher::new(process.clone(), router.clone()));
        Self { publisher, router: router.clone(), wire: None }
    }
}

impl Said {
    fn is_waiting(&self) -> bool {
        self.answers.last().is_some_and(Option::is_none) && !self.is_left
    }

    /// Nobody knows whether it is in Redis.
    fn is_in_doubt(&self) -> bool {
        let unconfirmed = Some(Err(PublishError::Unconfirmed));
        self.answers.iter().any(|answer| answer.is_none() || *answer == unconfirmed)
    }

    fn positions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.answers.iter().flatten().filter_map(|answer| match answer {
            Ok(Receipt::Cluster(position)) => Some((&*position.epoch, position.offset)),
            _ => None,
        })
    }
}

impl World {
    /// Something happens to what is published.
    pub(super) async fn publishing_step(&mut self, shard: usize) {
        let is_calm = self.is_calm;
        if self.random.u8(0..10) > 0 {
            self.beat();
        }
        match self.random.u8(0..100) {
            0..=19 => self.say(shard),
            20..=29 => self.say_again(),
            30..=54 => {
                let bytes_max =
                    if self.random.u8(0..4) > 0 { usize::MAX } else { self.random.usize(1..2000) };
                self.on_wire(shard, |wire, _| wire.write(bytes_max));
            }
            55..=74 => {
                let mut count = self.random.usize(1..5);
                self.on_wire(shard, |wire, redis| {
                    while wire.carry_out(redis) && count > 1 {
                        count -= 1;
                    }
                });
            }
            75..=88 => {
                let mut count = self.random.usize(1..5);
                self.on_wire(shard, |wire, _| {
                    while wire.answer() && count > 1 {
                        count -= 1;
                    }
                });
            }
            89..=92 => sleep(Duration::from_millis(self.random.u64(1..300))).await,
            93 if !is_calm => self.cut(shard),
            94 if !is_calm => sleep(PUBLISH_CONFIRM_DEADLINE).await,
            95 if !is_calm => self.leave(),
            96 if !is_calm => self.carry_out_astray(),
            _ => self.lay_wire(shard),
        }
        yield_now().await;
    }

    /// Heartbeats come back where a subscription is read.
    pub(super) fn beat(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            let is_subscribed = self.redis.is_connected(number) && !self.redis.is_stale(number);
            if is_subscribed && self.redis.is_up.get() {
                let now = shard.process.clock.now();
                shard.process.health.heartbeat_returned(number % SHARDS_EACH, now, now);
            }
        }
    }

    fn on_wire(&mut self, shard: usize, act: impl FnOnce(&mut Wire, &super::Redis)) {
        if let Some(wire) = &mut self.shards[shard].publishing.wire {
            act(wire, &self.redis);
        }
    }

    /// A connection for commands is there, if Redis is.
    fn lay_wire(&mut self, shard: usize) {
        let Shard { process, publishing, .. } = &mut self.shards[shard];
        if publishing.wire.is_none() && self.redis.is_up.get() {
            let (client, wire) = Wire::connect(process.clock, &self.redis, shard);
            publishing.router.connections[0].lead(Some(client));
            publishing.wire = Some(wire);
        }
    }

    fn cut(&mut self, shard: usize) {
        let publishing = &mut self.shards[shard].publishing;
        if let Some(wire) = publishing.wire.take() {
            publishing.router.connections[0].lead(None);
            let astray = wire.cut(&self.redis);
            self.ledger.astray.extend(astray);
        }
    }

    /// Redis carries out something of a connection that has ended, or never gets it.
    fn carry_out_astray(&mut self) {
        if self.ledger.astray.is_empty() || !self.redis.is_up.get() {
            return;
        }
        let (process, command) = self.ledger.astray.remove(0);
        if self.random.bool() {
            wire::run(&self.redis, process, &command);
        }
    }

    fn say(&mut self, shard: usize) {
        self.lay_wire(shard);
        let number = self.ledger.said.borrow().len();
        let is_keyed = self.random.bool();
        let key = is_keyed.then(|| IdempotencyKey::new(&format!("k{number}")).unwrap());
        let (text, answers) = (format!("p{number}"), Vec::new());
        self.ledger.said.borrow_mut().push(Said {
            text,
            key,
            shard,
            answers,
            is_left: false,
            is_kept_back: false,
        });
        self.publish(number, shard);
    }

    /// A publisher repeats itself, mostly since it was not told what became of its message; through
    /// any shard of the process.
    fn say_again(&mut self) {
        let count = self.ledger.said.borrow().len();
        if count == 0 {
            return;
        }
        let number = self.random.usize(0..count);
        let shard = {
            let said = &self.ledger.said.borrow()[number];
            let is_sensible = said.is_in_doubt() || self.random.u8(0..4) == 0;
            if said.key.is_none() || said.is_waiting() || !is_sensible {
                return;
            }
            said.shard - said.shard % SHARDS_EACH + self.random.usize(0..SHARDS_EACH)
        };
        self.publish(number, shard);
    }

    fn publish(&mut self, number: usize, shard: usize) {
        let publisher = self.shards[shard].publishing.publisher.clone();
        let said = self.ledger.said.clone();
        let (message, attempt) = {
            let one = &mut said.borrow_mut()[number];
            one.answers.push(None);
            one.is_left = false;
            (message(&self.channel, &one.text, one.key.clone()), one.answers.len() - 1)
        };
        let process = self.shards[shard].process.clone();
        let task = spawn_local(async move {
            let (health, began) = (&process.health, process.clock.now());
            let refused = health.refused();
            let answer = publisher.publish(message).await;
            let had_time = process.clock.now() - began < PUBLISH_CONFIRM_DEADLINE;
            let is_up = health.reach() == Reach::Up && health.refused() == refused;
            let one = &mut said.borrow_mut()[number];
            one.is_kept_back |= answer == Ok(Receipt::Local) && had_time && is_up;
            one.answers[attempt] = Some(answer);
        });
        self.ledger.waiting.push((number, task));
    }

    /// Somebody does not wait for an answer any more.
    fn leave(&mut self) {
        let Ledger { said, waiting, .. } = &mut self.ledger;
        waiting.retain(|(_, task)| !task.is_finished());
        if !waiting.is_empty() {
            let (number, task) = waiting.swap_remove(self.random.usize(0..waiting.len()));
            task.abort();
            said.borrow_mut()[number].is_left = true;
        }
    }

    /// Everything on its way arrives, and every publisher has its answer.
    pub(super) async fn settle_publishing(&mut self) {
        for _ in 0..2 {
            self.beat();
            for shard in 0..SHARDS {
                self.on_wire(shard, |wire, redis| {
                    wire.write(usize::MAX);
                    while wire.carry_out(redis) {}
                    while wire.answer() {}
                });
            }
            sleep(PUBLISH_CONFIRM_DEADLINE).await;
        }
        while !self.ledger.astray.is_empty() {
            self.carry_out_astray();
        }
        for (_, task) in &self.ledger.waiting {
            assert!(task.is_finished(), "a publisher gets no answer");
        }
    }

    /// Everybody's answer is true; how many messages were answered as published, as delivered
    /// here, and not at all.
    pub(super) fn check_published(&self) -> [u64; 3] {
        let said = self.ledger.said.borrow();
        said.iter().for_each(|one| self.check_said(one));
        let count = |is: fn(&Said) -> bool| said.iter().filter(|one| is(one)).count() as u64;
        [
            count(|one| one.positions().next().is_some()),
            count(|one| one.answers.contains(&Some(Ok(Receipt::Local)))),
            count(Said::is_in_doubt),
        ]
    }

    fn check_said(&self, said: &Said) {
        let Said { text, key, shard, answers, .. } = said;
        assert!(!said.is_kept_back, "{said:?} was not tried again");
        let places = self.redis.places(text);
        let has_lost = self.redis.losses.get() > 0;
        assert!(
            places.len() <= 1 || key.is_some() && has_lost,
            "{said:?} was published at {places:?}"
        );
        assert!(
            places.is_empty() || said.is_in_doubt() || said.positions().next().is_some(),
            "{said:?} was published at {places:?}, and nobody was told"
        );
        for (epoch, offset) in said.positions() {
            let is_there = places.iter().any(|place| *place == (epoch.to_owned(), offset));
            assert!(is_there, "{said:?} is at {places:?}");
        }
        let is_local = answers.contains(&Some(Ok(Receipt::Local)));
        let local = Some(Ok(Receipt::Local));
        if let Some(first) = answers.iter().position(|answer| *answer == local) {
            // A repetition after the return of Redis goes there; one of a message that is there,
            // while Redis is lost, is delivered here: as the manual says.
            let is_cluster = |answer: &Option<Result<Receipt, _>>| {
                matches!(answer, Some(Ok(Receipt::Cluster(_))))
            };
            let goes_there = answers[first..].iter().any(|answer| *answer != local);
            let was_there = answers[..first].iter().any(is_cluster);
            assert!(goes_there || was_there || places.is_empty(), "{said:?} is heard twice");
            let was_in_doubt = answers[..first].contains(&Some(Err(PublishError::Unconfirmed)));
            assert!(!was_in_doubt, "{said:?} may be heard twice");
        }
        for (number, other) in self.shards.iter().enumerate() {
            let is_here = number / SHARDS_EACH == shard / SHARDS_EACH;
            let times = other.recorded.times_local(text);
            assert_eq!(times, usize::from(is_local && is_here), "{said:?} on shard {number}");
        }
        self.check_heard(&places, text);
    }

    /// Every listener has heard the messages that Redis has, or was told that they are missing.
    fn check_heard(&self, places: &[(String, u64)], text: &str) {
        if self.redis.losses.get() > 1 {
            // An epoch may have been over, and have come back.
            return;
        }
        let held = self.redis.held.borrow();
        for (epoch, offset) in places {
            let is_there = held.epoch.as_ref() == Some(epoch)
                && held.texts.get(*offset as usize - 1).is_some_and(|there| there == text);
            for (number, shard) in self.shards.iter().enumerate() {
                assert!(
                    !is_there || shard.listener.knows(epoch, *offset, text, &self.redis),
                    "{text} is at {epoch}:{offset}, and shard {number} has not heard of it"
                );
            }
        }
    }

    /// Messages of one shard that were published stand in the order of the calls.
    pub(super) fn check_order(&self) {
        let said = self.ledger.said.borrow();
        for shard in 0..SHARDS {
            let own = said.iter().filter(|one| one.shard == shard && one.answers.len() == 1);
            let mut last = 0;
            for one in own.filter(|one| one.positions().next().is_some()) {
                let moment = self.redis.moment(&one.text);
                assert!(last < moment, "{one:?} was overtaken");
                last = moment;
            }
        }
    }
}

/// A message of this content.
pub(super) fn message(channel: &ChannelName, text: &str, key: Option<IdempotencyKey>) -> Message {
    Message {
        publisher: Principal::Api,
        channel: channel.clone(),
        kind: Kind::Text,
        data: Bytes::from(text.to_owned()),
        key,
    }
}
