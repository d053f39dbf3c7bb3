//! The raw channel's lease, as two bridges keep it, lose it and take it from each other.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use fred::types::Value;
use tokio::{task::spawn_local, time::sleep};

use super::process;
use crate::{
    broker::redis::{
        commands::{
            call_error::CallError, connectivity::Connectivity, router::CommandRouter,
            stand_in::StandIn,
        },
        protocol::scripts::Script,
        raw::bridge::Bridge,
    },
    clock::{Clock, Millis},
    limits::{BRIDGE_LEASE, BRIDGE_LEASE_MARGIN, BRIDGE_RENEW_INTERVAL},
};

/// Between two raw messages.
const PACE: Duration = Duration::from_millis(10);

/// The lease in Redis, as its script keeps it, and what came of raw messages.
#[derive(Debug)]
struct Redis {
    clock: Clock,
    held: RefCell<Option<(String, Millis)>>,
    /// All that was published, in order.
    stream: RefCell<Vec<Event>>,
    asked: Cell<u32>,
    /// Which bridge has published which message, and when.
    published: RefCell<Vec<(usize, u32, Millis)>>,
}

/// A message that everybody hears.
#[derive(Clone, Debug)]
enum Event {
    Mark(String),
    Raw(u32),
}

/// One bridge's way to it.
#[derive(Debug)]
struct Link {
    redis: Rc<Redis>,
    index: usize,
    is_cut: Cell<bool>,
    lease_sha1: String,
}

impl StandIn for Link {
    fn takes_messages(&self) -> bool {
        true
    }

    fn answer(&self, script: &Script, args: Vec<Value>) -> Result<Value, CallError> {
        if self.is_cut.get() && script.sha1 == self.lease_sha1 {
            return Err(CallError::NotSent);
        }
        let words: Vec<String> =
            args.into_iter().map(|arg| arg.into_string().unwrap_or_default()).collect();
        if script.sha1 != self.lease_sha1 {
            let number = words[2].parse().expect("raw messages are numbers here");
            let at = self.redis.clock.now();
            self.redis.published.borrow_mut().push((self.index, number, at));
            return Err(CallError::NotSent);
        }
        let (is_ours, free_in_ms) = self.redis.lease(&words);
        Ok(Value::Array(vec![is_ours.into(), free_in_ms.into()]))
    }
}

impl Redis {
    fn lease(&self, words: &[String]) -> (i64, i64) {
        let [word, holder, attempt, lives_ms, _marks] = words else { panic!("{words:?}") };
        self.asked.set(self.asked.get() + 1);
        let (name, now) = (format!("{holder} {attempt}"), self.clock.now());
        let mut held = self.held.borrow_mut();
        *held = held.take().filter(|(_, until)| now < *until);
        let is_ours = match (&*held, word.as_str()) {
            (Some((known, _)), "take") => known.starts_with(&format!("{holder} ")),
            (Some((known, _)), _) => *known == name,
            (None, "take") => true,
            (None, _) => false,
        };
        if !is_ours {
            let left = held.as_ref().map(|(_, until)| *until - now).unwrap_or_default();
            return (0, left.as_millis() as i64);
        }
        let until = now + Duration::from_millis(lives_ms.parse().expect("a number"));
        *held = (word != "release").then(|| (name.clone(), until));
        let told = [("take", "taken"), ("leave", "leaving"), ("release", "released")];
        let told = told.iter().find(|(asked, _)| asked == word);
        let mark = told.map(|(_, told)| Event::Mark(format!("{told} {name}")));
        self.stream.borrow_mut().extend(mark);
        (1, 0)
    }
}

struct World {
    redis: Rc<Redis>,
    links: Vec<Rc<Link>>,
    bridges: Vec<Rc<Bridge>>,
    /// How far each has read.
    read: Vec<Cell<usize>>,
    /// How many events the first one is behind.
    lag: Cell<usize>,
    next: Cell<u32>,
}

impl World {
    /// Bridges that keep asking for the lease; the first one gets it.
    async fn new(count: usize) -> Self {
        let clock = Clock::start();
        let redis = Rc::new(Redis {
            clock,
            held: RefCell::default(),
            stream: RefCell::default(),
            asked: Cell::new(0),
            published: RefCell::default(),
        });
        let mut world = Self {
            redis,
            links: Vec::new(),
            bridges: Vec::new(),
            read: Vec::new(),
            lag: Cell::new(0),
            next: Cell::new(0),
        };
        for index in 0..count {
            world.join(index);
            // They do not ask at the same time.
            world.pass(BRIDGE_RENEW_INTERVAL / 2).await;
        }
        world
    }

