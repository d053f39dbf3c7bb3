//! The hub against a naive model, by random operations from a seed.
//!
//! Each client's received bytes are parsed as a client would and compared with what was
//! published. `WSBCAST_SIM_SEED=n` runs one seed alone; a failure prints its seed.

mod history;
mod moving;
mod say;

use std::sync::Arc;

use super::{
    SLOW_FRAME,
    model::{CHANNELS, Channel, Client, Close, ENCODINGS, GAP, encoding},
    moving::{recorded, restored},
    pipe::{Pipe, frame},
    settings,
};
use crate::{
    channel::ChannelName,
    hub::{Budget, Encoding, Event, Finish, Hub, SlowPolicy, Unchanged},
    limits::CHUNK_BYTES_MAX,
    seeds,
    ws::Kind,
};

const SEEDS: u64 = 3_000;

/// Each client gets whole frames in order and no silent hole, whatever happens.
#[test]
fn each_client_gets_whole_frames_without_silent_holes() {
    let counts = seeds::run_all(SEEDS, |seed| Simulation::new(seed).run());
    let Some(counts) = counts else { return };
    let least = [10 * SEEDS, SEEDS / 30, SEEDS / 5, SEEDS / 4, SEEDS, SEEDS];
    let is_wild = counts.iter().zip(least).all(|(&count, least)| count > least);
    assert!(is_wild, "{counts:?}: too tame, at least {least:?}");
}

struct Simulation {
    random: fastrand::Rng,
    hub: Hub<Pipe>,
    budget: Arc<Budget>,
    names: Vec<ChannelName>,
    channels: [Channel; CHANNELS],
    known: [history::Known; CHANNELS],
    clients: Vec<Client>,
    backlog_bytes: usize,
    limit_bytes: usize,
    tight_backlog: bool,
    tight_budget: bool,
    policy: SlowPolicy,
    deliveries: u64,
    received: u64,
    /// Counted to show that the run was not tame.
    told: Told,
    next_id: u32,
}

#[derive(Default)]
struct Told {
    skips: u64,
    slow_closes: u64,
    partings: u64,
    charged: u64,
    moved: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (tight_backlog, tight_budget) = (random.bool(), random.u8(0..3) == 0);
        let backlog_bytes = if tight_backlog { 1 << random.u32(8..19) } else { usize::MAX / 2 };
        let limit = if tight_budget { 1 << random.u32(9..20) } else { usize::MAX / 2 };
        let policy = if random.bool() { SlowPolicy::Close } else { SlowPolicy::Skip };
        let budget = Arc::new(Budget::new(limit));
        let mut hub = Hub::new(settings(backlog_bytes, policy), Arc::clone(&budget));
        if random.bool() {
            hub.laggards_per_pass = random.u32(1..4);
            hub.laggards_left = hub.laggards_per_pass;
        }
        // Few enough for clients of a few channels to exceed it.
        hub.channels_free = random.usize(0..CHANNELS);
        Self {
            hub,
            budget,
            names: (0..CHANNELS).map(|n| ChannelName::new(&format!("c{n}")).unwrap()).collect(),
            channels: Default::default(),
            known: Default::default(),
            clients: Vec::new(),
            backlog_bytes,
            limit_bytes: limit,
            tight_backlog,
            tight_budget,
            policy,
            deliveries: 0,
            received: 0,
            told: Told::default(),
            next_id: 0,
            random,
        }
    }

    /// How many deliveries there were, skips, closes of slow clients, partings, subscriptions that
    /// are charged, and clients that went on in another hub.
    fn run(mut self) -> [u64; 6] {
        for _ in 0..self.random.usize(20..200) {
            self.step();
            self.hub.check();
            self.assert_within_budget();
            self.check_events();
            self.assert_within_budget();
        }
        self.drain();
        self.finish()
    }

    fn step(&mut self) {
        self.follow_logs();
        match self.random.u8(0..122) {
            0..=9 => self.insert(),
            10..=12 => self.remove(),
            13..=42 => self.publish(),
            43..=57 => self.pass(),
            58..=75 => self.make_room(),
            76..=79 => self.stall(),
            80..=88 => self.say(),
            89..=93 => self.close(),
            94..=96 => self.subscribe(),
            97 => self.break_one(),
            98 => self.close_channel(),
            99..=103 => self.leave(),
            104..=107 => self.hold(),
            108..=112 => self.release(),
            113..=115 => self.join_at_head(),
            116..=118 => self.start(),
            119 => self.move_all(),
            _ if self.random.bool() => self.hub.tick(),
            _ => {
                self.hub.relieve();
            }
        }
        self.follow_logs();
    }

    /// Clients' memory is within the budget, whatever they do and however they are closed.
    fn assert_within_budget(&self) {
        let (used, limit) = (self.budget.used(), self.limit_bytes);
        assert!(used <= limit, "{used} of {limit}");
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.random.usize(0..self.clients.len()))
    }

    fn insert(&mut self) {
        let room = if self.random.bool() { usize::MAX } else { self.random.usize(0..300_000) };
        let pipe = Pipe::with_room(room);
        let key = self.hub.insert(pipe.clone());
        self.clients.push(Client::new(key, pipe, self.random.usize(0..ENCODINGS)));
        for _ in 0..self.random.usize(0..3) {
            self.subscribe_client(self.clients.len() - 1);
        }
    }

    fn subscribe(&mut self) {
        if let Some(client) = self.pick() {
            self.subscribe_client(client);
        }
    }

    fn subscribe_client(&mut self, client: usize) {
        let channel = self.random.usize(0..CHANNELS);
        let had = self.hub.has_channel(self.names[channel].as_str());
        let client = &mut self.clients[client];
        let first = self.hub.subscribe(client.key, &self.names[channel], client.encoding);
        if client.close.is_none() && !client.failed {
            assert_eq!(first, !had, "the first subscriber is told");
            if client.next[channel].is_none() {
                client.next[channel] = Some(self.channels[channel].messages.len());
                client.fresh[channel] = client.held.is_some();
            }
        } else {
            assert!(!first, "a closing client is not subscribed");
        }
        let is_charged = self.hub.subscription_count(client.key) > self.hub.channels_free;
        self.told.charged += u64::from(is_charged);
    }

    fn remove(&mut self) {
        let Some(client) = self.pick() else { return };
        let client = self.clients.swap_remove(client);
        self.received += client.received;
        assert!(self.hub.remove(client.key).is_some());
        assert!(self.hub.remove(client.key).is_none());
        self.hub.check();
        // Events for stale keys must not confuse the model.
        self.check_events();
        while let Some(name) = self.hub.take_abandoned() {
            assert!(!self.hub.has_channel(name.as_str()));
        }
    }

    fn publish(&mut self) {
        let number = self.random.usize(0..CHANNELS);
        let size = match self.random.u8(0..20) {
            0..=9 => self.random.usize(5..200),
            10..=15 => self.random.usize(5..5_000),
            16..=18 => self.random.usize(5..70_000),
            _ => self.random.usize(5..200_000),
        };
        let position = self.random_position(number);
        let name = self.names[number].clone();
        let is_heard = self.hub.has_channel(name.as_str());
        let is_new = self.advance(number, position.as_ref());
        if is_heard && !is_new {
            let mut old = Unchanged::new(Kind::Binary, b"never seen");
            assert!(!self.hub.publish_at(name.as_str(), position.as_ref(), &mut old));
            return;
        }
        let filler = self.random.u8(..);
        let mut message = self.channels[number].push(number, size, filler, position.clone());
        let taken = self.hub.publish_at(name.as_str(), position.as_ref(), &mut message);
        assert_eq!(taken, is_heard);
    }

    fn pass(&mut self) {
        let mut visits = if self.random.bool() { u32::MAX } else { self.random.u32(0..12) };
        let pass = self.hub.pass(&mut || {
            visits = visits.saturating_sub(1);
            visits > 0
        });
        self.deliveries += pass.deliveries;
        let told = visits == 0 || self.tight_budget || !self.hub.cuts.is_empty();
        assert!(told || !pass.more, "a pass stops early only when told to");
        assert_eq!(pass.more, self.hub.has_work());
    }

    fn make_room(&mut self) {
        let Some(client) = self.pick() else { return };
        let room = match self.random.u8(0..4) {
            0 => usize::MAX,
            1 => self.random.usize(0..10),
            _ => self.random.usize(0..100_000),
        };
        let client = &self.clients[client];
        client.pipe.make_room(room);
        let mut state = client.pipe.0.borrow_mut();
        state.interrupts = self.random.usize(0..2);
        state.per_write = if self.random.bool() { 0 } else { self.random.usize(1..90_000) };
        drop(state);
        self.hub.writable(client.key);
    }

    fn stall(&mut self) {
        if let Some(client) = self.pick() {
            self.clients[client].pipe.0.borrow_mut().room = 0;
        }
    }

    fn break_one(&mut self) {
        if let Some(client) = self.pick() {
            self.clients[client].pipe.0.borrow_mut().broken = true;
        }
    }

    fn close(&mut self) {
        let Some(client) = self.pick() else { return };
        if self.random.u8(0..4) == 0 {
            self.hub.hurry(self.clients[client].key);
            self.clients[client].hurried |= self.clients[client].close.is_some();
            return;
        }
        self.next_id += 1;
        let frame = frame(0x8, &[&[3, 232], &self.next_id.to_be_bytes()[..]].concat());
        let finish = if self.random.bool() { Finish::Frame } else { Finish::Log };
        self.expect_close(client, &frame, finish);
        self.hub.close(self.clients[client].key, &frame, finish);
    }

    fn close_channel(&mut self) {
        let channel = self.random.usize(0..CHANNELS);
        self.hub.close_channel(self.names[channel].as_str(), &frame(0x8, GAP));
        let published = self.channels[channel].messages.len();
        for client in &mut self.clients {
            let hears = client.next[channel].is_some() && client.encoding != Encoding::V1;
            if hears && client.close.is_none() && !client.failed {
                client.parts_at[channel].get_or_insert(published);
            }
        }
        // Clients that had come since an earlier loss part at once.
        self.check_events();
    }

    fn expect_close(&mut self, client: usize, frame: &[u8], finish: Finish) {
        let client = &mut self.clients[client];
        let published = client.due(&self.channels);
        if client.close.is_none() && !client.failed {
            client.close = Some(Close { frame: frame.to_vec(), finish, published });
        } else if finish == Finish::Frame {
            client.hurried = true;
        }
    }

    fn check_events(&mut self) {
        let mut events = Vec::new();
        self.hub.take_events(&mut events);
        for client in &mut self.clients {
            client.read_bytes(&self.channels);
        }
        for event in events {
            let (Event::Blocked(key)
            | Event::Drained(key)
            | Event::Failed(key, _)
            | Event::Slow(key)
            | Event::Skipped(key, ..)
            | Event::Parting(key)
            | Event::CloseSent(key)) = event;
            let at = self.clients.iter().position(|client| client.key == key);
            let Some(number) = at else { continue };
            self.check_event(number, event);
        }
        for client in &self.clients {
            let full = client.pipe.0.borrow().full;
            if full && !client.closed && !client.failed {
                assert!(self.hub.is_blocked(client.key), "a full outlet is known to be full");
            }
        }
    }

    fn check_event(&mut self, number: usize, event: Event) {
        let lag = self.clients[number].lag(&self.channels);
        let client = &mut self.clients[number];
        let published = client.due(&self.channels);
        let waits = client.pipe.0.borrow().full || client.held.is_some();
        match event {
            Event::Blocked(_) | Event::Drained(_) => {}
            Event::Failed(_, kind) => {
                let broken = client.pipe.0.borrow().broken;
                assert!(broken || self.tight_budget, "{kind:?} without a reason");
                client.failed = true;
            }
            Event::Slow(_) => {
                assert!(waits && client.close.is_none(), "only who waits is slow");
                let own = client.unread_bytes();
                let is_own = self.tight_backlog && own > self.backlog_bytes;
                assert!(self.policy == SlowPolicy::Close || self.tight_budget || is_own);
                if !is_own {
                    self.assert_far_behind(lag);
                }
                let client = &mut self.clients[number];
                client.cut_short = true;
                self.told.slow_closes += 1;
                let frame = SLOW_FRAME.to_vec();
                client.close = Some(Close { frame, finish: Finish::Frame, published });
            }
            Event::Skipped(_, count, hole) => {
                assert!(waits && self.policy == SlowPolicy::Skip && count > 0);
                self.assert_far_behind(lag);
                self.assert_hole(number, count, hole.as_deref());
                self.told.skips += 1;
                self.clients[number].skipped += count;
            }
            Event::Parting(_) => {
                assert!(client.close.is_none() && client.parts_at.iter().any(Option::is_some));
                let frame = frame(0x8, GAP);
                self.told.partings += 1;
                client.close = Some(Close { frame, finish: Finish::Log, published });
            }
            Event::CloseSent(_) => {
                assert!(client.closed, "the Close frame was received");
                client.close_sent = true;
            }
        }
    }

    fn assert_far_behind(&self, lag: u64) {
        let enough = lag as usize + CHUNK_BYTES_MAX > self.backlog_bytes;
        assert!(self.tight_budget || (self.tight_backlog && enough), "{lag} is not far");
    }

    fn finish(mut self) -> [u64; 6] {
        for client in &self.clients {
            client.finish(&self.channels, self.tight_backlog || self.tight_budget);
            self.received += client.received;
        }
        assert_eq!(self.deliveries, self.received, "deliveries are counted exactly");
        for key in self.hub.keys().collect::<Vec<_>>() {
            self.hub.remove(key);
        }
        self.hub.check();
        assert_eq!(self.budget.used(), 0, "all memory is given back");
        assert_eq!((self.hub.len(), self.hub.channel_count()), (0, 0));
        let Told { skips, slow_closes, partings, charged, moved } = self.told;
        [self.deliveries, skips, slow_closes, partings, charged, moved]
    }
}