    fn join(&mut self, index: usize) {
        let process = process("redis://redis:1", Some("raw"));
        let (settings, health) = (&process.settings, process.health.clone());
        let connectivity = Connectivity::new(settings, health, Some(0));
        let mut router =
            CommandRouter::new(process.destination.clone(), Rc::new(connectivity), true);
        let link = Rc::new(Link {
            redis: self.redis.clone(),
            index,
            is_cut: Cell::new(false),
            lease_sha1: settings.scripts.lease.sha1.clone(),
        });
        router.stand_in = Some(link.clone());
        let bridge = Rc::new(Bridge::new(Rc::new(router), "raw"));
        spawn_local(bridge.clone().keep_lease(|| true));
        spawn_local(bridge.clone().forward_queued());
        self.links.push(link);
        self.bridges.push(bridge);
        self.read.push(Cell::new(self.redis.stream.borrow().len()));
    }

    /// There is a raw message each [`PACE`], and everybody reads.
    async fn pass(&self, duration: Duration) {
        let end = self.redis.clock.now() + duration;
        while self.redis.clock.now() < end {
            sleep(PACE).await;
            self.redis.stream.borrow_mut().push(Event::Raw(self.next.get()));
            self.next.set(self.next.get() + 1);
            for index in 0..self.bridges.len() {
                self.hear(index).await;
            }
        }
    }

    async fn hear(&self, index: usize) {
        let (bridge, read) = (&self.bridges[index], &self.read[index]);
        let lag = if index == 0 { self.lag.get() } else { 0 };
        let to = self.redis.stream.borrow().len().saturating_sub(lag);
        while read.get() < to {
            let event = self.redis.stream.borrow()[read.get()].clone();
            read.set(read.get() + 1);
            match event {
                Event::Mark(mark) => bridge.mark(mark.as_bytes()).await,
                Event::Raw(number) => bridge.raw(Bytes::from(number.to_string())).await,
            }
        }
    }

    /// When bridge `index` published its first and its last message.
    fn times(&self, index: usize) -> Option<(Millis, Millis)> {
        let published = self.redis.published.borrow();
        let mut own = published.iter().filter(|(by, ..)| *by == index).map(|(.., at)| *at);
        let first = own.next()?;
        Some((first, own.next_back().unwrap_or(first)))
    }

    fn numbers(&self) -> Vec<u32> {
        self.redis.published.borrow().iter().map(|(_, number, _)| *number).collect()
    }
}

/// A bridge that can ask keeps the lease, and every message is published once and in order.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_lease_is_kept_by_asking_now_and_then() {
    let world = World::new(1).await;
    world.pass(20 * BRIDGE_LEASE).await;
    let numbers = world.numbers();
    assert!(numbers.iter().is_sorted_by(|one, next| *one + 1 == **next), "{numbers:?}");
    assert!(numbers.last() >= Some(&(world.next.get() - 2)), "the newest may be on its way");
    let expected = (20 * BRIDGE_LEASE).div_duration_f64(BRIDGE_RENEW_INTERVAL) as u32 + 1;
    assert!(world.redis.asked.get().abs_diff(expected) <= 1, "{}", world.redis.asked.get());
}

/// A bridge that cannot ask stops before its lease ends, and then another one begins.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bridge_stops_before_another_begins() {
    let world = World::new(2).await;
    world.pass(3 * BRIDGE_LEASE).await;
    assert!(world.times(0).is_some() && world.times(1).is_none(), "the first has it");
    world.links[0].is_cut.set(true);
    let cut = world.redis.clock.now();
    world.pass(2 * BRIDGE_LEASE).await;
    let ((_, last), (first, _)) = (world.times(0).unwrap(), world.times(1).unwrap());
    let served = last - cut;
    let most = BRIDGE_LEASE - BRIDGE_LEASE_MARGIN;
    assert!((most - BRIDGE_RENEW_INTERVAL - PACE..=most).contains(&served), "{served:?}");
    assert!(first - last >= BRIDGE_LEASE_MARGIN, "there are never two");
    assert!(first - last <= BRIDGE_LEASE_MARGIN + 3 * PACE, "{:?}", first - last);
    assert!(world.numbers().is_sorted_by(|one, next| one < next), "none is published twice");

    // The first one is back, and finds it taken.
    world.links[0].is_cut.set(false);
    let back = world.redis.clock.now();
    world.pass(3 * BRIDGE_LEASE).await;
    assert!(world.times(0).unwrap().1 < back && world.times(1).unwrap().1 > back);
}

/// A bridge that leaves publishes all that came before, however late it reads that, and another one
/// what comes after: nothing is lost, and nothing comes twice.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_bridge_that_leaves_hands_over_everything() {
    let world = World::new(2).await;
    world.lag.set(5);
    world.pass(3 * BRIDGE_LEASE).await;
    let leaving = world.bridges[0].clone();
    spawn_local(async move { leaving.leave().await });
    world.pass(2 * BRIDGE_LEASE).await;
    let ((_, last), (first, _)) = (world.times(0).unwrap(), world.times(1).unwrap());
    assert!(first - last <= 10 * PACE, "nobody waits for the lease to end: {:?}", first - last);
    let numbers = world.numbers();
    assert!(numbers.iter().is_sorted_by(|one, next| *one + 1 == **next), "{numbers:?}");
}
